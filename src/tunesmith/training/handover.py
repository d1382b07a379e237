"""Write a folder that Axolotl, LitGPT, TRL or Unsloth trains from: the same examples, loss mask and settings.

What such a tool makes comes back as a contender: `adapters` in [evaluate].
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TrainingError, UsageError
from tunesmith.models.address import parse
from tunesmith.models.hub import runs_code
from tunesmith.models.local import answer_starts, end_of_turn_ids, load_tokenizer, text_ids
from tunesmith.models.template import chat_text
from tunesmith.records import Conversation
from tunesmith.training.preflight import RowChecks, check_sets
from tunesmith.training.render import Rendered, render
from tunesmith.training.rows import Length, rendered
from tunesmith.training.settings import TrainSettings
from tunesmith.training.translations import TOOLS, Job, Translation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.training.lora import LoraShape

TARGETS = tuple(TOOLS)


def hand_over(
    target: str,
    examples: Sequence[Conversation],
    valid: Sequence[Conversation],
    settings: TrainSettings,
    *,
    base: Path,
    out: Path,
) -> Path:
    """Write the folder `out` for one of TARGETS: rows, the tool's config, and a README.md with its commands.

    `base` is the base model's folder. The README says of each setting what the tool calls it, or that it does not know
    it. Raises UsageError for an unknown target or a folder that holds something, and TrainingError for examples that
    would teach nothing and for a value that the tool cannot take.
    """
    _check_target(target)
    _check_empty(out)
    _check_settings(settings)
    tokenizer = load_tokenizer(base)
    learned = _rows(tokenizer, examples, settings, "training")
    judged = _rows(tokenizer, valid, settings, "validation")
    check_sets(learned.rows, judged.rows)
    job = _job(tokenizer, learned, judged, settings, base)
    translation = TOOLS[target](job)
    out.mkdir(parents=True, exist_ok=True)
    _write_lines(out / "train.jsonl", map(_messages, learned.conversations))
    _write_lines(out / "valid.jsonl", map(_messages, judged.conversations))
    if translation.data == "tokens":
        _write_lines(out / "tokens" / "train.jsonl", map(_tokens, learned.rows))
        _write_lines(out / "tokens" / "valid.jsonl", map(_tokens, judged.rows))
    elif translation.data == "instructions":
        translation = _with_note(translation, _read_otherwise(tokenizer, learned.conversations))
        _write_lines(out / "data" / "train.jsonl", _instructions(tokenizer, learned.conversations))
        _write_lines(out / "data" / "val.jsonl", _instructions(tokenizer, judged.conversations))
    for name, text in translation.files.items():
        (out / name).write_text(text, encoding="utf-8")
    readme = _readme(translation, job, learned, out=out)
    (out / "README.md").write_text(readme, encoding="utf-8")
    return out


def _check_target(target: str) -> None:
    if target not in TARGETS:
        near = difflib.get_close_matches(target, TARGETS, 1)
        raise UsageError(
            f"there is no trainer {target!r} to hand over to",
            hint=f"Did you mean {near[0]}?" if near else f"There are {', '.join(TARGETS)}.",
        )


def _check_settings(settings: TrainSettings) -> None:
    if settings.method == "full" or settings.objective != "answers":
        name, value = ("method", "full") if settings.method == "full" else ("objective", settings.objective)
        raise TrainingError(
            f"{name} = {value!r} is not handed over: what comes back is an adapter that has learned answers",
            hint=f"Take {name} out of [train].",
        )


def _check_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"{out} is not an empty folder; nothing there was changed",
            hint="Name a new folder, or empty this one.",
        )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Conversations and their rows, in the same order, and what was too long."""

    conversations: tuple[Conversation, ...]
    rows: tuple[Rendered, ...]
    length: Length


