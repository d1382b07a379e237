"""Get a model's folder from the hub: its commit pinned, its weights safetensors only, cached, offline after that.

A branch is resolved to a commit once. From then on it means that commit on this machine, and nothing is asked of the
hub again; another commit is used when it is named. Code from a repository is neither downloaded nor run unless the
address ends in `@COMMIT+code`, with all 40 digits: under a branch the code could change after it was read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tunesmith.errors import FetchError, ModelError
from tunesmith.models.shelf import FULL, Say, cache_dir, no_room, shelve, silent, write_whole
from tunesmith.records import from_json

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

_COMMIT = re.compile(r"[0-9a-f]{40}")
ADAPTER: Final = "adapter_config.json"
_INDEX = "model.safetensors.index.json"
# Of the top folder only: other folders, and other names, hold the same weights for other runtimes.
_FILES = (
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "adapter_model.safetensors",
    "*.json",
    "*.txt",
    "*.jinja",
    "*.model",
)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_HUB_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the hub: `revision` is a branch, a tag or a commit; `code` lets its own code run."""

    name: str
    revision: str = "main"
    code: bool = False

    def __str__(self) -> str:
        """Return the model's address."""
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf:{self.name}{revision}" + ("+code" if self.code else "")

    @property
    def pinned(self) -> bool:
        """Whether the revision is a full commit, which never changes."""
        return is_commit(self.revision)


@dataclass(frozen=True, slots=True)
class Pin:
    """The commit that a branch or tag was resolved to, and when (UTC, ISO 8601)."""

    commit: str
    date: str


def is_commit(revision: str) -> bool:
    """Tell whether a revision is a commit in full."""
    return _COMMIT.fullmatch(revision) is not None


def hub_folder(model: HubModel, *, say: Say = silent) -> Path:
    """Return the folder of a hub model's files on this disk, fetched first if they are not.

    Raises FetchError if they cannot be had, ModelError for a repository without safetensors weights or one that needs
    code of its own which the address does not allow.
    """
    if model.code and not model.pinned:
        raise ModelError(
            f"{model} lets code run that may change: a branch or a tag does not say which code.",
            hint=f"Name the full commit: hf:{model.name}@COMMIT+code.",
        )
    commit = model.revision if model.pinned else _pinned_commit(model)
    folder = None if commit is None else _cached(model, commit)
    if folder is None:
        folder = _fetched(model, commit, say)
    _check_weights(model, folder)
    _check_code(model, folder)
    return _allowed(model, folder) if model.code else folder


def commit_of(folder: Path) -> str | None:
    """Return the commit of a folder that `hub_folder` returned; None for any other."""
    commit = folder.name.rpartition("@")[2] if runs_code(folder) else folder.name
    known = runs_code(folder) or folder.parent.name == "snapshots"
    return commit if known and is_commit(commit) else None


def runs_code(folder: Path) -> bool:
    """Tell whether a model folder's own code may run: only those are put there whose address said so."""
    return folder.parent == cache_dir() / "code"


def needs_code(folder: Path) -> bool:
    """Tell whether a folder's model is one that transformers lacks, so that it loads only by code of its own."""
    config = read_settings(folder / "config.json")
    if not config.get("auto_map"):
        return False
    from transformers import CONFIG_MAPPING

    return config.get("model_type") not in CONFIG_MAPPING


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a model says, nothing if it is not there; raises ModelError if it is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", hint="Bring the model's file anew.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no settings.", hint="Bring the model's file anew.")
    return found


def _fetched(model: HubModel, commit: str | None, say: Say) -> Path:
    """Return the snapshot of a model whose files are not all known to be here, and note what its branch means."""
    from huggingface_hub import HfApi, snapshot_download

    say(f"Getting {model} from the hub.")
    asked = replace(model, revision=commit or model.revision)
    with _faults_named(asked):
        try:
            info = HfApi().model_info(
                model.name, revision=asked.revision, timeout=_HUB_SECONDS, files_metadata=True
            )
        except hub_failures() as error:
            cached = _cached(model, asked.revision)
            if cached is None:
                raise
            say(f"The hub does not answer ({type(error).__name__}); the cached commit {cached.name} is used.")
            _pin(model, cached.name)
            return cached
        found = str(info.sha)
        _check_listing(model, [file.rfilename for file in info.siblings or ()])
        _check_config(model, found)
        folder = Path(snapshot_download(model.name, revision=found, **_wanted(model)))
    _check_bytes(model, folder, info)
    _pin(model, found)
    if not model.pinned and commit is None:
        say(f"hf:{model.name}@{model.revision} is commit {found}, here and from now on.")
    return folder


