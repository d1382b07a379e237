"""Files read as text: Markdown, plain text, reStructuredText and notebooks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.errors import SourceError
from tunesmith.records import Document, Rejection

KINDS: Mapping[str, str] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".rst": "restructuredtext",
    ".ipynb": "notebook",
}


class _RefusedError(Exception):
    """Why a file is not read: the rule it breaks and what exactly."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule
        self.detail = detail


def read_file(path: Path, *, name: str | None = None, source: str | None = None) -> Document:
    """Read one file as text; raises SourceError that names the file and the reason.

    `name` is what the document is called (default: the file's name), `source` the address it comes from. Line
    ends become newlines and a byte order mark is left out. A notebook's cells are joined, code cells fenced,
    outputs left out.
    """
    outcome = try_file(path, name=name or path.name, source=source or name or path.name)
    if isinstance(outcome, Rejection):
        raise SourceError(
            f"{outcome.item} cannot be read: {outcome.detail}.",
            hint=f"What can be read: UTF-8 text in {', '.join(KINDS)}.",
        )
    return outcome


def try_file(path: Path, *, name: str, source: str) -> Document | Rejection:
    """Read one file like `read_file`, but return a Rejection where that raises."""
    try:
        text = _text(path)
    except _RefusedError as refusal:
        return Rejection("collect", refusal.rule, name, refusal.detail)
    return Document(
        id=f"file:{name}",
        source=source,
        title=_title(text) or path.name,
        text=text,
        kind=KINDS[path.suffix.lower()],
    )


def _text(path: Path) -> str:
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        ending = f"the ending {path.suffix}" if path.suffix else "a name without an ending"
        raise _RefusedError("suffix", f"{ending} is none that can be read")
    text = _decoded(path)
    if kind == "notebook":
        text = _notebook(text)
    if not text.strip():
        raise _RefusedError("empty", "it holds no text")
    return text


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _RefusedError("unreadable", error.strerror or str(error)) from error
    if b"\0" in data:
        raise _RefusedError("binary", "it holds zero bytes, so it is no UTF-8 text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _RefusedError("encoding", f"byte {error.start} is not UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _notebook(text: str) -> str:
    try:
        notebook = json.loads(text)
    except json.JSONDecodeError as error:
        raise _RefusedError("notebook", f"it is not JSON: {error}") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise _RefusedError("notebook", "it has no list of cells (format 4 is understood)")
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


def _title(text: str) -> str:
    """Return the first Markdown heading or underlined title, outside fences, or nothing."""
    lines = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if heading:
            return heading[1]
        if re.match(r"\w", line) and re.fullmatch(r"([=\-~^*\"#])\1{2,}", following.strip()):
            return line.strip()
    return ""
