"""Measures of answers in words: against sacrebleu, SQuAD's rules, and answers whose worth is plain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunesmith.evaluating.texts import (
    MEASURES,
    abstains,
    chrf,
    citations,
    cited,
    exact_match,
    measure,
    rouge_l,
    similarities,
    token_f1,
)


class Letters:
    """An encoder by counts of letters."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row a text."""
        rows = np.array(
            [[*(text.count(letter) for letter in "abc"), 1e-3] for text in texts], dtype=np.float32
        )
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("The Retry limit is five.", "retry limit is five", 1.0, 1.0),
        ("five", "Five!", 1.0, 1.0),
        ("It is five retries", "five retries", 0.0, 2 * 2 / (4 + 2)),
        ("five five", "five", 0.0, 2 * 1 / 3),
        ("", "five", 0.0, 0.0),
        ("the", "a", 1.0, 1.0),
        ("seven", "five", 0.0, 0.0),
    ],
)
def test_squads_rules(answer: str, reference: str, exact: float, f1: float) -> None:
    """Case, punctuation and articles do not count; a word counts as often as both have it."""
    assert exact_match(answer, reference) == exact
    assert token_f1(answer, reference) == pytest.approx(f1)


def test_rouge_l_is_of_the_longest_common_subsequence() -> None:
    """Lin's own example: of "police killed the gunman", "the gunman kill police" shares two words in order."""
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(0.5)


def test_chrf_is_sacrebleus() -> None:
    """The figure is that of the package whose figures papers report."""
    from sacrebleu import sentence_chrf

    pairs = [("the cat sat on the mat", "a cat sat on a mat"), ("ok", "okay then"), ("", "abc"), ("x", "x")]
    for answer, reference in pairs:
        assert chrf(answer, reference) == pytest.approx(sentence_chrf(answer, [reference]).score / 100)


@given(st.text(max_size=60), st.text(max_size=60))
def test_all_measures_lie_between_nothing_and_all(answer: str, reference: str) -> None:
    """Whatever the texts are; and a text is itself."""
    [values] = measure([answer], [reference])
    assert all(0 <= value <= 1 for value in values.values())
    [same] = measure([reference], [reference])
    assert same["f1"] == same["exact_match"] == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "I don't know.",
        "The documents do not say who checks it.",
        "This is not mentioned in the handbook.",
        "There is no information about that.",
        "",
        "That cannot be determined from the passages.",
    ],
)
def test_abstentions_are_seen(answer: str) -> None:
    """At the beginning, by a list of phrases whose subject is the speaker, the material or the question."""
    assert abstains(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Five.",
        "The limit is five. I do not know more.",
        "Call the office, which knows.",
        "Say no to it.",
        "If the timeout is not specified, the default of 30 seconds is used.",
        "ModuleNotFoundError is raised when a module cannot be found.",
        "No, the graph does not contain a cycle.",
        "A frozenset does not contain mutable items.",
    ],
)
def test_answers_are_no_abstentions(answer: str) -> None:
    """What is said after an answer does not take it back."""
    assert not abstains(answer)


def test_a_question_that_cannot_be_answered_wants_an_abstention() -> None:
    """There an abstention is worth all, however it is worded, and an answer nothing, however likely it sounds."""
    reference = "The documents do not say."
    right, wrong = measure(["I do not know.", "The documents do say: five."], [reference] * 2, Letters())
    assert {right[name] for name in MEASURES} == {1.0}
    assert {wrong[name] for name in MEASURES} == {0.0}
    assert (right["rightly_abstained"], wrong["rightly_abstained"]) == (1.0, 0.0)
    [declined] = measure(["I do not know."], ["five"])
    assert declined["wrongly_abstained"] == 1.0


def test_similarity_is_a_cosine_and_nothing_for_an_empty_answer() -> None:
    """Of the encoder's vectors; an answer that is not there is like nothing."""
    assert similarities(["aab", "c", ""], ["aab", "ab", "a"], Letters()) == pytest.approx(
        [1.0, 0.0, 0.0], abs=1e-5
    )


def test_citations_are_held_against_the_right_passages() -> None:
    """A number that no passage has is a wrong citation; recall counts the right ones that were shown."""
    assert cited("So it is [2, 1], and so [2]; but not [x], nor `rows[3]` or a[0][4].") == (2, 1)
    shown = ["p", "q", "r"]
    assert citations("It is five [2].", shown, ["q"]) == {"citation_precision": 1.0, "citation_recall": 1.0}
    assert citations("It is five [1] [2] [9].", shown, ["q"])["citation_precision"] == pytest.approx(1 / 3)
    assert citations("It is five.", shown, ["q"]) == {"citation_recall": 0.0}
    assert citations("It is five.", shown, ["z"]) == {}
    assert citations("It is five [1].", shown, []) == {}
