"""PDF as Markdown: the text of its pages in their order, with headings where its outline has them.

Not read: pictures (a scanned page has no text), forms, notes in the margin. Tables come out as lines.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.collecting.formats.markdown import heading, joined
from tunesmith.collecting.formats.refusal import Refusal, parsing

if TYPE_CHECKING:
    from pypdf import PdfReader

# What stands at the head or foot of so many of the pages belongs to the paper, not to the text.
_FURNITURE: Final = 0.5
_FEW_PAGES: Final = 4
# Dots that lead to a page's number.
_LEADERS: Final = re.compile(r"(?:\s?\.){5,}\s*\w+\s*$")
# Of pages: in digits, or small Roman ones up to 99.
_NUMERAL: Final = r"(?:\d+|(?=[ivxl])(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3}))"
_NUMBER: Final = re.compile(rf"\b{_NUMERAL}\b")


def pdf_text(path: Path) -> str:
    """Return a PDF's text; raises Refusal for one that is locked, damaged or holds no text."""
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError

    # It says on stderr what it mends in each file; what cannot be mended is raised.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        with path.open("rb") as file, parsing("a PDF"):
            try:
                reader = PdfReader(file)
                pages = [page.extract_text() for page in reader.pages]
            except (DependencyError, FileNotDecryptedError) as error:
                raise Refusal("locked", "it is encrypted, and needs a password") from error
            titles = dict(_outline(reader))
            named = str((reader.metadata and reader.metadata.title) or "").strip()
    except OSError as error:
        raise Refusal("unreadable", error.strerror or str(error)) from error
    if not any(page.strip() for page in pages):
        raise Refusal("empty", f"none of its {len(pages)} pages holds text: run OCR on it first")
    text = _unbroken("\n".join(_without_furniture(pages, titles)))
    return joined([heading(named, 1) if named else "", _with_headings(text, titles)])


def _outline(reader: PdfReader) -> Iterator[tuple[str, int]]:
    """Yield the outline's titles with their levels, from 2: the first is the whole text's."""

    def walk(items: Sequence[Any], level: int) -> Iterator[tuple[str, int]]:
        for item in items:
            if isinstance(item, list):
                yield from walk(item, level + 1)
            elif item.title:
                # Known with and without its number: as a heading, and beside a page's number in a running head.
                yield _plain(str(item.title)), level
                yield _spaced(str(item.title)), level

    yield from walk(reader.outline, 2)


def _plain(title: str) -> str:
    """Return a title as it is compared: without its number, white space and case."""
    return _spaced(re.sub(r"^\s*(?:[\dA-Z]+\.)*[\dA-Z]*\.?\s+", "", f" {title}"))


def _spaced(title: str) -> str:
    return re.sub(r"\s+", " ", title).strip().casefold()


def _with_headings(text: str, titles: Mapping[str, int]) -> str:
    lines = []
    for line in text.split("\n"):
        level = titles.get(_plain(line)) if line.strip() else None
        lines += [line.rstrip()] if level is None else ["", heading(line, level), ""]
    return "\n".join(lines)


def _without_furniture(pages: Sequence[str], titles: Mapping[str, int]) -> list[str]:
    """Return pages without what belongs to the paper: page numbers, running heads, tables of contents.

    A running head is a first or last line that most pages share but for numbers, or a title beside a page's number.
    """
    lines = [
        [line for line in page.split("\n") if line.strip() and not _LEADERS.search(line)] for page in pages
    ]
    for edge in (0, -1, 0, -1):
        seen = Counter(_NUMBER.sub("#", page[edge].strip()) for page in lines if page)
        often = max(_FEW_PAGES - 1, _FURNITURE * len(pages))
        common = {line for line, count in seen.items() if count > often}
        for page in lines:
            if page and (_NUMBER.sub("#", page[edge].strip()) in common or _is_head(page[edge], titles)):
                del page[edge]
    return ["\n".join(page) for page in lines]


def _is_head(line: str, titles: Mapping[str, int]) -> bool:
    """Tell whether a line is a page's number alone, or beside a title."""
    beside = re.fullmatch(rf"\s*(?:{_NUMERAL}\s+)?(.*?)(?:\s+{_NUMERAL})?\s*", line)
    if beside is None or re.fullmatch(rf"\s*{_NUMERAL}\s*", line):
        return beside is not None
    if beside[1].strip() == line.strip() or _spaced(line) in titles:
        return False
    return _plain(re.sub(r"^(?:Chapter|Section|Appendix) \w+:?", "", beside[1])) in titles


def _unbroken(text: str) -> str:
    """Return text whose words are not broken at the ends of lines; a hyphen stays where the text has it elsewhere."""
    words = Counter(re.findall(r"\w+(?:-\w+)*", text))

    def whole(found: re.Match[str]) -> str:
        hyphened, plain = f"{found[1]}-{found[2]}", found[1] + found[2]
        return f"{hyphened if words[hyphened] > words[plain] else plain}{found[3]}\n"

    return re.sub(r"(\w+)-\n([a-z]\w*)(\S*)[^\S\n]?\n?", whole, text)
