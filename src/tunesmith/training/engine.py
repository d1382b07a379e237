"""Where a step runs: it cuts rows into parts that fit into memory, takes the gradient and changes the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from tunesmith.errors import TrainingError
from tunesmith.training.hits import counted_hits, share
from tunesmith.training.loop import Layout
from tunesmith.training.objectives import Objective, Part
from tunesmith.training.ranks import Alone, Ranks, gathered

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Result = TypeVar("Result")

# Rows of a validation that a process has in memory at once.
VALIDATED = 256
# What a processor's allocator and Python itself say when there is no more memory.
_NO_MEMORY = ("can't allocate memory", "not enough memory")


class Engine:
    """A model in training: its objective, how rows become parts, and the optimiser of what is trained.

    Rows are those of all processes of the run, which take their shares of them; so are losses and gradients.
    `accuracy` is the share of labelled tokens that were the likeliest in the last step or mean loss, None for nothing.
    """

    accuracy: float | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        parameters: Sequence[nn.Parameter],
        objective: Objective[Any],
        layout: Layout,
        *,
        clip: float,
        weight_decay: float = 0.0,
        autocast: torch.dtype | None = None,
        say: Callable[[str], None] = lambda text: None,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.parameters, self.objective, self.layout = model, list(parameters), objective, layout
        self.clip, self.autocast, self.say, self.ranks = clip, autocast, say, ranks or Alone()
        self.optimiser = torch.optim.AdamW(self.parameters, weight_decay=weight_decay, fused=True)

    def clear(self) -> None:
        """Take the gradient away."""
        for parameter in self.parameters:
            parameter.grad = None

    def forget(self) -> None:
        """Take the optimiser back to where it was before its first step."""
        self.optimiser.state.clear()

    def step(self, rows: Sequence[Any], rate: float) -> float:
        """Take one optimiser step; returns the mean loss of what the objective counts, in nats.

        The caller checks that the loss is finite: a step with a loss that is not changes nothing.
        """
        return self.apply(self.gradient(rows), rate)

    def step_on(self, parts: Sequence[Part], rate: float) -> float:
        """Take one optimiser step on this process's own parts, without a second try where memory runs out."""
        return self.apply(self.gradient_of(parts), rate)

    def apply(self, loss: float, rate: float) -> float:
        """Let the optimiser take its step with the gradient that is there, if all is finite; returns the loss."""
        if math.isfinite(loss):
            norm = gathered(nn.utils.clip_grad_norm_(self.parameters, self.clip))
            if not math.isfinite(norm):
                loss = math.nan
            else:
                for group in self.optimiser.param_groups:
                    group["lr"] = rate
                self.optimiser.step()
        self.clear()
        return loss

    def gradient(self, rows: Sequence[Any]) -> float:
        """Leave the gradient of the mean loss in the parameters, and return that loss."""
        return self._within_memory(lambda: self._gradient(rows))

    def mean_loss(self, rows: Sequence[Any]) -> float:
        """Return the mean loss over rows, learning nothing."""
        return self._within_memory(lambda: self._mean_loss(rows))

    def gradient_of(self, parts: Sequence[Part]) -> float:
        """Leave the gradient of the mean loss over this process's own parts, and return that loss."""
        return self._backward(parts, sum(part.counts for part in parts))[0]

    def _gradient(self, rows: Sequence[Any]) -> float:
        parts, counted = self._cut(rows)
        told = self.ranks.everyone(lambda: self._backward(parts, counted))
        self.ranks.sum_gradients(self.parameters)
        self.accuracy = share(hits for _, hits in told)
        return sum(loss for loss, _ in told)

    def _backward(self, parts: Sequence[Part], counted: int) -> tuple[float, tuple[int, int]]:
        """Add the gradient of these parts' share in the mean over all that counts; returns that share, and the hits."""
        # Sharded, gradients are averaged over the processes, and are to be summed.
        averaged = self.ranks.world if self.ranks.sharded else 1
        total = torch.zeros((), device=self.model.device)
        with counted_hits() as hits:
            for part in parts:
                # Read in vain, and counted in vain.
                with self.arithmetic(), counted_hits() if part.weight == 0 else nullcontext():
                    loss = self.objective.loss(self.model, part) * part.weight / counted
                total += loss.detach()
                (loss * averaged).backward()  # type: ignore[no-untyped-call]
        return float(total), hits.told()

    def _mean_loss(self, rows: Sequence[Any]) -> float:
        told: list[tuple[float, tuple[int, int]]] = []
        counted, block = 0, VALIDATED * self.ranks.world
        for start in range(0, len(rows), block):
            parts, counts = self._cut(rows[start : start + block])
            told += self.ranks.everyone(partial(self._summed, parts))
            counted += counts
        self.accuracy = share(hits for _, hits in told)
        return sum(loss for loss, _ in told) / max(1, counted)

    def _summed(self, parts: Sequence[Part]) -> tuple[float, tuple[int, int]]:
        total = 0.0
        with torch.no_grad(), self.arithmetic(), counted_hits() as hits:
            for part in parts:
                with counted_hits() if part.weight == 0 else nullcontext():
                    total += float(self.objective.loss(self.model, part)) * part.weight
        return total, hits.told()

    def _cut(self, rows: Sequence[Any]) -> tuple[list[Part], int]:
        """Return this process's share of the rows in parts, and what the parts of all processes count."""
        parts: list[Part] = []

        def cut() -> tuple[int, int]:
            parts[:] = self.objective.parts(self.ranks.share(rows, self._tokens), self.layout)
            return len(parts), sum(part.counts for part in parts)

        cuts = self.ranks.everyone(cut)
        if self.ranks.sharded:
            # All gather the weights for each part: who has fewer computes a short row in vain.
            most = max(count for count, _ in cuts)
            [idle] = self.objective.parts([min(rows, key=self._tokens)], self.layout)
            parts += [replace(idle, weight=0.0)] * (most - len(parts))
        return parts, sum(counts for _, counts in cuts)

    def _tokens(self, row: Any) -> int:
        return sum(len(text.ids) for text in self.objective.texts(row))

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Return the context in which the model is computed."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.model.device.type, self.autocast)

    def _within_memory(self, compute: Callable[[], Result]) -> Result:
        """Compute; where memory runs out, again in parts half as large: the mean loss does not hang on them."""
        while True:
            try:
                return compute()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if self.ranks.sharded:
                    raise _no_memory_sharded() from error
                self.clear()
                self._halve(error)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _halve(self, error: BaseException) -> None:
        smaller = self.layout.limit // 2
        if smaller < 64:
            raise TrainingError(
                "there is not enough memory for a single example",
                hint='Lower max_length in [train], take method = "qlora", or a smaller base model.',
            ) from error
        self.layout = replace(self.layout, limit=smaller)
        self.say(
            f"memory ran out: parts of {smaller} tokens from here on (the batch, and what is learned, stay the same)"
        )


def _no_memory_sharded() -> TrainingError:
    # The others are somewhere inside the model and cannot be asked to begin the step anew.
    return TrainingError(
        "memory ran out, and with sharded weights a step cannot be tried again in smaller parts",
        hint="Lower max_length in [train], or take more processes.",
    )


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or here."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _NO_MEMORY)