def _wanted(model: HubModel) -> dict[str, Any]:
    code = ["*.py"] if model.code else []
    return {"allow_patterns": [*_FILES, *code], "ignore_patterns": ["*/*"]}


def _cached(model: HubModel, revision: str) -> Path | None:
    """Return the snapshot in the hub's own cache, if it is there and whole, without a network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(model.name, revision=revision, local_files_only=True, **_wanted(model))
    except LocalEntryNotFoundError:
        return None
    return Path(folder) if _has_weights(Path(folder)) else None


# --- the pin


def _pin_file(model: HubModel) -> Path:
    return cache_dir() / "pins" / f"{quote(f'{model.name}@{model.revision}', safe='@')}.json"


def _pinned_commit(model: HubModel) -> str | None:
    """Return the commit that a branch or tag was resolved to before."""
    try:
        return from_json(Pin, _pin_file(model).read_bytes()).commit
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _pin(model: HubModel, commit: str) -> None:
    if model.pinned or not is_commit(commit):
        return
    pin = Pin(commit, datetime.now(UTC).isoformat(timespec="seconds"))
    write_whole(_pin_file(model), json.dumps(asdict(pin), indent=2) + "\n")


# --- what is refused


def _check_listing(model: HubModel, names: Sequence[str]) -> None:
    """Raise ModelError, before anything large is fetched, for a repository without safetensors weights."""
    if any(name.endswith(".safetensors") and "/" not in name for name in names):
        return
    if any(name.endswith(".gguf") for name in names):
        raise ModelError(
            f"{model} holds GGUF files and no safetensors weights.",
            hint="Download one of them and name it gguf:FILE.",
        )
    raise _no_weights(str(model), pickled=any(name.endswith(_PICKLED) for name in names))


def _check_weights(model: HubModel, folder: Path) -> None:
    if not _has_weights(folder):
        raise _no_weights(str(model), pickled=False)


def _has_weights(folder: Path) -> bool:
    """Tell whether each file of weights is here that the folder's index names, or the only one."""
    index = folder / _INDEX
    if index.is_file():
        names = set(read_settings(index).get("weight_map", {}).values())
        return all((folder / name).is_file() for name in names)
    return any(folder.glob("*.safetensors"))


def _no_weights(name: str, *, pickled: bool) -> ModelError:
    return ModelError(
        f"{name} has no weights in safetensors format"
        + ("; pickled ones are refused, for they can run code." if pickled else "."),
        hint="Convert them with save_pretrained(..., safe_serialization=True).",
    )


