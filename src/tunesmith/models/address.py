"""What a model's address means: smollm2, minilm, hf:org/name, path:FOLDER, openai:MODEL@URL."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tunesmith.errors import AddressError, FetchError, ModelError
from tunesmith.models.fetch import BUNDLED, Say, fetch, hub_failures, silent

if TYPE_CHECKING:
    from tunesmith.models.base import ChatModel
    from tunesmith.models.embedding import LocalEncoder

Kind = Literal["bundled", "hf", "path", "openai"]

_FORMS: Final = {
    "hf": "hf:org/name or hf:org/name@revision",
    "path": "path:FOLDER",
    "openai": "openai:MODEL or openai:MODEL@URL",
}
_LATER: Final = {"gguf": "GGUF files", "ft": "models tuned by a service"}
_HUB_ID = re.compile(r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
# Names such as @cf/meta/llama begin with the sign that elsewhere begins the URL.
_REMOTE = re.compile(r"(?P<model>@?[^@\s]+)(?:@(?P<url>https?://[^\s@]+))?")
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model is: `value` is a bundled name, a hub id, a folder or a remote model's name.

    `revision` is a hub branch, tag or commit; `url` a service's base URL (None: the OpenAI SDK's own).
    """

    kind: Kind
    value: str
    url: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        """Return the address as `parse` reads it."""
        prefix = "" if self.kind == "bundled" else f"{self.kind}:"
        after = self.url or self.revision
        return f"{prefix}{self.value}" + (f"@{after}" if after else "")


def parse(text: str) -> Address:
    """Return what an address means, not whether it exists; raises AddressError naming the nearest."""
    if text in BUNDLED:
        return Address("bundled", text)
    prefix, colon, value = text.partition(":")
    if not colon or prefix not in (*_FORMS, *_LATER):
        raise AddressError(f"The model address {text!r} is not understood.", hint=_nearest(text))
    if prefix in _LATER:
        raise AddressError(
            f"The model address {text!r} is not understood yet: "
            f"{_LATER[prefix]} cannot be used in this version.",
            hint=f"Use {_all_forms()}.",
        )
    address = _READERS[prefix](value)
    if address is None:
        raise AddressError(f"The model address {text!r} is not understood.", hint=f"Write {_FORMS[prefix]}.")
    return address


@dataclass(frozen=True, slots=True)
class Place:
    """A model's folder, and that of an adapter for it."""

    folder: Path
    adapter: Path | None = None


def load_chat(address: Address | str, *, say: Say = silent, batch_size: int = 48) -> ChatModel:
    """Return the chat model at an address, its adapter merged if it is one; `batch_size` is for local ones.

    Raises AddressError if the address means nothing or an encoder, ModelError if the model cannot be had.
    """
    found = _parsed(address)
    if found.kind == "openai":
        from tunesmith.models.remote import RemoteModel

        return RemoteModel(found.value, base_url=found.url)
    from tunesmith.models.local import LocalModel, load_model, load_tokenizer
    from tunesmith.models.quiet import quiet

    _refuse_bundled(found, "encoder", "answer")
    place = _place(found, say)
    with quiet():
        tokenizer = load_tokenizer(place.folder)
        model = load_model(place.folder, adapter=place.adapter)
    return LocalModel(model, tokenizer, name=str(found), batch_size=batch_size)


def load_encoder(address: Address | str, *, say: Say = silent, max_length: int = 128) -> LocalEncoder:
    """Return the encoder at an address, which reads at most `max_length` tokens of a text.

    Raises AddressError if the address means nothing or a chat model, ModelError if it cannot be had.
    """
    from tunesmith.models.embedding import LocalEncoder

    found = _parsed(address)
    _refuse_bundled(found, "model", "embed texts")
    return LocalEncoder.load(model_folder(found, say=say), name=str(found), max_length=max_length)


def locate(address: Address | str, *, say: Say = silent) -> Place:
    """Return where a model, or an adapter and its base, lie in this machine's reach, fetched first if need be.

    Raises AddressError for an encoder and for a remote model, ModelError if there is none.
    """
    found = _parsed(address)
    _refuse_bundled(found, "encoder", "answer")
    return _place(found, say)


def model_folder(address: Address | str, *, say: Say = silent) -> Path:
    """Return the folder of a model in this machine's reach, fetched first if need be.

    Raises AddressError for a remote model, which has none, and ModelError for an adapter, which is not whole.
    """
    found = _parsed(address)
    place = _place(found, say)
    if place.adapter is not None:
        raise ModelError(
            f"{found} is an adapter; here a whole model is needed",
            hint="Name its base model, or merge it first (PEFT's merge_and_unload).",
        )
    return place.folder


