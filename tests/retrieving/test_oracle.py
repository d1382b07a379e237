"""The retriever that knows: a right entry first, the rest as it was found."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tunesmith.models.base import Retriever
from tunesmith.records import Passage
from tunesmith.retrieving.oracle import OracleRetriever

A, B, C, D = (Passage(name, f"{name}(x)", 0.5) for name in "abcd")


class Found:
    """A Retriever that always finds A, B and C."""

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return the first `count` of the three."""
        return [(A, B, C)[:count] for _ in questions]


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ([A], (A, B, C)),
        ([C, A], (A, B, C)),
        ([C], (C, A, B)),
        ([D, C], (C, A, B)),
        ([D], (D, A, B)),
    ],
)
def test_a_right_entry_leads(right: list[Passage], expected: tuple[Passage, ...]) -> None:
    """The highest of those that were found, else the first of the right ones; no entry stands twice."""
    oracle: Retriever = OracleRetriever(Found(), {"?": right})
    assert oracle.search(["?"], 3) == [expected]
    [[only]] = oracle.search(["?"], 1)
    assert only in right
