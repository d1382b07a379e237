"""How many labelled tokens were the likeliest: counted where the logits are, while somebody wants to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_COUNTING: ContextVar[Hits | None] = ContextVar("hits", default=None)


@dataclass(slots=True)
class Hits:
    """Labelled tokens, and how many of them had the largest logit; kept on the logits' device until asked for."""

    labelled: int = 0
    right: list[Tensor] = field(default_factory=list)

    def share(self) -> float | None:
        """Return the share of hits; None where nothing was counted."""
        return sum(int(each) for each in self.right) / self.labelled if self.labelled else None


@contextmanager
def counted_hits() -> Iterator[Hits]:
    """Count the labelled tokens that are read within the block."""
    hits = Hits()
    token = _COUNTING.set(hits)
    try:
        yield hits
    finally:
        _COUNTING.reset(token)


def count_hits(logits_N_V: Tensor, label_N: Tensor) -> None:
    """Note how many labels have their row's largest logit, if anybody counts."""
    hits = _COUNTING.get()
    if hits is None:
        return
    logits_N_V = logits_N_V.detach()
    largest_N = logits_N_V.amax(-1)
    hits.right.append((logits_N_V.gather(1, label_N[:, None])[:, 0] >= largest_N).sum())
    hits.labelled += len(label_N)
