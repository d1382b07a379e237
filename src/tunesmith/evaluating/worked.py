"""Worked examples: a few questions that show what tuning fixed, what it broke and what nobody can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from tunesmith.records import Example, Score, fingerprint

Lesson = Literal["fixed", "regression", "all wrong", "all right", "mixed"]

# The first kinds are shown first, and more of them; a kind with too few is made up for by the others in turn.
_SHARES: Mapping[Lesson, int] = {"fixed": 4, "regression": 2, "all wrong": 2, "all right": 1, "mixed": 1}


@dataclass(frozen=True, slots=True)
class Worked:
    """One question, its right answer, and what each contender said, in the contenders' order."""

    lesson: Lesson
    example: Example
    scores: tuple[Score, ...]


def choose(
    scores: Sequence[Score],
    examples: Sequence[Example],
    *,
    before: str,
    after: str,
    count: int = 10,
    right: Callable[[Score], bool] = lambda one: one.exact,
) -> tuple[Worked, ...]:
    """Pick `count` questions of one set, so that nobody can have picked them by taste.

    A question counts as fixed where `before` was wrong and `after` is right, as a regression where it is the
    other way round. Within a kind the order is that of a digest of the example's id: the same at every call,
    and no one's choice. Questions that were not asked of every contender are left out. `right` tells whether an
    answer is.
    """
    answered = _complete(scores, examples)
    kinds: dict[Lesson, list[Worked]] = {lesson: [] for lesson in _SHARES}
    for example in sorted(examples, key=lambda one: fingerprint(one.id)):
        if example.id in answered:
            lesson = _lesson(answered[example.id], before, after, right)
            kinds[lesson].append(Worked(lesson, example, answered[example.id]))
    return _in_turn(kinds, count)


def _complete(scores: Sequence[Score], examples: Sequence[Example]) -> dict[str, tuple[Score, ...]]:
    contenders = len({score.contender for score in scores})
    found: dict[str, list[Score]] = {example.id: [] for example in examples}
    for score in scores:
        if score.example in found:
            found[score.example].append(score)
    return {key: tuple(column) for key, column in found.items() if column and len(column) == contenders}


def _lesson(column: Sequence[Score], before: str, after: str, right: Callable[[Score], bool]) -> Lesson:
    found = {score.contender: right(score) for score in column}
    if not any(found.values()):
        return "all wrong"
    if all(found.values()):
        return "all right"
    if found[after] and not found[before]:
        return "fixed"
    if found[before] and not found[after]:
        return "regression"
    return "mixed"


def _in_turn(kinds: Mapping[Lesson, Sequence[Worked]], count: int) -> tuple[Worked, ...]:
    shares = [kinds[lesson][:share] for lesson, share in _SHARES.items()]
    spare = [kinds[lesson][share:] for lesson, share in _SHARES.items()]
    chosen = [one for share in shares for one in share]
    chosen += [one for turn in zip_longest(*spare) for one in turn if one is not None]
    return tuple(sorted(chosen[:count], key=lambda one: list(_SHARES).index(one.lesson)))
