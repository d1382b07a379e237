"""PDF, Office files, web pages, books and archives: what is read of them, and what refuses."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader, PdfWriter

from tunesmith.collecting.archives import try_archive
from tunesmith.collecting.collect import collect, digest_sources
from tunesmith.collecting.formats import zipped
from tunesmith.collecting.formats.pages import page_text
from tunesmith.collecting.formats.refusal import Refusal
from tunesmith.collecting.readers import read_file, try_file
from tunesmith.errors import SourceError
from tunesmith.records import Document, Rejection

from . import made

PAGE = """<html><head><title>Kettles: the manual</title></head><body>
<nav><a href="/">Home</a> <a href="/shop">Shop</a></nav>
<main><h1>Using the kettle<a class="headerlink" href="#use">¶</a></h1>
<p>The kettle boils water. Call <code>kettle.boil(litres)</code>, and see the <a href="/x">reference</a> for all.</p>
<div class="highlight"><pre><span>if</span> full:
    kettle.boil(<span>1.5</span>)
</pre></div><h2>Options</h2><ul><li>one is <b>first</b></li><li>two</li></ul>
<table><tr><th>name</th><th>meaning</th></tr><tr><td>litres</td><td>how much water</td></tr></table>
<p>Whoever wants more of it reads on, for this is a paragraph that is long enough to be one of the text.</p></main>
<footer>Copyright Kettle Inc.</footer></body></html>"""


def test_a_pdf_is_its_text_with_the_headings_of_its_outline(tmp_path: Path) -> None:
    """Page numbers, running heads and the table of contents go; words that a line's end broke are whole again."""
    pages = [
        "Contents\n1 Using it . . . . . . . . 2\n2 Care ........... 4\ni",
        "1 Using it\nFill the kettle with wa-\nter, and use a well-\nknown brand (or an-\nother).\nKettle manual 2",
        "Chapter 1: Using it 3\nA well-known brand lasts.\nKettle manual 3",
        "2 Care\nWater leaves lime. Clean it.\nKettle manual 4",
        "civil\nChapter 2: Care 5\nThat is all.\nKettle manual 5",
    ]
    path = made.pdf(tmp_path / "a.pdf", pages, outline=[("1 Using it", 1), ("2 Care", 3)], title="The kettle")
    document = read_file(path)
    assert (document.title, document.kind) == ("The kettle", "pdf")
    assert document.text == (
        "# The kettle\n\nContents\n\n## 1 Using it\n\nFill the kettle with water,\nand use a well-known\nbrand "
        "(or another).\nA well-known brand lasts.\n\n## 2 Care\n\nWater leaves lime. Clean it.\ncivil\n"
        "Chapter 2: Care 5\nThat is all."
    )
    plain = read_file(made.pdf(tmp_path / "b.pdf", ["One page."]), name="docs/b.pdf")
    assert (plain.title, plain.text) == ("b.pdf", "One page.")


def test_a_word_document_keeps_its_structure(tmp_path: Path) -> None:
    document = read_file(made.word(tmp_path / "a.docx"))
    assert (document.title, document.kind) == ("Kettles", "word")
    assert document.text == (
        "# Kettles\n\nThey boil water.\n\n## Using one\n\n- Fill it.\n- Switch it on.\n\n```\nif full:\n"
        "    boil()\n```\n\n| name | litres | price\\|unit |\n|---|---|---|\n| K1 | 9 |  |\n\nAfterwards."
    )