def _check_config(model: HubModel, commit: str) -> None:
    """Fetch the small config.json first: what needs code is refused before its weights are fetched."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        config = hf_hub_download(model.name, "config.json", revision=commit)
    except RemoteEntryNotFoundError:  # an adapter has none
        return
    _check_code(model, Path(config).parent)


def _check_code(model: HubModel, folder: Path) -> None:
    """Raise ModelError for a model that needs code which the address does not allow, or code from elsewhere."""
    if needs_code(folder) and not model.code:
        from huggingface_hub import constants

        commit = commit_of(folder)
        raise ModelError(
            f"{model} needs Python code from its repository to run, and that is refused unless you name it.",
            hint=f"Read the code at {constants.ENDPOINT}/{model.name}/tree/{commit}; if you trust it, "
            f"name its commit: hf:{model.name}@{commit}+code.",
        )
    foreign = sorted(name.partition("--")[0] for name in _code_names(folder) if "--" in name)
    if foreign and model.code:
        raise ModelError(
            f"{model} takes code from another repository, {foreign[0]}, of which no commit is named.",
            hint="Use a model whose code lies beside its weights, or that transformers knows itself.",
        )


def _code_names(folder: Path) -> Iterator[str]:
    """Yield the classes that a model and its tokenizer take from code, a foreign one as REPOSITORY--MODULE.CLASS."""
    for name in ("config.json", "tokenizer_config.json"):
        for value in (read_settings(folder / name).get("auto_map") or {}).values():
            yield from (str(each) for each in (value if isinstance(value, list) else [value]))


def _check_bytes(model: HubModel, folder: Path, info: ModelInfo) -> None:
    """Raise FetchError, and keep nothing of it, for a large file that is not the one the hub says; sizes agree."""
    for file in info.siblings or ():
        # Only what lies at the top is fetched; a name that leads elsewhere is no file of ours.
        if file.lfs is None or {"/", "\\"} & set(file.rfilename) or not (folder / file.rfilename).is_file():
            continue
        path = folder / file.rfilename
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != file.lfs.sha256:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise FetchError(
                f"{file.rfilename} of {model} has wrong bytes: expected sha256 {file.lfs.sha256}, found {found}.",
                hint="Nothing of it was kept: try again, and look at what stands between here and the hub.",
            )


def was_allowed(model: HubModel) -> bool:
    """Tell whether somebody has named this commit with its code on this machine before."""
    return _place_of_code(model).is_dir()


def _place_of_code(model: HubModel) -> Path:
    return cache_dir() / "code" / f"{model.name.replace('/', '--')}@{model.revision}"


def _allowed(model: HubModel, folder: Path) -> Path:
    """Return the folder, of links to the snapshot's files, by whose place it is known that its code may run."""

    def make(work: Path) -> Path:
        ready = work / "ready"
        ready.mkdir()
        for path in folder.iterdir():
            if path.is_file():
                (ready / path.name).symlink_to(path.absolute())
        return ready

    def is_whole(place: Path) -> bool:
        return place.is_dir() and all(path.exists() for path in place.iterdir())

    place = _place_of_code(model)
    return shelve(place, make, name=str(model), is_whole=is_whole)


# --- what can go wrong on the way


@contextmanager
def _faults_named(model: HubModel) -> Iterator[None]:
    """Raise FetchError or DiskFull, in our words, for what the hub's client raises in the block."""
    failures: tuple[type[Exception], ...] = (*hub_failures(), ValueError)
    try:
        yield
    except failures as error:
        if isinstance(error, OSError) and error.errno in FULL:
            from huggingface_hub import constants

            raise no_room(Path(constants.HF_HUB_CACHE)) from error
        raise _named(model, error) from error


def hub_failures() -> tuple[type[Exception], ...]:
    """Return the exceptions by which the hub's client says that it cannot get something.

    HTTPError is that of its HTTP library, whose refused connections are OSErrors (requests) or not (httpx);
    Xet, the hub's own transport, raises RuntimeError.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    return OSError, HTTPError, RuntimeError


def _named(model: HubModel, error: Exception) -> FetchError:
    """Return the error that says what happened, and what to do, in place of the client's."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    if isinstance(error, OfflineModeIsEnabled):
        return FetchError(
            f"{model} is not in the cache, and the hub's client is offline (HF_HUB_OFFLINE).",
            hint="Unset HF_HUB_OFFLINE once to fetch it, or use smollm2, or path:FOLDER.",
        )
    # The client wraps what happened on the network in "not here either".
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
    response = getattr(cause, "response", None)
    status = None if response is None else response.status_code
    if isinstance(cause, GatedRepoError) or status == 403:
        return FetchError(
            f"{model} is gated: its owner grants access by account.",
            hint=f"Ask for it at {constants.ENDPOINT}/{model.name}, then log in with `hf auth login`.",
        )
    if isinstance(cause, RevisionNotFoundError):
        return FetchError(
            f"hf:{model.name} has no revision {model.revision!r}.",
            hint=f"The branches and tags are at {constants.ENDPOINT}/{model.name}/tree/main.",
        )
    if response is not None and status in (401, 404):
        return FetchError(
            f"{model} is not on the hub, or is private ({status} for {response.url}).",
            hint="Check the name; for a private model log in with `hf auth login`.",
        )
    if status is not None:
        return FetchError(
            f"{model} could not be fetched from the hub: it answered {status}.",
            hint="The hub limits how much is asked of it: wait some minutes, or log in with `hf auth login`."
            if status == 429
            else "That is on the hub's side: try again later.",
        )
    words = str(cause or error).strip().splitlines() or [type(error).__name__]
    return FetchError(
        f"{model} could not be fetched from the hub: {words[0]}",
        hint=f"Check the network and that {constants.ENDPOINT} can be reached; files that are whole are kept. "
        "Without the hub, use smollm2, or path:FOLDER.",
    )
