"""Files as text: Markdown, plain text, reStructuredText, notebooks, web pages, books, PDF and Office files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

from tunesmith.collecting.formats.office import sheets_text, slides_text, word_text
from tunesmith.collecting.formats.pages import book_text, page_file_text
from tunesmith.collecting.formats.pdf import pdf_text
from tunesmith.collecting.formats.refusal import Refusal
from tunesmith.errors import SourceError
from tunesmith.records import Document, Rejection

KINDS: Mapping[str, str] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".rst": "restructuredtext",
    ".ipynb": "notebook",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".epub": "epub",
    ".pdf": "pdf",
    ".docx": "word",
    ".pptx": "slides",
    ".xlsx": "sheets",
}
# What is no text by itself, and what makes Markdown of it.
_FORMATS: Mapping[str, Callable[[Path], str]] = {
    "html": page_file_text,
    "epub": book_text,
    "pdf": pdf_text,
    "word": word_text,
    "slides": slides_text,
    "sheets": sheets_text,
}


def read_file(path: Path, *, name: str | None = None, source: str | None = None) -> Document:
    """Read one file as text; raises SourceError that names the file and the reason.

    `name` is what the document is called (default: the file's name), `source` the address it comes from. Line
    ends become newlines and a byte order mark is left out. A notebook's cells are joined, code cells fenced,
    outputs left out; what is no text becomes Markdown (see `formats`).
    """
    outcome = try_file(path, name=name or path.name, source=source or name or path.name)
    if isinstance(outcome, Rejection):
        raise SourceError(
            f"{outcome.item} cannot be read: {outcome.detail}.",
            hint=f"What can be read: {', '.join(KINDS)}; text is UTF-8.",
        )
    return outcome


def try_file(path: Path, *, name: str, source: str) -> Document | Rejection:
    """Read one file like `read_file`, but return a Rejection where that raises."""
    kind = KINDS.get(path.suffix.lower(), "")
    try:
        text = _text(path)
    except Refusal as refusal:
        return Rejection("collect", refusal.rule, name, refusal.detail)
    return Document(
        id=f"file:{name}",
        source=source,
        title=(_first_heading(text) if kind in _FORMATS else _title(text)) or Path(name).name,
        text=text,
        kind=kind,
    )


def unknown_suffix(path: PurePath) -> Refusal | None:
    """Return why a file of this name is not read, if its ending says so."""
    if path.suffix.lower() in KINDS:
        return None
    ending = f"the ending {path.suffix}" if path.suffix else "a name without an ending"
    return Refusal("suffix", f"{ending} is none that can be read")


def _text(path: Path) -> str:
    unread = unknown_suffix(path)
    if unread is not None:
        raise unread
    kind = KINDS[path.suffix.lower()]
    if kind in _FORMATS:
        return _without_controls(_FORMATS[kind](path))
    text = _decoded(path)
    if kind == "notebook":
        text = _notebook(text)
    if not text.strip():
        raise Refusal("empty", "it holds no text")
    return text


def _without_controls(text: str) -> str:
    """Return text without what no text has: control characters and halves of characters, as broken fonts give them."""
    return (
        re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "", text)
        .replace("\r\n", "\n")
        .replace("\r", "\n")
    )


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refusal("unreadable", error.strerror or str(error)) from error
    if b"\0" in data:
        raise Refusal("binary", "it holds zero bytes, so it is no UTF-8 text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal("encoding", f"byte {error.start} is not UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _notebook(text: str) -> str:
    try:
        notebook = json.loads(text)
    except json.JSONDecodeError as error:
        raise Refusal("notebook", f"it is not JSON: {error}") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise Refusal("notebook", "it has no list of cells (format 4 is understood)")
    language = _language(notebook)
    return "\n\n".join(filter(None, (_cell(cell, language) for cell in cells)))


def _language(notebook: Mapping[str, Any]) -> str:
    metadata = notebook.get("metadata")
    info = metadata.get("language_info") if isinstance(metadata, dict) else None
    name = info.get("name") if isinstance(info, dict) else None
    return name if isinstance(name, str) else "python"


def _cell(cell: Mapping[str, Any], language: str) -> str:
    source = cell.get("source", "")
    text = ("".join(map(str, source)) if isinstance(source, list) else str(source)).strip("\n")
    if not text.strip():
        return ""
    return f"```{language}\n{text}\n```" if cell.get("cell_type") == "code" else text


def _first_heading(text: str) -> str:
    """Return the heading of the whole, where the first section's would say too little."""
    found = re.search(r"\A(?:[^#`\n].*\n|\n){0,3}# (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _title(text: str) -> str:
    """Return the first Markdown heading or underlined title, outside fences, or nothing."""
    lines = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    for line, following in pairwise([*lines, ""]):
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if heading:
            return heading[1]
        if re.match(r"\w", line) and re.fullmatch(r"([=\-~^*\"#])\1{2,}", following.strip()):
            return line.strip()
    return ""
