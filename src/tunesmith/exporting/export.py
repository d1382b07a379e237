"""Export a model: write it beside its place, prove it in the engine that serves it, and only then put it there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tunesmith.errors import ModelError, UsageError
from tunesmith.exporting.card import Facts, model_card
from tunesmith.exporting.engines import Engine, LlamaCpp, Peft, Transformers, require_llama_cpp, rounding
from tunesmith.exporting.gguf import Precision, round_as, write_gguf
from tunesmith.exporting.merge import load_whole, round_weights, stored_dtype, write_merged
from tunesmith.exporting.modelfile import modelfile
from tunesmith.exporting.parity import (
    PROMPTS,
    TOKENS,
    Parity,
    Script,
    Trial,
    prove,
    replay,
    write_script,
)
from tunesmith.exporting.prompts import QUESTIONS
from tunesmith.models.adapter import CONFIG, WEIGHTS, read_adapter
from tunesmith.models.digest import NOTE
from tunesmith.models.local import end_of_turn_ids, load_tokenizer
from tunesmith.progress import Progress, silent
from tunesmith.records import Conversation, Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.models.address import Place

Form = Literal["adapter", "merged", "gguf", "ollama"]
FORMS: Final[tuple[Form, ...]] = ("adapter", "merged", "gguf", "ollama")
GGUF: Final = "model.gguf"
_IN_GGUF: Final = ("gguf", "ollama")


@dataclass(frozen=True, slots=True)
class Order:
    """What to export: the model's place, what its card says, in which form; `precision` is GGUF's (None: f16).

    `conversations` are replayed first, each ending with a user's message; questions of every subject fill them up to
    32. Without `proved` nothing is replayed, and the card says so.
    """

    place: Place
    facts: Facts
    form: Form
    precision: Precision | None = None
    conversations: Sequence[Conversation] = ()
    proved: bool = True


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export: its folder, each file's bytes, and the proof (None: nobody proved it)."""

    form: Form
    folder: Path
    files: dict[str, int]
    parity: Parity | None


def export(order: Order, folder: Path, *, on_progress: Progress = silent) -> Exported:
    """Write a model to a new folder in the form that is ordered, and prove it there.

    Raises UsageError for an order that means nothing or a folder that exists, MissingExtra if llama.cpp is needed and
    not installed, ModelError for a model that cannot be written in that form, and ParityError, keeping nothing, for an
    export that says something else than the model.
    """
    _check(order, folder)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        parity = _make(order, part, on_progress)
        files = sorted(path.name for path in part.iterdir())
        card = model_card(order.facts, form=order.form, files=files, parity=parity)
        part.joinpath("README.md").write_text(card, encoding="utf-8")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return Exported(order.form, folder, sizes, parity)


def _check(order: Order, folder: Path) -> None:
    if order.precision is not None and order.form not in _IN_GGUF:
        raise UsageError(
            f"the form {order.form!r} keeps the model's own precision; it is not quantised",
            hint=f"Leave out --quantise, or use --to gguf --quantise {order.precision}.",
        )
    if order.form == "adapter" and order.place.adapter is None:
        raise UsageError(
            f"{order.facts.name} is a whole model: it has no adapter to export", hint="Use --to merged."
        )
    if folder.exists():
        raise UsageError(
            f"{folder} exists already, and an export overwrites nothing.",
            hint="Delete it, or name another folder with --out.",
        )
    if order.proved and order.form in _IN_GGUF:
        require_llama_cpp()


def _make(order: Order, part: Path, on_progress: Progress) -> Parity | None:
    """Write the files and return the proof.

    The model's own answers come first, since rounding its weights for the reference changes it for good.
    """
    tokenizer, model = (
        load_tokenizer(order.place.folder, adapter=order.place.adapter),
        load_whole(order.place),
    )
    reference = Transformers(model, tokenizer)
    if not order.proved:
        _write(order, model, tokenizer, part)
        return None
    script = write_script(reference, _conversations(order), end_of_turn_ids(tokenizer))
    tuned = replay(reference, script)
    precision = _write(order, model, tokenizer, part)
    rounded = replay(reference, script)
    with rounding(model, precision) if order.form in _IN_GGUF else nullcontext():
        disturbed = replay(reference, script)
    trial = Trial(precision, reference, script, tuned=tuned, reference=rounded, disturbed=disturbed)
    return prove(_engine(order, part, script), trial, on_progress=on_progress)


def _write(order: Order, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, part: Path) -> str:
    """Write the export's files, round the model's weights as they are rounded there, and return to what precision."""
    if order.form == "adapter":
        _write_adapter(order, tokenizer, part)
        return "float32"
    if order.form == "merged":
        dtype = stored_dtype(order.place.folder)
        round_weights(model, dtype)
        write_merged(model, tokenizer, part, dtype)
        return str(dtype).removeprefix("torch.")
    precision, facts = order.precision or "f16", order.facts
    if order.form == "ollama":
        text = modelfile(
            tokenizer,
            gguf=GGUF,
            context=model.config.max_position_embeddings,
            system=facts.system,
            licence=facts.licence,
        )
        part.joinpath("Modelfile").write_text(text, encoding="utf-8")
    round_as(model, precision)
    write_gguf(model, tokenizer, part / GGUF, precision, name=facts.name, licence=facts.licence)
    return precision


def _write_adapter(order: Order, tokenizer: PreTrainedTokenizerBase, part: Path) -> None:
    """Copy the adapter, its base named as others find it, and put the tokenizer with its template beside it."""
    adapter = order.place.adapter
    if adapter is None:
        raise ModelError(f"{order.facts.name} has no adapter")
    read_adapter(adapter)
    shutil.copyfile(adapter / WEIGHTS, part / WEIGHTS)
    config: dict[str, Any] = json.loads(adapter.joinpath(CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = order.facts.base
    part.joinpath(CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if (adapter / NOTE).is_file():
        # By it the base is known again, and an adapter that learned beside 4 bits is loaded beside them.
        shutil.copyfile(adapter / NOTE, part / NOTE)
    tokenizer.save_pretrained(part)


def _engine(order: Order, part: Path, script: Script) -> Engine:
    if order.form == "adapter":
        return Peft.load_adapter(order.place, part)
    if order.form == "merged":
        return Transformers.load(part)
    longest = max(len(line.prompt) for line in script.lines)
    return LlamaCpp(part / GGUF, context=longest + 2 * TOKENS)


def _conversations(order: Order) -> tuple[Conversation, ...]:
    """Return 32 conversations to replay, one of them with an earlier turn."""
    system = (Message("system", order.facts.system),) if order.facts.system else ()
    general = [(*system, Message("user", question)) for question in QUESTIONS]
    own = list(order.conversations[: PROMPTS - 1])
    longer = (*general[0], Message("assistant", "Dots and lines between them."), *general[1][len(system) :])
    return (*own, *general[: PROMPTS - 1 - len(own)], longer)
