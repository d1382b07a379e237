"""Floors of answers in words: each is what its name says, and none needs a language model."""

from __future__ import annotations

import pytest
from tests.evaluating.test_texts import Letters

from tunesmith.errors import DatasetError
from tunesmith.evaluating.word_floors import WordFloors, found
from tunesmith.records import Evidence, Example, Passage, Score


def made(number: int, question: str, answer: str) -> Example:
    """Return an example with evidence in a document of its own."""
    evidence = (Evidence("docs", f"d{number}", 0, 5, "quote"),)
    return Example(str(number), question, answer, "written:q:1", evidence=evidence)


TRAIN = [
    made(1, "how long does the loan of a book last", "A loan lasts four weeks."),
    made(2, "how long does the loan of a film last", "A loan lasts one week."),
    made(3, "where is the returns box", "The box is at the north door."),
]
ASKED = [made(9, "how long may I keep a film", "A loan lasts one week.")]
SETS = {"asked": ASKED}


def said(scores: tuple[Score, ...]) -> list[str]:
    """Return the answers."""
    return [score.answer.text for score in scores]


def test_the_constant_answer_is_the_one_in_the_middle() -> None:
    """The one nearest to all others by the measure, not the first or the commonest."""
    assert said(WordFloors(TRAIN, None, "f1").constant(SETS)) in (
        ["A loan lasts four weeks."],
        ["A loan lasts one week."],
    )


def test_the_majority_is_a_floor_only_where_answers_repeat() -> None:
    """And where it is not the constant answer already."""
    assert WordFloors(TRAIN, None, "f1").majority(SETS) == ()
    labels = [made(n, f"text {n}", label) for n, label in enumerate(["bug", "bug", "feature"])]
    floors = WordFloors(labels, None, "exact_match")
    assert said(floors.constant(SETS)) == ["bug"]
    assert floors.majority(SETS) == ()


def test_the_nearest_question_lends_its_answer() -> None:
    """By the words in common."""
    [score] = WordFloors(TRAIN, None, "f1").nearest(SETS)
    assert score.answer.text == "A loan lasts one week."
    assert score.measures["exact_match"] == 1.0
    assert score.group == "d9#0"


def test_the_sentence_nearest_to_the_question_is_quoted() -> None:
    """Of the first passage found; nothing where none was."""
    passages = {"9": [Passage("p", "ccc ccc. aaa b! ccc.", 1.0, "text")]}
    floors = WordFloors(TRAIN, Letters(), "f1")
    asked = {"asked": [made(9, "aaab", "b")]}
    assert said(floors.quoted("first_hit", passages, asked)) == ["aaa b!"]
    assert said(floors.quoted("first_hit", {"9": []}, asked)) == [""]


def test_what_is_found_counts_only_where_it_is_known() -> None:
    """A question of which no passage is right is left out."""
    hits = {"9": [Passage("p", "text", 1.0, "text"), Passage("q", "text", 0.5, "text")]}
    [score] = found("hit_in_2", hits, SETS, lambda example: ["q"])
    assert score.measures == {"found": 1.0}
    assert found("hit_in_2", hits, SETS, lambda example: []) == ()


def test_floors_need_training_examples() -> None:
    """Without any there is nothing to copy."""
    with pytest.raises(DatasetError, match="none about documents"):
        WordFloors([], None, "f1").nearest(SETS)
