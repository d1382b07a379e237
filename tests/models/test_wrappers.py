"""Wrapped models: what the inner model is shown, and what the wrapper adds to its answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count as ticks

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import DatasetError, ModelError
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.models.wrappers import few_shot, prompted, retrieving, with_passages
from tunesmith.records import Answer, Conversation, Message, Passage

LONG = Sampling(max_tokens=1000)
ASKED = (Message("system", "Be brief."), Message("user", "shortest way?"))
PASSAGES = (
    Passage("nx.path", "nx.path(G): Find a path.", 0.9),
    Passage("nx.cycle", "nx.cycle(G): Find a cycle.", 0.4),
)
SHOWN = (
    "Entries that may help, the likeliest first:\n"
    "- nx.path(G): Find a path.\n"
    "- nx.cycle(G): Find a cycle.\n"
    "\n"
    "Question: shortest way?"
)


class ListRetriever:
    """A Retriever that always finds the same passages and keeps what it was asked."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)
        self.asked: list[tuple[tuple[str, ...], int]] = []

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return the first `count` passages for each question."""
        self.asked.append((tuple(questions), count))
        return [self.passages[:count] for _ in questions]


def _transcript(conversation: Conversation) -> str:
    return "\n".join(f"<{message.role}> {message.content}" for message in conversation)


ECHO = FakeModel(_transcript, name="echo")


def _said(model: ChatModel, conversation: Conversation) -> str:
    """Return what the model says, streamed and as a reply alike."""
    [answer] = model.reply([conversation], LONG)
    assert "".join(model.stream(conversation, LONG)) == answer.text
    return answer.text


def test_a_prompt_takes_the_place_of_the_system_message() -> None:
    """The conversation's own system message goes, all else stays; the name says what was done."""
    model = prompted(ECHO, "Answer in verse.")

    assert isinstance(model, ChatModel)
    assert model.name == "echo+prompt"
    assert _said(model, ASKED) == "<system> Answer in verse.\n<user> shortest way?"
    assert _said(model, ASKED[1:]) == "<system> Answer in verse.\n<user> shortest way?"


def test_few_shots_stand_between_system_and_question() -> None:
    """The examples' turns come in order after the system message, or first where there is none."""
    shots = [(Message("user", q), Message("assistant", a)) for q, a in (("q1", "a1"), ("q2", "a2"))]
    model = few_shot(ECHO, shots)
    turns = "<user> q1\n<assistant> a1\n<user> q2\n<assistant> a2\n<user> shortest way?"

    assert model.name == "echo+few_shot"
    assert _said(model, ASKED) == f"<system> Be brief.\n{turns}"
    assert _said(model, ASKED[1:]) == turns
    assert _said(few_shot(ECHO, []), ASKED) == _said(ECHO, ASKED)


@pytest.mark.parametrize(
    ("example", "shown"),
    [
        ((), "none"),
        ((Message("user", "q"),), "user"),
        (
            (Message("system", "s"), Message("user", "q"), Message("assistant", "a")),
            "system, user, assistant",
        ),
    ],
)
def test_an_example_that_is_no_exchange_is_refused(example: Conversation, shown: str) -> None:
    """Few shots are questions with answers; anything else names its turns."""
    good = (Message("user", "q"), Message("assistant", "a"))

    with pytest.raises(DatasetError, match=f"example 2 of the few shots has the turns {shown}"):
        few_shot(ECHO, [good, example])


def test_passages_are_rendered_in_one_form() -> None:
    """The last user message shows the passages in order and then the question."""
    earlier = (Message("user", "hello"), Message("assistant", "hi"))

    assert with_passages(ASKED, PASSAGES) == (ASKED[0], Message("user", SHOWN))
    assert with_passages((*earlier, *ASKED[1:]), PASSAGES) == (*earlier, Message("user", SHOWN))
    assert with_passages((*ASKED, *earlier[1:]), PASSAGES) == (ASKED[0], Message("user", SHOWN), *earlier[1:])


@given(st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text())).map(tuple))
def test_without_passages_nothing_changes(conversation: Conversation) -> None:
    """A question for which nothing was found is asked as it is."""
    assert with_passages(conversation, ()) == conversation


def test_a_batch_is_one_search_and_answers_name_their_passages() -> None:
    """Each answer says what its model saw, and its seconds hold its share of the search."""
    retriever = ListRetriever(PASSAGES)
    clock = ticks(10)
    model = retrieving(ECHO, retriever, count=2, clock=lambda: float(next(clock)))
    other = (Message("user", "longest?"),)

    answers = model.reply([ASKED, other], LONG)

    assert model.name == "echo+retrieval"
    assert retriever.asked == [(("shortest way?", "longest?"), 2)]
    text = f"<system> Be brief.\n<user> {SHOWN}"
    assert answers[0] == Answer(
        text, prompt_tokens=22, completion_tokens=24, seconds=0.5, retrieved=("nx.path", "nx.cycle")
    )
    assert answers[1].retrieved == ("nx.path", "nx.cycle")
    assert answers[1].text.endswith("Question: longest?")


def test_streaming_searches_too() -> None:
    """A streamed answer saw the same passages as a whole one."""
    model = retrieving(ECHO, ListRetriever(PASSAGES), count=1)

    assert _said(model, ASKED).endswith("first:\n- nx.path(G): Find a path.\n\nQuestion: shortest way?")


def test_nothing_found_is_asked_as_it_is() -> None:
    """Without passages the model sees the plain question, and no search is made for an empty batch."""
    retriever = ListRetriever(())
    model = retrieving(ECHO, retriever)

    assert model.reply([], LONG) == []
    assert retriever.asked == []
    [answer] = model.reply([ASKED], LONG)
    assert (answer.text, answer.retrieved) == (_transcript(ASKED), ())


def test_a_conversation_without_a_user_cannot_be_searched_for() -> None:
    """There must be a question."""
    with pytest.raises(ModelError, match="no user message"):
        retrieving(ECHO, ListRetriever(PASSAGES)).reply([ASKED[:1]], LONG)


def test_wrappers_wrap_each_other() -> None:
    """Passages come after the shots, in the question's message; the name tells the order."""
    shots = [(Message("user", "q"), Message("assistant", "a"))]
    model = retrieving(few_shot(ECHO, shots), ListRetriever(PASSAGES))

    assert model.name == "echo+few_shot+retrieval"
    assert _said(model, ASKED) == f"<system> Be brief.\n<user> q\n<assistant> a\n<user> {SHOWN}"
