"""Cut an answer, as it comes, where a sentence, a line or a fenced block ends."""

from __future__ import annotations

import re
from typing import Final

# Beyond this a sentence is cut at a blank: nothing is held back for ever.
LONGEST: Final = 2000
# A stop, closing marks, and white space after it; or the end of a line; or a stop of Chinese and Japanese.
_END = re.compile(r"[.!?…]+[\"'”’»)\]*_`]*(?=\s)|[。！？]+[”’」』）]*|\n")
# What a stop does not end: titles, initials, and numbers of lists.
_OPEN = re.compile(
    r"(?:\b(?:[Mm]rs?|[Mm]s|[Dd]rs?|[Pp]rof|[Ss]t|[Nn]o|[Nn]r|[Vv]s|[Ee]tc|[Cc]f|[Ff]ig|[Ee]q|[Ii]nkl|[Bb]zw|[Hh]r|[Hh]rn|[Ff]r|[Ss]ra?"
    r"|e\.g|i\.e|z\.B|d\.h|u\.a|[A-Z])\.|(?:^|\n)\s*\d{1,3}\.)$"
)
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})", re.MULTILINE)


class Sentences:
    """Holds what has come of an answer back until it is a whole piece; joined, the pieces are the answer."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """Take what has come, and return the pieces that are whole by now."""
        self._held += text
        pieces = []
        while (end := _cut(self._held)) is not None:
            pieces.append(self._held[:end])
            self._held = self._held[end:]
        return pieces

    def rest(self) -> str:
        """Return what is left at the end of the answer, "" if nothing."""
        held, self._held = self._held, ""
        return held


def pieces_of(text: str) -> list[str]:
    """Return the pieces of a whole text, in order; joined they are the text."""
    sentences = Sentences()
    pieces = sentences.feed(text)
    rest = sentences.rest()
    return [*pieces, rest] if rest else pieces


def is_block(piece: str) -> bool:
    """Tell whether a piece is a fenced block."""
    return _FENCE.match(piece) is not None


def _cut(text: str) -> int | None:
    """Return where the first piece of a text ends, None if that is yet to come."""
    fence = _FENCE.match(text)
    if fence:
        return _end_of_block(text, fence)
    for match in _END.finditer(text):
        end = match.end()
        if match[0] != "\n" and _OPEN.search(text, 0, end):
            continue
        # The blanks that follow belong to it, but for the line's end, which is a piece's end of its own.
        while end < len(text) and text[end] in " \t":
            end += 1
        return end
    if len(text) > LONGEST:
        blank = text.rfind(" ", 0, LONGEST)
        return LONGEST if blank <= 0 else blank + 1
    return None


def _end_of_block(text: str, fence: re.Match[str]) -> int | None:
    begun, mark = text.find("\n", fence.end()), fence[1]
    if begun < 0:
        return None
    closing = re.compile(rf"^[ \t]*{re.escape(mark[0])}{{{len(mark)},}}[ \t]*\n", re.MULTILINE)
    closed = closing.search(text, begun)
    return None if closed is None else closed.end()
