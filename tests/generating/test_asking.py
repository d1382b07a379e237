"""Asking: each only once, at once where it can be, within a price, patient with a service that has enough."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tunesmith.errors import ModelBusy, ModelError, ModelRefused
from tunesmith.generating.asking import ATTEMPTS, Asker, Price, Purse, Unanswered
from tunesmith.generating.replies import Replies, Reply
from tunesmith.models.base import Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.records import Answer, Conversation, Message

SAMPLING = Sampling(max_tokens=10)


def _asks(*questions: str) -> list[Conversation]:
    return [(Message("user", question),) for question in questions]


@dataclass
class Patient:
    """A service that answers after a while; `faults` are raised first, one a call."""

    seconds: float = 0.0
    faults: list[ModelError] = field(default_factory=list)
    name: str = "service"
    asked: list[str] = field(default_factory=list)
    inside: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, conversation: Conversation, sampling: Sampling) -> Answer:
        """Answer with the question."""
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.asked.append(conversation[-1].content)
            fault = self.faults.pop(0) if self.faults else None
        time.sleep(self.seconds)
        with self.lock:
            self.inside -= 1
        if fault is not None:
            raise fault
        return Answer(conversation[-1].content.upper(), 1, 10)

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Answer several."""
        return [self.ask(conversation, sampling) for conversation in conversations]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Answer in one piece."""
        yield self.ask(conversation, sampling).text


def test_replies_come_in_order_and_the_same_is_asked_once() -> None:
    """Whichever answer is there first."""
    service = Patient(0.01)
    asker = Asker(service, concurrency=4)

    replies = asker.ask(_asks("a", "b", "a", "c"), SAMPLING)

    assert [reply.text for reply in replies if isinstance(reply, Reply)] == ["A", "B", "A", "C"]
    assert sorted(service.asked) == ["a", "b", "c"]


def test_as_many_are_asked_at_once_as_are_allowed() -> None:
    """No more, and, while there is enough to ask, no fewer."""
    service = Patient(0.02)

    Asker(service, concurrency=5).ask(_asks(*map(str, range(20))), SAMPLING)

    assert service.most == 5


def test_a_busy_service_is_asked_again_after_the_time_it_wants() -> None:
    """Its own wait if it names one, else longer and longer ones."""
    waits: list[float] = []
    service = Patient(
        faults=[ModelBusy("too much", retry_after=7.0), ModelBusy("too much"), ModelBusy("too much")]
    )
    asker = Asker(service, concurrency=1, sleep=waits.append)

    [reply] = asker.ask(_asks("a"), SAMPLING)

    assert reply == Reply("A", 1, 10)
    assert [low <= wait <= low * 1.25 for low, wait in zip((7.0, 1.0, 2.0), waits, strict=True)] == [True] * 3


def test_a_service_that_stays_away_stops_the_run_and_keeps_what_it_said(tmp_path: Path) -> None:
    """The next run asks for the rest alone."""
    service = Patient(faults=[ModelBusy("gone")] * ATTEMPTS)
    file = tmp_path / "replies.jsonl"
    with closing(Replies(file)) as replies:
        asker = Asker(service, replies, concurrency=1, sleep=lambda seconds: None)
        service.faults.insert(0, ModelBusy("gone"))
        with pytest.raises(ModelBusy, match="gone"):
            asker.ask(_asks("a", "b"), SAMPLING)
        service.faults.clear()
        asker.ask(_asks("a"), SAMPLING)
    service.asked.clear()
    with closing(Replies(file)) as replies:
        Asker(service, replies, concurrency=1).ask(_asks("a", "b"), SAMPLING)

    assert service.asked == ["b"]


def test_an_error_that_does_not_pass_stops_at_once() -> None:
    """A wrong key is wrong at the second attempt, too."""
    service = Patient(faults=[ModelError("no such model")])

    with pytest.raises(ModelError, match="no such model"):
        Asker(service, concurrency=3).ask(_asks("a"), SAMPLING)

    assert service.asked == ["a"]


def test_a_question_that_is_refused_does_not_stop_the_others() -> None:
    """It has no reply, and the reason."""
    service = Patient(faults=[ModelRefused("its filter stopped it")])

    replies = Asker(service, concurrency=1).ask(_asks("a", "b"), SAMPLING)

    assert replies == [Unanswered("the teacher refused", "its filter stopped it"), Reply("B", 1, 10)]


def test_the_price_ceiling_is_never_passed() -> None:
    """What is not asked has the reason; what was asked is paid for, in a later run as well."""
    purse = Purse(Price(prompt=1000.0, completion=10_000.0), limit=0.25)
    service = Patient()

    replies = Asker(service, purse=purse, concurrency=1).ask(_asks(*"abcd"), SAMPLING)

    assert [isinstance(reply, Reply) for reply in replies] == [True, True, False, False]
    assert replies[2] == Unanswered("over the price ceiling", "max_cost_usd = 0.25 would be passed")
    assert purse.spent == pytest.approx(0.202)


def test_another_model_of_the_same_name_is_asked_anew() -> None:
    """A folder's files may have changed."""
    replies = Replies()
    model = FakeModel({"a": "A"})

    for identity in ("one", "two", "one"):
        Asker(model, replies, identity=identity).ask(_asks("a"), SAMPLING)

    assert len(replies) == 2
