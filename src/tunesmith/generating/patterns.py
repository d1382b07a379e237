"""A short text that a regular expression matches.

What is not covered: back references, look-around (passed over), and flags; the caller tries what is made.
"""

from __future__ import annotations

import re
import string
import warnings

# Preferred in a class of characters: letters and digits before what reads worse.
_CHARACTERS = "aA01bB" + string.ascii_letters + string.digits + "-_./ @+:," + string.printable
_MOST_REPEATS = 256


def matching_text(pattern: str) -> str | None:
    """Return a text that the pattern is made for, each part repeated as seldom as may be; None if it is not read."""
    try:
        with warnings.catch_warnings():
            # Python warns of what a later one may read otherwise ("[[a]"); the pattern is somebody else's.
            warnings.simplefilter("ignore", FutureWarning)
            return _Reader(pattern).alternatives()
    except (IndexError, ValueError, StopIteration, re.error, RecursionError):
        return None


class _Reader:
    """Reads a pattern from left to right, giving for each part the first text that it matches."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def alternatives(self) -> str:
        """Read `a|b|c`, and return the first."""
        made = self._sequence()
        while self._next() == "|":
            self._at += 1
            self._sequence()
        return made

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._pattern[self._at]
        self._at += 1
        return character

    def _sequence(self) -> str:
        made = ""
        while self._next() not in ("", "|", ")"):
            made += self._repeated(self._atom())
        return made

    def _repeated(self, text: str) -> str:
        found = re.compile(r"([*+?]|\{(\d*)(?:,\d*)?\})[?+]?").match(self._pattern, self._at)
        if found is None:
            return text
        self._at = found.end()
        least = {"*": 0, "?": 0, "+": 1}.get(found[1], int(found[2] or 0) if found[2] is not None else 0)
        return text * min(least, _MOST_REPEATS)

    def _atom(self) -> str:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escaped()
        if character in "^$":
            return ""
        return "a" if character == "." else character

    def _group(self) -> str:
        head = re.compile(r"\?(?::|P?<\w+>|<?[=!])").match(self._pattern, self._at)
        self._at = head.end() if head else self._at
        made = self.alternatives()
        if self._take() != ")":
            raise ValueError("a group has no end")
        return "" if head and head[0][-1] in "=!" else made

    def _class(self) -> str:
        found = re.compile(r"\^?\]?(?:\\.|[^\]\\])*\]").match(self._pattern, self._at)
        if found is None:
            raise ValueError("a class has no end")
        self._at = found.end()
        wanted = re.compile(f"[{found[0]}")
        return next(one for one in _CHARACTERS if wanted.fullmatch(one))

    def _escaped(self) -> str:
        character = self._take()
        if character in "bBAZz":
            return ""
        usual = {"d": "1", "D": "a", "w": "a", "W": "-", "s": " ", "S": "a", "n": "\n", "t": "\t"}
        return usual.get(character, character)
