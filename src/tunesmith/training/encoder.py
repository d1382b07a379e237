"""Tune the retriever's encoder on questions and the entries that answer them.

Contrastive learning (van den Oord et al. 2018, arXiv:1807.03748) of a question tower: entries keep the vectors that the
encoder gave them before, and a question is drawn to its entry's vector and away from all others, so that every entry of
the catalogue is a negative in every step and no entry is read twice. Tuning both towers with in-batch negatives cost
four times as much for less (docs/log.md). The token embeddings stay as they are.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.errors import TrainingError
from tunesmith.models.embedding import LocalEncoder
from tunesmith.models.local import fast_dtype
from tunesmith.progress import Progress, silent
from tunesmith.records import fingerprint

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class EncoderSettings(BaseModel):
    """How the retriever's encoder is tuned; `epochs` 0 leaves it as it is.

    `top_layers` tunes only so many of the last layers (None: all of them); `temperature` divides the cosines before
    the softmax over all entries.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = "minilm"
    epochs: int = Field(default=3, ge=0)
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=2e-4, gt=0)
    top_layers: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.05, gt=0)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and the entry that answers it."""

    question: str
    entry: str


@dataclass(frozen=True, slots=True)
class EncoderEpoch:
    """One pass: mean training loss in nats, seconds, and the shares of valid questions hit first and in five."""

    epoch: int
    loss: float
    seconds: float
    hit_1: float | None
    hit_5: float | None


@dataclass(frozen=True, slots=True)
class EncoderRun:
    """What tuning did; `epochs[0]` is the encoder before (epoch 0, loss 0)."""

    epochs: tuple[EncoderEpoch, ...]
    pairs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries' vectors, as the encoder read them before it was tuned, and each one's row."""

    row: Mapping[str, int]
    vectors_E_D: Tensor


# Questions are short; a longer one's beginning says what is asked, and a batch costs what its longest row does.
QUESTION_TOKENS = 48
_LAYER = re.compile(r"\.layers?\.(\d+)\.")


def tune_encoder(
    encoder: LocalEncoder,
    pairs: Sequence[Pair],
    entries: Entries,
    valid: Sequence[Pair],
    settings: EncoderSettings,
    *,
    work: Path,
    dtype: torch.dtype | None = None,
    on_progress: Progress = silent,
) -> EncoderRun:
    """Tune the encoder in place towards the entries' vectors; `work` keeps a checkpoint per epoch.

    Products are computed in `dtype` (None: the faster one here), weights stay in float32.

    Raises TrainingError for a pair whose entry has no vector, for no pairs to tune on, for a checkpoint of other pairs
    or settings, and for a loss that is not finite.
    """
    import torch

    from tunesmith.training import checkpoint

    if settings.epochs:
        _check(pairs, entries)
    _check_known(valid, entries)
    model = encoder.model
    _freeze(encoder, settings.top_layers)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimiser = torch.optim.AdamW(trained.values(), lr=settings.learning_rate, weight_decay=0.01)
    made_for = fingerprint(
        settings.model_dump(), *([(pair.question, pair.entry) for pair in each] for each in (pairs, valid))
    )
    resumed = checkpoint.load(work / "checkpoint", trained, optimiser, made_for=made_for)
    rows = [EncoderEpoch(**row) for row in resumed.state["rows"]] if resumed else []
    if not rows:
        rows.append(EncoderEpoch(0, 0.0, 0.0, *_hits(encoder, valid, entries)))
    for epoch in range(len(rows) - 1, settings.epochs):
        start = time.perf_counter()
        loss = _one_epoch(
            encoder,
            pairs,
            entries,
            settings,
            epoch=epoch,
            optimiser=optimiser,
            dtype=dtype or fast_dtype(),
            on_progress=on_progress,
        )
        seconds = time.perf_counter() - start
        rows.append(EncoderEpoch(epoch + 1, loss, seconds, *_hits(encoder, valid, entries)))
        state = {"rows": [_plain(row) for row in rows]}
        checkpoint.save(work / "checkpoint", trained, optimiser, state=state, made_for=made_for)
    model.eval()
    return EncoderRun(tuple(rows), len(pairs), sum(row.seconds for row in rows))


