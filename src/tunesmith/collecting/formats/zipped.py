"""Zip files: what is in them, and that unpacked they are no larger than can be meant."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith.collecting.formats.refusal import Refusal

MOST_BYTES: Final = 2**31
MOST_FILES: Final = 100_000
# Text shrinks to a tenth, seldom to a fiftieth; what shrinks more was made to be large.
MOST_SHRUNK: Final = 500
_SMALL: Final = 2**20


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file; raises Refusal for what is none, and for a bomb, by the sizes that its directory gives."""
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise Refusal("unreadable", error.strerror or str(error)) from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        # The last two: a version that zipfile does not know, and a directory that points outside the file.
        raise Refusal("damaged", f"it is no zip file, as this format is one: {error}") from error
    with archive:
        _check(archive)
        yield archive


def _check(archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    if len(infos) > MOST_FILES:
        raise Refusal("size", f"it holds {len(infos):,} files, more than {MOST_FILES:,}")
    whole = sum(info.file_size for info in infos)
    if whole > MOST_BYTES:
        raise Refusal("size", f"unpacked it would hold {whole:,} bytes, more than {MOST_BYTES:,}")
    for info in infos:
        times = info.file_size / max(1, info.compress_size)
        if info.file_size > _SMALL and times > MOST_SHRUNK:
            raise Refusal(
                "size",
                f"{info.filename} would unpack to {times:,.0f} times its size",
            )