def _rows(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Conversation], settings: TrainSettings, what: str
) -> _Rows:
    """Render and check the conversations; those that are dropped for their length are left out here, too."""
    checks, fits = RowChecks(tokenizer, what), []

    def check(number: int, prompt: Conversation, words: tuple[str, ...], row: Rendered) -> None:
        checks(number, prompt, words, row)
        fits.append(len(row.ids) <= settings.max_length)

    rows, length = rendered(tokenizer, examples, settings, check=check)
    kept = [one for one, fit in zip(examples, fits, strict=True) if fit or settings.too_long != "drop"]
    return _Rows(tuple(kept), tuple(row for row in rows if isinstance(row, Rendered)), length)


def _job(
    tokenizer: PreTrainedTokenizerBase,
    learned: _Rows,
    judged: _Rows,
    settings: TrainSettings,
    base: Path,
) -> Job:
    address = parse(settings.base)
    hub = address.kind == "hf"
    shape = _lora_shape(base, settings.top_layers)
    labels = [
        [token for token, labelled in zip(row.ids, row.mask, strict=True) if labelled] for row in learned.rows
    ]
    ends = end_of_turn_ids(tokenizer).intersection(token for row in labels for token in row)
    return Job(
        settings=settings,
        model=address.value if hub else str(base.resolve()),
        revision=address.revision if hub else None,
        folder=base.resolve(),
        targets=shape.targets,
        layers=None if settings.top_layers is None else shape.layers,
        ends=tuple(str(tokenizer.convert_ids_to_tokens(end)) for end in sorted(ends)),
        eos=str(tokenizer.eos_token),
        bos=learned.rows[0].ids[0] == tokenizer.bos_token_id,
        template=tokenizer.get_chat_template(),
        alone=all(_rendered_alone(tokenizer, one) for one in learned.conversations),
        steps=settings.epochs * math.ceil(len(learned.rows) / settings.batch_size),
        valid=len(judged.rows),
    )


