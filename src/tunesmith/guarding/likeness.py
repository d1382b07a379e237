"""How much a text is like an injection, by its letters: a linear classifier of stretches of two to six of them.

It knows what the expressions have no word for, in the languages that it was trained in, and nothing of what a text
means. benchmarks/injection_weights.py trains it, on texts that were written for this project, and says how well it does
on others. A stretch of letters is a feature by its hash (Weinberger et al. 2009), so that there is no vocabulary; the
scores of all parts of a text come from sums that are made once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

BITS: Final = 16  # of a hash
SIZES: Final = (2, 3, 4, 5, 6)  # letters in a stretch
WEIGHTS: Final = "words/injection.npz"
_MOST_TOGETHER: Final = 3  # sentences that are looked at together
_LONGEST: Final = 240  # characters of a sentence; a longer one is cut where a word ends
# Which host it is says nothing: attackers take any, and those who write about them take .example.
_HOST: Final = re.compile(
    r"(?<=://)[^\s/\"'<>)]+|(?<![\w.-])(?:[\w-]{1,63}\.){1,8}(?:com|org|net|io|dev|biz|ai|co|app|info|test|example|invalid|localhost)\b|"
    r"\b\d{1,3}(?:\.\d{1,3}){3}\b",
    re.IGNORECASE,
)
_TURN: Final = np.uint64(0x9E3779B97F4A7C15)
_SENTENCE: Final = re.compile(r"(?<=[.!?。！？…])\s+|(?<=[。！？])|\n+|(?=<!--)|(?<=-->)")


@dataclass(frozen=True, slots=True)
class Likeness:
    """The classifier's weights: one a hash, and what they begin from."""

    weights: NDArray[np.float32]
    bias: float

    def most(self, text: str) -> tuple[float, int, int]:
        """Return how likely the likeliest part of a text is an injection, and where the part begins and ends.

        Parts are sentences, alone, with the next ones, and all of a short text.
        """
        scores = self._sums(text)
        start, end = max(parts(text), key=lambda part: self._score(scores, *part))
        return float(expit(self._score(scores, start, end))), start, end

    def _sums(self, text: str) -> list[NDArray[np.float64]]:
        return [
            np.concatenate([[0.0], np.cumsum(self.weights[hashes], dtype=np.float64)])
            for hashes in hashed(text)
        ]

    def _score(self, sums: list[NDArray[np.float64]], start: int, end: int) -> float:
        total, count = 0.0, 0
        for size, sum_ in zip(SIZES, sums, strict=True):
            stretches = end - start - size + 1
            if stretches > 0:
                total += sum_[start + stretches] - sum_[start]
                count += stretches
        return float(total / max(1, count) ** 0.5 + self.bias)


def hashed(text: str) -> list[NDArray[np.int64]]:
    """Return for each of SIZES the hashes of a text's stretches of so many letters.

    They are small letters; one digit is as good as another, and so is a host.
    """
    low = re.sub(r"\d", "0", _HOST.sub(lambda host: "x" * len(host[0]), text))
    # Letters that become two when they are small are left, so that places stay what they are.
    low = "".join(small if len(small := letter.lower()) == 1 else letter for letter in low)
    codes = np.frombuffer(low.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    found, rolling = [], np.zeros(len(codes), dtype=np.uint64)
    for size in range(1, max(SIZES) + 1):
        rolling = rolling[: max(0, len(codes) - size + 1)] * _TURN + codes[size - 1 :]
        if size in SIZES:
            mixed = (rolling ^ np.uint64(size)) * _TURN
            found.append(
                ((mixed ^ (mixed >> np.uint64(29))) * _TURN >> np.uint64(64 - BITS)).astype(np.int64)
            )
    return found


def parts(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a text's sentences begin and end, alone, with the next ones, and where all of a short one does.

    No part is long, for a score grows with what is said again and again.
    """
    ends = [0, *(match.end() for match in _SENTENCE.finditer(text)), len(text)]
    whole = [(start, end) for start, end in pairwise(ends) if text[start:end].strip()]
    cuts = [part for start, end in whole for part in _cut(text, start, end)]
    if len(text) <= _MOST_TOGETHER * _LONGEST or not cuts:
        yield 0, len(text)
    for number, (start, _) in enumerate(cuts):
        for _, end in cuts[number : number + _MOST_TOGETHER]:
            yield start, end


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > _LONGEST:
        middle = start + _LONGEST * 2 // 3
        stop = text.find(" ", middle, start + _LONGEST)
        stop = middle if stop < 0 else stop + 1
        yield start, stop
        start = stop
    yield start, end


@cache
def likeness() -> Likeness:
    """Return the classifier that comes along."""
    with files("tunesmith.guarding").joinpath(WEIGHTS).open("rb") as file, np.load(file) as kept:
        return Likeness(kept["weights"].astype(np.float32) * float(kept["scale"]), float(kept["bias"]))
