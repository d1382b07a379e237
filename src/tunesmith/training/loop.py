"""Batches of like length, and how the loss is taken from them: where labels are, and nowhere else.

The sum of the losses over a step is divided by what the step counts (labelled tokens, or pairs), so a batch of N and
N accumulated batches of one have the same gradient.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunesmith.training.entropy import CrossEntropy
from tunesmith.training.hits import count_hits
from tunesmith.training.render import Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# Memory grows with a part: eight rows of 300 tokens at once brought a run to 5.1 GiB (docs/log.md).
PART_TOKENS = 2048
# oneDNN keeps code and room for every shape that it has met: parts of any width let memory grow step by step.
WIDTHS = 16
PACKED_WIDTHS = 256
BOUNDS = 64

# The tokens of each row: a list, or an array where there may be a million.
Lengths = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of ids, which of them are real, and which the loss counts.

    Either one text per row, padded on the right, or all texts behind one another in a single row: then `position_B_T`
    starts anew with each text, and `bounds` holds where each begins and the last ends, padded with the end;
    `longest` is no less than the longest text. Of each labelled token `label_N` is its id, `before_N` where the one
    before it stands (counted over all rows), and `text_N` which text it belongs to. The first token of a text is never
    predicted.
    """

    ids_B_T: Tensor
    real_B_T: Tensor
    label_N: Tensor
    before_N: Tensor
    text_N: Tensor
    tokens: int
    position_B_T: Tensor | None = None
    bounds: Tensor | None = None
    longest: int = 0

    @property
    def labels(self) -> int:
        """Tokens that the loss counts."""
        return len(self.label_N)

    @property
    def labelled_B_T(self) -> Tensor:
        """Which tokens the loss counts, as a mask."""
        mask = torch.zeros_like(self.ids_B_T, dtype=torch.bool)
        mask.view(-1)[self.before_N + 1] = True
        return mask


def collate(
    rows: Sequence[Rendered], pad: int, device: torch.device | str = "cpu", *, multiple: int = 1
) -> Batch:
    """Return the rows as one right-padded batch, as wide as the next `multiple` of tokens."""
    width = _rounded(max(len(row.ids) for row in rows), multiple)
    ids = torch.full((len(rows), width), pad)
    real = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        real[i, : len(row.ids)] = 1
    return _batch(rows, [i * width for i in range(len(rows))], ids, real, device)


def pack(
    rows: Sequence[Rendered], pad: int, device: torch.device | str = "cpu", *, multiple: int = 1
) -> Batch:
    """Return the rows behind one another as a single one, filled up to the next `multiple` of tokens.

    What fills it up is a text of its own that the loss does not count. Attention must keep to the bounds.
    """
    lengths = [len(row.ids) for row in rows]
    total = sum(lengths)
    width = _rounded(total, multiple)
    begins = [0, *accumulate(lengths)]
    ids = torch.full((1, width), pad)
    ids[0, :total] = torch.tensor([token for row in rows for token in row.ids])
    real = torch.zeros(1, width, dtype=torch.long)
    real[0, :total] = 1
    spans = [*lengths, width - total] if width > total else lengths
    # As many bounds in most batches: a kernel that was compiled for a length need not be compiled again.
    bounds = torch.full((_rounded(len(spans) + 1, BOUNDS),), width, dtype=torch.int32)
    bounds[: len(spans)] = torch.tensor(begins[: len(spans)], dtype=torch.int32)
    batch = _batch(rows, begins, ids, real, device)
    return replace(
        batch,
        position_B_T=torch.cat([torch.arange(span) for span in spans])[None].to(device),
        bounds=bounds.to(device),
        longest=_rounded(max(spans), BOUNDS),
    )


