"""Ask a model many things: at once where it is a service, each only once, and within a price.

A service is asked by as many threads as are allowed at the time: all, until it says that it is asked too much; then
half as many, and one more with every round that it answers (additive increase, multiplicative decrease, as TCP does).
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from tunesmith.errors import ModelBusy, ModelError, ModelRefused
from tunesmith.generating.replies import Replies, Reply
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.progress import Progress, silent
from tunesmith.records import Answer, Conversation, fingerprint

ATTEMPTS: Final = 8
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_BATCH: Final = 32
# No tokenizer of any service is at hand; English has over four characters a token, code three.
_CHARACTERS_A_TOKEN: Final = 2.5


@runtime_checkable
class Service(Protocol):
    """A model that answers one question at a time, and says when it is asked too much."""

    def ask(self, conversation: Conversation, sampling: Sampling) -> Answer:
        """Return the answer; raises ModelBusy if it may be asked again, ModelRefused if this one never will be."""
        ...


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens read, and for a million written."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the price in US dollars."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class Purse:
    """What may be spent, in US dollars, and what was; with no `limit` it never is empty.

    What is being asked counts at the most that it can come to, so that the limit is never passed.
    """

    def __init__(self, price: Price | None = None, limit: float | None = None) -> None:
        self.price, self.limit = price, limit
        self.spent = 0.0
        self._reserved = 0.0
        self._lock = threading.Lock()

    def reserve(self, conversation: Conversation, sampling: Sampling) -> float | None:
        """Put aside what a question can come to and return it, or None if there is not enough."""
        if self.price is None:
            return 0.0
        characters = sum(len(message.content) for message in conversation)
        most = self.price.of(characters / _CHARACTERS_A_TOKEN, sampling.max_tokens)
        with self._lock:
            if self.limit is not None and self.spent + self._reserved + most > self.limit:
                return None
            self._reserved += most
            return most

    def settle(self, reserved: float, reply: Reply | None) -> None:
        """Pay what a reply came to, and take back what was put aside for it."""
        with self._lock:
            self._reserved -= reserved
            if self.price is not None and reply is not None:
                self.spent += self.price.of(reply.prompt_tokens, reply.completion_tokens)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why there is no reply: the money was spent, or the model refuses to answer this."""

    rule: str
    detail: str


