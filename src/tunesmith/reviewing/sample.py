"""In which order examples are shown: the riskiest first, every topic in turn, or at random.

A risk is a sum of points that need no model: 2 for a teacher's question and 1 for a written one, 2 where nothing is
quoted from a source, and 1 each for an answer longer than those of nine in ten, a question with more words that nobody
else uses than nine in ten have, fewer checks than others passed, and a judge's score below those of nine in ten. Each
choice hangs on the examples alone, so that two reviewers are shown the same ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.records import Example, fingerprint
from tunesmith.reviewing.decisions import REVIEWED, judge_score, key_of

Order = Literal["risk", "topic", "random"]


@dataclass(frozen=True, slots=True)
class Risk:
    """How likely an example is worth a look, against others of its project, and why."""

    points: int
    reasons: tuple[str, ...]


def ordered(
    examples: Sequence[Example],
    by: Order,
    risk_of: Mapping[str, Risk],
    topic_of: Callable[[Example], str | None],
) -> tuple[Example, ...]:
    """Return examples in the order in which they are shown; `risk_of` is by example id."""
    mixed = sorted(examples, key=lambda one: (fingerprint("review", key_of(one)), one.id))
    if by == "random":
        return tuple(mixed)
    risky = sorted(mixed, key=lambda one: -risk_of[one.id].points)
    return tuple(risky) if by == "risk" else _in_turn(risky, topic_of)


def _in_turn(examples: Sequence[Example], topic_of: Callable[[Example], str | None]) -> tuple[Example, ...]:
    """Return one example of each topic, then the second of each; those without a topic are one more."""
    turns: Counter[str] = Counter()
    placed: list[tuple[int, str, int]] = []
    for place, example in enumerate(examples):
        topic = topic_of(example) or "~"  # after all names, whose order is fixed
        placed.append((turns[topic], topic, place))
        turns[topic] += 1
    return tuple(examples[place] for _, _, place in sorted(placed))


def risks(examples: Sequence[Example]) -> dict[str, Risk]:
    """Return the risk of each example by its id."""
    rare = _rare_words(examples)
    scores = [score for one in examples if (score := judge_score(one.checks)) is not None]
    limits = _Limits(
        answer=_top_tenth([len(one.answer) for one in examples]),
        rare=_top_tenth(list(rare.values())),
        checks=max((_made(one) for one in examples), default=0),
        judge=-_top_tenth([-score for score in scores]) if scores else 0.0,
    )
    return {one.id: _risk(one, rare[one.id], limits) for one in examples}


@dataclass(frozen=True, slots=True)
class _Limits:
    """What is usual in a project: beyond it lies a tenth at most."""

    answer: float
    rare: float
    checks: int
    judge: float


def _risk(example: Example, rare: float, limits: _Limits) -> Risk:
    form = example.origin.partition(":")[0]
    score = judge_score(example.checks)
    found = (
        ({"teacher": 2, "written": 1}.get(form, 0), {"teacher": "a teacher's question"}.get(form, "written")),
        (0 if example.evidence else 2, "nothing quoted"),
        (int(len(example.answer) > limits.answer), "long answer"),
        (int(rare > limits.rare), "unusual words"),
        (int(_made(example) < limits.checks), "fewer checks"),
        (int(score is not None and score < limits.judge), f"the judge gave {score}"),
    )
    return Risk(sum(points for points, _ in found), tuple(reason for points, reason in found if points))


def _made(example: Example) -> int:
    """Return how many checks an example passed that no person made."""
    return sum(check != REVIEWED for check in example.checks)


def _top_tenth(values: Sequence[float]) -> float:
    """Return the value that a tenth at most exceeds."""
    return sorted(values)[max(0, -(-9 * len(values) // 10) - 1)] if values else 0.0


def _rare_words(examples: Sequence[Example]) -> dict[str, float]:
    """Return by id the share of a question's words that no other question has."""
    words = {one.id: frozenset(re.findall(r"[^\W_]+", one.question.casefold())) for one in examples}
    counts = Counter(word for each in words.values() for word in each)
    return {
        name: sum(counts[word] == 1 for word in each) / len(each) if each else 0.0
        for name, each in words.items()
    }
