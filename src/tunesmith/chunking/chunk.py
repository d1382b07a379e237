"""Cut documents into pieces at their structure; the pieces of a document rejoin to it exactly."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.records import Chunk, Document


class ChunkSettings(BaseModel):
    """How long a chunk may be, in tokens of the model that it is for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(default=400, ge=32)


#: Returns how many tokens each of some texts has.
CountTokens = Callable[[Sequence[str]], Sequence[int]]
# What must stay whole to be understood may be so many times longer than a chunk.
WHOLE_UP_TO: Final = 4


def four_characters_a_token(texts: Sequence[str]) -> list[int]:
    """Return about how many tokens texts have, for English and where no tokenizer is at hand."""
    return [-(-len(text) // 4) for text in texts]


def chunk(
    documents: Iterable[Document], settings: ChunkSettings, *, count: CountTokens = four_characters_a_token
) -> tuple[Chunk, ...]:
    """Cut each document into chunks of at most `max_tokens`, as `count` counts them, in order and without gaps.

    A document that fits is one chunk. Else it is cut before headings and at blank lines; a heading stays with what
    follows. A fenced code block, a doctest or a table stays whole, and is a chunk of its own if it is longer than one;
    beyond four times that it is cut between its lines. An empty document has no chunks.
    """
    return tuple(
        Chunk(
            id=f"{document.id}:{start}-{end}",
            document=document.id,
            start=start,
            end=end,
            text=document.text[start:end],
            title=document.title,
            entry=document.entry,
        )
        for document in documents
        for start, end in _cut(document.text, settings.max_tokens, count)
    )


class _Ruler:
    """How many tokens any stretch of a text has: its lines are counted once, parts of a line by their share."""

    def __init__(self, text: str, count: CountTokens) -> None:
        # Only line feeds end lines: splitlines would also cut at form feeds inside of code.
        self.lines = re.findall(r"[^\n]*\n|[^\n]+\Z", text)
        self.starts = [0, *accumulate(map(len, self.lines))]
        self._tokens = list(count(self.lines)) if self.lines else []
        self._sums = [0, *accumulate(self._tokens)]

    def tokens(self, start: int, end: int) -> float:
        """Return the tokens between two offsets."""
        return self._upto(end) - self._upto(start)

    def reach(self, start: int, limit: float) -> int:
        """Return the last offset to which a stretch from `start` has at most `limit` tokens, one character at least."""
        wanted = self._upto(start) + limit
        line = bisect_right(self._sums, wanted) - 1
        if line >= len(self.lines):
            return self.starts[-1]
        share = (wanted - self._sums[line]) / self._tokens[line]
        return max(start + 1, self.starts[line] + int(share * len(self.lines[line])))

    def _upto(self, offset: int) -> float:
        line = bisect_right(self.starts, offset) - 1
        if line >= len(self.lines):
            return self._sums[-1]
        return self._sums[line] + self._tokens[line] * (offset - self.starts[line]) / len(self.lines[line])


@dataclass(frozen=True, slots=True)
class _Block:
    """What is not cut if it fits: a paragraph, a heading, code or a table, each with the blank lines after it.

    Code and tables are `whole`: cut, they mean nothing.
    """

    start: int
    end: int
    heading: bool = False
    whole: bool = False


def _cut(text: str, limit: int, count: CountTokens) -> Iterator[tuple[int, int]]:
    ruler = _Ruler(text, count)
    if ruler.tokens(0, len(text)) <= limit:
        if text:
            yield 0, len(text)
        return
    pending: list[_Block] = []
    for block in _fitting(text, _blocks(ruler), limit, ruler):
        if pending and _is_full(pending, block, limit, ruler):
            kept, moved = _without_last_headings(pending)
            yield kept[0].start, kept[-1].end
            pending = moved
            if pending and ruler.tokens(pending[0].start, block.end) > limit and not block.whole:
                yield pending[0].start, pending[-1].end
                pending = []
        pending.append(block)
    yield pending[0].start, pending[-1].end


def _is_full(pending: Sequence[_Block], block: _Block, limit: int, ruler: _Ruler) -> bool:
    """Tell whether a new chunk begins: the block does not fit, or it heads a section and half is filled."""
    if ruler.tokens(pending[0].start, block.end) > limit:
        return True
    filled = ruler.tokens(pending[0].start, pending[-1].end)
    return block.heading and not pending[-1].heading and filled > limit / 2


def _without_last_headings(blocks: Sequence[_Block]) -> tuple[list[_Block], list[_Block]]:
    """Split off the headings at the end, which belong to what follows, unless there is nothing else."""
    count = len(blocks)
    while count > 0 and blocks[count - 1].heading:
        count -= 1
    return (list(blocks[:count]), list(blocks[count:])) if count else (list(blocks), [])


def _blocks(ruler: _Ruler) -> Iterator[_Block]:
    """Yield the blocks of a text, contiguous, from its first character to its last."""
    lines, number = ruler.lines, 0
    while number < len(lines):
        end, heading, whole = _block_end(lines, number)
        while end < len(lines) and not lines[end].strip():
            end += 1
        yield _Block(ruler.starts[number], ruler.starts[end], heading, whole)
        number = end


def _block_end(lines: Sequence[str], first: int) -> tuple[int, bool, bool]:
    """Return the line after the block that begins at line `first`, and whether it is a heading, and must stay whole."""
    fence = re.match(r"\s*(```+|~~~+)", lines[first])
    if fence:
        closing = re.compile(rf"\s*{re.escape(fence[1])}\s*$")
        end = next((n for n in range(first + 1, len(lines)) if closing.match(lines[n])), len(lines) - 1)
        return end + 1, False, True
    if re.match(r"\s*#{1,6}\s+\S", lines[first]):
        return first + 1, True, False
    if first + 1 < len(lines) and _is_underline(lines[first], lines[first + 1]):
        return first + 2, True, False
    in_table = _is_row(lines[first])
    end = first + 1
    while end < len(lines) and lines[end].strip() and not _begins_block(lines, end):
        if _is_row(lines[end]) != in_table:
            break
        end += 1
    return end, False, in_table or re.match(r"\s*>>>", lines[first]) is not None


def _is_row(line: str) -> bool:
    """Tell whether a line belongs to a table: Markdown's, or reStructuredText's with its rules of + and -."""
    return re.match(r"\s*(?:\|.*\||\+[-=+]+\+)\s*$", line) is not None


def _is_underline(title: str, line: str) -> bool:
    underline = line.strip()
    long_enough = len(underline) >= max(3, len(title.strip()) - 1)
    return bool(title.strip()) and long_enough and re.fullmatch(r"([=\-~^\"'*+#])\1*", underline) is not None


def _begins_block(lines: Sequence[str], number: int) -> bool:
    if re.match(r"\s*(?:```|~~~)|\s*#{1,6}\s+\S", lines[number]) and not _in_doctest(lines, number):
        return True
    return number + 1 < len(lines) and _is_underline(lines[number], lines[number + 1])


def _in_doctest(lines: Sequence[str], number: int) -> bool:
    """Tell whether a doctest's output goes on here: a `#` in it is no heading."""
    while number > 0 and lines[number - 1].strip():
        number -= 1
        if re.match(r"\s*>>>", lines[number]):
            return True
    return False


def _fitting(text: str, blocks: Iterable[_Block], limit: int, ruler: _Ruler) -> Iterator[_Block]:
    """Yield the blocks, those that are too long as pieces: at line ends, else at spaces, else anywhere."""
    for block in blocks:
        most = limit * WHOLE_UP_TO if block.whole else limit
        if ruler.tokens(block.start, block.end) <= most:
            yield block
            continue
        start = block.start
        while ruler.tokens(start, block.end) > limit:
            end = _last_break(text, start, ruler.reach(start, limit))
            yield _Block(start, end)
            start = end
        yield _Block(start, block.end, block.heading)


def _last_break(text: str, start: int, end: int) -> int:
    for mark in ("\n", " "):
        found = text.rfind(mark, start, end)
        if found >= start:
            return found + 1
    return end
