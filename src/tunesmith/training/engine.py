"""Where a step runs: it cuts rows into parts that fit into memory, takes the gradient and changes the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from tunesmith.errors import TrainingError
from tunesmith.training.loop import Layout
from tunesmith.training.objectives import Objective, Part

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Result = TypeVar("Result")

# What a processor's allocator and Python itself say when there is no more memory.
_NO_MEMORY = ("can't allocate memory", "not enough memory")


class Engine:
    """A model in training: its objective, how rows become parts, and the optimiser of what is trained."""

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
    ) -> None:
        self.model, self.parameters, self.objective, self.layout = model, list(parameters), objective, layout
        self.clip, self.autocast, self.say = clip, autocast, say
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
        """Take one optimiser step on parts that are cut already, without a second try where memory runs out."""
        return self.apply(self.gradient_of(parts), rate)

    def apply(self, loss: float, rate: float) -> float:
        """Let the optimiser take its step with the gradient that is there, if all is finite; returns the loss."""
        if math.isfinite(loss):
            norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
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

    def _gradient(self, rows: Sequence[Any]) -> float:
        return self.gradient_of(self.objective.parts(rows, self.layout))

    def gradient_of(self, parts: Sequence[Part]) -> float:
        """Leave the gradient of the mean loss over parts that are cut already, and return that loss."""
        counted = sum(part.counts for part in parts)
        total = torch.zeros((), device=self.model.device)
        for part in parts:
            with self.arithmetic():
                loss = self.objective.loss(self.model, part) / counted
            total += loss.detach()
            loss.backward()  # type: ignore[no-untyped-call]
        return float(total)

    def _mean_loss(self, rows: Sequence[Any]) -> float:
        total, counted = 0.0, 0
        with torch.no_grad(), self.arithmetic():
            for start in range(0, len(rows), 256):
                for part in self.objective.parts(rows[start : start + 256], self.layout):
                    total += float(self.objective.loss(self.model, part))
                    counted += part.counts
        return total / max(1, counted)

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


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or here."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _NO_MEMORY)
