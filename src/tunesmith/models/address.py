"""What a model's address means: smollm2, minilm, hf:org/name, path:FOLDER, gguf:FILE, openai:MODEL@URL, ft:MODEL."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tunesmith.errors import AddressError, ModelError
from tunesmith.models.digest import read_note
from tunesmith.models.fetch import BUNDLED, fetch
from tunesmith.models.hub import ADAPTER, HubModel, hub_folder, is_commit, needs_code, runs_code, was_allowed
from tunesmith.models.litgpt import is_litgpt, litgpt_folder
from tunesmith.models.shelf import Say, silent

if TYPE_CHECKING:
    from tunesmith.models.base import ChatModel
    from tunesmith.models.classifier import LocalClassifier
    from tunesmith.models.cross_encoder import CrossEncoder
    from tunesmith.models.embedding import LocalEncoder

Kind = Literal["bundled", "hf", "path", "gguf", "openai", "ft"]

_FORMS: Final = {
    "hf": "hf:org/name, hf:org/name@revision or hf:org/name@COMMIT+code",
    "path": "path:FOLDER",
    "gguf": "gguf:FILE",
    "openai": "openai:MODEL or openai:MODEL@URL",
    "ft": "ft:BASE:ORGANISATION:SUFFIX:ID or the same with @URL",
}
_HUB_ID = re.compile(r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+)(?P<code>\+code)?)?", re.ASCII)
_REMOTE_KINDS: Final = ("openai", "ft")
# Names such as @cf/meta/llama begin with the sign that elsewhere begins the URL.
_REMOTE = re.compile(r"(?P<model>@?[^@\s]+)(?:@(?P<url>https?://[^\s@]+))?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model is: `value` is a bundled name, a hub id, a folder, a file or a remote model's name.

    `revision` is a hub branch, tag or commit, and `code` lets the code at that commit run; `url` is a service's base
    URL (None: the OpenAI SDK's own).
    """

    kind: Kind
    value: str
    url: str | None = None
    revision: str | None = None
    code: bool = False

    def __str__(self) -> str:
        """Return the address as `parse` reads it."""
        prefix = "" if self.kind == "bundled" else f"{self.kind}:"
        after = self.url or self.revision
        return f"{prefix}{self.value}" + (f"@{after}" if after else "") + ("+code" if self.code else "")

    @property
    def served_as(self) -> str:
        """The name by which a service knows a remote model: of a model that it tuned, `ft:` is a part."""
        return f"ft:{self.value}" if self.kind == "ft" else self.value


def is_remote(text: str) -> bool:
    """Tell whether an address is one of a model whose weights a service keeps."""
    kind, colon, _ = text.partition(":")
    return bool(colon) and kind in _REMOTE_KINDS


def tuned_address(model: str, base_url: str) -> Address:
    """Return the address of a model that a service has tuned, by the name that it gave it."""
    url = base_url.rstrip("/")
    if model.startswith("ft:"):
        return Address("ft", model.removeprefix("ft:"), url=url)
    return Address("openai", model, url=url)


def parse(text: str) -> Address:
    """Return what an address means, not whether it exists; raises AddressError naming the nearest."""
    if text in BUNDLED:
        return Address("bundled", text)
    prefix, colon, value = text.partition(":")
    if not colon or prefix not in _FORMS:
        raise AddressError(f"The model address {text!r} is not understood.", hint=_nearest(text))
    address = _READERS[prefix](value)
    if address is None:
        raise AddressError(f"The model address {text!r} is not understood.", hint=f"Write {_FORMS[prefix]}.")
    if address.code and not is_commit(address.revision or ""):
        raise AddressError(
            f"The model address {text!r} lets code run without saying which: under a branch or a tag it may change.",
            hint=f"Name the full commit, of 40 digits: hf:{address.value}@COMMIT+code.",
        )
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
    if found.kind in _REMOTE_KINDS:
        from tunesmith.models.remote import RemoteModel

        return RemoteModel(found.served_as, base_url=found.url)
    from tunesmith.models.local import LocalModel, load_model, load_tokenizer
    from tunesmith.models.quiet import quiet

    _refuse_bundled(found, "encoder", "answer")
    place = _place(found, say)
    with quiet():
        tokenizer = load_tokenizer(place.folder, adapter=place.adapter)
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


def load_classifier(address: Address | str, *, say: Say = silent) -> LocalClassifier:
    """Return the text classifier at an address.

    Raises AddressError if the address means nothing or a bundled model, ModelError if it cannot be had.
    """
    from tunesmith.models.classifier import LocalClassifier

    found = _parsed(address)
    _refuse_bundled(found, "model", "judge texts")
    _refuse_bundled(found, "encoder", "judge texts")
    return LocalClassifier.load(model_folder(found, say=say), name=str(found))


