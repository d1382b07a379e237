"""Word, PowerPoint and Excel files as Markdown.

Read are paragraphs, headings, lists, code and tables; slides with their notes; the values of cells. Not read: pictures,
charts, text boxes of Word, comments, headers and footers, and formulas whose values Excel has not stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

from tunesmith.collecting.formats.markdown import heading, joined, table
from tunesmith.collecting.formats.refusal import Refusal, parsing
from tunesmith.collecting.formats.zipped import opened

_CODE_STYLE: Final = re.compile(r"code|preformatted|source|listing", re.IGNORECASE)
_CODE_FONTS: Final = frozenset({"consolas", "courier", "courier new", "menlo", "monaco", "source code pro"})


def word_text(path: Path) -> str:
    """Return a .docx file's text; raises Refusal for what is none."""
    return _read(path, "Word", _word)


def slides_text(path: Path) -> str:
    """Return a .pptx file's text, a section a slide; raises Refusal for what is none."""
    return _read(path, "PowerPoint", _slides)


def sheets_text(path: Path) -> str:
    """Return an .xlsx file's values, a table a sheet; raises Refusal for what is none."""
    return _read(path, "Excel", _sheets)


def _read(path: Path, program: str, read: Callable[[Path], Iterable[str]]) -> str:
    with opened(path):
        # Its sizes are checked; the library opens it itself.
        pass
    with parsing(f"a file of {program}"):
        text = joined(read(path))
    if not text:
        raise Refusal("empty", "it holds no text")
    return text


# --- Word


def _word(path: Path) -> Iterator[str]:
    import docx
    from docx.table import Table

    listed: list[str] = []
    code: list[str] = []
    for item in docx.Document(str(path)).iter_inner_content():
        kind, text = ("table", _word_table(item)) if isinstance(item, Table) else _paragraph(item)
        # Lines of one list, and of one piece of code, stand together.
        if kind != "item" and listed:
            yield "\n".join(listed)
            listed = []
        if kind != "code" and code:
            yield _fenced(code)
            code = []
        if kind == "item":
            listed.append(f"- {text}")
        elif kind == "code":
            code.append(text)
        else:
            yield text
    yield "\n".join(listed)
    if code:
        yield _fenced(code)


def _paragraph(paragraph: Any) -> tuple[str, str]:
    """Return what a paragraph is (text, item, code) and its text; a heading has its mark."""
    style = str(getattr(paragraph.style, "name", "") or "")
    text = paragraph.text
    level = re.fullmatch(r"Heading (\d)", style)
    if style == "Title" or level:
        # Whether the title is of its own style or a first heading: below it stand the others.
        return "text", heading(text, int(level[1]) if level else 1) if text.strip() else ""
    fonts = {str(run.font.name or "").lower() for run in paragraph.runs if run.text.strip()}
    if _CODE_STYLE.search(style) or (fonts and fonts <= _CODE_FONTS):
        return "code", text
    properties = paragraph._p.pPr
    if text.strip() and (
        style.startswith("List") or (properties is not None and properties.numPr is not None)
    ):
        return "item", text.strip()
    return "text", text


def _word_table(found: Any) -> str:
    rows = []
    for row in found.rows:
        cells, before = [], None
        for cell in row.cells:
            # A cell that spans columns is told once for each.
            if cell._tc is not before:
                cells.append(cell.text)
            before = cell._tc
        rows.append(cells)
    return table(rows)


def _fenced(lines: list[str]) -> str:
    body = "\n".join(lines).strip("\n")
    return f"```\n{body}\n```" if body.strip() else ""


# --- PowerPoint


def _slides(path: Path) -> Iterator[str]:
    from pptx import Presentation

    for number, slide in enumerate(Presentation(str(path)).slides, 1):
        title = slide.shapes.title
        named = title.text_frame.text if title is not None and title.has_text_frame else ""
        yield heading(named if named.strip() else f"Slide {number}", 2)
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                yield from _shape(shape)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            notes = slide.notes_slide.notes_text_frame.text.strip()
            yield f"Notes: {notes}" if notes else ""


def _shape(shape: Any) -> Iterator[str]:
    if getattr(shape, "shapes", None) is not None:
        for inner in shape.shapes:
            yield from _shape(inner)
    elif getattr(shape, "has_table", False) and shape.has_table:
        yield table([[cell.text for cell in row.cells] for row in shape.table.rows])
    elif shape.has_text_frame:
        paragraphs = [each for each in shape.text_frame.paragraphs if each.text.strip()]
        if len(paragraphs) > 1:
            yield "\n".join(f"{'  ' * each.level}- {each.text.strip()}" for each in paragraphs)
        elif paragraphs:
            yield paragraphs[0].text.strip()


# --- Excel


def _sheets(path: Path) -> Iterator[str]:
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True, data_only=True)
    try:
        for sheet in book.worksheets:
            told = table([_value(cell) for cell in row] for row in sheet.iter_rows(values_only=True))
            if told:
                yield heading(sheet.title, 2)
                yield told
    finally:
        book.close()


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    return value.isoformat() if isinstance(value, date | time) else str(value)
