"""A retriever that knows the right entry: the ceiling of what better retrieval could bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith.models.base import Retriever
from tunesmith.records import Passage


@dataclass(frozen=True, slots=True)
class OracleRetriever:
    """A Retriever that shows a right entry first, before what `retriever` finds (Gorilla's oracle: arXiv:2305.15334).

    `right` holds for each question the passages that answer it, at least one; a question that is not there raises
    KeyError. Where the retriever's own first hit is right, its hits stay as they are.
    """

    retriever: Retriever
    right: Mapping[str, Sequence[Passage]]

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return for each question `count` passages, a right one first."""
        found = self.retriever.search(questions, count)
        return [self._led(question, hits, count) for question, hits in zip(questions, found, strict=True)]

    def _led(self, question: str, hits: tuple[Passage, ...], count: int) -> tuple[Passage, ...]:
        ids = {passage.id for passage in self.right[question]}
        first = next((hit for hit in hits if hit.id in ids), self.right[question][0])
        return (first, *(hit for hit in hits if hit.id != first.id))[:count]
