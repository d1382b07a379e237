"""Two evaluations side by side: what each contender gained and lost on the questions that both were asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tunesmith.errors import DatasetError
from tunesmith.evaluating.scores import acceptable, columns, in_words, of_calls
from tunesmith.evaluating.statistics import Estimate, Metric, Paired, holm, mean_estimate, paired_difference
from tunesmith.evaluating.texts import FOUND
from tunesmith.evaluating.verdict import SETS
from tunesmith.records import Example, Score

# What makes two questions the same: its words, the calls that are right, and the how-manieth such one it is.
_Key = tuple[str, tuple[str, ...], int]


@dataclass(frozen=True, slots=True)
class Measured:
    """An evaluation: what it is called, when it was made, its judged answers, and the questions of all sets by id.

    `notes` are what somebody who compares must know of it.
    """

    name: str
    made: str
    scores: tuple[Score, ...]
    questions: Mapping[str, Example]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A question that one evaluation answered rightly and the other did not: what was called or said, and now is.

    Of answers in words those count as right that reach half of the measure.
    """

    question: str
    before: str | None
    after: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One contender, floor or ceiling on the shared questions of one set: its `metric` in both evaluations.

    `paired` is the second's less the first's; `p_holm` its p-value with regard to all others of the comparison.
    `lost` was right before and is wrong now, `won` the other way round.
    """

    contender: str
    set: str
    metric: Metric
    first: Estimate
    second: Estimate
    paired: Paired
    p_holm: float
    lost: tuple[Change, ...]
    won: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Shared:
    """How many questions of a set each evaluation asked, and how many are the same with the same right calls."""

    set: str
    first: int
    second: int
    shared: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations; `only_first` and `only_second` are contenders that just one of them measured.

    `notes` are those of both.
    """

    first: str
    second: str
    rows: tuple[Compared, ...]
    sets: tuple[Shared, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    notes: tuple[str, ...] = ()


def compare_measured(first: Measured, second: Measured) -> Comparison:
    """Compare two evaluations, each contender with itself, on the questions that both asked.

    Questions are the same if their words and their right calls are: ids change with a line's place in its file. Raises
    DatasetError if no contender was asked anything by both.
    """
    before, after = _keyed(first), _keyed(second)
    rows = [
        _compared(before[column], after[column], column[2])
        for column in _ordered(before.keys() & after.keys(), before)
    ]
    found = [row for row in rows if row is not None]
    if not found:
        raise DatasetError(
            f"{first.name} and {second.name} have no question in common that the same contender answered.",
            hint="Compare evaluations with a set of the same questions.",
        )
    adjusted = holm([row.paired.p_value for row in found])
    names = [tuple(dict.fromkeys(name for name, _, _ in keyed)) for keyed in (before, after)]
    return Comparison(
        f"{first.name}, {first.made}",
        f"{second.name}, {second.made}",
        tuple(replace(row, p_holm=p) for row, p in zip(found, adjusted, strict=True)),
        tuple(_sets(before, after)),
        tuple(name for name in names[0] if name not in names[1]),
        tuple(name for name in names[1] if name not in names[0]),
        (*first.notes, *second.notes),
    )


_Column = dict[_Key, Score]
_Place = tuple[str, str, Metric]


def _keyed(run: Measured) -> dict[_Place, _Column]:
    """Return the scores of each contender and set by what makes their questions the same."""
    found: dict[_Place, _Column] = {}
    for column, scores in _columns(run.scores):
        times: Counter[tuple[str, tuple[str, ...]]] = Counter()
        keyed: _Column = {}
        for one in scores:
            example = run.questions.get(one.example)
            if example is None:
                raise DatasetError(
                    f"{run.name}: question {one.example} of {one.set} is not among the curated ones.",
                    hint="Name the project's folder, or an evaluation in it, with its artefacts beside.",
                )
            right = (example.answer,) if example.entry is None else tuple(sorted(acceptable(example)))
            asked = (example.question, right)
            keyed[*asked, times[asked]] = one
            times[asked] += 1
        # A set's questions are in one order for all its contenders, so repeated ones meet themselves.
        found[column] = keyed
    return found


def _columns(scores: Sequence[Score]) -> Iterator[tuple[_Place, tuple[Score, ...]]]:
    """Yield the scores by contender, set and what they are measured by."""
    for part, metric in ((of_calls(scores), "exact"), (in_words(scores), "f1")):
        for (contender, set_name), column in columns(part).items():
            yield (contender, set_name, _measured(column, metric)), column


def _measured(column: Sequence[Score], metric: Metric) -> Metric:
    """Return what a column is compared by: of results from elsewhere, the first measure that all answers have."""
    known = (FOUND, metric, *column[0].measures)
    every = (name for name in known if all(one.value(name) is not None for one in column))
    return next(every, metric)


def _ordered(shared: set[_Place], before: Mapping[_Place, _Column]) -> Iterator[_Place]:
    place = {column: number for number, column in enumerate(before)}
    yield from sorted(shared, key=lambda column: (_place(column[1]), place[column]))


def _place(set_name: str) -> int:
    return SETS.index(set_name) if set_name in SETS else len(SETS)


def _compared(before: _Column, after: _Column, metric: Metric) -> Compared | None:
    shared = [key for key in before if key in after]
    if not shared:
        return None
    old = [replace(before[key], contender="first", example=str(number)) for number, key in enumerate(shared)]
    new = [replace(after[key], contender="second", example=str(number)) for number, key in enumerate(shared)]
    one = next(iter(before.values()))
    return Compared(
        contender=one.contender,
        set=one.set,
        metric=metric,
        first=mean_estimate(old, metric),
        second=mean_estimate(new, metric),
        paired=paired_difference(new, old, metric),
        p_holm=1.0,
        lost=tuple(_changes(shared, old, new, metric, lost=True)),
        won=tuple(_changes(shared, old, new, metric, lost=False)),
    )


def _changes(
    keys: Sequence[_Key], old: Sequence[Score], new: Sequence[Score], metric: Metric, *, lost: bool
) -> Iterator[Change]:
    for (question, _, _), was, now in zip(keys, old, new, strict=True):
        before, after = ((one.value(metric) or 0.0) >= _RIGHT_FROM for one in (was, now))
        if before != after and before is lost:
            yield Change(question, _said(was), _said(now), (now if lost else was).reason)


_RIGHT_FROM = 0.5  # of a measure of words; a call is right or wrong


def _said(one: Score) -> str | None:
    return one.answer.text if one.verdict is None else one.called


def _sets(before: Mapping[_Place, _Column], after: Mapping[_Place, _Column]) -> Iterator[Shared]:
    asked: list[dict[str, set[_Key]]] = [{}, {}]
    for found, keyed in zip(asked, (before, after), strict=True):
        for (_, name, _), column in keyed.items():
            found.setdefault(name, set()).update(column)
    for name in sorted(asked[0].keys() | asked[1].keys(), key=_place):
        one, other = (found.get(name, set()) for found in asked)
        yield Shared(name, len(one), len(other), len(one & other))
