"""One quick reading of a text, by which most rules know at once that they have nothing to look for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

# Words end at every sign of ASCII but - and _; each digit is read as 0, so that counting them is one search.
_SIGNS = bytes(n for n in range(128) if not chr(n).isalnum() and chr(n) not in "-_")
_SHAPE = bytes.maketrans(_SIGNS + b"123456789", b" " * len(_SIGNS) + b"0" * 9)
# The class comes before what must stand before it: only so does the engine skip to the first digit by itself.
_LONG_NUMBER = re.compile(r"[0-9](?:[ ./()\u00a0-]{0,3}[0-9]){6}")


@dataclass(frozen=True, slots=True)
class Reading:
    """A text, its different words as bytes of UTF-8, how many digits it has, and whether 7 of them stand together."""

    text: str
    words: frozenset[bytes]
    digits: int
    long_number: bool

    def has(self, words: frozenset[bytes]) -> bool:
        """Say whether the text has one of some words, as `spelled` gives them."""
        return not words.isdisjoint(self.words)


def read(text: str) -> Reading:
    """Read a text."""
    shape = text.encode("utf-8", "replace").translate(_SHAPE)
    digits = shape.count(b"0")
    long_number = digits >= 7 and _LONG_NUMBER.search(text) is not None
    return Reading(text, frozenset(shape.split()), digits, long_number)


@cache
def spelled(words: str) -> frozenset[bytes]:
    """Return words as a reading has them: as they are given, capitalised, and in capitals."""
    return frozenset(
        form.encode() for word in words.split() for form in (word, word.capitalize(), word.upper())
    )
