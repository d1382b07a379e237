"""Files as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.collecting.readers import read_file, try_file
from tunesmith.errors import SourceError
from tunesmith.records import Document, Rejection


def test_markdown_becomes_a_document(tmp_path: Path) -> None:
    """A byte order mark and Windows line ends go; the first heading, not one in code, is the title."""
    path = tmp_path / "guide.md"
    path.write_bytes(b"\xef\xbb\xbf```\r\n# no title\r\n```\r\n\r\n# The guide #\r\n\r\nText \xc3\xa9.\r\n")
    assert read_file(path, name="docs/guide.md", source="docs") == Document(
        id="file:docs/guide.md",
        source="docs",
        title="The guide",
        text="```\n# no title\n```\n\n# The guide\x20#\n\nText é.\n",
        kind="markdown",
    )


def test_restructuredtext_and_text_have_titles(tmp_path: Path) -> None:
    """An underlined line is the title; without one it is the file's name."""
    (tmp_path / "a.rst").write_text("Using it\n========\n\nSo.\n")
    (tmp_path / "b.txt").write_text("just words\n")
    read = [read_file(tmp_path / name) for name in ("a.rst", "b.txt")]
    assert [(each.title, each.kind) for each in read] == [("Using it", "restructuredtext"), ("b.txt", "text")]


def test_code_alone_has_no_title(tmp_path: Path) -> None:
    """A document that is one fence is called like its file."""
    (tmp_path / "a.md").write_text("```\n# no title\n```")
    assert read_file(tmp_path / "a.md").title == "a.md"


def test_notebooks_keep_cells_and_leave_outputs_out(tmp_path: Path) -> None:
    """Markdown cells stand as they are, code cells are fenced in their language, outputs are gone."""
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "SECRET"}]},
        {"cell_type": "code", "source": []},
    ]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {"language_info": {"name": "julia"}}}))
    document = read_file(path)
    assert (document.text, document.title) == ("# Title\nWords.\n\n```julia\nx = 1\n```", "Title")


@pytest.mark.parametrize(
    ("name", "data", "rule", "detail"),
    [
        ("a.exe", b"MZ", "suffix", "the ending .exe is none that can be read"),
        ("Makefile", b"all:", "suffix", "a name without an ending is none that can be read"),
        ("a.txt", b"caf\xe9", "encoding", "byte 3 is not UTF-8"),
        ("a.md", b"a\0b", "binary", "it holds zero bytes, so it is no UTF-8 text"),
        ("a.txt", b" \n", "empty", "it holds no text"),
        ("a.ipynb", b'{"worksheets": []}', "notebook", "it has no list of cells (format 4 is understood)"),
        ("a.ipynb", b'{"cells": []}', "empty", "it holds no text"),
    ],
)
def test_what_is_no_text_is_refused_with_the_reason(
    tmp_path: Path, name: str, data: bytes, rule: str, detail: str
) -> None:
    """One way returns a rejection that names rule, file and detail; the other raises with the same words."""
    path = tmp_path / name
    path.write_bytes(data)
    assert try_file(path, name=name, source="s") == Rejection("collect", rule, name, detail)
    with pytest.raises(SourceError) as caught:
        read_file(path)
    assert caught.value.message == f"{name} cannot be read: {detail}."


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    """A file that is gone and a notebook that is not JSON are named."""
    (tmp_path / "a.ipynb").write_text("{")
    with pytest.raises(SourceError, match=r"gone.md cannot be read: No such file"):
        read_file(tmp_path / "gone.md")
    with pytest.raises(SourceError, match=r"a.ipynb cannot be read: it is not JSON"):
        read_file(tmp_path / "a.ipynb")
