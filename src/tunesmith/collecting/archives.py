"""Zip archives: each file in one is read as if it lay in a folder of the archive's name."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from tunesmith.collecting.formats.refusal import Refusal, parsing
from tunesmith.collecting.formats.zipped import opened
from tunesmith.collecting.readers import try_file, unknown_suffix
from tunesmith.records import Document, Rejection

ARCHIVE: Final = ".zip"
# The first bit of a file's flags (PKWARE's APPNOTE, 4.4.4).
_ENCRYPTED: Final = 1


def try_archive(path: Path, *, name: str, source: str) -> Iterator[Document | Rejection]:
    """Yield the files of an archive in the order of their names, and for each that cannot be read the reason.

    What would unpack to more than can be meant is refused as a whole, before anything is unpacked.
    """
    try:
        with opened(path) as archive, tempfile.TemporaryDirectory() as folder:
            seen: set[str] = set()
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                if info.is_dir():
                    continue
                inner = f"{name}/{info.filename}"
                if inner in seen:
                    yield Rejection("collect", "twice", inner, "the archive holds another file of this name")
                    continue
                seen.add(inner)
                yield _member(archive, info, Path(folder), inner, source)
    except Refusal as refusal:
        yield Rejection("collect", refusal.rule, name, refusal.detail)


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path, name: str, source: str
) -> Document | Rejection:
    inside = PurePosixPath(info.filename)
    unread = _unread(inside)
    if unread is not None:
        return Rejection("collect", unread.rule, name, unread.detail)
    # Never under its own name: that may lead anywhere.
    copy = folder / f"member{inside.suffix}"
    if info.flag_bits & _ENCRYPTED:
        return Rejection("collect", "locked", name, "it is encrypted, and needs a password")
    try:
        with parsing("a file of this archive"), archive.open(info) as packed, copy.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except Refusal as refusal:
        return Rejection("collect", refusal.rule, name, refusal.detail)
    return try_file(copy, name=name, source=source)


def _unread(inside: PurePosixPath) -> Refusal | None:
    """Return why a member is not unpacked, by its name alone."""
    if inside.is_absolute() or ".." in inside.parts:
        return Refusal("path", "its name leads out of the archive")
    if any(part.startswith(".") or part == "__MACOSX" for part in inside.parts):
        return Refusal("hidden", "its name, or a folder's, starts with a dot")
    if inside.suffix.lower() == ARCHIVE:
        return Refusal("archive", "an archive in an archive is not opened: unpack it first")
    return unknown_suffix(inside)
