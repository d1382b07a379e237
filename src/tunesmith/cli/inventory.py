"""What can be used here: models that are bundled, cached, tuned in this project, or remote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.artifacts import Store
from tunesmith.training.hosted import HOSTED

# The stages that end in a model or an encoder, and what that is.
_TUNING = {"train": "language model", "encoder": "encoder"}


@dataclass(frozen=True, slots=True)
class Usable:
    """A model's address as `--model` and tunesmith.toml take it, what it is, and its bytes on this disk."""

    address: str
    kind: Literal["bundled", "cached", "tuned", "remote"]
    note: str
    bytes: int | None = None


def bundled(fetched: Mapping[str, Path]) -> Iterator[Usable]:
    """Yield the models that a package index carries; `fetched` says where each lies once it was fetched."""
    for name, folder in fetched.items():
        here = folder.is_dir()
        note = "in the cache" if here else "fetched when it is first used"
        yield Usable(name, "bundled", note, _bytes(folder) if here else None)


def cached() -> Iterator[Usable]:
    """Yield the models in the Hugging Face cache of this machine, without asking the hub."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:  # nothing was ever fetched
        return
    for each in sorted(repositories, key=lambda repository: repository.repo_id):
        if each.repo_type == "model":
            yield Usable(f"hf:{each.repo_id}", "cached", "from the hub, in the cache", each.size_on_disk)


def tuned(store: Store) -> Iterator[Usable]:
    """Yield what this project has tuned, oldest first."""
    for artifact in store.list():
        if HOSTED in artifact.manifest.files:
            made = json.loads(artifact.file(HOSTED).read_text(encoding="utf-8"))
            note = f"tuned from {made['base']} at {made['base_url']}, {artifact.manifest.created[:10]}"
            yield Usable(made["address"], "tuned", note)
        elif artifact.stage in _TUNING:
            size = sum(file.bytes for file in artifact.manifest.files.values())
            note = f"{_TUNING[artifact.stage]} tuned here, {artifact.manifest.created[:10]}"
            yield Usable(f"path:{artifact.path}", "tuned", note, size)


def remote() -> Iterator[Usable]:
    """Yield how models elsewhere are addressed."""
    yield Usable("openai:MODEL@URL", "remote", "any service with OpenAI's wire format; key in OPENAI_API_KEY")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
