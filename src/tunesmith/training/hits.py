"""How many labelled tokens were the likeliest: counted where the logits are, while somebody wants to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_COUNTING: ContextVar[Hits | None] = ContextVar("hits", default=None)


@dataclass(slots=True)
class Hits:
    """Labelled tokens, and how many of them had the largest logit; added up on the logits' device until asked for."""

    labelled: int = 0
    right: Tensor | int = 0

    def told(self) -> tuple[int, int]:
        """Return how many were right, and of how many."""
        return int(self.right), self.labelled


@contextmanager
def counted_hits() -> Iterator[Hits]:
    """Count the labelled tokens that are read within the block, and not within a block inside it."""
    hits = Hits()
    token = _COUNTING.set(hits)
    try:
        yield hits
    finally:
        _COUNTING.reset(token)


def share(counts: Iterable[tuple[int, int]]) -> float | None:
    """Return the share of hits in what several blocks or processes told; None where nothing was counted."""
    told = list(counts)
    labelled = sum(each for _, each in told)
    return sum(right for right, _ in told) / labelled if labelled else None


def count_hits(logits_N_V: Tensor, label_N: Tensor) -> None:
    """Note how many labels have their row's largest logit, if anybody counts."""
    hits = _COUNTING.get()
    if hits is None:
        return
    logits_N_V = logits_N_V.detach()
    largest_N = logits_N_V.amax(-1)
    hits.right = hits.right + (logits_N_V.gather(1, label_N[:, None])[:, 0] >= largest_N).sum()
    hits.labelled += len(label_N)
