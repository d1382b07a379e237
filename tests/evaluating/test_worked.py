"""Worked examples are picked by rule, and regressions are never left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tunesmith.evaluating.worked import choose
from tunesmith.records import Example, Score

MakeScores = Callable[..., tuple[Score, ...]]


def questions(count: int) -> list[Example]:
    """Return the questions that `scores` answers."""
    return [
        Example(f"q{i}", f"question {i}", "answer", "written:x:1", entry="networkx.center")
        for i in range(count)
    ]


def test_each_kind_has_its_share(scores: MakeScores) -> None:
    """Of plenty of each kind there are four fixed, two regressions, two all wrong, one right, one mixed."""
    wrong, right = "v" * 10, "x" * 10
    rows = (
        *scores("base", wrong + right + wrong + right + wrong),
        *scores("retrieval", wrong + wrong + wrong + right + right),
        *scores("tuned", right + wrong + wrong + right + wrong),
    )
    chosen = choose(rows, questions(50), before="base", after="tuned")
    assert [one.lesson for one in chosen] == [
        *["fixed"] * 4,
        *["regression"] * 2,
        *["all wrong"] * 2,
        "all right",
        "mixed",
    ]
    for one in chosen:
        assert [score.contender for score in one.scores] == ["base", "retrieval", "tuned"]
        assert {score.example for score in one.scores} == {one.example.id}


def test_a_kind_with_too_few_is_made_up_for(scores: MakeScores) -> None:
    """Ten are shown as long as there are ten questions, and all of them where there are fewer."""
    rows = (*scores("base", "v" * 11 + "x"), *scores("tuned", "v" * 12))
    chosen = choose(rows, questions(12), before="base", after="tuned")
    assert Counter(one.lesson for one in chosen) == {"regression": 1, "all wrong": 9}
    assert len(choose(rows, questions(3), before="base", after="tuned")) == 3


def test_the_choice_depends_on_nothing_but_the_questions(scores: MakeScores) -> None:
    """Another order of questions and scores gives the same choice, not simply the first questions."""
    rows = (*scores("base", "v" * 60), *scores("tuned", "x" * 60))
    first = choose(rows, questions(60), before="base", after="tuned")
    again = choose(rows, questions(60)[::-1], before="base", after="tuned")
    assert first == again
    assert [one.example.id for one in first] != [f"q{i}" for i in range(10)]


def test_a_question_that_one_was_not_asked_is_left_out(scores: MakeScores) -> None:
    """Only questions with every contender's answer can be shown side by side."""
    rows = (*scores("base", "vv"), *scores("tuned", "x"))
    assert [one.example.id for one in choose(rows, questions(3), before="base", after="tuned")] == ["q0"]
    assert choose((), questions(3), before="base", after="tuned") == ()
