"""The model card of an export: data, settings, scores, limits, licence, and what was proved of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tunesmith.exporting.parity import Parity

_OF_SCORES: Final = (
    "The scores are those of the tuned model before it was exported, on the questions of this project: they say "
    "nothing about other subjects."
)
_ALWAYS: Final = "Nothing was tuned or measured for safety; what the base may say, this model may say."


@dataclass(frozen=True, slots=True)
class Rate:
    """What a contender scores by a measure on one set, with its 95 % interval and how many questions there are."""

    contender: str
    set: str
    value: float
    low: float
    high: float
    n: int
    measure: str = "exact"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card says of a model besides its proof.

    `base` is a hub id or an address; `data` pairs what there was with how much; `rates` are empty if nothing was
    measured; `limits` are sentences.
    """

    name: str
    base: str
    licence: str | None = None
    system: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    verdict: str | None = None
    rates: Sequence[Rate] = ()
    limits: Sequence[str] = ()


def model_card(facts: Facts, *, form: str, files: Sequence[str], parity: Parity | None) -> str:
    """Return the card as Markdown with the front matter that model hubs read; None: parity was not proved."""
    sections = [
        _front_matter(facts, form),
        f"# {facts.name}\n\n{_what(facts, form, files)}",
        _section(
            "Data", _table(("what", "how much"), facts.data.items()), "Not tuned here: as it was found."
        ),
        _section(
            "Settings", _table(("setting", "value"), facts.settings.items()), "None: nothing was tuned."
        ),
        _section("Scores", _scores(facts), "Not measured."),
        _section("Parity", _parity(parity), _NOT_PROVED),
        _section("Limits", "\n".join(f"- {limit}" for limit in _limits(facts)), ""),
        _section("Licence", facts.licence or "", _licence_unknown(facts)),
    ]
    return "\n\n".join(sections) + "\n"


_NOT_PROVED: Final = (
    "**Not proved.** Nobody has compared this export, in the engine that serves it, with the model that it was made "
    "from."
)


def _front_matter(facts: Facts, form: str) -> str:
    lines = [f"base_model: {json.dumps(facts.base)}", "pipeline_tag: text-generation", "tags:", "- tunesmith"]
    lines += [f"license: {facts.licence.lower()}"] if facts.licence else []
    lines += {"adapter": ["library_name: peft"], "merged": ["library_name: transformers"]}.get(form, [])
    return "\n".join(["---", *lines, "---"])


def _what(facts: Facts, form: str, files: Sequence[str]) -> str:
    what = {
        "adapter": "A LoRA adapter in PEFT's format",
        "merged": "Merged weights in safetensors format",
        "gguf": "A GGUF file",
        "ollama": "A GGUF file with a Modelfile for Ollama",
    }[form]
    prompt = f"\n\nIts system prompt:\n\n````text\n{facts.system}\n````" if facts.system else ""
    return f"{what}, from {facts.base}: {', '.join(f'`{name}`' for name in files)}.{prompt}"


def _scores(facts: Facts) -> str:
    rows = (
        (
            rate.contender,
            rate.set,
            rate.measure.replace("_", " "),
            f"{rate.value:.1%}",
            f"{rate.low:.1%} to {rate.high:.1%}",
            rate.n,
        )
        for rate in facts.rates
    )
    table = _table(("contender", "questions", "measure", "score", "95 % interval", "n"), rows)
    return "\n\n".join(part for part in (facts.verdict, table) if part)


def _parity(parity: Parity | None) -> str:
    if parity is None:
        return ""
    rows = (
        ("engine", parity.engine),
        ("precision of the weights", parity.precision),
        ("replayed", f"{parity.prompts} prompts, {parity.tokens} tokens of the model's own answers"),
        ("off on the whole", f"{parity.found.typical:.2g} nats; its precision explains {parity.allowed.typical:.2g}"),
        ("off at worst", f"{parity.found.largest:.2g} nats; its precision explains {parity.allowed.largest:.2g}"),
        ("other tokens, each a near tie", len(parity.divergences)),
        (
            "what rounding the weights costs",
            f"{parity.rounded.typical:.2g} nats on the whole, {parity.changed} tokens",
        ),
    )  # fmt: skip
    return _table(("proved in the engine that serves it", ""), rows)


def _limits(facts: Facts) -> Sequence[str]:
    return (*facts.limits, *([_OF_SCORES] if facts.rates else []), _ALWAYS)


def _licence_unknown(facts: Facts) -> str:
    return f"That of {facts.base} holds; its files do not say which it is. Your data may add conditions."


def _section(title: str, text: str, otherwise: str) -> str:
    return f"## {title}\n\n{text or otherwise}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table, or nothing if it would have no row."""
    lines = [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    head = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*head, *lines]) if lines else ""


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
