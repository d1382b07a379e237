"""Pieces of Markdown that several formats are written as."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def heading(text: str, level: int) -> str:
    """Return a heading of level 1 to 6, on one line."""
    return f"{'#' * min(6, max(1, level))} {_line(text)}"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as a table, the first as its head; empty rows are left out, and short ones filled up."""
    cells = [[_line(cell).replace("|", r"\|") for cell in row] for row in rows]
    cells = [row for row in cells if any(row)]
    if not cells:
        return ""
    width = max(map(len, cells))
    lines = [f"| {' | '.join([*row, *[''] * (width - len(row))])} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * width, *lines[1:]])


def joined(blocks: Iterable[str]) -> str:
    """Return blocks with a blank line between them."""
    return "\n\n".join(stripped for block in blocks if (stripped := block.strip("\n")).strip())


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