def _batch(
    rows: Sequence[Rendered],
    begins: Sequence[int],
    ids_B_T: Tensor,
    real_B_T: Tensor,
    device: torch.device | str,
) -> Batch:
    """Return rows that begin at these places, counted over all rows of `ids_B_T`, as a batch on its device."""
    places = [[i for i, label in enumerate(row.mask) if label and i > 0] for row in rows]
    labels = torch.tensor([row.ids[i] for row, here in zip(rows, places, strict=True) for i in here])
    before = torch.tensor([begin + i - 1 for begin, here in zip(begins, places, strict=False) for i in here])
    text = torch.tensor([number for number, here in enumerate(places) for _ in here])
    return Batch(
        ids_B_T.to(device),
        real_B_T.to(device),
        labels.long().to(device),
        before.long().to(device),
        text.long().to(device),
        sum(len(row.ids) for row in rows),
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """How texts become batches: padded side by side, or packed; no batch of more than `limit` tokens.

    Memory hangs on the largest batch, and the loss does not hang on how a step is cut.
    """

    pad: int
    device: torch.device | str = "cpu"
    limit: int = PART_TOKENS
    packed: bool = False

    def batch(self, texts: Sequence[Rendered]) -> Batch:
        """Return texts as one batch, in their order."""
        return (pack if self.packed else collate)(texts, self.pad, self.device, multiple=self.multiple)

    @property
    def multiple(self) -> int:
        """What a batch's width is a multiple of."""
        return PACKED_WIDTHS if self.packed else WIDTHS

    def groups(self, texts: Sequence[tuple[Rendered, ...]]) -> list[list[int]]:
        """Return which of these may stand in a batch together; what is longer than the limit stands alone."""
        groups: list[list[int]] = []
        together: list[int] = []
        for i in sorted(range(len(texts)), key=lambda i: max(len(text.ids) for text in texts[i])):
            lengths = [len(text.ids) for text in texts[i]]
            if groups and self._needed(together + lengths) <= self.limit:
                groups[-1].append(i)
                together += lengths
            else:
                groups.append([i])
                together = lengths
        return groups

    def _needed(self, lengths: Sequence[int]) -> int:
        """Return the tokens of a batch of texts as long as these, padding counted."""
        if self.packed:
            return _rounded(sum(lengths), self.multiple)
        return len(lengths) * _rounded(max(lengths), self.multiple)


def _rounded(tokens: int, multiple: int) -> int:
    return -(-tokens // multiple) * multiple


@dataclass(frozen=True, slots=True)
class Epoch:
    """The row numbers of an epoch's batches, 4 bytes each: the batch at `places[i]` of `rows` is the i-th."""

    rows: array[int]
    places: array[int]
    batch_size: int

    def batch(self, number: int) -> list[int]:
        """Return the row numbers of a batch, counted from 0."""
        start = self.places[number] * self.batch_size
        return self.rows[start : start + self.batch_size].tolist()


def plan_epoch(lengths: Lengths, batch_size: int, seed: int, epoch: int) -> Epoch:
    """Plan the batches of an epoch: shuffled, but rows of like length together.

    The order depends on seed and epoch alone, so that a resumed run goes on with the very same batches.
    """
    rows = array("i", range(len(lengths)))
    shuffle = random.Random(f"{seed}:{epoch}").shuffle
    shuffle(rows)
    window = batch_size * 16
    for start in range(0, len(rows), window):
        near = sorted(rows[start : start + window], key=lengths.__getitem__)
        rows[start : start + window] = array("i", near)
    places = array("i", range(-(-len(rows) // batch_size)))
    shuffle(places)
    return Epoch(rows, places, batch_size)


def plan_batches(lengths: Lengths, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the row numbers of each batch of an epoch."""
    planned = plan_epoch(lengths, batch_size, seed, epoch)
    return [planned.batch(number) for number in range(len(planned.places))]


def token_losses(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the cross-entropy of each labelled token, in nats, text after text (shape: labelled tokens).

    The output projection sees only the hidden states that a label follows.
    """
    with _projecting(model, batch.before_N):
        # No attention mask: padding stands to the right, where causal attention never looks from a real token.
        logits_N_V = model(input_ids=batch.ids_B_T, use_cache=False, **_layout(batch)).logits
    count_hits(logits_N_V, batch.label_N)
    losses_N: Tensor = CrossEntropy.apply(logits_N_V, batch.label_N)  # type: ignore[no-untyped-call]
    return losses_N


def text_losses(model: PreTrainedModel, batch: Batch, texts: int) -> Tensor:
    """Return the summed cross-entropy of each text, in nats (shape: texts)."""
    losses_N = token_losses(model, batch)
    return torch.zeros(texts, device=losses_N.device).index_add(0, batch.text_N, losses_N)


@contextmanager
def _projecting(model: PreTrainedModel, places_N: Tensor) -> Iterator[None]:
    """Let the model's output projection, and what the model does to logits after it, see these positions only.

    The model's own forward runs, so that logits that it scales or caps are scaled or capped here too.
    """

    def select(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_B_T_D = given[0]
        return (hidden_B_T_D.reshape(-1, hidden_B_T_D.shape[-1]).index_select(0, places_N), *given[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def _layout(batch: Batch) -> dict[str, Any]:
    """Return what the model must be told when several texts stand in one row."""
    if batch.bounds is None:
        return {}
    return {
        "position_ids": batch.position_B_T,
        "cu_seq_lens_q": batch.bounds,
        "cu_seq_lens_k": batch.bounds,
        "max_length_q": batch.longest,
        "max_length_k": batch.longest,
    }


def learning_rate(step: int, *, steps: int, peak: float, warmup: int) -> float:
    """Return the rate of a step (from 0): linear warm-up, then half a cosine down to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


class Schedule:
    """Which rows each step takes, and at which rate; a function of lengths, settings and seed alone."""

    def __init__(
        self,
        lengths: Lengths,
        *,
        epochs: int,
        batch_size: int,
        seed: int,
        peak: float,
        warmup_share: float,
    ) -> None:
        self.lengths, self._batch_size, self._seed, self._peak = lengths, batch_size, seed, peak
        self.steps_of_epoch = -(-len(lengths) // batch_size)
        self.steps = epochs * self.steps_of_epoch
        self._warmup = max(1, round(warmup_share * self.steps))
        self._epoch: tuple[int, Epoch] | None = None

    def batch(self, step: int) -> list[int]:
        """Return the numbers of the rows of a step, both from 0."""
        epoch, place = divmod(step, self.steps_of_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, plan_epoch(self.lengths, self._batch_size, self._seed, epoch))
        return self._epoch[1].batch(place)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return learning_rate(step, steps=self.steps, peak=self._peak, warmup=self._warmup)
