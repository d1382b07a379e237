"""How much a text is like an injection, by its letters: a linear classifier of stretches of two to six of them.

It knows what the expressions have no word for, in the languages that it was trained in, and nothing of what a text
means. benchmarks/injection_weights.py trains it, on texts that were written for this project, and says how well it does
on others. A stretch of letters is a feature by its hash (Weinberger et al. 2009), so that there is no vocabulary; the
scores of all parts of a text come from sums that are made once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
FEWEST: Final = 60  # stretches that say something; of fewer the score is that of so many
LONGEST: Final = 720  # characters of a part
_MOST_ROUNDS: Final = 4  # in which what is said again is looked for
_MOST_TOGETHER: Final = 3  # sentences that are looked at together
_SENTENCE_AT_MOST: Final = LONGEST // _MOST_TOGETHER  # characters; a longer one is cut where a word ends
_SENTENCE: Final = re.compile(r"(?<=[.!?。！？…])\s+|(?<=[。！？])|\n+|(?=<!--)|(?<=-->)")
# What stands for letters that say nothing, and is no letter.
_NOTHING: Final = "\0"
# Which host it is says nothing: attackers take any, and those who write about them take .example.
_HOST: Final = re.compile(
    r"[a-z]{1,8}://[^\s/\"'<>)]+|(?<![\w.-])(?:[\w-]{1,63}\.){1,8}"
    r"(?:com|org|net|io|dev|biz|ai|co|app|info|test|example|invalid|localhost)\b|\b\d{1,3}(?:\.\d{1,3}){3}\b",
    re.IGNORECASE,
)
# Blanks in a row, of which one counts, and other letters, of which two do.
_AGAIN: Final = re.compile(r" {2,}|(.)\1{2,}", re.DOTALL)
_TURN: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Likeness:
    """The classifier's weights: one a hash, and what they begin from."""

    weights: NDArray[np.float32]
    bias: float

    def alike(self, text: str, least: float, known: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
        """Return where the parts of a text begin and end that are injections with a likelihood of `least`.

        What stands within `known` stretches counts for nothing. The likeliest come first, and none overlaps another. A
        text that goes on saying it is one part.
        """
        found: list[tuple[int, int]] = []
        # What is said again shortly after counts only once the first is known.
        for _ in range(_MOST_ROUNDS):
            fresh = self._apart(self.scores(text, (*known, *found)), least)
            if not fresh:
                return [(start, start + len(text[start:end].rstrip())) for start, end in found]
            found += fresh
        return [(0, len(text))]

    def _apart(self, scores: dict[tuple[int, int], float], least: float) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for (start, end), likely in sorted(scores.items(), key=lambda one: -one[1]):
            if likely >= least and all(end <= first or last <= start for first, last in found):
                found.append((start, end))
        return found

    def scores(self, text: str, known: Sequence[tuple[int, int]] = ()) -> dict[tuple[int, int], float]:
        """Return how likely each part of a text is an injection: sentences, alone and with the next ones."""
        plain = plain_letters(text, known)
        sums = []
        for hashes in stretches(plain):
            counted = hashes >= 0
            # A place that is not counted has the last hash, which counts nothing.
            weights = np.where(counted, self.weights[hashes], 0).astype(np.float64)
            sums.append((_summed(weights), _summed(counted.astype(np.float64))))
        return {part: float(expit(self._score(sums, *part))) for part in parts(plain)}

    def _score(
        self, sums: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], start: int, end: int
    ) -> float:
        total = count = 0.0
        for size, (weights, counts) in zip(SIZES, sums, strict=True):
            last = end - size + 1
            if last > start:
                total += weights[last] - weights[start]
                count += counts[last] - counts[start]
        return float(total / max(count, FEWEST) ** 0.5 + self.bias)


def _summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values)])


def plain_letters(text: str, known: Sequence[tuple[int, int]] = ()) -> str:
    """Return a text in small letters, as long as it is, without what says nothing of what it is about.

    That are hosts, all digits but that they are some, blanks beyond the first, and what stands there again and again.
    """
    for start, end in known:
        text = f"{text[:start]}{_NOTHING * (end - start)}{text[end:]}"
    text = _HOST.sub(lambda host: _NOTHING * len(host[0]), text)
    # Letters that become two when they are small are left, so that places stay what they are.
    small = text.lower()
    if len(small) != len(text):
        small = "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
    return _AGAIN.sub(_once, re.sub(r"[^\S\n]", " ", re.sub(r"\d", "0", small)))


def _once(again: re.Match[str]) -> str:
    counts = 1 if again[0][0] == " " else 2
    return again[0][:counts] + _NOTHING * (len(again[0]) - counts)


def stretches(plain: str) -> list[NDArray[np.int64]]:
    """Return for each of SIZES the hashes of a plain text's stretches of so many letters, by where they begin.

    Those that hold what says nothing, and those that have stood there a moment ago, are -1.
    """
    codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    nothing = (codes == ord(_NOTHING)) | (codes == ord("\n"))
    found, rolling, empty = [], np.zeros(len(codes), dtype=np.uint64), np.zeros(len(codes), dtype=np.bool_)
    for size in range(1, max(SIZES) + 1):
        there = max(0, len(codes) - size + 1)
        rolling = rolling[:there] * _TURN + codes[size - 1 :]
        empty = empty[:there] | nothing[size - 1 :]
        if size in SIZES:
            mixed = (rolling ^ np.uint64(size)) * _TURN
            hashes = ((mixed ^ (mixed >> np.uint64(29))) * _TURN >> np.uint64(64 - BITS)).astype(np.int64)
            hashes[empty | _again(hashes)] = -1
            found.append(hashes)
    return found


def _again(hashes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell of each place whether its hash has stood within a part's length before it."""
    order = np.argsort(hashes, kind="stable")
    again = np.zeros(len(hashes), dtype=np.bool_)
    again[order[1:]] = (hashes[order[1:]] == hashes[order[:-1]]) & (order[1:] - order[:-1] < LONGEST)
    return again


def parts(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a text's sentences begin and end, alone, and with the next ones; none is longer than LONGEST.

    Sentences of blanks are none.
    """
    ends = [0, *(match.end() for match in _SENTENCE.finditer(text)), len(text)]
    cuts = [part for start, end in pairwise(ends) for part in _cut(text, start, end) if _says(text, *part)]
    for number, (start, _) in enumerate(cuts):
        for _, end in cuts[number : number + _MOST_TOGETHER]:
            if end - start <= LONGEST:
                yield start, end


def _says(text: str, start: int, end: int) -> bool:
    return any(not letter.isspace() and letter != _NOTHING for letter in text[start:end])


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > _SENTENCE_AT_MOST:
        middle = start + _SENTENCE_AT_MOST * 2 // 3
        stop = text.find(" ", middle, start + _SENTENCE_AT_MOST)
        stop = middle if stop < 0 else stop + 1
        yield start, stop
        start = stop
    yield start, end


@cache
def likeness() -> Likeness:
    """Return the classifier that comes along."""
    with files("tunesmith.guarding").joinpath(WEIGHTS).open("rb") as file, np.load(file) as kept:
        return Likeness(kept["weights"].astype(np.float32) * float(kept["scale"]), float(kept["bias"]))
