"""Further measures of answers in words: the labels that they give, the code that they hold, a judge's grades."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tunesmith.catalogue import Catalogue
from tunesmith.errors import DatasetError
from tunesmith.evaluating.classes import ClassReport, Labelled, classify, read_label
from tunesmith.evaluating.codes import Coded, check_code, program
from tunesmith.evaluating.judging import Graded, grade_answers
from tunesmith.models.base import ChatModel
from tunesmith.progress import Progress, silent
from tunesmith.records import Example, Score

_MOST_LABELS: Final = 40
_LONGEST_LABEL: Final = 5  # words
_OFTEN: Final = 3  # training examples for each label, on average

Examples = Mapping[str, Example]


def labels_of(train: Iterable[Example]) -> tuple[str, ...]:
    """Return the labels of a task whose answers are few and short and come again and again; none of another task."""
    counts = Counter(example.answer for example in train)
    if any(len(answer.split()) > _LONGEST_LABEL or "\n" in answer for answer in counts):
        return ()
    spelt: dict[str, str] = {}
    for answer, _ in counts.most_common():
        spelt.setdefault(" ".join(answer.casefold().split()), answer)  # "Yes" and "yes" are one
    if not 2 <= len(spelt) <= _MOST_LABELS or counts.total() < _OFTEN * len(spelt):
        return ()
    labels = tuple(sorted(spelt.values()))
    try:
        read_label("", labels)
    except DatasetError:
        return ()  # signs without a word, or labels that only their marks tell apart: exact matches will do
    return labels


def with_labels(scores: Sequence[Score], examples: Examples, labels: Sequence[str]) -> list[Score]:
    """Return the scores with `accuracy`: the label that the answer gives is the right one; and `no_label`."""
    marked = []
    for one in scores:
        reading = read_label(one.answer.text, labels)
        right = reading.label is not None and reading.label == _truth(examples[one.example], labels)
        more = {"accuracy": float(right), "no_label": float(reading.label is None)}
        marked.append(replace(one, measures=one.measures | more))
    return marked


def _truth(example: Example, labels: Sequence[str]) -> str | None:
    return read_label(example.answer, labels).label


def with_code(scores: Sequence[Score], examples: Examples, catalogue: Catalogue | None) -> list[Score]:
    """Return the scores, with `parses` and `resolves` where the answer on record holds a program."""
    return [
        replace(one, measures=one.measures | _code(one, catalogue))
        if program(examples[one.example].answer) is not None
        else one
        for one in scores
    ]


def _code(one: Score, catalogue: Catalogue | None) -> dict[str, float]:
    checked = check_code(Coded(one.example, one.answer.text), catalogue, execute=False)
    return {
        "parses": float(bool(checked.passed("parses"))),
        "resolves": float(bool(checked.passed("resolves"))),
    }


def with_grades(
    scores: Sequence[Score], examples: Examples, judge: ChatModel, on_progress: Progress = silent
) -> list[Score]:
    """Return the scores with `judged`: a judge finds the answer right by the one on record; and `judge_error`.

    A reply that cannot be read counts as not right, and as an error beside.
    """
    if not scores:
        return []
    rows = [
        Graded(one.example, examples[one.example].question, one.answer.text, examples[one.example].answer)
        for one in scores
    ]
    found = grade_answers(judge, rows, on_progress=on_progress)
    return [
        replace(
            one,
            measures=one.measures
            | {"judged": float(verdict.grade == "right"), "judge_error": float(verdict.grade is None)},
        )
        for one, verdict in zip(scores, found.verdicts, strict=True)
    ]


def _probabilities(one: Score, labels: Sequence[str]) -> dict[str, float] | None:
    """Return the labels' probabilities, where the contender tells that of its own; the others share the rest evenly."""
    own, sure = read_label(one.answer.text, labels).label, one.answer.confidence
    if own is None or sure is None:
        return None
    rest = (1 - sure) / (len(labels) - 1)
    return {label: sure if label == own else rest for label in labels}


def class_report(scores: Sequence[Score], examples: Examples, labels: Sequence[str]) -> ClassReport | None:
    """Return all about one contender's labels on one set; None if no question of it has one of the labels.

    Questions whose right label is another one are left out and counted: `accuracy` has them as wrong.
    """
    labelled = [
        Labelled(
            example=one.example,
            truth=truth,
            reading=read_label(one.answer.text, labels),
            group=one.group,
            probabilities=_probabilities(one, labels),
        )
        for one in scores
        if (truth := _truth(examples[one.example], labels)) is not None
    ]
    if not labelled:
        return None
    return replace(classify(labelled, labels), left_out=len(scores) - len(labelled))
