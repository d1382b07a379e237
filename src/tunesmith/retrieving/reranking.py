"""Rerank what a retriever finds: by how likely a passage makes the question, or by a cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tunesmith.models.base import Retriever
from tunesmith.records import Message, Passage

if TYPE_CHECKING:
    from tunesmith.models.likelihood import Likelihood

_ASK = "Write a question that this answers:\n\n{passage}"


class Relevance(Protocol):
    """Says how well passages answer questions."""

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Return a score for each pair of a question and a passage's text; larger is better."""
        ...


@dataclass(frozen=True, slots=True)
class Reranking:
    """A Retriever that puts another's first `depth` passages into the order of their relevance.

    A passage's score is then its relevance. Of equals, the one that `retriever` ranks first wins. What `retriever` does
    not have among its first `depth` (or `count`, if that is more) is not found.
    """

    retriever: Retriever
    relevance: Relevance
    depth: int

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return for each question the `count` most relevant of the passages found, the most relevant first."""
        found = self.retriever.search(questions, max(self.depth, count))
        pairs = [
            (question, passage.text)
            for question, passages in zip(questions, found, strict=True)
            for passage in passages
        ]
        scores = iter(self.relevance.scores(pairs))
        scored = [[replace(one, score=next(scores)) for one in passages] for passages in found]
        return [tuple(sorted(passages, key=lambda one: -one.score)[:count]) for passages in scored]


@dataclass(frozen=True, slots=True)
class QuestionLikelihood:
    """A Relevance by a language model: the mean log probability, in nats, of the question's tokens given the passage.

    Sachan et al. 2022 (UPR, arXiv:2204.07496); nothing is trained and nothing generated.
    """

    likelihood: Likelihood

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Return each question's mean log probability after its passage."""
        prompts = [(Message("user", _ASK.format(passage=passage)),) for _, passage in pairs]
        return self.likelihood.means(prompts, [question for question, _ in pairs])
