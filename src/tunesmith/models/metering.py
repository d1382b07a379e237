"""Tokens that models use, counted while they answer: a stream has no answer that could say them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Meter:
    """The tokens that were read and said so far."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metered() -> Iterator[Meter]:
    """Yield a meter of what models use in this thread until the block ends, an answer that is broken off included."""
    meter = Meter()
    before = _METER.set(meter)
    try:
        yield meter
    finally:
        _METER.reset(before)


def use(prompt_tokens: int, completion_tokens: int) -> None:
    """Count an answer's tokens, if anybody meters here."""
    meter = _METER.get()
    if meter is not None:
        meter.prompt_tokens += prompt_tokens
        meter.completion_tokens += completion_tokens
