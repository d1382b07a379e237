"""The cache of models: each folder is made beside its place, by one process, and renamed into it whole.

~/.cache/tunesmith/           or $TUNESMITH_CACHE
├── smollm2/                  a model folder as transformers reads it
├── gguf/NAME-DIGEST/         one made from a GGUF file of that content
├── litgpt/NAME-DIGEST/       one made from a LitGPT checkpoint of that content
├── code/ORG--NAME@COMMIT/    one from the hub whose own code may run
├── pins/                     to which commit a branch of a hub model was resolved
├── digests/                  SHA-256 of large files, so that each is read once
└── .smollm2.lock             held (flock) by the one process that makes a folder
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tunesmith.errors import DiskFull, FetchError

Say = Callable[[str], None]

FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def silent(text: str) -> None:
    """Say nothing."""


def cache_dir() -> Path:
    """Return the folder of the cache: $TUNESMITH_CACHE, else tunesmith in the user's cache folder."""
    own = os.environ.get("TUNESMITH_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "tunesmith"


def shelve(
    folder: Path,
    make: Callable[[Path], Path],
    *,
    name: str,
    is_whole: Callable[[Path], bool] = Path.is_dir,
    say: Say = silent,
) -> Path:
    """Return a folder of the cache, made first if it is not whole; of several processes one works.

    `make` gets an empty scratch folder and returns the finished folder in it. Raises DiskFull if there is no room
    and FetchError if the cache cannot be written; nothing half-made is kept.
    """
    if is_whole(folder):
        return folder
    with writing_named(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f".{folder.name}.lock"), name, say):
            if not is_whole(folder):
                _put(folder, make, say)
    return folder


def write_whole(path: Path, text: str) -> None:
    """Put a small file of the cache in its place whole, so that a process beside this one never reads half of it."""
    with writing_named(cache_dir()):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as draft:
            draft.write(text)
        Path(draft.name).replace(path)


@contextmanager
def writing_named(cache: Path) -> Iterator[None]:
    """Raise DiskFull or FetchError, naming the cache folder, where the block cannot write."""
    try:
        yield
    except Exception as error:
        # Safetensors, written in native code, wraps the system's error in its own.
        if getattr(error, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(error):
            raise no_room(cache) from error
        if isinstance(error, OSError):
            raise FetchError(
                f"The cache folder {cache} cannot be used: {error}",
                hint="Set TUNESMITH_CACHE to a folder that you may write to.",
            ) from error
        raise


def no_room(cache: Path) -> DiskFull:
    """Return the error of a cache folder whose disk is full."""
    return DiskFull(
        f"No room for the model in {cache}.",
        hint="Free about 1 GB there, or set TUNESMITH_CACHE to a folder on another disk. "
        "Nothing half-written is kept.",
    )


@contextmanager
def _locked(path: Path, name: str, say: Say) -> Iterator[None]:
    """Hold the system's lock (flock) on a file: it goes with the process, however that ends."""
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another process is fetching {name}; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _put(folder: Path, make: Callable[[Path], Path], say: Say) -> None:
    """Make a folder and put it in its place; the caller holds the lock."""
    # What a killed process left: nobody else can be at work here.
    for left in folder.parent.glob(f".{folder.name}.part-*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.part-", dir=folder.parent) as name:
        work = Path(name)
        ready = make(work)
        for path in ready.iterdir():
            # A link's target belongs to another cache.
            if not path.is_symlink():
                path.chmod(0o644)
                _sync(path)
        _sync(ready)
        if folder.exists():
            say(f"{folder} was damaged or made by another version; it is replaced.")
            folder.rename(work / "old")
        ready.rename(folder)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
