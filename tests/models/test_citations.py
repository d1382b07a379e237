"""Citations: numbered passages, what an answer cites of them, and numbers that name none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count as ticks

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.citations import Citations, citations_in, citing
from tunesmith.models.fake import FakeModel
from tunesmith.records import Answer, Message, Passage

LONG = Sampling(max_tokens=1000)
PASSAGES = (Passage("a", "Leaf one.", 0.9), Passage("b", "Leaf two.", 0.4))
ASKED = (Message("user", "which leaf?"),)


class ListRetriever:
    """A Retriever that always finds the same passages."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return the first `count` passages for each question."""
        return [self.passages[:count] for _ in questions]


@pytest.mark.parametrize(
    ("text", "cited", "unknown"),
    [
        ("One [1]. Two [2].", ("a", "b"), ()),
        ("Both [2, 1], and again [1].", ("b", "a"), ()),
        ("Nothing.", (), ()),
        ("A third [3] and a zeroth [0], once more [3].", (), (3, 0)),
        ("Call `rows[1]`.\n```python\nrows = [1]\nprint(rows[2])\n```", (), ()),
        ("```\n[1] in a fence that never ends", (), ()),
        ("Use it so [1][2].", ("a", "b"), ()),
        ("And that[2].", ("b",), ()),
        ("The item x[1] is no citation, nor is [one], nor f(x)[2] or a[0][4].", (), ()),
    ],
)
def test_what_a_text_cites(text: str, cited: tuple[str, ...], unknown: tuple[int, ...]) -> None:
    """Numbers in brackets, in words and not in code, each once and in order."""
    assert citations_in(text, PASSAGES) == Citations(cited, unknown)


@given(st.lists(st.integers(0, 9), max_size=6))
def test_every_number_is_told_once_on_one_side(numbers: list[int]) -> None:
    """A number is a passage's or unknown."""
    found = citations_in(" ".join(f"[{number}]" for number in numbers), PASSAGES)
    assert set(found.unknown) == {number for number in numbers if number not in (1, 2)}
    assert set(found.cited) == {PASSAGES[number - 1].id for number in numbers if number in (1, 2)}


def test_passages_are_numbered_and_asked_to_be_cited() -> None:
    """The question stands last; the answer names what was shown and what it cites, with its share of the search."""
    seen: list[str] = []

    def speak(conversation: tuple[Message, ...]) -> str:
        seen.append(conversation[-1].content)
        return "Leaf two [2], says the third [3]."

    clock = ticks(10)
    model = citing(FakeModel(speak), ListRetriever(PASSAGES), count=2, clock=lambda: float(next(clock)))
    [answer] = model.reply([ASKED], LONG)

    assert isinstance(model, ChatModel)
    assert model.name == "fake+retrieval+citations"
    assert seen[0].startswith(
        "Passages that may help, the likeliest first:\n[1] Leaf one.\n[2] Leaf two.\n\nSay which"
    )
    assert seen[0].endswith("\n\nQuestion: which leaf?")
    assert answer == Answer(
        "Leaf two [2], says the third [3].",
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=7,
        seconds=1.0,
        retrieved=("a", "b"),
        cited=("b",),
        notes=("cites [3], which is no passage: 2 were shown",),
    )
    assert "".join(model.stream(ASKED, LONG)) == answer.text
    assert model.reply([], LONG) == []


def test_an_answer_that_cites_nothing_is_told() -> None:
    """Unless nothing was shown: then the question is asked as it is."""
    silent = FakeModel(lambda conversation: conversation[-1].content)
    [answer] = citing(silent, ListRetriever(()), count=2).reply([ASKED], LONG)
    assert (answer.text, answer.notes) == ("which leaf?", ())
    [answer] = citing(FakeModel(lambda _: "No."), ListRetriever(PASSAGES)).reply([ASKED], LONG)
    assert (answer.cited, answer.notes) == ((), ("cites no passage",))
