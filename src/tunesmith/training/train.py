"""Fine-tune a causal language model with LoRA: steps, validation, best adapter, early stopping, resume."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.errors import TrainingError
from tunesmith.progress import Progress, silent
from tunesmith.records import Conversation, fingerprint

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.training.loop import Batch
    from tunesmith.training.render import Rendered


class TrainSettings(BaseModel):
    """How the language model is tuned.

    `rank` and `alpha` are LoRA's; `top_layers` adapts only so many of the last blocks (None: all of them).
    `examples` bounds how many examples are trained on (None: all), `retrieved_share` is the share of them that have
    retrieved entries in the prompt, `passages` of them; in a share `doubt` of those the right entry stands where the
    retriever has it for questions that it was not tuned on, in the others first. `evaluate_every` and `patience` are
    in steps and in evaluations without a better validation loss. `max_length` is in tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = "smollm2"
    epochs: int = Field(default=1, ge=1)
    examples: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    top_layers: int | None = Field(default=None, ge=1)
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    clip: float = Field(default=1.0, gt=0)
    retrieved_share: float = Field(default=0.75, ge=0, le=1)
    doubt: float = Field(default=0.25, ge=0, le=1)
    passages: int = Field(default=5, ge=1)
    max_length: int = Field(default=1024, ge=16)
    evaluate_every: int = Field(default=10, ge=1)
    patience: int = Field(default=3, ge=1)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One step: losses in nats per labelled token, rate, real tokens in it and the seconds it took."""

    step: int
    train_loss: float
    learning_rate: float
    tokens: int
    seconds: float
    valid_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run did: its steps, which one is kept, and what it used."""

    steps: tuple[StepMetrics, ...]
    best_step: int
    best_valid_loss: float
    first_valid_loss: float
    stopped_early: bool
    tokens: int
    labelled_tokens: int
    truncated: int
    seconds: float
    valid_seconds: float
    peak_bytes: int
    dtype: str


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Conversation],
    valid: Sequence[Conversation],
    settings: TrainSettings,
    *,
    out: Path,
    work: Path,
    on_progress: Progress = silent,
) -> Trained:
    """Tune an adapter and write it to `out` in PEFT's format, with step_metrics.csv beside it.

    The adapter of the best validation loss is kept. A checkpoint stands in `work` after each evaluation; called again
    with the same `work`, a run that was killed goes on from there and ends with the same weights.
    Raises TrainingError, before the first step, for examples that would teach nothing and for a checkpoint of other
    examples or settings, and as soon as a loss is not finite; no checkpoint holds weights with such a loss.
    """
    import torch

    from tunesmith.training import checkpoint, loop, lora
    from tunesmith.training.preflight import check

    rows, truncated = rendered(tokenizer, examples, settings.max_length)
    valid_rows, _ = rendered(tokenizer, valid, settings.max_length)
    pad = int(tokenizer.pad_token_id or 0)
    device = model.device
    # Not train(): dropout of the base would make validation noisy, and a resumed run another one.
    model.eval()
    check(model, tokenizer, rows, valid_rows)
    shape = lora.add_lora(
        model, rank=settings.rank, alpha=settings.alpha, top_layers=settings.top_layers, seed=settings.seed
    )
    trained = lora.adapter_parameters(model)
    optimiser = torch.optim.AdamW(trained.values(), lr=settings.learning_rate, weight_decay=0.0)
    run = _Run(best=lora.adapter_state(model))
    made_for = fingerprint(settings.model_dump(), [row.ids for row in rows], [row.ids for row in valid_rows])
    resumed = checkpoint.load(work / "checkpoint", trained, optimiser, made_for=made_for)
    if resumed is not None:
        run = _Run.restored(resumed.state, resumed.extra)
    batches = [
        batch
        for epoch in range(settings.epochs)
        for batch in loop.plan_batches(
            [len(row.ids) for row in rows], settings.batch_size, settings.seed, epoch
        )
    ]
    valid_batches = loop.in_parts(valid_rows, pad, device)
    if resumed is None:
        run.first_loss = run.best_loss = run.validate(model, valid_batches)
    warmup = max(1, round(settings.warmup_share * len(batches)))
    while run.done < len(batches) and run.worse < settings.patience:
        start = time.perf_counter()
        rate = loop.learning_rate(run.done, steps=len(batches), peak=settings.learning_rate, warmup=warmup)
        parts = loop.in_parts([rows[i] for i in batches[run.done]], pad, device)
        loss = loop.train_step(model, optimiser, parts, rate=rate, clip=settings.clip)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {run.done + 1}; nothing of that step was kept",
                hint="Lower learning_rate in [train].",
            )
        run.done += 1
        tokens = sum(part.tokens for part in parts)
        metrics = StepMetrics(run.done, loss, rate, tokens, time.perf_counter() - start)
        if run.done % settings.evaluate_every == 0 or run.done == len(batches):
            valid_loss = run.validate(model, valid_batches)
            run.judge(valid_loss, lora.adapter_state(model))
            metrics = StepMetrics(**{**asdict(metrics), "valid_loss": valid_loss})
            run.steps.append(metrics)
            checkpoint.save(
                work / "checkpoint", trained, optimiser, state=run.state(), made_for=made_for, extra=run.best
            )
        else:
            run.steps.append(metrics)
        on_progress(run.done, len(batches), _note(run))
    lora.save_adapter(out, run.best, shape, settings.base)
    _write_metrics(out / "step_metrics.csv", run.steps)
    return Trained(
        steps=tuple(run.steps),
        best_step=run.best_step,
        best_valid_loss=run.best_loss,
        first_valid_loss=run.first_loss,
        stopped_early=run.done < len(batches),
        tokens=sum(step.tokens for step in run.steps),
        labelled_tokens=sum(rows[i].labelled for batch_rows in batches[: run.done] for i in batch_rows),
        truncated=truncated,
        seconds=sum(step.seconds for step in run.steps),
        valid_seconds=run.valid_seconds,
        peak_bytes=peak_bytes(),
        dtype=str(model.dtype).removeprefix("torch."),
    )


