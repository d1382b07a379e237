"""One quick reading of a text, by which most rules know at once that they have nothing to look for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

# Words end at every sign of ASCII; each digit is read as 0, so that counting them is one search.
_SIGNS = bytes(number for number in range(128) if not chr(number).isalnum())
_SHAPE = bytes.maketrans(_SIGNS + b"123456789", b" " * len(_SIGNS) + b"0" * 9)
_LONG_NUMBER = re.compile(r"[0-9](?:(?:[ ./()\u00a0-]{0,3}[0-9]){6}|[0-9]{0,2}(?:\.[0-9]{1,3}){3})")


@dataclass(frozen=True, slots=True)
class Reading:
    """A text, those of its words that some rule asks for (bytes of UTF-8), and what digits it has.

    `long_number` says that seven digits stand together but for signs between them, or four numbers with dots;
    `long_word` that a word of at least 16 letters and digits has a digit, as keys do.
    """

    text: str
    words: frozenset[bytes]
    digits: int
    long_word: bool
    long_number: bool

    def has(self, words: frozenset[bytes]) -> bool:
        """Say whether the text has one of some words, as `spelled` gives them."""
        return not words.isdisjoint(self.words)


def read(text: str, asked: frozenset[bytes]) -> Reading:
    """Read a text for the words that are asked for."""
    shape = text.encode("utf-8", "replace").translate(_SHAPE)
    digits, words = shape.count(b"0"), shape.split()
    return Reading(
        text,
        asked.intersection(words),
        digits,
        digits > 0 and _has_long_word(words),
        digits >= 4 and _LONG_NUMBER.search(text) is not None,
    )


def _has_long_word(words: list[bytes]) -> bool:
    if len(max(words, key=len)) < 16:  # the quick way out
        return False
    return any(len(word) >= 16 and b"0" in word for word in words)


@cache
def spelled(words: str) -> frozenset[bytes]:
    """Return words as a reading has them: as they are given, capitalised, and in capitals."""
    return frozenset(
        form.encode() for word in words.split() for form in (word, word.capitalize(), word.upper())
    )