def _parsed(address: Address | str) -> Address:
    return parse(address) if isinstance(address, str) else address


def _refuse_bundled(address: Address, kind: Literal["model", "encoder"], task: str) -> None:
    if address.kind == "bundled" and BUNDLED[address.value].kind == kind:
        others = [name for name, bundled in BUNDLED.items() if bundled.kind != kind]
        raise AddressError(
            f"{address} is {'an encoder' if kind == 'encoder' else 'a language model'}: it cannot {task}.",
            hint=f"Use {' or '.join(others)}.",
        )


def _place(address: Address, say: Say) -> Place:
    if address.kind == "bundled":
        return Place(fetch(address.value, say=say))
    if address.kind == "hf":
        return Place(_from_hub(address, say))
    if address.kind == "path":
        return _on_disk(address, say)
    raise AddressError(
        f"{address} is a remote model: its weights are not here.",
        hint="Where weights are needed (an encoder, training), use smollm2, minilm, hf: or path:.",
    )


def _on_disk(address: Address, say: Say) -> Place:
    folder = Path(address.value).expanduser()
    if not folder.is_dir():
        raise ModelError(f"The folder {folder} does not exist.", hint="Give the folder that holds the model.")
    if (folder / _ADAPTER).is_file():
        return Place(_base_of(folder, say), adapter=folder)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} holds no model: config.json is missing.",
            hint="Give a folder that transformers' save_pretrained wrote, or an adapter's.",
        )
    _require_safetensors(folder, str(folder))
    return Place(folder)


def _base_of(folder: Path, say: Say) -> Path:
    """Return the folder of an adapter's base, written as an address, a folder or, as PEFT does, a hub id."""
    base = json.loads((folder / _ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"The adapter in {folder} does not say which model it is for.",
            hint=f"Put base_model_name_or_path into its {_ADAPTER}.",
        )
    return model_folder(_base_address(str(base), folder), say=say)


def _base_address(base: str, folder: Path) -> Address:
    for path in (Path(base).expanduser(), folder / base):
        if path.is_dir() and base not in BUNDLED:
            return Address("path", str(path))
    try:
        return parse(base)
    except AddressError as error:
        hub = _hub(base)
        if hub is None or "/" not in base:
            raise ModelError(
                f"The adapter in {folder} is for {base!r}, which is neither a folder nor an address.",
                hint=f"Change base_model_name_or_path in its {_ADAPTER}.",
            ) from error
        return hub


def _from_hub(address: Address, say: Say) -> Path:
    from huggingface_hub import snapshot_download

    say(f"Getting {address} from the hub, unless it is cached.")
    failures: tuple[type[Exception], ...] = (*hub_failures(), ValueError)
    try:
        # Safetensors of the top folder only: other folders hold the same weights for other runtimes.
        folder = snapshot_download(
            address.value,
            revision=address.revision,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"],
            ignore_patterns=["*/*.safetensors"],
        )
    except failures as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise FetchError(
            f"{address} could not be fetched from the hub: {words[0]}",
            hint="Check the name and the network; for a gated model log in with `hf auth login`. "
            "Without the hub, use smollm2, or path:FOLDER.",
        ) from error
    _require_safetensors(Path(folder), str(address))
    return Path(folder)


def _require_safetensors(folder: Path, name: str) -> None:
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{name} has no weights in safetensors format; pickled ones are refused, for they can run code.",
            hint="Convert them with save_pretrained(..., safe_serialization=True).",
        )


def _hub(value: str) -> Address | None:
    match = _HUB_ID.fullmatch(value)
    return None if match is None else Address("hf", match["id"], revision=match["revision"])


def _path(value: str) -> Address | None:
    return Address("path", value) if value else None


def _remote(value: str) -> Address | None:
    match = _REMOTE.fullmatch(value)
    return None if match is None else Address("openai", match["model"], url=match["url"])


_READERS: Final[dict[str, Callable[[str], Address | None]]] = {"hf": _hub, "path": _path, "openai": _remote}


def _nearest(text: str) -> str:
    """Return which address the user most likely meant."""
    if text and Path(text).expanduser().is_dir():
        return f"Did you mean path:{text}?"
    prefix, colon, value = text.partition(":")
    near = difflib.get_close_matches(prefix if colon else text, _FORMS if colon else BUNDLED, 1)
    if near:
        return f"Did you mean {near[0]}{colon}{value}?"
    if not colon and "/" in text and _HUB_ID.fullmatch(text):
        return f"Did you mean hf:{text}?"
    return f"Use {_all_forms()}."


def _all_forms() -> str:
    return ", ".join([*BUNDLED, *_FORMS.values()])
