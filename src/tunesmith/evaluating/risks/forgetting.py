"""What tuning made a model forget: instructions, arithmetic, common sense, facts, and general prose.

The set is written for this project. Choices are scored as lm-eval-harness scores `acc_norm`: the one whose log
probability per byte is the highest, whatever their order (https://github.com/EleutherAI/lm-evaluation-harness).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from tunesmith.evaluating.comparing import Compared, Measured, compare_measured
from tunesmith.evaluating.risks.checkers import follows
from tunesmith.evaluating.risks.figures import Figure
from tunesmith.evaluating.risks.record import (
    Change,
    Material,
    Risk,
    RiskRow,
    RisksSettings,
    Seen,
    Subject,
    Telling,
    bundled,
    in_groups,
    prose,
)
from tunesmith.evaluating.verdict import measure_words
from tunesmith.models.base import Sampling
from tunesmith.records import Message

_SMALL: Final = (
    "Other languages than English, long answers, several turns; a few dozen items show large changes only."
)
_CHOICES: Final = "the right one of four is the likeliest by byte"
FIGURES: Final = (
    Figure(
        "forgetting",
        "instructions followed",
        "one checkable instruction each: a format, a count, a word; answered greedily",
        _SMALL + " Whether the answer is also true is not looked at.",
        "lower",
    ),
    Figure("forgetting", "arithmetic", f"sums and small word problems; {_CHOICES}", _SMALL, "lower"),
    Figure("forgetting", "common sense", f"everyday situations; {_CHOICES}", _SMALL, "lower"),
    Figure("forgetting", "facts", f"school knowledge; {_CHOICES}", _SMALL, "lower"),
    Figure(
        "forgetting",
        "perplexity of prose",
        "per token, on about 3,000 words of prose that no model was trained on",
        "Code, dialogue and other languages. Not comparable between models with different tokenizers.",
        unit="perplexity",
        scale=math.exp,
    ),
    Figure(
        "forgetting",
        "bits per byte of prose",
        "the same prose, comparable between tokenizers",
        "Code, dialogue and other languages.",
        unit="bits per byte",
    ),
)
_NAMES: Final = {"arithmetic": "arithmetic", "sense": "common sense", "facts": "facts"}


def ask(subject: Subject, settings: RisksSettings) -> Iterator[Seen]:
    """Yield what a model makes of the bundled set; without likelihoods only of its instructions."""
    yield from _instructions(subject, settings)
    if subject.telling is not None:
        yield from _choices(subject.telling)
        yield from _prose(subject.telling)


def _instructions(subject: Subject, settings: RisksSettings) -> Iterator[Seen]:
    items = [one for one in bundled("general.jsonl") if one["kind"] == "instruction"]
    asked = [(Message("user", one["prompt"]),) for one in items]
    answers = subject.chat.reply(asked, Sampling(max_tokens=settings.max_tokens))
    for one, answer in zip(items, answers, strict=True):
        passed = follows(one["check"], one["argument"], answer.text)
        yield Seen("instructions followed", one["prompt"], float(passed), said=answer.text)


def _choices(telling: Telling) -> Iterator[Seen]:
    items = [one for one in bundled("general.jsonl") if one["kind"] != "instruction"]
    choices = [(one["right"], *one["wrong"]) for one in items]
    prompts = [
        (Message("user", one["prompt"]),) for one, each in zip(items, choices, strict=True) for _ in each
    ]
    told = telling.told(prompts, [choice for each in choices for choice in each])
    for one, each, four in zip(items, choices, in_groups(told, 4), strict=True):
        per_byte = [said.total / len(choice.encode()) for said, choice in zip(four, each, strict=True)]
        yield _chosen(one, each[max(range(4), key=per_byte.__getitem__)])


def _chosen(one: dict[str, Any], choice: str) -> Seen:
    return Seen(_NAMES[one["kind"]], one["prompt"], float(choice == one["right"]), said=choice)


def _prose(telling: Telling) -> Iterator[Seen]:
    texts = prose()
    for text, told in zip(texts, telling.told([""] * len(texts), texts), strict=True):
        item = text.partition(".")[0]
        yield Seen("perplexity of prose", item, -told.total, float(len(told.logprobs)))
        yield Seen("bits per byte of prose", item, -told.total / math.log(2), float(len(text.encode())))


# --- the project's own questions


def regressions(material: Material) -> tuple[Risk, ...]:
    """Return, for each set of an evaluation that asked both models, what was right before and is wrong now."""
    before, after = (
        tuple(one for one in material.scores if one.contender == name)
        for name in (material.before, material.after)
    )
    if not before or not after:
        return ()
    sides = [
        Measured(name, "", tuple(replace(one, contender="model") for one in scores), material.questions)
        for name, scores in (("before", before), ("after", after))
    ]
    return tuple(map(_regression, compare_measured(*sides).rows))


def _regression(row: Compared) -> Risk:
    paired = row.paired
    lost = tuple(
        RiskRow(each.question, 1.0, 0.0, each.before or "no call", each.after or "no call")
        for each in row.lost
    )
    return Risk(
        "forgetting",
        f"{measure_words(row.metric)} on {row.set}",
        f"the project's own questions; {len(row.lost)} were right before and are wrong now, {len(row.won)} the other "
        "way round",
        "share",
        "lower",
        row.first,
        row.second,
        Change(paired.difference, paired.low, paired.high),
        paired.n,
        "Questions that the set does not hold. Both models were asked without retrieval.",
        rows=lost,
    )
