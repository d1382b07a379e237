"""Finished folders: whole or not there, found again, never silently changed."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.artifacts import SCRATCH, Artifact, FileDigest, Store, artifact_id, write_text_atomic
from tunesmith.errors import ArtifactError, DamagedArtifact, DiskFull, ProjectBusy

NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
JSON = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
HELLO = FileDigest(bytes=5, sha256="2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")


def ticking(seconds: float = 2.0) -> Callable[[], datetime]:
    """Return a clock that goes on by some seconds each time it is read."""
    times = iter(NOON + timedelta(seconds=seconds * tick) for tick in range(1000))
    return lambda: next(times)


def write_hello(draft: Path) -> None:
    """Build a draft of two files, one in a folder."""
    draft.joinpath("hello.txt").write_text("hello")
    draft.joinpath("deep").mkdir(exist_ok=True)
    draft.joinpath("deep", "hello.txt").write_text("hello")


def make_hello(store: Store) -> Artifact:
    """Make the artefact that most tests look at."""
    return store.make(
        "greet", "0" * 16, settings={"seed": 1}, inputs=("a", "b"), build=write_hello, version=3
    )


def in_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@given(st.dictionaries(st.text(max_size=6), JSON | st.dictionaries(st.text(max_size=4), JSON), max_size=6))
def test_id_ignores_key_order(settings: dict[str, object]) -> None:
    """The same settings in another order have the same id."""
    backwards = dict(reversed(settings.items()))
    assert artifact_id("train", 1, settings, ["x"]) == artifact_id("train", 1, backwards, ["x"])


@pytest.mark.parametrize(
    "other",
    [
        ("tune", 1, {"seed": 1}, ["a", "b"]),
        ("train", 2, {"seed": 1}, ["a", "b"]),
        ("train", 1, {"seed": 2}, ["a", "b"]),
        ("train", 1, {"seed": 1}, ["b", "a"]),
        ("train", 1, {"seed": 1}, ["a"]),
    ],
)
def test_id_changes_with_each_part(other: tuple[str, int, dict[str, int], list[str]]) -> None:
    """Stage, version, settings and inputs each enter the id, which is 16 hex digits."""
    first = artifact_id("train", 1, {"seed": 1}, ["a", "b"])
    assert first != artifact_id(*other)
    assert len(first) == 16
    assert int(first, 16) >= 0


def test_made_folder_has_a_manifest(tmp_path: Path) -> None:
    """A finished artefact says what made it, from what, in how many seconds, and which files it holds."""
    artifact = make_hello(Store(tmp_path, clock=ticking()))
    assert artifact.path == tmp_path / "artifacts" / f"greet-{'0' * 16}"
    assert artifact.manifest.files == {"hello.txt": HELLO, "deep/hello.txt": HELLO}
    assert (artifact.manifest.stage, artifact.manifest.version) == ("greet", 3)
    assert (artifact.manifest.settings, artifact.manifest.inputs) == ({"seed": 1}, ("a", "b"))
    assert (artifact.manifest.created, artifact.manifest.seconds) == ("2026-11-01T12:00:04+00:00", 2.0)
    assert sorted(path.name for path in artifact.path.iterdir()) == ["deep", "hello.txt", "manifest.json"]
    assert list((tmp_path / "drafts").iterdir()) == []


def test_finished_work_is_found_and_not_built_again(tmp_path: Path) -> None:
    """A second make returns the first one's artefact without calling build."""
    first = make_hello(Store(tmp_path))

    def never(draft: Path) -> None:
        raise AssertionError("built again")

    again = Store(tmp_path).make("greet", "0" * 16, settings={"seed": 1}, inputs=("a", "b"), build=never)
    assert again == first
    assert Store(tmp_path).find("greet", "1" * 16) is None


def test_failed_build_leaves_a_draft_that_goes_on(tmp_path: Path) -> None:
    """What a failed build wrote is there for the next one, and the seconds of both are added up."""
    store = Store(tmp_path, clock=ticking())

    def half(draft: Path) -> None:
        draft.joinpath("journal").write_text("1\n")
        raise RuntimeError("half-way")

    def rest(draft: Path) -> None:
        assert draft.joinpath("journal").read_text() == "1\n"
        draft.joinpath("journal").write_text("1\n2\n")

    with pytest.raises(RuntimeError, match="half-way"):
        store.make("s", "2" * 16, settings={}, inputs=(), build=half)
    assert store.find("s", "2" * 16) is None
    assert store.draft("s", "2" * 16) == tmp_path / "drafts" / f"s-{'2' * 16}"
    artifact = store.make("s", "2" * 16, settings={}, inputs=(), build=rest)
    assert artifact.manifest.seconds == 4.0
    assert artifact.file("journal").read_text() == "1\n2\n"
    assert store.draft("s", "2" * 16) is None