def _rendered_alone(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> bool:
    """Tell whether the chat template itself, without what Tunesmith does about it, renders the same text."""
    from jinja2 import TemplateError

    messages = _messages(conversation)["messages"]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    except TemplateError:
        return False
    return str(text) == chat_text(tokenizer, conversation)


def _lora_shape(base: Path, top_layers: int | None) -> LoraShape:
    """Return which layers our own training adapts, found on the model's skeleton: no weight is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunesmith.training.lora import add_lora

    config = AutoConfig.from_pretrained(base, trust_remote_code=runs_code(base))
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=runs_code(base))
    return add_lora(skeleton, rank=1, alpha=1.0, top_layers=top_layers, seed=0)


def _messages(conversation: Conversation) -> dict[str, Any]:
    return {"messages": [asdict(message) for message in conversation]}


def _tokens(row: Rendered) -> dict[str, Any]:
    labels = [token if labelled else _IGNORED for token, labelled in zip(row.ids, row.mask, strict=True)]
    return {"input_ids": row.ids, "labels": labels}


_IGNORED = -100  # what PyTorch's cross-entropy leaves out, and all these tools with it


def _instructions(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]
) -> Iterator[dict[str, Any]]:
    """Yield each turn's prompt and answer.

    The end of turn is left to the tool, and so is a BOS token that the tokenizer would write a second time.
    """
    for conversation in conversations:
        for prompt, answer in _turns(tokenizer, conversation):
            yield {"instruction": _without_second_bos(tokenizer, prompt), "output": answer}


def _turns(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Yield for each of the assistant's turns the rendered prompt before it, and its words."""
    text = chat_text(tokenizer, conversation)
    for start in answer_starts(tokenizer, conversation, text):
        answer, _, _ = text[start:].partition(str(tokenizer.eos_token))
        yield text[:start], answer


def _read_otherwise(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> int:
    """Return in how many turns other tokens stand where prompt and answer are read as two texts."""
    count = 0
    for conversation in conversations:
        whole = render(tokenizer, conversation).ids
        for prompt, answer in _turns(tokenizer, conversation):
            read = (*text_ids(tokenizer, prompt), *text_ids(tokenizer, answer), tokenizer.eos_token_id)
            count += read != whole[: len(read)]
    return count


def _with_note(translation: Translation, read_otherwise: int) -> Translation:
    if not read_otherwise:
        return translation
    note = f"{translation.tool} reads other tokens than Tunesmith in {read_otherwise} turns that follow another answer."
    return replace(translation, differs=(*translation.differs, note))


def _without_second_bos(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    bos = tokenizer.bos_token
    if not bos or not prompt.startswith(bos):
        return prompt
    adds = len(tokenizer(prompt)["input_ids"]) > len(text_ids(tokenizer, prompt))
    return prompt.removeprefix(bos) if adds else prompt


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


# --- the README


def _readme(translation: Translation, job: Job, learned: _Rows, *, out: Path) -> str:
    values = job.settings.model_dump()
    lost = [name for name in values if name not in translation.told]
    parts = [
        f"# To be trained with {translation.tool}",
        f"{len(learned.rows)} training and {job.valid} validation conversations, {_DATA[translation.data]}"
        f"{_too_long(learned.length, job.settings.max_length)}",
        f"## Train\n\nIn this folder:\n\n```console\n{_lines(translation.commands)}\n```{_elsewhere(job)}",
        _back(out / translation.adapter),
        "## Settings\n\n" + _told(translation, values),
        "## Not translated\n\n" + (_listed(_untold(translation, values, lost)) or "Nothing."),
        "## Other than in Tunesmith\n\n" + _listed(translation.differs),
    ]
    return "\n\n".join(parts) + "\n"


_DATA = {
    "conversations": "read from `train.jsonl` and `valid.jsonl`. The loss is computed on the assistant's words and "
    "their end of turn.",
    "tokens": "read from `tokens/`: ids and labels as Tunesmith renders them, the loss on the assistant's words and "
    "their end of turn. `train.jsonl` and `valid.jsonl` are the same for people; changing them changes no token.",
    "instructions": "read from `data/`: each answer with the prompt before it as the chat template renders it; the "
    "loss is computed on the answer and its end of turn. `train.jsonl` and `valid.jsonl` are the same for people; "
    "changing them changes nothing in `data/`.",
}


def _too_long(length: Length, most: int) -> str:
    if length.cut:
        return f" {length.cut} of them are longer than {most} tokens and cut there."
    return (
        f" {length.dropped} more were longer than {most} tokens and are left out." if length.dropped else ""
    )


def _elsewhere(job: Job) -> str:
    if job.model != str(job.folder):
        return ""
    return (
        f"\n\nThe base model is the folder `{job.folder}`. To train on another machine, copy that folder too and "
        "change its path here."
    )


def _lines(commands: Iterable[str]) -> str:
    return "\n".join(commands)


def _back(adapter: Path) -> str:
    return (
        "## Come back\n\nName the adapter in the project's tunesmith.toml, and it is measured beside the others:\n\n"
        f'```toml\n[evaluate]\nadapters = {{ mine = "path:{adapter.resolve()}" }}\n```\n\n'
        "```console\ntunesmith run\n```"
    )


def _told(translation: Translation, values: Mapping[str, Any]) -> str:
    rows = [
        f"| `{name}` | {_shown(values[name])} | {_code(translation.told[name])} |"
        for name in values
        if name in translation.told
    ]
    head = f"| `[train]` | value | in {', '.join(f'`{name}`' for name in list(translation.files)[:1])} |"
    return "\n".join([head, "|---|---|---|", *rows])


def _untold(translation: Translation, values: Mapping[str, Any], lost: Sequence[str]) -> Iterator[str]:
    for name in lost:
        why = translation.untold.get(name, f"{translation.tool} is not told of it")
        yield f"`{name}` ({_shown(values[name])}): {why}."


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)


def _code(name: str) -> str:
    return name if name.startswith("(") else f"`{name}`"
