"""Finished folders: id, manifest, write once, read, lineage.

An artefact is a folder that is whole and never changes. A stage builds it as a draft; everything is flushed
to the disk, the manifest is written last, scratch is taken away, and one rename makes it finished. What a
killed run leaves is a draft, which the next run opens again, so that journals and checkpoints are found.

    .tunesmith/
    ├── artifacts/STAGE-ID/   finished: its files and manifest.json
    ├── drafts/STAGE-ID/      begun: whatever the stage has written so far, and scratch/, which goes at the end
    └── lock                  held by the one process that works here
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ArtifactError, DamagedArtifact, DiskFull, ProjectBusy
from tunesmith.records import fingerprint, from_json

if TYPE_CHECKING:
    from pydantic import BaseModel

Clock = Callable[[], datetime]

SCRATCH = "scratch"
_MANIFEST = "manifest.json"
_WORKED = ".worked.json"
_PART = ".{}.{}.part"  # what a kill leaves of a file that was being written
_FULL = {errno.ENOSPC, errno.EDQUOT}
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # numpy's words, when a part still fitted
# What this process has already read and found whole: the folder, with each file's size and time of change.
_verified: set[tuple[str, tuple[tuple[str, int, int], ...]]] = set()


@dataclass(frozen=True, slots=True)
class FileDigest:
    """One file of an artefact: its length in bytes and the SHA-256 of them, in hex."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What made an artefact and what is in it.

    `inputs` are the ids of what it was made from (for the first stage, the sources' digests), `created` is
    UTC in ISO 8601, `seconds` the work of all runs that took part, `files` each file's digest by its path.
    """

    stage: str
    id: str
    version: int
    settings: dict[str, Any]
    inputs: tuple[str, ...]
    created: str
    tunesmith: str
    seconds: float
    files: dict[str, FileDigest]
    seal: str = ""

    def sealed(self) -> str:
        """Return the digest of everything in the manifest but the seal itself."""
        return fingerprint({key: value for key, value in asdict(self).items() if key != "seal"})


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished folder and its manifest."""

    path: Path
    stage: str
    id: str
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Return the path of a file or folder in the artefact, after the artefact was verified.

        Raises ArtifactError if the artefact holds nothing of that name, DamagedArtifact if bytes changed.
        """
        files = self.manifest.files
        if name not in files and not any(file.startswith(f"{name}/") for file in files):
            raise ArtifactError(
                f"{self.path} holds no {name!r}; it holds {', '.join(sorted(files)) or 'nothing'}.",
                hint=_make_again(self.path),
            )
        self.verify()
        return self.path / name

    def verify(self) -> None:
        """Raise DamagedArtifact, naming the file, unless every file has the bytes that its manifest says.

        A file that was read once in this process, and whose size and time of change are still the same, is
        not read again. Files that the manifest does not name are not looked at.
        """
        seen = (str(self.path), tuple(_look(self.path, name) for name in self.manifest.files))
        if seen in _verified:
            return
        for name, expected in self.manifest.files.items():
            found = _digest(self.path / name)
            if found != expected:
                raise DamagedArtifact(
                    f"{self.path / name} is damaged: expected {_say(expected)}, found {_say(found)}.",
                    hint=_make_again(self.path),
                )
        _verified.add(seen)


def artifact_id(
    stage: str, version: int, settings: Mapping[str, Any] | BaseModel, inputs: Sequence[str]
) -> str:
    """Return the id, 16 hex digits, of what a stage makes of these inputs with these settings.

    The order of keys in the settings does not matter, the order of inputs does.
    """
    return fingerprint(stage, version, _plain(settings), list(inputs))


def write_text_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 file so that a reader, or a crash, finds the old text or the new one, never a part.

    Raises DiskFull; the old file is then untouched.
    """
    part = path.with_name(_PART.format(path.name, os.getpid()))
    try:
        with disk_full_named(path.parent), part.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


FREE_AND_RUN = (
    "Free some space and run `tunesmith run` again. Finished stages are kept; so is the begun "
    "one, as a draft that goes on where it can and is never taken for whole."
)


@contextmanager
def disk_full_named(folder: Path, *, hint: str = FREE_AND_RUN) -> Iterator[None]:
    """Raise DiskFull, naming the folder and what is free there, where the block runs out of room.

    Libraries that write in native code wrap the system's error in their own, so its words are looked for too.
    """
    try:
        yield
    except Exception as error:
        if not _says_full(error):
            raise
        raise DiskFull(
            f"No room to write in {folder}: {_free(folder)} free on that disk.",
            hint=hint,
        ) from error


class Store:
    """The finished and begun folders of one project, in its `.tunesmith` folder; `clock` tells UTC."""

    def __init__(self, root: Path, *, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self.root = root
        self._clock = clock

    def find(self, stage: str, id: str) -> Artifact | None:  # noqa: A002 - the word of the design
        """Return the finished artefact, or None; raises DamagedArtifact if its manifest was changed."""
        folder = self._finished(stage, id)
        return artifact_at(folder) if folder.is_dir() else None

    def draft(self, stage: str, id: str) -> Path | None:  # noqa: A002
        """Return the folder of begun work, or None if there is none."""
        folder = self._begun(stage, id)
        return folder if folder.is_dir() else None

    def make(
        self,
        stage: str,
        id: str,  # noqa: A002
        *,
        settings: Mapping[str, Any] | BaseModel,
        inputs: Sequence[str],
        build: Callable[[Path], None],
        version: int = 1,
    ) -> Artifact:
        """Return the finished artefact; if there is none, build it.

        `build` gets the draft folder, with what an earlier run left there, and fills it; it must cope with
        finding everything already written. Checkpoints and journals belong into its folder `scratch`, which is
        no part of the artefact and stays until the manifest is written, so that no kill loses both. If `build`
        raises, the draft stays. Raises DiskFull, and whatever `build` raises.
        """
        found = self.find(stage, id)
        if found is not None:
            return found
        draft, folder = self._begun(stage, id), self._finished(stage, id)
        with disk_full_named(self.root):
            draft.mkdir(parents=True, exist_ok=True)
            for torn in draft.rglob(_PART.format("*", "*")):
                torn.unlink()
            if not _is_whole(draft, stage, id):
                seconds = self._timed(draft, build)
                manifest = Manifest(
                    stage=stage,
                    id=id,
                    version=version,
                    settings=_plain(settings),
                    inputs=tuple(inputs),
                    created=self._clock().isoformat(timespec="seconds"),
                    tunesmith=_own_version(),
                    seconds=seconds,
                    files=_digests(draft),
                )
                _write_manifest(draft, manifest)
            _finish(draft, folder)
        return artifact_at(folder)

    def list(self) -> tuple[Artifact, ...]:
        """Return every finished artefact, oldest first; raises DamagedArtifact at a broken manifest."""
        folders = self.root.joinpath("artifacts").glob("*/")
        return tuple(
            sorted(map(artifact_at, folders), key=lambda artifact: (artifact.manifest.created, artifact.path))
        )

    def lineage(self, artifact: Artifact) -> tuple[Artifact, ...]:
        """Return what an artefact was made from, directly or not, each once and before what was made from it.

        Inputs that are not artefacts of this store (a source's digest) are left out.
        """
        by_id = {each.id: each for each in self.list()}
        order: dict[str, Artifact] = {}

        def visit(each: Artifact) -> None:
            for name in each.manifest.inputs:
                if name in by_id and name not in order:
                    visit(by_id[name])
                    order[name] = by_id[name]

        visit(artifact)
        return tuple(order.values())

    @contextmanager
    def lock(self, command: str | None = None) -> Iterator[None]:
        """Keep every other process out while the block runs; raises ProjectBusy, naming who is in.

        The lock is the system's (flock), so it goes with the process, however that ends. The file stays.
        """
        import fcntl

        self.root.mkdir(parents=True, exist_ok=True)
        with self.root.joinpath("lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise _busy(self.root, file.read()) from error
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "command": command or _own_command()}))
            file.flush()
            yield
            file.truncate(0)

    def _finished(self, stage: str, id: str) -> Path:  # noqa: A002
        return self.root / "artifacts" / f"{stage}-{id}"

    def _begun(self, stage: str, id: str) -> Path:  # noqa: A002
        return self.root / "drafts" / f"{stage}-{id}"

    def _timed(self, draft: Path, build: Callable[[Path], None]) -> float:
        """Build, and return the seconds of work that this draft holds, earlier runs' included."""
        before, started = _worked(draft), self._clock()
        _note_work(draft, before, started)
        try:
            build(draft)
        finally:
            seconds = before + max(0.0, (self._clock() - started).total_seconds())
            with suppress(OSError):  # the figure is a nicety; the error on its way matters more
                _note_work(draft, seconds, None)
        return round(seconds, 3)