def load_cross_encoder(address: Address | str, *, say: Say = silent) -> CrossEncoder:
    """Return the cross-encoder at an address.

    Raises AddressError if the address means nothing or a bundled model, ModelError if it cannot be had.
    """
    from tunesmith.models.cross_encoder import CrossEncoder

    found = _parsed(address)
    _refuse_bundled(found, "model", "rerank passages")
    _refuse_bundled(found, "encoder", "rerank passages")
    return CrossEncoder.load(model_folder(found, say=say), name=str(found))


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
        folder = hub_folder(HubModel(address.value, address.revision or "main", address.code), say=say)
        return _with_base(folder, say)
    if address.kind == "gguf":
        from tunesmith.models.gguf import gguf_folder

        return Place(gguf_folder(Path(address.value).expanduser(), say=say))
    if address.kind == "path":
        return _on_disk(address, say)
    raise AddressError(
        f"{address} is a remote model: its weights are not here.",
        hint="Where weights are needed (an encoder, training), use smollm2, minilm, hf:, path: or gguf:.",
    )


def _on_disk(address: Address, say: Say) -> Place:
    folder = Path(address.value).expanduser()
    if not folder.is_dir():
        raise ModelError(f"The folder {folder} does not exist.", hint="Give the folder that holds the model.")
    if is_litgpt(folder):
        return Place(litgpt_folder(folder, say=say))
    if (folder / ADAPTER).is_file():
        return _with_base(folder, say)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} holds no model: config.json is missing.",
            hint="Give a folder that transformers' save_pretrained wrote, an adapter's, or a LitGPT checkpoint's.",
        )
    _require_safetensors(folder)
    if needs_code(folder) and not runs_code(folder):
        raise ModelError(
            f"{folder} needs Python code of its own to run, and that is refused.",
            hint="From the hub it can be allowed for one commit: hf:org/name@COMMIT+code.",
        )
    return Place(folder)


def _with_base(folder: Path, say: Say) -> Place:
    """Return a model's place; that of its base and itself if it is an adapter."""
    return Place(_base_of(folder, say), adapter=folder) if (folder / ADAPTER).is_file() else Place(folder)


def _base_of(folder: Path, say: Say) -> Path:
    """Return the folder of an adapter's base, written as an address, a folder or, as PEFT does, a hub id.

    A base from the hub is taken at the commit that was noted in training, whatever its branch means by now.
    """
    base = json.loads((folder / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"The adapter in {folder} does not say which model it is for.",
            hint=f"Put base_model_name_or_path into its {ADAPTER}.",
        )
    address, note = _base_address(str(base), folder), read_note(folder)
    if address.kind == "hf" and note is not None and note.commit is not None:
        address = replace(address, revision=note.commit)
    if address.code and not was_allowed(HubModel(address.value, address.revision or "main", code=True)):
        # An adapter's file is not the user, who alone may let code run.
        raise ModelError(
            f"The adapter in {folder} is for {address}, whose own code would run, and nobody has allowed that here.",
            hint=f"If you trust that code, load the base by its name once: tunesmith ask --model {address} ...",
        )
    return model_folder(address, say=say)


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
                hint=f"Change base_model_name_or_path in its {ADAPTER}.",
            ) from error
        return hub


def _require_safetensors(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} has no weights in safetensors format; pickled ones are refused, for they can run code.",
            hint="Convert them with save_pretrained(..., safe_serialization=True).",
        )


def _hub(value: str) -> Address | None:
    match = _HUB_ID.fullmatch(value)
    if match is None:
        return None
    return Address("hf", match["id"], revision=match["revision"], code=match["code"] is not None)


def _path(value: str) -> Address | None:
    return Address("path", value) if value else None


def _gguf(value: str) -> Address | None:
    return Address("gguf", value) if value else None


def _remote(value: str) -> Address | None:
    match = _REMOTE.fullmatch(value)
    return None if match is None else Address("openai", match["model"], url=match["url"])


def _tuned(value: str) -> Address | None:
    match = _REMOTE.fullmatch(value)
    if match is None or ":" not in match["model"]:
        return None
    return Address("ft", match["model"], url=match["url"])


_READERS: Final[dict[str, Callable[[str], Address | None]]] = {
    "hf": _hub,
    "path": _path,
    "gguf": _gguf,
    "openai": _remote,
    "ft": _tuned,
}


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