def step_seconds(
    encoder: LocalEncoder, pairs: Sequence[Pair], entries: Entries, settings: EncoderSettings
) -> float:
    """Return the seconds that a typical step takes, measured on forward and backward; no weight changes.

    Raises TrainingError for pairs that `tune_encoder` would refuse.
    """
    _check(pairs, entries)
    batches = _batches(pairs, settings.batch_size, random.Random(0))
    typical = sorted(batches, key=lambda batch: sum(len(pair.question) for pair in batch))[len(batches) // 2]
    _freeze(encoder, settings.top_layers)
    encoder.model.train()
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        loss = _batch_loss(encoder, typical, entries, settings.temperature, fast_dtype())
        loss.backward()  # type: ignore[no-untyped-call]
        taken.append(time.perf_counter() - start)
        encoder.model.zero_grad(set_to_none=True)
    encoder.model.eval()
    # The first is slower: memory is found and kernels are chosen.
    return sum(taken[1:]) / len(taken[1:])


def _freeze(encoder: LocalEncoder, top_layers: int | None) -> None:
    """Leave token embeddings, the layers below the top ones, and the pooler that nothing reads, out of training."""
    below = 0 if top_layers is None else encoder.model.config.num_hidden_layers - top_layers
    for name, parameter in encoder.model.named_parameters():
        number = _LAYER.search(f".{name}.")
        low = number is not None and int(number[1]) < below
        parameter.requires_grad_(".embeddings." not in f".{name}." and "pooler" not in name and not low)


def _check(pairs: Sequence[Pair], entries: Entries) -> None:
    if not pairs:
        raise TrainingError(
            "the encoder is tuned on questions with known entries, and there are none",
            hint="Give written questions in [generate] written, or set epochs = 0 in [encoder].",
        )
    _check_known(pairs, entries)


def _check_known(pairs: Sequence[Pair], entries: Entries) -> None:
    strangers = sorted({pair.entry for pair in pairs} - entries.row.keys())
    if strangers:
        raise TrainingError(
            f"there is no vector for the entries {', '.join(strangers[:3])}, which questions name"
        )


def _plain(row: EncoderEpoch) -> dict[str, float | None]:
    return {name: getattr(row, name) for name in EncoderEpoch.__slots__}


def _one_epoch(
    encoder: LocalEncoder,
    pairs: Sequence[Pair],
    entries: Entries,
    settings: EncoderSettings,
    *,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    dtype: torch.dtype,
    on_progress: Progress,
) -> float:
    """Pass over the pairs once; returns the mean loss per pair in nats."""
    import torch

    # The epoch's seed is its own, so that a resumed run goes on exactly as an unbroken one.
    chance = random.Random(f"{settings.seed}:{epoch}")
    torch.manual_seed(settings.seed * 1000 + epoch)
    batches = _batches(pairs, settings.batch_size, chance)
    steps = len(batches) * settings.epochs
    total, seen = 0.0, 0
    encoder.model.train()
    for number, batch in enumerate(batches):
        step = epoch * len(batches) + number
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, 10 * (step + 1) / steps, 1.02 - step / steps)
        loss = _batch_loss(encoder, batch, entries, settings.temperature, dtype)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"the encoder's loss is {float(loss.detach())} at step {step + 1}",
                hint="Lower learning_rate in [encoder].",
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        total += float(loss.detach()) * len(batch)
        seen += len(batch)
        on_progress(step + 1, steps, f"epoch {epoch + 1}, loss {total / seen:.2f}")
    encoder.model.eval()
    return total / seen


def _batches(pairs: Sequence[Pair], size: int, chance: random.Random) -> list[list[Pair]]:
    """Return shuffled batches whose questions are of like length."""
    order = list(pairs)
    chance.shuffle(order)
    window = size * 8
    batches: list[list[Pair]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda pair: len(pair.question))
        batches += [near[i : i + size] for i in range(0, len(near), size)]
    chance.shuffle(batches)
    return batches


def _batch_loss(
    encoder: LocalEncoder, batch: Sequence[Pair], entries: Entries, temperature: float, dtype: torch.dtype
) -> Tensor:
    """Return the cross-entropy of picking each question's entry among all entries, in nats a question."""
    import torch
    from torch.nn import functional

    with torch.autocast(encoder.model.device.type, dtype, enabled=dtype is not torch.float32):
        questions_B_D = _reading(encoder).vectors([pair.question for pair in batch])
    cosines_B_E = questions_B_D.float() @ entries.vectors_E_D.T
    target_B = torch.tensor([entries.row[pair.entry] for pair in batch], device=cosines_B_E.device)
    return functional.cross_entropy(cosines_B_E / temperature, target_B)


def _reading(encoder: LocalEncoder) -> LocalEncoder:
    """Return the same encoder, weights shared, that reads only the beginning of a long question."""
    return LocalEncoder(encoder.model, encoder.tokenizer, name=encoder.name, max_length=QUESTION_TOKENS)


def _hits(
    encoder: LocalEncoder, valid: Sequence[Pair], entries: Entries
) -> tuple[float | None, float | None]:
    """Return the shares of questions whose entry is the nearest, and among the five nearest; None of none."""
    if not valid:
        return None, None
    import torch

    questions_B_D = torch.from_numpy(encoder.embed([pair.question for pair in valid]))
    cosines_B_E = questions_B_D @ entries.vectors_E_D.cpu().T
    right_B_1 = torch.tensor([[entries.row[pair.entry]] for pair in valid])
    # Not ">": of vectors that are not numbers, nothing is a hit.
    ranks_B = (~(cosines_B_E <= cosines_B_E.gather(1, right_B_1))).sum(1)
    return float((ranks_B < 1).float().mean()), float((ranks_B < 5).float().mean())
