"""Bytes of files, each kept once under its SHA-256: whole or not there, and gone when nothing names them any more."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import select

from tunesmith.serving.home import Home
from tunesmith.serving.store import Store
from tunesmith.serving.tables import File, Part

CHUNK = 2**20


class Incoming:
    """Bytes that come: written beside their place, and counted."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.bytes = path, 0
        self._file, self._hash = file, hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.bytes += len(chunk)

    def sync(self) -> str:
        """Put all on the disk; returns the SHA-256 in hex."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()


class Blobs:
    """The bytes in a server's folder; one object serves all threads."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home, self._store = home, store
        # Between the last look at who names some bytes and their end nobody may begin to name them.
        self._lock = threading.Lock()
        for left in home.incoming.iterdir():
            left.unlink()
        self.sweep()

    def path(self, digest: str) -> Path:
        """Return where some bytes lie."""
        return self._home.blobs / digest[:2] / digest

    @contextmanager
    def receive(self) -> Iterator[Incoming]:
        """Open a place for bytes that come; what was not kept by the end of the block is deleted."""
        path = self._home.incoming / secrets.token_hex(16)
        try:
            with path.open("xb") as file:
                yield Incoming(path, file)
        finally:
            with suppress(FileNotFoundError):
                path.unlink()

    def keep(self, incoming: Incoming, name: Callable[[str], None]) -> str:
        """Put what came into its place and let `name` write the row that names it; returns the digest."""
        digest = incoming.sync()
        place = self.path(digest)
        with self._lock:
            if not place.is_file():
                place.parent.mkdir(exist_ok=True)
                incoming.path.rename(place)
                _sync(place.parent)
            name(digest)
        return digest

    def put(self, chunks: Iterable[bytes], name: Callable[[str, int], None]) -> str:
        """Keep bytes that are at hand; `name` gets the digest and their number."""
        with self.receive() as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return self.keep(incoming, lambda digest: name(digest, incoming.bytes))

    def release(self, digests: Iterable[str]) -> None:
        """Delete the bytes that no file and no part of an upload names any more."""
        with self._lock:
            for digest in set(digests):
                if not self._named(digest):
                    self.path(digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete all bytes that nothing names: what a kill between two steps has left."""
        self.release(path.name for folder in self._home.blobs.iterdir() for path in folder.iterdir())

    def _named(self, digest: str) -> bool:
        with self._store.read() as session:
            return any(
                session.scalars(select(table.id).where(table.digest == digest).limit(1)).first() is not None
                for table in (File, Part)
            )


def chunks_of(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, a mebibyte at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