@dataclass
class Asker:
    """Asks one model; what it has answered before, under the same `identity`, is taken from `replies`.

    `identity` says more than a name where a name can come to mean another model, such as a folder's digest.
    `sleep` and `clock` are arguments for tests.
    """

    model: ChatModel
    replies: Replies = field(default_factory=Replies)
    purse: Purse = field(default_factory=Purse)
    concurrency: int = 8
    identity: str = ""
    sleep: Callable[[float], object] = time.sleep
    asked: int = 0

    def ask(
        self, conversations: Sequence[Conversation], sampling: Sampling, on_progress: Progress = silent
    ) -> list[Reply | Unanswered]:
        """Return a reply to each conversation, in order, or why there is none.

        Raises ModelError for a model that cannot be reached or does not know what is asked of it; what it has
        answered until then is kept.
        """
        keys = [self.key(conversation, sampling) for conversation in conversations]
        found: dict[str, Reply | Unanswered] = {}
        new: dict[str, Conversation] = {}
        for key, conversation in zip(keys, conversations, strict=True):
            known = self.replies.get(key)
            if known is not None and key not in found:
                found[key] = known
                self.purse.settle(0.0, known)
            elif known is None:
                new[key] = conversation
        told = _Telling(on_progress, len(set(keys)), len(found))
        ask = self._at_once if isinstance(self.model, Service) else self._in_batches
        ask(new, sampling, found, told)
        return [found[key] for key in keys]

    def key(self, conversation: Conversation, sampling: Sampling) -> str:
        """Return what a reply is kept under: all that it hangs on."""
        return fingerprint(self.model.name, self.identity, repr(sampling), repr(conversation))

    def _keep(self, key: str, answer: Answer, reserved: float) -> Reply:
        reply = Reply.of(answer)
        self.purse.settle(reserved, reply)
        self.replies.put(key, reply)
        self.asked += 1
        return reply

    def _in_batches(
        self,
        new: dict[str, Conversation],
        sampling: Sampling,
        found: dict[str, Reply | Unanswered],
        told: _Telling,
    ) -> None:
        rows = list(new.items())
        for start in range(0, len(rows), _BATCH):
            batch: list[tuple[str, Conversation, float]] = []
            for key, conversation in rows[start : start + _BATCH]:
                reserved = self.purse.reserve(conversation, sampling)
                if reserved is None:
                    found[key] = self._too_dear()
                    continue
                batch.append((key, conversation, reserved))
            if not batch:
                continue
            answers = self.model.reply([conversation for _, conversation, _ in batch], sampling)
            for (key, _, reserved), answer in zip(batch, answers, strict=True):
                found[key] = self._keep(key, answer, reserved)
                told.one()

    def _at_once(
        self,
        new: dict[str, Conversation],
        sampling: Sampling,
        found: dict[str, Reply | Unanswered],
        told: _Telling,
    ) -> None:
        queue = deque(new.items())
        gate = _Gate(min(self.concurrency, max(1, len(queue))))
        failures: list[BaseException] = []
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    if failures or not queue:
                        return
                    key, conversation = queue.popleft()
                reserved = self.purse.reserve(conversation, sampling)
                if reserved is None:
                    found[key] = self._too_dear()
                    continue
                try:
                    answer = self._persist(gate, conversation, sampling)
                except ModelRefused as error:
                    self.purse.settle(reserved, None)
                    found[key] = Unanswered("the teacher refused", error.message)
                    told.one()
                except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the threads
                    self.purse.settle(reserved, None)
                    failures.append(error)
                    return
                else:
                    found[key] = self._keep(key, answer, reserved)
                    told.one()

        # Daemons, so that Ctrl-C need not wait for answers that are on their way.
        threads = [
            threading.Thread(target=work, daemon=True) for _ in range(min(self.concurrency, len(queue)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _persist(self, gate: _Gate, conversation: Conversation, sampling: Sampling) -> Answer:
        """Ask until there is an answer, with longer and longer waits; raises the last error after many attempts."""
        assert isinstance(self.model, Service)
        for attempt in range(ATTEMPTS):
            with gate:
                try:
                    answer = self.model.ask(conversation, sampling)
                except ModelBusy as error:
                    if attempt == ATTEMPTS - 1:
                        raise
                    gate.narrow()
                    wait = error.retry_after or min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)
                else:
                    gate.widen()
                    return answer
            # All that were sent away must not come back at the same time.
            self.sleep(wait * random.uniform(1.0, 1.25))
        raise ModelError(f"{self.model.name} gave no answer")  # pragma: no cover

    def _too_dear(self) -> Unanswered:
        return Unanswered("over the price ceiling", f"max_cost_usd = {self.purse.limit} would be passed")


class _Gate:
    """How many may ask at a time: at most `most`, fewer while the service is asked too much."""

    def __init__(self, most: int) -> None:
        self._most, self._allowed, self._inside, self._good = most, most, 0, 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self._allowed)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify()

    def narrow(self) -> None:
        """Allow half of those that are inside now."""
        with self._changed:
            self._allowed = max(1, min(self._allowed, self._inside) // 2)
            self._good = 0

    def widen(self) -> None:
        """Note an answer; as many as are allowed, and one more is."""
        with self._changed:
            self._good += 1
            if self._good >= self._allowed and self._allowed < self._most:
                self._allowed, self._good = self._allowed + 1, 0
                self._changed.notify()


class _Telling:
    def __init__(self, on_progress: Progress, total: int, done: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, done
        self._lock = threading.Lock()

    def one(self) -> None:
        """Report one more."""
        with self._lock:
            self._done += 1
            self._on_progress(self._done, self._total, "asked")