KILLED = """
import os, sys
from pathlib import Path
from tunesmith.artifacts import Store
def build(draft):
    draft.joinpath("journal").write_text("one unit")
    os._exit(9)
Store(Path(sys.argv[1])).make("s", "3" * 16, settings={}, inputs=(), build=build)
"""


KILLED_AT = """
import os, shutil, sys
from pathlib import Path
from tunesmith import artifacts
root, place = Path(sys.argv[1]), sys.argv[2]
def build(draft):
    draft.joinpath(artifacts.SCRATCH).mkdir(exist_ok=True)
    draft.joinpath(artifacts.SCRATCH, "checkpoint").write_text("half-way")
    draft.joinpath("result").write_text("hello")
def die_for(name, doing):
    def call(path, *arguments, **others):
        if Path(path).name.startswith(name):
            os._exit(9)
        return doing(path, *arguments, **others)
    return call
if place == "manifest begun":
    Path.replace = die_for(".manifest.json", Path.replace)
elif place == "manifest written":
    Path.unlink = die_for(".worked.json", Path.unlink)
elif place == "scratch":
    shutil.rmtree = die_for("scratch", shutil.rmtree)
elif place == "rename":
    Path.replace = die_for("s-", Path.replace)
artifacts.Store(root).make("s", "4" * 16, settings={}, inputs=(), build=build)
"""


@pytest.mark.parametrize("place", ["manifest begun", "manifest written", "scratch", "rename"])
def test_a_kill_after_the_last_unit_of_work_costs_nothing(tmp_path: Path, place: str) -> None:
    """As long as there is no manifest the checkpoints are there; from then on nothing is built again.

    Neither checkpoints nor what was half written stands in the finished folder.
    """
    assert in_python(KILLED_AT, str(tmp_path), place).returncode == 9
    store, built = Store(tmp_path), []
    assert store.find("s", "4" * 16) is None

    def build(draft: Path) -> None:
        built.append(draft.joinpath(SCRATCH, "checkpoint").read_text())

    artifact = store.make("s", "4" * 16, settings={}, inputs=(), build=build)
    assert built == (["half-way"] if place == "manifest begun" else [])
    assert artifact.manifest.files == {"result": HELLO}
    assert sorted(path.name for path in artifact.path.iterdir()) == ["manifest.json", "result"]


def test_a_draft_whose_bytes_are_not_its_manifests_is_built_again(tmp_path: Path) -> None:
    """A file changed between the kill and the next run is not taken for whole, nor is one more file."""
    for name, text in (("result", "hell"), ("more", "hello")):
        root = tmp_path / name
        assert in_python(KILLED_AT, str(root), "rename").returncode == 9
        store = Store(root)
        draft = store.draft("s", "4" * 16)
        assert draft is not None
        draft.joinpath(name).write_text(text)
        artifact = store.make("s", "4" * 16, settings={}, inputs=(), build=write_hello)
        assert {"hello.txt", "deep/hello.txt", name} <= set(artifact.manifest.files)
        artifact.verify()


def test_killed_process_leaves_only_a_draft(tmp_path: Path) -> None:
    """A process that dies while building leaves nothing finished; its files and its time go on."""
    assert in_python(KILLED, str(tmp_path)).returncode == 9
    store = Store(tmp_path)
    assert store.find("s", "3" * 16) is None
    assert store.list() == ()
    journal = tmp_path / "drafts" / f"s-{'3' * 16}" / "journal"
    os.utime(journal, (journal.stat().st_mtime + 100,) * 2)
    artifact = store.make("s", "3" * 16, settings={}, inputs=(), build=lambda draft: None)
    assert artifact.file("journal").read_text() == "one unit"
    assert 100 <= artifact.manifest.seconds < 160