def peak_bytes() -> int:
    """Return the most memory this process has held: on the GPU if there is one, else resident."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _Run:
    """Where a run stands; a checkpoint holds exactly this."""

    def __init__(self, best: dict[str, Tensor]) -> None:
        self.best = best
        self.best_loss = math.inf
        self.first_loss = math.inf
        self.best_step = 0
        self.done = 0
        self.worse = 0
        self.valid_seconds = 0.0
        self.steps: list[StepMetrics] = []

    def validate(self, model: PreTrainedModel, batches: Sequence[Batch]) -> float:
        """Return the mean loss on the validation rows, in nats per labelled token; it must be finite."""
        from tunesmith.training.loop import mean_loss

        start = time.perf_counter()
        loss = mean_loss(model, batches)
        self.valid_seconds += time.perf_counter() - start
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss is {loss} after {self.done} steps",
                hint="Lower learning_rate in [train]." if self.done else "The base model itself is broken.",
            )
        return loss

    def judge(self, valid_loss: float, adapter: dict[str, Tensor]) -> None:
        """Keep the adapter if it is the best so far, else count it against the patience."""
        if valid_loss < self.best_loss:
            self.best, self.best_loss, self.best_step, self.worse = adapter, valid_loss, self.done, 0
        else:
            self.worse += 1

    def state(self) -> dict[str, object]:
        """Return all but the tensors as plain JSON."""
        return {
            "best_loss": self.best_loss,
            "first_loss": self.first_loss,
            "best_step": self.best_step,
            "done": self.done,
            "worse": self.worse,
            "valid_seconds": self.valid_seconds,
            "steps": [asdict(step) for step in self.steps],
        }

    @classmethod
    def restored(cls, state: dict[str, object], best: dict[str, Tensor]) -> _Run:
        """Return the run that `state` and the best adapter's tensors came from."""
        run = cls(best)
        steps = state.pop("steps")
        vars(run).update(state)
        run.steps = [StepMetrics(**step) for step in steps]  # type: ignore[attr-defined]
        return run


def rendered(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation], max_length: int
) -> tuple[list[Rendered], int]:
    """Return the rows, cut at `max_length` tokens, and how many were cut."""
    from tunesmith.training.render import Rendered, render

    rows = [render(tokenizer, conversation) for conversation in conversations]
    cut = [Rendered(row.ids[:max_length], row.mask[:max_length]) for row in rows]
    return cut, sum(len(row.ids) > max_length for row in rows)


def _note(run: _Run) -> str:
    recent = run.steps[-10:]
    speed = sum(step.tokens for step in recent) / max(1e-9, sum(step.seconds for step in recent))
    note = f"loss {run.steps[-1].train_loss:.3f}, {speed:,.0f} tokens/s"
    return note if run.best_step == 0 else f"{note}, best valid {run.best_loss:.3f}"


def _write_metrics(path: Path, steps: Sequence[StepMetrics]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(StepMetrics.__slots__)
        for step in steps:
            writer.writerow(["" if value is None else value for value in asdict(step).values()])
