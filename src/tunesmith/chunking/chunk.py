"""Cut documents into pieces at their structure; the pieces of a document rejoin to it exactly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.records import Chunk, Document


class ChunkSettings(BaseModel):
    """How long a chunk may be, in characters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_characters: int = Field(default=1500, ge=40)


def chunk(documents: Iterable[Document], settings: ChunkSettings) -> tuple[Chunk, ...]:
    """Cut each document into chunks of at most `max_characters`, in order and without gaps.

    A document that fits is one chunk. Else it is cut before headings and at blank lines; a fenced code block
    or a doctest is cut only if it alone is too long, then between its lines. A heading stays with what
    follows. An empty document has no chunks.
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
        for start, end in _cut(document.text, settings.max_characters)
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """What is not cut if it fits: a paragraph, a heading or code, each with the blank lines after it."""

    start: int
    end: int
    heading: bool = False


def _cut(text: str, limit: int) -> Iterator[tuple[int, int]]:
    if len(text) <= limit:
        if text:
            yield 0, len(text)
        return
    pending: list[_Block] = []
    for block in _fitting(text, _blocks(text), limit):
        if pending and _is_full(pending, block, limit):
            kept, moved = _without_last_headings(pending)
            yield kept[0].start, kept[-1].end
            pending = moved
            if pending and block.end - pending[0].start > limit:
                yield pending[0].start, pending[-1].end
                pending = []
        pending.append(block)
    yield pending[0].start, pending[-1].end


def _is_full(pending: Sequence[_Block], block: _Block, limit: int) -> bool:
    """Tell whether a new chunk begins: the block does not fit, or it heads a section and half is filled."""
    if block.end - pending[0].start > limit:
        return True
    return block.heading and not pending[-1].heading and pending[-1].end - pending[0].start > limit // 2


def _without_last_headings(blocks: Sequence[_Block]) -> tuple[list[_Block], list[_Block]]:
    """Split off the headings at the end, which belong to what follows, unless there is nothing else."""
    count = len(blocks)
    while count > 0 and blocks[count - 1].heading:
        count -= 1
    return (list(blocks[:count]), list(blocks[count:])) if count else (list(blocks), [])


def _blocks(text: str) -> Iterator[_Block]:
    """Yield the blocks of a text, contiguous, from its first character to its last."""
    # Only line feeds end lines: splitlines would also cut at form feeds inside of code.
    lines = re.findall(r"[^\n]*\n|[^\n]+\Z", text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    number = 0
    while number < len(lines):
        end, heading = _block_end(lines, number)
        while end < len(lines) and not lines[end].strip():
            end += 1
        yield _Block(starts[number], starts[end], heading)
        number = end


def _block_end(lines: Sequence[str], first: int) -> tuple[int, bool]:
    """Return the line after the block that begins at line `first`, and whether the block is a heading."""
    fence = re.match(r"\s*(```+|~~~+)", lines[first])
    if fence:
        closing = re.compile(rf"\s*{re.escape(fence[1])}\s*$")
        end = next((n for n in range(first + 1, len(lines)) if closing.match(lines[n])), len(lines) - 1)
        return end + 1, False
    if re.match(r"\s*#{1,6}\s+\S", lines[first]):
        return first + 1, True
    if first + 1 < len(lines) and _is_underline(lines[first], lines[first + 1]):
        return first + 2, True
    end = first + 1
    while end < len(lines) and lines[end].strip() and not _begins_block(lines, end):
        end += 1
    return end, False


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


def _fitting(text: str, blocks: Iterable[_Block], limit: int) -> Iterator[_Block]:
    """Yield the blocks, those that are too long as pieces: at line ends, else at spaces, else anywhere."""
    for block in blocks:
        start = block.start
        while block.end - start > limit:
            end = _last_break(text, start, start + limit)
            yield _Block(start, end)
            start = end
        yield _Block(start, block.end, block.heading)


def _last_break(text: str, start: int, end: int) -> int:
    for mark in ("\n", " "):
        found = text.rfind(mark, start, end)
        if found >= start:
            return found + 1
    return end
