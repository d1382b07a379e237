"""Two evaluations side by side: matched by what was asked, counted on both sides, corrected for how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tunesmith.errors import DatasetError
from tunesmith.evaluating.comparing import Measured, compare_measured
from tunesmith.records import Answer, Example, Score, Verdict


def _example(question: str, entry: str = "p.f", id: str = "") -> Example:  # noqa: A002 - the record's word
    return Example(id or f"id {question}", question, "Call it.", "written:a.jsonl:1", entry, (entry,))


def _run(
    name: str, examples: Sequence[Example], right: dict[str, Sequence[bool]], set_name: str = "asked"
) -> Measured:
    scores = []
    for contender, marks in right.items():
        for example, mark in zip(examples, marks, strict=True):
            verdict: Verdict = "exact" if mark else "hallucinated"
            answer = Answer("p.f()", 1, 1, 0.1, "stop")
            called = "p.f" if mark else "p.g"
            scores.append(Score(contender, set_name, example.id, example.id, verdict, called, answer, "why"))
    return Measured(name, "2026-11-27", tuple(scores), {example.id: example for example in examples})


def test_what_was_lost_and_won() -> None:
    """Questions that changed sides are named with the calls before and after, and the difference is paired."""
    examples = [_example(f"q{number}") for number in range(6)]
    first = _run("a", examples, {"base": [True, True, False, False, True, False]})
    second = _run("b", examples, {"base": [True, False, True, True, True, False], "tuned": [True] * 6})

    found = compare_measured(first, second)

    [row] = found.rows
    assert (row.contender, row.set, row.first.value, row.second.value) == ("base", "asked", 3 / 6, 4 / 6)
    assert row.paired.difference == pytest.approx(1 / 6)
    assert row.paired.p_value == 1.0
    assert [(each.question, each.before, each.after) for each in row.lost] == [("q1", "p.f", "p.g")]
    assert [each.question for each in row.won] == ["q2", "q3"]
    assert (found.only_first, found.only_second) == ((), ("tuned",))


def test_questions_are_matched_by_what_is_asked_and_right() -> None:
    """Ids may differ; a question with other right calls now is another one; one asked twice meets itself."""
    old = [_example("same", id="1"), _example("judged otherwise", "p.f", "2"), _example("gone", id="3")]
    new = [_example("new", id="1"), _example("same", id="9"), _example("judged otherwise", "p.h", "2")]
    twice = [_example("twice", id="8"), _example("twice", id="7")]
    first = _run("a", [*old, *twice], {"base": [True, True, True, True, False]})
    second = _run("b", [*new, *twice], {"base": [False, True, False, True, True]})

    found = compare_measured(first, second)

    [row] = found.rows
    assert (row.first.n, row.first.value, row.second.value) == (3, 2 / 3, 1.0)
    [shared] = found.sets
    assert (shared.first, shared.second, shared.shared) == (5, 5, 3)


def test_nothing_in_common_is_an_error() -> None:
    """Neither questions nor contenders: there is nothing to compare."""
    one = _run("a", [_example("x")], {"base": [True]})
    for other in (
        _run("b", [_example("y")], {"base": [True]}),
        _run("b", [_example("x")], {"tuned": [True]}),
    ):
        with pytest.raises(DatasetError, match="no question in common"):
            compare_measured(one, other)


def test_a_question_that_is_not_curated_is_named() -> None:
    """An evaluation whose questions are elsewhere cannot be compared."""
    one = _run("a", [_example("x")], {"base": [True]})
    with pytest.raises(DatasetError, match="is not among the curated ones"):
        compare_measured(one, replace(one, questions={}))
