"""Know a base model by its weights: their digest, noted beside an adapter and compared when it is loaded again."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tunesmith.errors import ModelError
from tunesmith.models.hub import commit_of, read_settings
from tunesmith.models.shelf import cache_dir, write_whole
from tunesmith.records import from_json

NOTE: Final = "tunesmith.json"
# What savers write into config.json that says nothing about the model.
_IMMATERIAL = ("transformers_version", "_name_or_path")
# A file that changed so shortly before it was read may change again within one tick of its clock.
_UNSETTLED_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class BaseNote:
    """What an adapter was trained on, as tunesmith.json beside it says.

    `base` is the model's address, `commit` the hub's commit if it came from there, `template` the SHA-256 of its chat
    template (None: it had none). `quantised` is "nf4" if the base's weights were in 4 bits while it learned.
    """

    base: str
    base_digest: str
    template: str | None
    commit: str | None = None
    quantised: str | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file's SHA-256 and how the file was when it was read; times in nanoseconds."""

    size: int
    modified: int
    changed: int
    inode: int
    read: int
    sha256: str


def file_digest(path: Path) -> str:
    """Return a file's SHA-256 in hex; a file that has not changed since is read only once.

    The cache goes by size, inode and both times of the file: a copy with its old time set back is read again.
    """
    path = path.resolve()
    stat = path.stat()
    memo = cache_dir() / "digests" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    known = _known(memo)
    now = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    settled = known is not None and known.read - max(known.modified, known.changed) > _UNSETTLED_NS
    if known is not None and settled and (known.size, known.modified, known.changed, known.inode) == now:
        return known.sha256
    read = time.time_ns()
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    write_whole(memo, json.dumps(asdict(_Seen(*now, read, sha256))))
    return sha256


def weights_digest(folder: Path) -> str:
    """Return a digest of a model folder's safetensors files and of what config.json says about the model.

    Other ways of saving the same weights (in other shards, say) give another digest.
    """
    config = read_settings(folder / "config.json")
    shape = {key: value for key, value in config.items() if key not in _IMMATERIAL}
    lines = [f"config {json.dumps(shape, sort_keys=True)}"]
    lines += [f"{path.name} {file_digest(path)}" for path in sorted(folder.glob("*.safetensors"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def note_base(adapter_folder: Path, base_folder: Path, address: str, *, quantised: str | None = None) -> None:
    """Write beside an adapter which base model it was trained on, and by which weights that is known."""
    note = BaseNote(
        address, weights_digest(base_folder), _template_digest(base_folder), commit_of(base_folder), quantised
    )
    (adapter_folder / NOTE).write_text(json.dumps(asdict(note), indent=2) + "\n", encoding="utf-8")


def read_note(adapter_folder: Path) -> BaseNote | None:
    """Return what stands beside an adapter about its base; None for one that was made elsewhere."""
    path = adapter_folder / NOTE
    if not path.is_file():
        return None
    try:
        return from_json(BaseNote, path.read_bytes())
    except ValueError as error:  # pydantic's ValidationError is one
        raise ModelError(
            f"{path} cannot be read: {error}",
            hint="Copy the adapter's folder anew, or delete the file: then nothing checks its base.",
        ) from error


def check_base(adapter_folder: Path, base_folder: Path) -> None:
    """Raise ModelError if an adapter was trained on other weights, or another chat template, than the base's.

    An adapter without a note, one made elsewhere, is not checked.
    """
    note = read_note(adapter_folder)
    if note is None:
        return
    found = weights_digest(base_folder)
    if found != note.base_digest:
        raise ModelError(
            f"the base model in {base_folder} changed under the adapter in {adapter_folder}: it was trained on "
            f"{_named(note)} with the digest {note.base_digest[:12]}, and this one has {found[:12]}",
            hint=f"Bring back the model as it was, or train again. {_commit_hint(note)}".strip(),
        )
    if _template_digest(base_folder) != note.template:
        raise ModelError(
            f"the chat template in {base_folder} changed under the adapter in {adapter_folder}: "
            "conversations would be rendered otherwise than in training",
            hint="Bring back the template as it was, or train again.",
        )


def _named(note: BaseNote) -> str:
    return note.base if note.commit is None else f"{note.base} (commit {note.commit})"


def _commit_hint(note: BaseNote) -> str:
    return "" if note.commit is None else f"The hub still has commit {note.commit} under hf:NAME@COMMIT."


def _template_digest(folder: Path) -> str | None:
    """Return the SHA-256 of a folder's chat template, from its own file or from the tokenizer's settings."""
    own, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    template = (
        own.read_text(encoding="utf-8") if own.is_file() else read_settings(settings).get("chat_template")
    )
    if template is None:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _known(memo: Path) -> _Seen | None:
    try:
        return from_json(_Seen, memo.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
