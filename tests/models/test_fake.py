"""The fake model: prepared replies, honest token counts, the limits of a real one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import ModelError
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.models.metering import metered
from tunesmith.records import Answer, Message

ASKED = (Message("user", "hello there"),)


def test_replies_come_from_a_mapping_or_a_function() -> None:
    """The last message picks the reply, or the whole conversation makes it."""
    by_text = FakeModel({"hello there": "good day to you"})
    by_function = FakeModel(lambda conversation: conversation[0].role, name="echo")

    assert isinstance(by_text, ChatModel)
    assert by_text.reply([ASKED], Sampling()) == [Answer("good day to you", 2, 4)]
    assert by_function.reply([ASKED, ASKED], Sampling()) == [Answer("user", 2, 1)] * 2


def test_sampling_limits_are_obeyed() -> None:
    """An answer ends after its stop string or its tokens, and says which."""
    model = FakeModel({"hello there": "one two three"})

    assert model.reply([ASKED], Sampling(max_tokens=2)) == [Answer("one two", 2, 2, finish="length")]
    assert model.reply([ASKED], Sampling(stop=("two",))) == [Answer("one two", 2, 2)]


def test_an_unknown_question_is_an_error_that_shows_it() -> None:
    """A test that asks something unprepared fails at once."""
    with pytest.raises(ModelError, match="no reply to 'hello there'"):
        FakeModel({}).reply([ASKED], Sampling())


@given(st.text())
def test_a_stream_joins_to_the_reply(text: str) -> None:
    """Streaming loses nothing."""
    model = FakeModel(lambda _: text)

    assert "".join(model.stream(ASKED, Sampling(max_tokens=1000))) == text


def test_what_is_used_can_be_metered() -> None:
    """Of whole answers and of streams, one that is broken off with what it has said; outside the block nothing is."""
    model, ask = FakeModel({"a b": "one two three"}), (Message("user", "a b"),)
    model.reply([ask], Sampling())
    with metered() as whole:
        model.reply([ask], Sampling())
    with metered() as broken:
        pieces = iter(model.stream(ask, Sampling()))
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
    assert (whole.prompt_tokens, whole.completion_tokens) == (2, 3)
    assert (broken.prompt_tokens, broken.completion_tokens) == (2, 1)
