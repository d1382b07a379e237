"""Rows of somebody's benchmark that stand in training data: word n-grams, as GPT-3 was checked.

The length of the n-grams is that of the benchmark's short rows, the fifth percentile of their words, from 8 to 13
(Brown et al. 2020, arXiv:2005.14165, appendix C). An n-gram that many rows of the benchmark have says nothing of any of
them, and does not count; a row of fewer words is found only if it stands there whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tunesmith.curating.similarity import words

SHORTEST: Final = 8
LONGEST: Final = 13
_COMMON: Final = 5  # so many rows that share an n-gram share a form, and no content
_FEWEST_WORDS: Final = 4


@dataclass(frozen=True, slots=True)
class Hit:
    """A row of a benchmark, from 1, that a text shares words with, and those words."""

    benchmark: str
    row: int
    shared: str


@dataclass
class Benchmark:
    """The n-grams of a benchmark's rows, to be asked which row a text gives away."""

    name: str
    length: int
    grams: dict[tuple[str, ...], int] = field(default_factory=dict)
    short: dict[int, dict[tuple[str, ...], int]] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, rows: Sequence[str]) -> Benchmark:
        """Return the benchmark of some rows, each all the words that a model would be asked and would answer."""
        spoken = [words(row) for row in rows]
        counts = sorted(len(row) for row in spoken if len(row) >= _FEWEST_WORDS)
        length = min(LONGEST, max(SHORTEST, counts[len(counts) // 20] if counts else SHORTEST))
        made = cls(name, length)
        spread: Counter[tuple[str, ...]] = Counter()
        for number, row in enumerate(spoken, 1):
            grams = set(_grams(row, length))
            spread.update(grams)
            for gram in grams:
                made.grams.setdefault(gram, number)
            if _FEWEST_WORDS <= len(row) < length:
                made.short.setdefault(len(row), {}).setdefault(row, number)
        common = [gram for gram, count in spread.items() if count >= _COMMON]
        for gram in common:
            del made.grams[gram]
        return made

    def first_hit(self, text: str) -> Hit | None:
        """Return the first row that a text shares an n-gram with, or holds whole if it is short."""
        said = words(text)
        for length, known in ((self.length, self.grams), *sorted(self.short.items(), reverse=True)):
            for gram in _grams(said, length):
                number = known.get(gram)
                if number is not None:
                    return Hit(self.name, number, " ".join(gram))
        return None


def _grams(row: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return (row[start : start + length] for start in range(len(row) - length + 1))
