"""What was said greedily is said again without being computed: the same answers, also under constraints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tunesmith.models import local
from tunesmith.models.base import Sampling
from tunesmith.models.local import LocalModel, prompt_ids
from tunesmith.models.said import Said
from tunesmith.records import Answer, Conversation, Message

QUESTIONS = ("where is it?", "is it", "find the shortest path " * 3, "?", "é → 日本", "a b c")
ASKED: list[Conversation] = [(Message("user", question),) for question in QUESTIONS]
GREEDY = Sampling(max_tokens=20)


class Forbidding:
    """A Constraint that forbids some tokens after so many have been said; `most` tokens end the answer."""

    def __init__(self, after: int, tokens: frozenset[int], most: int = 1000) -> None:
        self.after, self.tokens, self.most = after, tokens, most
        self.said = 0

    def allow(self, logits_V: torch.Tensor) -> None:
        """Forbid the tokens, when it is time."""
        if self.said >= self.after:
            logits_V[sorted(self.tokens)] = -torch.inf

    def advance(self, token: int) -> None:
        """Count a token, which must be an allowed one."""
        assert self.said < self.after or token not in self.tokens
        self.said += 1

    def finished(self) -> bool:
        """Tell whether all was said."""
        return self.said >= self.most


@pytest.fixture(scope="module")
def make(new_chat_model: Any, chat_tokenizer: PreTrainedTokenizerFast) -> Callable[[Said | None], LocalModel]:
    """Return what makes the tiny chat model, which remembers or does not."""
    weights = new_chat_model()
    return lambda said: LocalModel(weights, chat_tokenizer, name="tiny", batch_size=4, said=said)


@contextmanager
def read_tokens(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Note how many tokens are read in each pass of the model."""
    passes: list[int] = []
    forward = LocalModel._forward

    def noting(self: LocalModel, tokens_B_T: torch.Tensor, *others: Any) -> torch.Tensor:
        passes.append(tokens_B_T.numel())
        return forward(self, tokens_B_T, *others)

    with monkeypatch.context() as patch:
        patch.setattr(LocalModel, "_forward", noting)
        yield passes


def untimed(answers: list[Answer]) -> list[Answer]:
    """Return the answers without their seconds."""
    return [replace(answer, seconds=0.0) for answer in answers]


def test_the_same_prompt_is_answered_once(
    make: Callable[[Said | None], LocalModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time nothing is read, and the answers are those of the first, with the seconds that they took."""
    model = make(Said())
    first = model.reply(ASKED, GREEDY)
    assert untimed(first) == untimed(make(None).reply(ASKED, GREEDY))
    with read_tokens(model, monkeypatch) as passes:
        again = model.reply(ASKED[::-1], GREEDY)
    assert passes == []
    assert untimed(again) == untimed(first[::-1])
    for one, other in zip(first, again[::-1], strict=True):
        assert 0 < one.seconds <= other.seconds < one.seconds + 0.5


@pytest.mark.parametrize(
    "differs",
    [
        replace(GREEDY, max_tokens=19),
        replace(GREEDY, stop=("q",)),
        replace(GREEDY, temperature=1.0),
        replace(GREEDY, anew=True),
    ],
    ids=["length", "stop", "sampled", "anew"],
)
def test_another_way_of_asking_is_answered_anew(
    make: Callable[[Said | None], LocalModel], monkeypatch: pytest.MonkeyPatch, differs: Sampling
) -> None:
    """What is known of one sampling says nothing of another, nor where the seconds are asked for."""
    model = make(Said())
    model.reply(ASKED, GREEDY)
    with read_tokens(model, monkeypatch) as passes:
        answers = model.reply(ASKED, differs)
    assert passes
    assert untimed(answers) == untimed(make(None).reply(ASKED, differs))


@pytest.mark.parametrize("after", [0, 1, 7, 19, 20])
def test_a_constraint_is_followed_as_far_as_it_allows(
    make: Callable[[Said | None], LocalModel], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Where it forbids what was said, the answer goes its own way: that of a model that remembers nothing."""
    plain = make(None)
    tokens = [
        plain.tokenizer(one.text, add_special_tokens=False)["input_ids"] for one in plain.reply(ASKED, GREEDY)
    ]
    # What half of the rows say there is forbidden to all.
    common = frozenset(row[after] for row in tokens[::2] if len(row) > after) | {5}

    def constraint(_: Conversation) -> Forbidding:
        return Forbidding(after, common)

    expected = plain.constrained(constraint, "held").reply(ASKED, GREEDY)
    model = make(Said())
    model.reply(ASKED, GREEDY)
    held = model.constrained(constraint, "held")
    with read_tokens(model, monkeypatch) as passes:
        answers = held.reply(ASKED, GREEDY)
    assert untimed(answers) == untimed(expected)
    assert all(one.seconds > 0 for one in answers)
    with read_tokens(model, monkeypatch) as unaided:
        plain.constrained(constraint, "held").reply(ASKED, GREEDY)
    assert len(passes) < len(unaided) or after == 0
    assert (passes == []) == (after == 20)


def test_a_constraint_that_is_complete_ends_the_answer(make: Callable[[Said | None], LocalModel]) -> None:
    """It is as long as the constraint wants it, though more was said before."""
    model = make(Said())
    free = model.reply(ASKED, GREEDY)
    short = model.constrained(lambda _: Forbidding(0, frozenset(), most=3), "short")
    answers = short.reply(ASKED, GREEDY)
    assert all(one.finish == "stop" and one.completion_tokens <= 3 for one in answers)
    assert all(whole.text.startswith(one.text) for whole, one in zip(free, answers, strict=True))
    assert untimed(model.reply(ASKED, GREEDY)) == untimed(free)


def test_what_was_said_under_a_constraint_is_not_the_models(
    make: Callable[[Said | None], LocalModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that a constraint held is not repeated by the model without it."""
    model = make(Said())
    model.constrained(lambda _: Forbidding(0, frozenset({5}), most=3), "short").reply(ASKED, GREEDY)
    with read_tokens(model, monkeypatch) as passes:
        assert untimed(model.reply(ASKED, GREEDY)) == untimed(make(None).reply(ASKED, GREEDY))
    assert passes


def test_the_oldest_answers_are_forgotten(
    make: Callable[[Said | None], LocalModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more answers than are kept the first ones are computed again."""
    model = make(Said(most=2))
    for conversation in ASKED[:3]:
        model.reply([conversation], GREEDY)
    with read_tokens(model, monkeypatch) as passes:
        model.reply(ASKED[1:3], GREEDY)
        assert passes == []
        model.reply(ASKED[:1], GREEDY)
        assert passes


def test_where_there_is_no_room_nothing_is_followed_in_part(
    make: Callable[[Said | None], LocalModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that goes on from what was said must fit beside one that begins; else it begins too, and says the same."""
    model = make(Said())
    longest = max(len(prompt_ids(model.tokenizer, one)) for one in ASKED)
    monkeypatch.setattr(local, "context_length", lambda _: longest + GREEDY.max_tokens)
    model.reply(ASKED, GREEDY)

    def constraint(_: Conversation) -> Forbidding:
        return Forbidding(10, frozenset(range(4, 40)))

    with read_tokens(model, monkeypatch) as passes:
        answers = model.constrained(constraint, "held").reply(ASKED, GREEDY)
    assert untimed(answers) == untimed(make(None).constrained(constraint, "held").reply(ASKED, GREEDY))
    assert sum(passes) > 0
