"""The readings of a text: as it is, without what hides letters, and with what is encoded in it decoded."""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote

_DEEPEST: Final = 2  # what is encoded twice is decoded twice
_FEWEST_HIDDEN: Final = 8  # flags of regions are spelled in up to seven tag characters
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){12,}|(?:[0-9a-fA-F]{2}[ :]){12,}[0-9a-fA-F]{2}")
_PERCENT = re.compile(r"(?:[^\s%]{0,64}%[0-9a-fA-F]{2}){3,}\S*")
_SPACED = re.compile(r"(?<![^\W_])[^\W_](?:[ .\-_*|/]{1,4}[^\W_]){3,}(?![^\W_])")
_LEET = re.compile(r"[A-Za-z][013457@$]+[A-Za-z]|\b[013457@$][A-Za-z]{2,}")
_TWO_LEETS = (str.maketrans("013457@$", "oieastas"), str.maketrans("013457@$", "oleastas"))
# What shows nothing though it is no format character (Unicode's Default_Ignorable_Code_Point beside Cf).
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2060-\u206f\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
# Letters of other scripts that look like Latin ones (after Unicode's confusables, the common ones).
_ALIKE = str.maketrans("авгеёікмнорстухѕјԁԛԝһαβεικνορτυχ", "abreeikmhopctyxsjdqwhabeikvoptux")
# Words by which a text in rot13, or backwards, gives itself away.
_TELLING: Final = (
    "ignore", "disregard", "forget", "bypass", "override", "instructions", "prompt", "rules", "system", "reveal",
    "restrictions", "guidelines",
)  # fmt: skip
_TURNED: Final = tuple(codecs.encode(word, "rot13") for word in _TELLING)
_BACKWARDS: Final = tuple(word[::-1] for word in _TELLING)


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as it may be meant, folded to small letters; `how` it was come by ("" if it stands there openly).

    What stands at `places[i]` of the original is its i-th character; without places all of it is the stretch
    `start` to `end` of the original.
    """

    text: str
    how: str
    start: int
    end: int
    places: tuple[int, ...] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the stretch of the original that a stretch of the reading stands for."""
        if self.places is None:
            return (self.start + start, self.start + end) if not self.how else (self.start, self.end)
        return self.places[start], self.places[end - 1] + 1

    def within(self, start: int, end: int) -> tuple[int, int]:
        """Return the stretch of an open reading that a stretch of the original stands in."""
        if self.places is None:
            return start, end
        return bisect_left(self.places, start), bisect_left(self.places, end)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is found in a text: why, and where; `exact` unless its place stands for more than what was found."""

    why: str
    start: int
    end: int
    exact: bool = True


def seen(text: str, search: Callable[[Reading], Iterable[Seen]]) -> list[Seen]:
    """Return all that a search finds in the readings of a text, each stretch once.

    A reading that stands for a longer stretch than what is found in it is read without what others have placed.
    """
    found = _all(text, search)
    exact = [each for each in found if each.exact]
    if exact and len(exact) < len(found):
        left = text
        for each in exact:
            left = f"{left[: each.start]}{'.' * (each.end - each.start - 1)}\n{left[each.end :]}"
        found = exact + _all(left, search)
    once: dict[tuple[int, int], Seen] = {}
    for each in found:
        once.setdefault((each.start, each.end), each)
    return list(once.values())


def _all(text: str, search: Callable[[Reading], Iterable[Seen]]) -> list[Seen]:
    return [
        replace(each, exact=not reading.how or reading.places is not None)
        for reading in readings(text)
        for each in search(reading)
    ]


def readings(text: str, depth: int = 0) -> Iterator[Reading]:
    """Yield the readings of a text, the open one first."""
    size = len(text)
    if text.isascii() and not _CONTROL.search(text):
        yield Reading(text.lower(), "", 0, size)
    else:
        yield from _folded(text)
    if depth == _DEEPEST:
        return
    for how, start, end, decoded in (*_decoded(text), *_turned(text)):
        for inner in readings(decoded, depth + 1):
            yield Reading(inner.text, f"{how}, {inner.how}" if inner.how else how, start, end)
    yield from _loosened(text)


def _folded(text: str) -> Iterator[Reading]:
    """Yield a text with styled letters as plain ones, without invisible ones; and with look-alikes as Latin."""
    letters, places, hidden = list[str](), list[int](), list[str]()
    for place, letter in enumerate(text):
        if "\U000e0020" <= letter <= "\U000e007e":
            hidden.append(chr(ord(letter) - 0xE0000))
        elif unicodedata.category(letter) == "Cf" or _INVISIBLE.match(letter) or _CONTROL.match(letter):
            continue
        else:
            for each in unicodedata.normalize("NFKC", letter).lower():
                letters.append(each)
                places.append(place)
    plain = "".join(letters)
    yield Reading(plain, "", 0, len(text), tuple(places))
    alike = plain.translate(_ALIKE)
    if alike != plain and any("a" <= letter <= "z" for letter in plain):
        yield Reading(alike, "letters of other alphabets", 0, len(text), tuple(places))
    if len(hidden) >= _FEWEST_HIDDEN:
        yield Reading("".join(hidden).lower(), "invisible letters", 0, len(text))


def _decoded(text: str) -> Iterator[tuple[str, int, int, str]]:
    """Yield what is encoded: how, where from and to, and what it says."""
    for match in _BASE64.finditer(text):
        if decoded := _readable(_from_base64(match[0])):
            yield "base64", match.start(), match.end(), decoded
    for match in _HEX.finditer(text):
        try:
            data = bytes.fromhex(re.sub(r"[ :]", "", match[0]))
        except ValueError:
            continue
        if decoded := _readable(data):
            yield "hexadecimal", match.start(), match.end(), decoded
    if "%" in text:
        for match in _PERCENT.finditer(text):
            yield "percent-encoded", match.start(), match.end(), unquote(match[0])
    if "&#" in text:
        yield "HTML entities", 0, len(text), html.unescape(text)


def _turned(text: str) -> Iterator[tuple[str, int, int, str]]:
    low = text.lower()
    if sum(word in low for word in _TURNED) > 1:
        yield "rot13", 0, len(text), codecs.encode(text, "rot13")
    if sum(word in low for word in _BACKWARDS) > 1:
        yield "backwards", 0, len(text), text[::-1]


def _loosened(text: str) -> Iterator[Reading]:
    """Yield a text whose letters are spaced out drawn together, and one with digits for letters in letters."""
    size = len(text)
    for match in _SPACED.finditer(text):
        yield Reading(_together(match[0]).lower(), "spaced out", match.start(), match.end())
    if _LEET.search(text):
        for table in _TWO_LEETS:
            yield Reading(text.translate(table).lower(), "digits for letters", 0, size, tuple(range(size)))


def _together(spaced: str) -> str:
    """Return spaced letters as words: the usual gap is none, another one is a blank."""
    gaps = re.findall(r"(?<=\w)[^\w]+|_+", spaced)
    usual = max(set(gaps), key=gaps.count)
    return re.sub(r"[^\w]+|_+", lambda gap: "" if gap[0] == usual else " ", spaced)


def _from_base64(text: str) -> bytes:
    standard = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _readable(data: bytes) -> str:
    """Return data as text if it is words, else ""."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    return text if len(text) >= 8 and text.isprintable() and " " in text else ""
