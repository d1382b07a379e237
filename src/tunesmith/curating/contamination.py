"""Test questions that stand in the training set, and how far each test set is from it in words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from tunesmith.curating.similarity import OverlapIndex, content_words, fold, runs
from tunesmith.curating.split import by_rule
from tunesmith.models.base import Encoder
from tunesmith.records import Example

Likeness = Literal["same question", "shared run of words", "most words shared", "same meaning"]


@dataclass(frozen=True, slots=True)
class Leak:
    """A training question that gives a test question away: how, and their Jaccard similarity."""

    set: str
    test: str
    test_question: str
    train: str
    train_question: str
    likeness: Likeness
    similarity: float


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a test set's questions are from the training questions: 0 the same, 1 no word in common.

    `mean` and `median` are over 1 - the largest Jaccard similarity of words to any training question;
    `new_words` is the share of a question's content words that no training question about its entry has.
    """

    set: str
    n: int
    mean: float
    median: float
    new_words: float


def find_leaks(
    name: str, tests: Sequence[Example], train: Sequence[Example], *, run_length: int, similarity: float
) -> tuple[Leak, ...]:
    """Return every pair of a test and a training question that are too alike, in the tests' order.

    That is: the same when folded, sharing a run of `run_length` words, or a Jaccard similarity of their words
    of at least `similarity`. Two questions made by rule share their docstring's words by nature: only the
    same question counts between them.
    """
    index = OverlapIndex(row.question for row in train)
    folded = [fold(row.question) for row in train]
    with_run: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, row in enumerate(train):
        for run in runs(row.question, run_length):
            with_run[run].append(number)
    leaks: list[Leak] = []
    for test in tests:
        similarities = index.similarities(test.question)
        question = fold(test.question)
        sharing = {number for run in runs(test.question, run_length) for number in with_run.get(run, ())}
        near = {int(number) for number in (similarities >= similarity).nonzero()[0]}
        for number in sorted(sharing | near):
            same = folded[number] == question
            if not same and by_rule(test) and by_rule(train[number]):
                continue
            likeness: Likeness = (
                "same question"
                if same
                else "shared run of words"
                if number in sharing
                else "most words shared"
            )
            leaks.append(_leak(name, test, train[number], likeness, float(similarities[number])))
    return tuple(leaks)


def leaks_in_meaning(
    sets: Iterable[tuple[str, Sequence[Example]]],
    train: Sequence[Example],
    encoder: Encoder,
    threshold: float,
    *,
    known: Sequence[Leak] = (),
) -> tuple[Leak, ...]:
    """Return every pair of a test and a training question whose embeddings have a cosine of at least `threshold`.

    Pairs that are `known`, and two questions made by rule, are left out; a leak's similarity is the cosine.
    """
    if not train:
        return ()
    told = {(leak.test, leak.train) for leak in known}
    train_T_D = encoder.embed([row.question for row in train])
    found: list[Leak] = []
    for name, tests in sets:
        if not tests:
            continue
        cosines = encoder.embed([test.question for test in tests]) @ train_T_D.T
        for test, row in zip(*(cosines >= threshold).nonzero(), strict=True):
            one, other = tests[int(test)], train[int(row)]
            if (one.id, other.id) not in told and not (by_rule(one) and by_rule(other)):
                found.append(_leak(name, one, other, "same meaning", float(cosines[test, row])))
    return tuple(found)


def _leak(name: str, test: Example, train: Example, likeness: Likeness, similarity: float) -> Leak:
    return Leak(name, test.id, test.question, train.id, train.question, likeness, round(similarity, 4))


def named_unseen(example: Example, unseen_entries: Iterable[str]) -> str | None:
    """Return the first unseen entry that an example accepts or names, in its evidence too; None of none."""
    texts = (example.question, example.answer, *(piece.quote for piece in example.evidence))
    named = {path for text in texts for path in re.findall(r"\w+(?:\.\w+)+", text)} | set(example.acceptable)
    return next((entry for entry in sorted(unseen_entries) if entry in named), None)


def distance(name: str, tests: Sequence[Example], train: Sequence[Example]) -> Distance | None:
    """Return how far the test set is from the training questions; None of an empty set or training set."""
    if not tests or not train:
        return None
    index = OverlapIndex(row.question for row in train)
    known: dict[str, set[str]] = defaultdict(set)
    for row in train:
        known[row.group] |= content_words(row.question)
    nearest = [1 - float(index.similarities(test.question).max()) for test in tests]
    return Distance(
        name,
        len(tests),
        round(fmean(nearest), 4),
        round(median(nearest), 4),
        round(fmean(_share_of_new(content_words(test.question), known[test.group]) for test in tests), 4),
    )


def _share_of_new(asked: frozenset[str], known: set[str]) -> float:
    return len(asked - known) / len(asked) if asked else 0.0