def test_slides_are_sections_with_their_notes(tmp_path: Path) -> None:
    document = read_file(made.slides(tmp_path / "a.pptx"))
    assert document.text == (
        "## Boiling\n\n- Water boils\n  - at 100 degrees\n\nNotes: Say why.\n\n"
        "## Slide 2\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    )
    assert document.title == "a.pptx"


def test_sheets_are_tables(tmp_path: Path) -> None:
    """Empty rows and sheets go, days have no hours, and a row that is short is filled up."""
    rows: list[list[Any]] = [
        ["name", "made"],
        [],
        ["K1", datetime(2024, 5, 1)],
        ["K2", None],
        ["K3", datetime(2024, 5, 1, 8)],
    ]
    document = read_file(made.sheets(tmp_path / "a.xlsx", {"Kettles": rows, "Empty": []}))
    assert document.text == (
        "## Kettles\n\n| name | made |\n|---|---|\n| K1 | 2024-05-01 |\n| K2 |  |\n| K3 | 2024-05-01T08:00:00 |"
    )


def test_a_page_is_what_it_is_about(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(PAGE, encoding="utf-8")
    document = read_file(path)
    assert document.title == "Using the kettle"
    for kept in (
        "# Using the kettle\n",
        "`kettle.boil(litres)`",
        "the reference for all",
        "```\nif full:\n    kettle.boil(1.5)\n```\n\n## Options",
        "- one is **first**\n- two",
        "| litres | how much water |",
    ):
        assert kept in document.text
    for left in ("Shop", "Copyright", "¶", "/x"):
        assert left not in document.text
    assert page_text(b"<html><head><title>A</title></head><body><p>short</p></body></html>") == "# A\n\nshort"


def test_a_book_is_read_in_the_order_of_its_spine(tmp_path: Path) -> None:
    path = made.book(tmp_path / "a.epub", "<h1>One</h1><p>First words.</p>", "<h1>Two</h1><p>Last words.</p>")
    text = read_file(path).text
    assert text.index("First words.") < text.index("Last words.")


def damaged(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:200] + b"\0" * 200)
    return path


def locked(path: Path) -> Path:
    writer = PdfWriter(clone_from=PdfReader(made.pdf(path, ["secret"])))
    writer.encrypt("word")
    writer.write(path)
    return path


@pytest.mark.parametrize(
    ("name", "make", "rule"),
    [
        ("a.pdf", lambda path: damaged(made.pdf(path, ["a"])), "damaged"),
        ("a.pdf", lambda path: made.pdf(path, ["", ""]), "empty"),
        ("a.pdf", locked, "locked"),
        ("a.docx", lambda path: damaged(made.word(path)), "damaged"),
        ("a.pptx", lambda path: damaged(made.slides(path)), "damaged"),
        ("a.xlsx", lambda path: damaged(made.sheets(path, {"a": [["b"]]})), "damaged"),
        ("a.xlsx", lambda path: made.sheets(path, {"a": []}), "empty"),
        ("a.xlsx", lambda path: made.book(path, "a", "b"), "damaged"),
        ("a.epub", made.word, "damaged"),
        ("a.html", lambda path: path.write_text("<html></html>"), "empty"),
        ("a.html", lambda path: path.write_text(""), "empty"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, make: object, rule: str) -> None:
    make(tmp_path / name)  # type: ignore[operator]
    outcome = try_file(tmp_path / name, name=name, source="s")
    assert isinstance(outcome, Rejection), outcome
    assert (outcome.rule, outcome.item, outcome.stage) == (rule, name, "collect")
    with pytest.raises(SourceError, match=f"{name} cannot be read"):
        read_file(tmp_path / name)


# --- archives


def packed(path: Path, files: dict[str, bytes]) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_an_archive_is_read_like_a_folder(tmp_path: Path) -> None:
    """Each file is a document or says why not; no name leads out, and another archive in it stays shut."""
    word = made.word(tmp_path / "w.docx").read_bytes()
    path = packed(
        tmp_path / "a.zip",
        {"docs/a.md": b"# A\n", "docs/w.docx": word, ".git/b.md": b"b", "c.exe": b"MZ", "in.zip": b"PK",
         "../../d.md": b"d"},
    )  # fmt: skip
    (tmp_path / "w.docx").unlink()
    found = collect(["a.zip"], base=tmp_path)
    assert [(each.id, each.title, each.source) for each in found.documents] == [
        ("file:a.zip/docs/a.md", "A", "a.zip"),
        ("file:a.zip/docs/w.docx", "Kettles", "a.zip"),
    ]
    assert {(each.rule, each.item) for each in found.rejections} == {
        ("hidden", "a.zip/.git/b.md"),
        ("suffix", "a.zip/c.exe"),
        ("archive", "a.zip/in.zip"),
        ("path", "a.zip/../../d.md"),
    }
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"]
    before = digest_sources(["a.zip"], tmp_path)
    packed(path, {"docs/a.md": b"# B\n"})
    assert digest_sources(["a.zip"], tmp_path) != before


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.zip", {"a.txt": b"\0" * 50_000_000})
    [outcome] = try_archive(path, name="a.zip", source="s")
    assert isinstance(outcome, Rejection)
    assert outcome.rule == "size"
    assert "times its size" in outcome.detail
    word = made.word(tmp_path / "a.docx")
    with zipfile.ZipFile(word, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/bomb.xml", b" " * 50_000_000)
    refused = try_file(word, name="a.docx", source="s")
    assert isinstance(refused, Rejection)
    assert refused.rule == "size"
    monkeypatch.setattr(zipped, "MOST_BYTES", 10)
    with (
        pytest.raises(Refusal, match="unpacked it would hold 20 bytes"),
        zipped.opened(packed(tmp_path / "b.zip", {"a.md": b"a" * 20})),
    ):
        pass
    monkeypatch.setattr(zipped, "MOST_FILES", 1)
    with (
        pytest.raises(Refusal, match="it holds 2 files"),
        zipped.opened(packed(tmp_path / "c.zip", {"a": b"", "b": b""})),
    ):
        pass


def test_a_damaged_member_leaves_the_others(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"a.md": b"some words of it" * 9, "b.md": b"other words"})
    data = bytearray(path.read_bytes())
    start = data.index(b"a.md") + 6
    data[start : start + 3] = b"\xff\xff\xff"
    path.write_bytes(data)
    outcomes = list(try_archive(path, name="a.zip", source="s"))
    assert [(type(each), each.rule if isinstance(each, Rejection) else each.title) for each in outcomes] == [
        (Rejection, "damaged"),
        (Document, "b.md"),
    ]


@pytest.mark.parametrize("suffix", [".pdf", ".docx", ".pptx", ".xlsx", ".epub", ".html", ".ipynb", ".zip"])
def test_whatever_is_broken_about_a_file_is_its_own_fault(tmp_path: Path, suffix: str) -> None:
    """Bytes changed, cut out and cut off: a document or a rejection, never an error that stops the others."""
    make: dict[str, Callable[[Path], object]] = {
        ".pdf": lambda path: made.pdf(path, ["one", "two"], outline=[("one", 0)], title="T"),
        ".docx": made.word,
        ".pptx": made.slides,
        ".xlsx": lambda path: made.sheets(path, {"a": [["x", 1]]}),
        ".epub": lambda path: made.book(path, "<h1>A</h1>", "<p>b</p>"),
        ".html": lambda path: path.write_text(PAGE, encoding="utf-8"),
        ".ipynb": lambda path: path.write_text('{"cells": [{"cell_type": "code", "source": ["x"]}]}'),
        ".zip": lambda path: packed(path, {"a.md": b"# A\n" * 50, "b.txt": b"words"}),
    }
    whole = tmp_path / f"a{suffix}"
    make[suffix](whole)
    content, rng = whole.read_bytes(), random.Random(0)
    for _ in range(60):
        data = bytearray(content)
        for _ in range(rng.choice((1, 2, 5, 30))):
            place, way = rng.randrange(len(data)), rng.random()
            if way < 0.7:
                data[place] = rng.randrange(256)
            elif way < 0.85:
                del data[place : place + rng.randrange(1, 20)]
            elif place > 0:
                del data[place:]
            data = data or bytearray(b"x")
        whole.write_bytes(data)
        read = (
            try_archive(whole, name="a", source="s")
            if suffix == ".zip"
            else [try_file(whole, name="a", source="s")]
        )
        assert all(isinstance(each, Document | Rejection) for each in read)
