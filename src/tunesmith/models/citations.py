"""Answers that cite: passages are numbered in the prompt, and each number in the answer is looked up among them.

What is not covered: whether a passage says what it is cited for. Numbers in code, as in `rows[1]`, are no citations;
where a word and brackets stand among words as they are, they are taken for one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tunesmith.models.base import ChatModel, Retriever, Sampling
from tunesmith.models.wrappers import asked_with, question
from tunesmith.records import Answer, Conversation, Passage

_HEAD = "Passages that may help, the likeliest first:"
_ASK = "Say which passages the answer rests on: put their numbers behind each statement, like [1] or [1, 2]."
_FENCED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# One or several side by side, behind a blank or a word: x[1] and f(x)[1] are code, wherever they stand.
_CITATION = re.compile(r"(?:(?<![\w\])])|(?<=[^\W\d_]{2}))(?:\[\d{1,3}(?:\s*,\s*\d{1,3})*\])+")


@dataclass(frozen=True, slots=True)
class Citations:
    """What an answer cites: the ids of passages, each once and in order, and the numbers that name none."""

    cited: tuple[str, ...]
    unknown: tuple[int, ...]


def citations_in(text: str, passages: Sequence[Passage]) -> Citations:
    """Return what a text cites of the passages that were shown, numbered from 1."""
    numbers = numbers_in(text)
    known = range(1, len(passages) + 1)
    cited = dict.fromkeys(passages[number - 1].id for number in numbers if number in known)
    return Citations(tuple(cited), tuple(number for number in numbers if number not in known))


def numbers_in(text: str) -> tuple[int, ...]:
    """Return the numbers that a text cites as [1] or [1, 3] outside of code, each once, in their order."""
    words = _FENCED.sub(" ", text)
    found = (int(number) for cited in _CITATION.findall(words) for number in re.findall(r"\d+", cited))
    return tuple(dict.fromkeys(found))


def without_citations(text: str) -> str:
    """Return a text without what it cites as [1], [1, 3] or [1][3]."""
    return _CITATION.sub("", text)


def with_numbered(conversation: Conversation, passages: Sequence[Passage]) -> Conversation:
    """Return the conversation whose last user message shows the passages under numbers, and asks to cite them.

    Without passages nothing changes.
    """
    if not passages:
        return conversation
    lines = "\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(passages, 1))
    return asked_with(conversation, f"{_HEAD}\n{lines}\n\n{_ASK}")


def citing(
    model: ChatModel,
    retriever: Retriever,
    *,
    count: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> ChatModel:
    """Return the model that sees the `count` passages nearest to each question, and is asked to cite them.

    `Answer.cited` holds the passages that the answer names. A number that names none, and an answer without any, are
    told in `Answer.notes`. `Answer.seconds` holds the answer's share of the search, in seconds of `clock`.
    """
    return _Citing(model, retriever, count, clock)


@dataclass(frozen=True, slots=True)
class _Citing:
    """A ChatModel that searches before it answers, and whose citations are looked up."""

    model: ChatModel
    retriever: Retriever
    count: int
    clock: Callable[[], float]

    @property
    def name(self) -> str:
        """The model's name, and that it retrieves and cites."""
        return f"{self.model.name}+retrieval+citations"

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return the model's answers, each with the ids of the passages that it saw and of those that it cites."""
        if not conversations:
            return []
        start = self.clock()
        found = self.retriever.search([question(one) for one in conversations], self.count)
        searching = (self.clock() - start) / len(conversations)
        shown = [with_numbered(one, passages) for one, passages in zip(conversations, found, strict=True)]
        answers = self.model.reply(shown, sampling)
        return [
            _looked_up(answer, passages, searching) for answer, passages in zip(answers, found, strict=True)
        ]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the model's answer to the conversation with its passages."""
        [passages] = self.retriever.search([question(conversation)], self.count)
        yield from self.model.stream(with_numbered(conversation, passages), sampling)


def _looked_up(answer: Answer, passages: Sequence[Passage], searching: float) -> Answer:
    found = citations_in(answer.text, passages)
    notes = [f"cites [{number}], which is no passage: {len(passages)} were shown" for number in found.unknown]
    if passages and not (found.cited or found.unknown):
        notes.append("cites no passage")
    return replace(
        answer,
        retrieved=tuple(passage.id for passage in passages),
        cited=found.cited,
        seconds=answer.seconds + searching,
        notes=(*answer.notes, *notes),
    )