def _note_work(draft: Path, seconds: float, started: datetime | None) -> None:
    running = None if started is None else started.timestamp()
    draft.joinpath(_WORKED).write_text(json.dumps({"seconds": seconds, "started": running}), encoding="utf-8")


def _worked(draft: Path) -> float:
    """Return the seconds of work in a draft; of a killed run, up to the last file that it wrote."""
    try:
        note = json.loads(draft.joinpath(_WORKED).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # never begun, or killed while noting
        return 0.0
    if note["started"] is None:
        return float(note["seconds"])
    files = (file for file in draft.rglob("*") if file.is_file() and file != draft / _WORKED)
    last = max((file.stat().st_mtime for file in files), default=note["started"])
    return float(note["seconds"]) + max(0.0, last - float(note["started"]))


def _write_manifest(draft: Path, manifest: Manifest) -> None:
    """Flush everything to the disk, then write the manifest: from here on the draft is whole."""
    sealed = replace(manifest, seal=manifest.sealed())
    for path in _files(draft):
        _sync(path)
    text = json.dumps(asdict(sealed), ensure_ascii=False, indent=1)
    write_text_atomic(draft / _MANIFEST, text)


def _is_whole(draft: Path, stage: str, id: str) -> bool:  # noqa: A002
    """Tell whether a kill came after the manifest was written and before the draft was renamed."""
    try:
        manifest = from_json(Manifest, draft.joinpath(_MANIFEST).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return (
        (manifest.stage, manifest.id, manifest.seal) == (stage, id, manifest.sealed())
        and all(_digest(draft / name) == digest for name, digest in manifest.files.items())
        and {path.relative_to(draft).as_posix() for path in _files(draft)} == set(manifest.files)
    )


def _finish(draft: Path, folder: Path) -> None:
    """Take away what is no part of the artefact, and rename the draft into place."""
    for place, _, _ in os.walk(draft, topdown=False):
        _sync(Path(place))
    draft.joinpath(_WORKED).unlink(missing_ok=True)
    if draft.joinpath(SCRATCH).exists():
        shutil.rmtree(draft / SCRATCH)
    _sync(draft)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft.replace(folder)
    _sync(folder.parent)
    _sync(draft.parent)


def artifact_at(folder: Path) -> Artifact:
    """Return the finished artefact in a folder; raises DamagedArtifact if its manifest is missing or was changed."""
    path = folder / _MANIFEST
    try:
        manifest = from_json(Manifest, path.read_bytes())
    except FileNotFoundError as error:
        raise DamagedArtifact(f"{path} is missing.", hint=_make_again(folder)) from error
    except ValueError as error:
        raise DamagedArtifact(f"{path} is damaged: it cannot be read.", hint=_make_again(folder)) from error
    if manifest.seal != manifest.sealed():
        raise DamagedArtifact(
            f"{path} is damaged: expected the seal {manifest.sealed()}, found {manifest.seal or 'none'}.",
            hint=_make_again(folder),
        )
    if folder.name != f"{manifest.stage}-{manifest.id}":
        raise DamagedArtifact(
            f"{folder} is not the folder its manifest speaks of, {manifest.stage}-{manifest.id}.",
            hint="Give the folder its name back, or delete it and run `tunesmith run`.",
        )
    return Artifact(folder, manifest.stage, manifest.id, manifest)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a draft in a stable order, without our own notes at its top and what is scratch."""
    for path in sorted(folder.rglob("*")):
        own = path in (folder / _MANIFEST, folder / _WORKED) or folder / SCRATCH in path.parents
        if path.is_file() and not own:
            yield path


def _digests(folder: Path) -> dict[str, FileDigest]:
    return {path.relative_to(folder).as_posix(): _digest_of(path) for path in _files(folder)}


def _digest_of(path: Path) -> FileDigest:
    with path.open("rb") as file:
        return FileDigest(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _digest(path: Path) -> FileDigest | None:
    return _digest_of(path) if path.is_file() else None


def _look(folder: Path, name: str) -> tuple[str, int, int]:
    path = folder / name
    if not path.is_file():
        return (name, -1, -1)
    stat = path.stat()
    return (name, stat.st_size, stat.st_mtime_ns)


def _say(digest: FileDigest | None) -> str:
    return "no such file" if digest is None else f"{digest.bytes:,} bytes with SHA-256 {digest.sha256[:16]}…"


def _make_again(folder: Path) -> str:
    return f"Delete that folder ({folder}); `tunesmith run` makes it again."


def _plain(settings: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    """Return settings as JSON would give them back, so that a manifest reads as it was written."""
    values = dict(settings) if isinstance(settings, Mapping) else settings.model_dump(mode="json")
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _says_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, DiskFull):
            return False  # already named
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if os.strerror(errno.ENOSPC) in str(error) or _CUT_SHORT.fullmatch(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB"
    except OSError:  # the folder itself could not be made
        return "nothing"


def _busy(root: Path, held: str) -> ProjectBusy:
    try:
        holder = json.loads(held)
    except ValueError:  # the other process has the lock and has not written its name yet
        return ProjectBusy(
            f"Another process works on {root.parent}.",
            hint="Wait until it has finished, then run the command again.",
        )
    return ProjectBusy(
        f"Process {holder['pid']} works on {root.parent}: {holder['command']}",
        hint=f"Wait until it has finished, or stop it (kill -INT {holder['pid']}): finished stages are kept.",
    )


def _own_command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _own_version() -> str:
    try:
        return version("tunesmith")
    except PackageNotFoundError:  # run from the source tree
        return "source"
