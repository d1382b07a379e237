"""What an engine is asked, and what it answers: pieces as they come, and the whole at the end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

Finish = Literal["stop", "length", "cancelled"]


class Grammar(Protocol):
    """What may be said next in one answer."""

    def allow(self, logits_V: Tensor) -> None:
        """Set the logits of forbidden tokens to minus infinity, in place."""
        ...

    def advance(self, token: int) -> None:
        """Take note of a token."""
        ...

    def forced(self) -> list[int]:
        """Return the tokens that must come next, whatever the model thinks."""
        ...

    def finished(self) -> bool:
        """Tell whether the answer is complete."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """One answer that is wanted.

    `max_tokens` None: up to the end of the context. At temperature 0 the likeliest token is taken. `logprobs` is how
    many alternatives of each token are told (None: nothing is). `adapter` names one that the engine has.
    `prompt_logprobs`: those of the prompt's tokens are told too. A grammar is used up by its answer: each has its own.
    """

    prompt: tuple[int, ...]
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    prompt_logprobs: bool = False
    adapter: str | None = None
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, its log-probability, and the likeliest ones in its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What came at once: text that is certain to stay, and the tokens since the last piece."""

    text: str
    tokens: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """A whole answer; `cached_tokens` of its prompt had been read for an earlier one.

    `logprobs` and `prompt_logprobs` are empty unless they were asked for; the prompt's first token has none.
    """

    text: str
    tokens: tuple[int, ...]
    finish: Finish
    prompt_tokens: int
    cached_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()


class ContextOverflow(ModelError):
    """A prompt, with the tokens that are wanted behind it, is longer than what the model reads."""

    def __init__(self, name: str, limit: int, prompt: int, wanted: int) -> None:
        super().__init__(
            f"{name} reads at most {limit} tokens; the prompt has {prompt}, and {wanted} more are wanted",
            hint="Shorten the conversation, or ask for fewer tokens.",
        )
        self.limit, self.prompt, self.wanted = limit, prompt, wanted


class EngineBusy(ModelError):
    """More requests wait than an engine takes."""


class Generation:
    """An answer in the making; any thread may read it or cancel it, one reads."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.cancelled = False
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._done = threading.Event()
        self._result: Result | None = None
        self._error: ModelError | None = None
        self._heard: Callable[[], None] | None = None
        self._kept: Callable[[Result], None] | None = None
        self._only_end = False
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Give its place up; what was said so far is the result."""
        self.cancelled = True

    def __iter__(self) -> Iterator[Piece]:
        """Yield pieces as they come; raises ModelError if the engine failed."""
        while (piece := self._pieces.get()) is not None:
            yield piece
        if self._error is not None:
            raise self._error

    def result(self) -> Result:
        """Wait for the whole answer; raises ModelError if the engine failed."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def ready(self) -> list[Piece]:
        """Return the pieces that have come, without waiting."""
        pieces = []
        while not self._pieces.empty():
            piece = self._pieces.get()
            if piece is not None:
                pieces.append(piece)
        return pieces

    @property
    def done(self) -> bool:
        """Whether the answer has ended."""
        return self._done.is_set()

    def on_news(self, call: Callable[[], None], *, only_end: bool = False) -> None:
        """Have `call` called, in the engine's thread, when something has come, or only at the end; and now."""
        with self._lock:
            self._heard, self._only_end = call, only_end
        call()

    def on_result(self, call: Callable[[Result], None]) -> None:
        """Have `call` called once with the result, in the engine's thread, before anybody else has it; or now."""
        with self._lock:
            self._kept, result = call, self._result
        if result is not None:
            call(result)

    # --- the engine's side

    def say(self, piece: Piece) -> None:
        """Add a piece."""
        self._pieces.put(piece)
        if not self._only_end:
            self._tell()

    def finish(self, result: Result) -> None:
        """End with the whole answer."""
        with self._lock:
            self._result, kept = result, self._kept
        if kept is not None:
            kept(result)
        self._end()

    def fail(self, error: ModelError) -> None:
        """End with an error."""
        self._error = error
        self._end()

    def _end(self) -> None:
        self._done.set()
        self._pieces.put(None)
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            heard = self._heard
        if heard is not None:
            heard()
