"""A project's contenders behind the same door: each name that `tunesmith ask --model` takes answers chats.

They are asked as they were measured: with the project's system message where a request has none, greedily where it
names no temperature, up to the project's number of tokens. They answer one after the other, in a thread of their own.
What was retrieved, cited and noted stands beside the answer, under `tunesmith`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.responses import Response

from tunesmith.contenders import Workshop
from tunesmith.errors import AddressError, TunesmithError, UsageError
from tunesmith.evaluating.names import check_name, retriever_of
from tunesmith.guarding.guard import Guard, Shown, Sifted, sifted
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.messages import conversation
from tunesmith.models.metering import Meter, metered
from tunesmith.project import Project
from tunesmith.records import Answer, Conversation, Message
from tunesmith.serving.answers import as_events, as_json, data
from tunesmith.serving.errors import ApiError, invalid
from tunesmith.serving.ids import new_id
from tunesmith.serving.keys import Caller
from tunesmith.serving.limits import Limiter
from tunesmith.serving.wire.chat import CreateChat

Result = TypeVar("Result")

# What a request may ask of an engine and not of a contender.
_ENGINE_ONLY: Final = (
    *("tools", "functions", "logprobs", "logit_bias"),
    *("presence_penalty", "frequency_penalty", "response_format"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat, who asks, and when, in seconds; what is retrieved behind rails is added to `shown`."""

    body: CreateChat
    caller: Caller
    created: int
    shown: list[Shown]


@dataclass(frozen=True, slots=True)
class _Contender:
    """A contender, and what it retrieves with behind rails."""

    model: ChatModel
    sifted: Sifted | None

    def tell(self, shown: list[Shown]) -> None:
        """Add what the last search has shown, once."""
        if self.sifted is not None:
            shown += self.sifted.last.values()
            self.sifted.last = {}


class Contenders:
    """The contenders of one project, what they retrieve within the rails of a guard; threads may share it."""

    def __init__(self, project: Project, guard: Guard | None = None) -> None:
        self.project = project
        self._guard = guard
        self._lock = threading.Lock()
        self._shop: Workshop | None = None
        self._made_from: Mapping[str, str] = {}
        self._models: dict[str, _Contender] = {}
        self._answering = ThreadPoolExecutor(max_workers=1, thread_name_prefix="contenders")

    @property
    def names(self) -> tuple[str, ...]:
        """The contenders that the project measures."""
        return self.project.config.contenders

    def knows(self, name: str) -> bool:
        """Tell whether a name means a contender, measured or not."""
        try:
            check_name(name, self.project.config.adapters)
        except AddressError:
            return False
        return True

    def model(self, name: str) -> ChatModel:
        """Return a contender; weights and indexes are loaded once. Raises UsageError where a stage is not done."""
        return self._contender(name).model

    def _contender(self, name: str) -> _Contender:
        with self._lock:
            if name not in self._models:
                # Another contender may need stages that were not looked at yet, or not made.
                shop, made_from = self.project.workshop(name), self.project.contenders_from
                if self._shop is None or made_from != self._made_from:
                    # All are made anew: they share weights, whose arithmetic the training says.
                    self._shop, self._made_from, self._models = shop, made_from, {}
                self._models[name] = self._built(self._shop, name)
            return self._models[name]

    def _built(self, shop: Workshop, name: str) -> _Contender:
        if self._guard is None or retriever_of(name) is None:
            return _Contender(shop.build(name), None)
        retriever = sifted(shop.retriever_for(name), self._guard)
        return _Contender(shop.build(name, retriever), retriever)

    def conversation(self, body: CreateChat) -> Conversation:
        """Return what is asked, under the project's system message where there is none."""
        asked = conversation(body.messages)
        return asked if asked[0].role == "system" else (Message("system", self.project.system), *asked)

    def sampling(self, body: CreateChat) -> Sampling:
        """Return how it is asked: as in evaluating where the request says nothing else."""
        told, stop = self.project.config.evaluate, body.stop
        stops = told.stop if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
        return Sampling(
            max_tokens=body.max_completion_tokens or body.max_tokens or told.max_tokens,
            temperature=body.temperature or 0.0,
            seed=abs(body.seed or 0),
            stop=stops,
        )

    async def reply(self, asked: Asked) -> Answer:
        """Return a whole answer."""
        body = asked.body

        def ask() -> Answer:
            contender = self._contender(body.model)
            [answer] = contender.model.reply([self.conversation(body)], self.sampling(body))
            contender.tell(asked.shown)
            return answer

        return await self._apart(ask)

    async def stream(self, asked: Asked, spent: Callable[[Meter], None]) -> AsyncIterator[str]:
        """Yield an answer's pieces as they come; where nobody listens any more it ends. `spent` hears its tokens."""
        body = asked.body
        loop, pieces, gone = asyncio.get_running_loop(), asyncio.Queue[str | None](), threading.Event()

        def tell(piece: str | None) -> None:
            # Where the loop has ended nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def ask() -> None:
            try:
                contender = self._contender(body.model)
                with metered() as meter:
                    try:
                        pieces = contender.model.stream(self.conversation(body), self.sampling(body))
                        for piece in _until(gone, pieces):
                            contender.tell(asked.shown)
                            tell(piece)
                    finally:
                        contender.tell(asked.shown)
                        spent(meter)
            finally:
                tell(None)

        asking = asyncio.ensure_future(self._apart(ask))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await asking
        finally:
            gone.set()

    async def _apart(self, call: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._answering, call)
        except UsageError as error:
            raise invalid(f"{error.message} {error.hint or ''}".strip(), param="model") from error
        except TunesmithError as error:
            raise ApiError(500, error.message) from error

    def close(self) -> None:
        """Let the answer in the making end, and no other begin."""
        self._answering.shutdown(wait=True, cancel_futures=True)