def test_changed_byte_is_named(tmp_path: Path) -> None:
    """A file with one other byte is refused by name, with both digests and the way out."""
    artifact = make_hello(Store(tmp_path))
    path = artifact.file("deep/hello.txt")
    path.write_text("hellp")
    os.utime(path, ns=(1, 1))
    with pytest.raises(DamagedArtifact) as caught:
        artifact.verify()
    assert caught.value.message == (
        f"{path} is damaged: expected 5 bytes with SHA-256 2cf24dba5fb0a30e…, "
        f"found 5 bytes with SHA-256 {hashlib.sha256(b'hellp').hexdigest()[:16]}…."
    )
    assert caught.value.hint == f"Delete that folder ({artifact.path}); `tunesmith run` makes it again."


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is gone is damage too, also for a caller who asks for another file."""
    artifact = make_hello(Store(tmp_path))
    artifact.path.joinpath("hello.txt").unlink()
    with pytest.raises(DamagedArtifact, match=r"hello\.txt is damaged: .* found no such file"):
        artifact.file("deep")


def test_asking_for_what_is_not_there(tmp_path: Path) -> None:
    """A name that the artefact does not hold is an error that lists what it holds."""
    with pytest.raises(ArtifactError, match=r"holds no 'bye\.txt'; it holds deep/hello\.txt, hello\.txt"):
        make_hello(Store(tmp_path)).file("bye.txt")


@pytest.mark.parametrize("text", [None, "", "{", '{"stage": "greet"}'])
def test_broken_manifest_is_named(tmp_path: Path, text: str | None) -> None:
    """A finished folder without a readable manifest is damaged, not absent."""
    path = make_hello(Store(tmp_path)).path / "manifest.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DamagedArtifact, match=r"manifest\.json is (missing|damaged)"):
        Store(tmp_path).find("greet", "0" * 16)


def test_edited_manifest_is_named(tmp_path: Path) -> None:
    """A manifest that was edited by hand, and is still JSON, is noticed."""
    path = make_hello(Store(tmp_path)).path / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(DamagedArtifact, match=r"manifest\.json is damaged: expected the seal"):
        Store(tmp_path).list()


def test_list_and_lineage(tmp_path: Path) -> None:
    """Artefacts are listed by age, and each knows what it was made from, however far back."""
    store = Store(tmp_path, clock=ticking())

    def make(stage: str, id: str, *inputs: str) -> Artifact:  # noqa: A002
        return store.make(stage, id, settings={}, inputs=inputs, build=write_hello)

    collect = make("collect", "c1", "digest of the source")
    chunk = make("chunk", "c2", "c1")
    generate = make("generate", "a3", "c1", "c2")
    assert store.list() == (collect, chunk, generate)
    assert store.lineage(generate) == (collect, chunk)
    assert store.lineage(collect) == ()


HOLDER = """
import sys, time
from pathlib import Path
from tunesmith.artifacts import Store
with Store(Path(sys.argv[1])).lock("tunesmith run train"):
    print("in", flush=True)
    time.sleep(60)
"""


def test_second_process_is_told_who_is_in(tmp_path: Path) -> None:
    """A second process is refused with the first one's id and command; kill -9 frees the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        with pytest.raises(ProjectBusy) as caught, Store(tmp_path).lock():
            pass
        assert caught.value.message == f"Process {holder.pid} works on {tmp_path.parent}: tunesmith run train"
        assert f"kill -INT {holder.pid}" in (caught.value.hint or "")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with Store(tmp_path).lock("tunesmith run"):
        assert json.loads((tmp_path / "lock").read_text()) == {"pid": os.getpid(), "command": "tunesmith run"}
    assert (tmp_path / "lock").read_text() == ""


def no_room(*arguments: object, **named: object) -> None:
    """Fail as the system does on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        OSError("44160 requested and 29664 written"),
        OSError(errno.EDQUOT, "x"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk_while_building(tmp_path: Path, error: Exception) -> None:
    """A build that runs out of room is named as such, also from a library's own error; the draft stays."""

    def build(draft: Path) -> None:
        draft.joinpath("half").write_text("half")
        raise error

    with pytest.raises(DiskFull, match=f"No room to write in {tmp_path}: .* MB free") as caught:
        Store(tmp_path).make("s", "4" * 16, settings={}, inputs=(), build=build)
    assert caught.value.__cause__ is error
    assert Store(tmp_path).find("s", "4" * 16) is None
    assert (tmp_path / "drafts" / f"s-{'4' * 16}" / "half").read_text() == "half"


def test_full_disk_while_finishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up at the last flush leaves a draft, not a finished folder."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        with pytest.raises(DiskFull):
            make_hello(Store(tmp_path))
    assert Store(tmp_path).list() == ()
    assert make_hello(Store(tmp_path)).file("hello.txt").read_text() == "hello"


def test_other_errors_pass_through(tmp_path: Path) -> None:
    """An error that is not about room stays what it is."""

    def build(draft: Path) -> None:
        raise PermissionError(errno.EACCES, "no entry")

    with pytest.raises(PermissionError):
        Store(tmp_path).make("s", "5" * 16, settings={}, inputs=(), build=build)


def test_text_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An atomic write leaves the new text and nothing else; a failing one leaves the old."""
    path = tmp_path / "page.html"
    write_text_atomic(path, "old")
    write_text_atomic(path, "naïve\r\nnew\n")
    assert path.read_bytes() == "naïve\r\nnew\n".encode()
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(DiskFull):
        write_text_atomic(path, "newer")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [
        ("page.html", "naïve\r\nnew\n".encode())
    ]
