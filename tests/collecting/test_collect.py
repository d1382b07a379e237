"""Addresses in, documents and catalogue out."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tunesmith.collecting.collect import collect, digest_sources
from tunesmith.errors import AddressError, SourceError
from tunesmith.records import Rejection


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a folder of files and two small packages, and stand beside them."""
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / ".cache").mkdir()
    (tmp_path / "docs" / ".cache" / "x.md").write_text("# cached")
    (tmp_path / "docs" / "a.md").write_text("# A")
    (tmp_path / "docs" / "deep" / "b.txt").write_text("b")
    (tmp_path / "docs" / "logo.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "c.txt").write_bytes(b"\xff")
    for name in ("tinyone", "tinytwo"):
        (tmp_path / f"{name}.py").write_text(
            f'def f_{name}(x):\n    """Do {name}."""\n\n\ndef _g():\n    """No."""\n'
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return tmp_path


def test_a_folder_is_read_with_reasons_for_the_rest(base: Path) -> None:
    """Readable files become documents; hidden and binary ones are rejected by name."""
    collected = collect(["docs"], base=base)
    assert [document.id for document in collected.documents] == ["file:docs/a.md", "file:docs/deep/b.txt"]
    assert {document.source for document in collected.documents} == {"docs"}
    assert collected.rejections == (
        Rejection("collect", "hidden", "docs/.cache", "its name starts with a dot"),
        Rejection("collect", "suffix", "docs/logo.png", "the ending .png is none that can be read"),
    )
    assert collected.catalogue is None


def test_files_patterns_and_packages_are_collected_together(base: Path) -> None:
    """Each address is a source; catalogues are merged; a file that two addresses name is read once."""
    collected = collect(["python:tinyone", "docs/a.md", "docs/**/*", "python:tinytwo"], base=base)
    assert [source.address for source in collected.sources] == [
        "python:tinyone",
        "docs/a.md",
        "docs/**/*",
        "python:tinytwo",
    ]
    assert collected.catalogue is not None
    assert [entry.id for entry in collected.catalogue.entries] == ["tinyone.f_tinyone", "tinytwo.f_tinytwo"]
    assert [document.id for document in collected.documents] == [
        "python:tinyone#tinyone.f_tinyone",
        "python:tinytwo#tinytwo.f_tinytwo",
        "file:docs/a.md",
        "file:docs/deep/b.txt",
    ]
    assert collected.left_out == {"private": 2}
    assert [(each.rule, each.item) for each in collected.rejections] == [
        ("hidden", "docs/.cache/x.md"),
        ("twice", "docs/a.md"),
        ("suffix", "docs/logo.png"),
    ]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "the source 'nowhere' does not exist"),
        ("empty", "the folder 'empty' has no files to read"),
        ("*.rst", "the pattern '*.rst' matches no file"),
        ("bad", "nothing of bad can be read:\n  bad/c.txt: byte 0 is not UTF-8"),
        ("bad/c.txt", "nothing of bad/c.txt can be read"),
        ("python:no_such_pkg", "the package 'no_such_pkg' is not installed"),
    ],
)
def test_what_cannot_be_collected_is_named(base: Path, address: str, message: str) -> None:
    """A missing, empty or wholly unreadable source stops with its name."""
    with pytest.raises(SourceError) as caught:
        collect([address], base=base)
    assert message in caught.value.message


def test_one_bad_file_does_not_stop_the_others(base: Path) -> None:
    """With something else to read, an unreadable file is a rejection."""
    collected = collect(["bad/c.txt", "docs/a.md"], base=base)
    assert collected.rejections == (Rejection("collect", "encoding", "bad/c.txt", "byte 0 is not UTF-8"),)


@pytest.mark.parametrize("address", ["ftp://example.org/x", "wsdl:spec.xml", "pytohn:networkx"])
def test_addresses_of_other_kinds_are_refused(base: Path, address: str) -> None:
    """What is not understood today is said to be so, with what is."""
    with pytest.raises(AddressError, match="not understood") as caught:
        collect([address], base=base)
    assert "python:PACKAGE" in str(caught.value.hint)


def test_no_address_is_an_error(base: Path) -> None:
    """Nothing to read is said before anything is done."""
    with pytest.raises(SourceError, match="no source is given"):
        collect([], base=base)


def test_digests_follow_the_bytes_and_nothing_else(base: Path) -> None:
    """The digest equals the collected source's, and changes with a byte or a name, not with hidden files."""
    addresses = ["docs", "python:tinyone"]
    before = digest_sources(addresses, base)
    assert before == collect(addresses, base=base).sources
    (base / "docs" / ".hidden").write_text("x")
    assert digest_sources(addresses, base) == before
    (base / "docs" / "a.md").write_text("# B")
    (base / "tinyone.py").write_text("x = 1\n")
    after = digest_sources(addresses, base)
    assert all(one.digest != other.digest for one, other in zip(before, after, strict=True))