def _until(gone: threading.Event, pieces: Iterator[str]) -> Iterator[str]:
    try:
        for piece in pieces:
            if gone.is_set():
                return
            yield piece
    finally:
        # A stream that is broken off counts what it has said.
        if isinstance(pieces, Generator):
            pieces.close()


async def answer(contenders: Contenders, limiter: Limiter, asked: Asked) -> Response:
    """Answer a chat with a contender; raises ApiError (400) for what only an engine can do."""
    body = asked.body
    _check(body)
    head = {"id": new_id("chatcmpl-"), "created": asked.created, "model": body.model}
    told = body.stream_options is not None and bool(body.stream_options.include_usage)
    if body.stream and not told:
        pieces = contenders.stream(asked, lambda meter: _count(limiter, asked, meter))
        # A refusal comes before the stream begins, with a status of its own.
        first = await anext(pieces, "")
        return as_events(_events(head, first, pieces))
    found = await contenders.reply(asked)
    _count(limiter, asked, found)
    if body.stream:
        return as_events(_counted(head, found))
    message = {"role": "assistant", "content": found.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": found.finish}
    whole = {
        "object": "chat.completion",
        "choices": [choice],
        "usage": _usage(found),
        "system_fingerprint": None,
        "tunesmith": _beside(found),
    }
    return as_json(head | whole)


def _count(limiter: Limiter, asked: Asked, used: Answer | Meter) -> None:
    limiter.spent(asked.caller, used.prompt_tokens, used.completion_tokens)


def _check(body: CreateChat) -> None:
    for name in _ENGINE_ONLY:
        value = getattr(body, name)
        if value and not (name == "response_format" and value.type == "text"):
            raise invalid(
                f"'{name}' is not for a project's contenders, which answer as they were measured: "
                "name a model by its address.",
                param=name,
            )
    for name, usual in (("n", 1), ("top_p", 1)):
        if getattr(body, name) not in (None, usual):
            raise invalid(f"'{name}' can only be {usual} for a project's contenders.", param=name)


def _chunk(head: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return data(head | {"object": "chat.completion.chunk", "system_fingerprint": None, "choices": [choice]})


async def _events(head: dict[str, Any], first: str, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    yield _chunk(head, {"role": "assistant", "content": "", "refusal": None})
    if first:
        yield _chunk(head, {"content": first})
    try:
        async for piece in pieces:
            yield _chunk(head, {"content": piece})
    except ApiError as error:
        yield data(error.body())
        return
    yield _chunk(head, {}, "stop")
    yield "data: [DONE]\n\n"


async def _counted(head: dict[str, Any], found: Answer) -> AsyncIterator[str]:
    """Yield an answer that is there as a stream: who wants its tokens counted gets it whole."""
    yield _chunk(head, {"role": "assistant", "content": found.text, "refusal": None})
    yield _chunk(head, {}, found.finish)
    last = {"object": "chat.completion.chunk", "choices": [], "usage": _usage(found)}
    yield data(head | last | {"system_fingerprint": None, "tunesmith": _beside(found)})
    yield "data: [DONE]\n\n"


def _usage(found: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "total_tokens": found.prompt_tokens + found.completion_tokens,
    }


def _beside(found: Answer) -> dict[str, Any]:
    return {
        "retrieved": found.retrieved,
        "cited": found.cited,
        "confidence": found.confidence,
        "notes": found.notes,
    }
