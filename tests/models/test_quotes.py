"""Quotes: marked before an answer, looked up in what was shown, left out of the text and of the stream."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.models.base import Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.models.quotes import (
    BEGIN,
    END,
    checked,
    in_passage,
    quotes_in,
    quoting,
    streamed_without_quotes,
    without_quotes,
)
from tunesmith.models.wrappers import retrieving
from tunesmith.records import Answer, Message, Passage

PASSAGES = (
    Passage("a", "Leave: Staff have\n25 days a year.", 1.0, "text"),
    Passage("b", "Sick notes come on day three.", 0.5, "text"),
)


def test_an_answer_stands_behind_its_quotes() -> None:
    """Each in RAFT's marks on a line; without quotes nothing changes."""
    text = quoting(["Staff have 25 days", "day three"], "25 days.")
    assert text == (
        "##begin_quote## Staff have 25 days ##end_quote##\n##begin_quote## day three ##end_quote##\n25 days."
    )
    assert quotes_in(text) == ("Staff have 25 days", "day three")
    assert without_quotes(text) == "25 days."
    assert quoting([], "25 days.") == "25 days."


@pytest.mark.parametrize(
    ("text", "said", "cited", "notes"),
    [
        (quoting(["Staff have 25 days"], "25."), "25.", ("a",), ()),
        (quoting(["day three", "25 days a year"], "Both."), "Both.", ("b", "a"), ()),
        (
            quoting(["30 days a year"], "30."),
            "30.",
            (),
            ("quotes what no shown passage says: 30 days a year",),
        ),
        (quoting([""], "None."), "None.", (), ("quotes what no shown passage says: ",)),
        ("Plain.", "Plain.", (), ()),
        (f"{BEGIN} never ends", f"{BEGIN} never ends", (), ()),
        (f"First. {BEGIN} day three {END}", f"First. {BEGIN} day three {END}", ("b",), ()),
    ],
)
def test_quotes_are_looked_up_in_what_was_shown(
    text: str, said: str, cited: tuple[str, ...], notes: tuple[str, ...]
) -> None:
    """White space aside, word for word; those at the beginning are no part of the answer."""
    assert checked(Answer(text), PASSAGES) == Answer(said, cited=cited, notes=notes)


@given(st.lists(st.sampled_from(["a", " ", "\n", BEGIN, END, "##", "beg"]), max_size=12), st.integers(1, 9))
def test_a_stream_leaves_out_what_a_reply_does(parts: list[str], size: int) -> None:
    """However it is cut into pieces; and nothing of a quote is shown before it is known to be none."""
    text = "".join(parts)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert "".join(streamed_without_quotes(pieces)) == without_quotes(text)


@given(st.text(), st.text())
def test_a_quote_is_in_a_passage_or_not(before: str, after: str) -> None:
    """What stands around it does not matter, where words do not run together; nothing is quoted by nothing."""
    assert in_passage("25 days", f"{before} 25\n days {after}")
    assert not in_passage(" ", f"{before} {after}")


class Finds:
    """A Retriever of the passages."""

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return them for each question."""
        return [PASSAGES[:count] for _ in questions]


def test_a_model_with_passages_is_checked() -> None:
    """The answer names what was shown and what it quotes; its stream says the same."""
    model = retrieving(FakeModel(lambda _: quoting(["Sick notes"], "On day three.")), Finds())
    asked = (Message("user", "when?"),)
    [answer] = model.reply([asked], Sampling())
    assert (answer.text, answer.retrieved, answer.cited) == ("On day three.", ("a", "b"), ("b",))
    assert "".join(model.stream(asked, Sampling())) == "On day three."
