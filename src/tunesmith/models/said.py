"""What a model has said greedily: the same weights say it again to the same prompt, so that it is not computed twice.

It also tells what they say under a constraint, as far as that allows: the likeliest token of all is the likeliest of
those that are allowed, if it is one of them. Where the constraint forbids what was said, the answer takes its own way.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from tunesmith.models.base import Sampling


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer as tokens, the one that ended it last, if one did.

    `reading` are the seconds until its first token, `seconds` those of all of it.
    """

    tokens: tuple[int, ...]
    reading: float
    seconds: float

    def taken(self, tokens: int) -> float:
        """Return the seconds that so many of its tokens took, without the reading of the prompt."""
        return (self.seconds - self.reading) * tokens / max(1, len(self.tokens))


class Said:
    """Greedy answers of one model's weights, by prompt; of more than `most` the oldest are forgotten."""

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._spoken: dict[bytes, Spoken] = {}

    def find(self, prompt: Sequence[int], sampling: Sampling) -> Spoken | None:
        """Return what was said to this prompt under this sampling, or None."""
        return self._spoken.get(_key(prompt, sampling))

    def keep(self, prompt: Sequence[int], sampling: Sampling, spoken: Spoken) -> None:
        """Take note of an answer that nothing but the sampling has held."""
        self._spoken[_key(prompt, sampling)] = spoken
        while len(self._spoken) > self._most:
            del self._spoken[next(iter(self._spoken))]


def repeats(sampling: Sampling) -> bool:
    """Tell whether an answer may be one that was given before: only greedy ones are the same each time."""
    return sampling.temperature == 0 and not sampling.anew


def _key(prompt: Sequence[int], sampling: Sampling) -> bytes:
    how: tuple[Any, ...] = (sampling.max_tokens, sampling.stop)
    return blake2b(array("q", prompt).tobytes() + repr(how).encode(), digest_size=16).digest()
