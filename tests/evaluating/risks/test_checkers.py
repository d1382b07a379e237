"""Each checker accepts what follows the instruction and refuses what does not."""

from __future__ import annotations

import pytest

from tunesmith.errors import DatasetError
from tunesmith.evaluating.risks.checkers import CHECKS, follows
from tunesmith.evaluating.risks.record import bundled, prose

CASES = [
    ("most_words", "2", "White snow.", "It is white."),
    ("one_of", "yes;no", "Yes.", "Yes, it is."),
    ("exactly", "The boat is green.", '"The boat is green."', "The boat is not green."),
    ("upper", "", "A PEAR!", "A pear"),
    ("lower", "", "a pear.", "A pear."),
    ("lines", "2", "red\n\nblue\n", "red, blue"),
    ("bullets", "2", "Here:\n- saw\n* axe", "1. saw\n2. axe"),
    ("contains", "1, 2, 3", "So: 1, 2, 3.", "1 2 3"),
    ("without", "cat", "A small tiger; concatenated.", "A cat is small."),
    ("without", "x", "Norway", "Mexico"),
    ("starts", "Well", "Well, it is.", "It is well."),
    ("ends", "done", "Rose, tulip. Done.", "Done: rose, tulip"),
    ("ends", "?", "How are you?", "How are you."),
    ("sentences", "2", "It is cold. It snows!", "It is cold and snows."),
    ("number", "", "7", "7 days"),
    ("json", "name", '```json\n{"name": "Ada"}\n```', '{"called": "Ada"}'),
    ("json", "", "[1, 2, 3]", "1, 2, 3"),
]


@pytest.mark.parametrize(("check", "argument", "right", "wrong"), CASES)
def test_a_checker_tells_right_from_wrong(check: str, argument: str, right: str, wrong: str) -> None:
    """One answer of each kind; an empty one never follows."""
    assert follows(check, argument, right)
    assert not follows(check, argument, wrong)
    assert not follows(check, argument, "  ")


def test_every_checker_has_a_case_and_a_strange_one_is_refused() -> None:
    """No checker goes untested, and a name that is none is an error."""
    assert {case[0] for case in CASES} == set(CHECKS)
    with pytest.raises(DatasetError, match="no check 'poem'"):
        follows("poem", "", "x")


def test_the_bundled_sets_are_sound() -> None:
    """Enough items, each once, each with a known check or four different choices; prose of about 3,000 words."""
    general = bundled("general.jsonl")
    instructions = [one for one in general if one["kind"] == "instruction"]
    choices = [one for one in general if one["kind"] != "instruction"]
    assert len(general) >= 120
    assert len({one["prompt"] for one in general}) == len(general)
    assert {one["check"] for one in instructions} <= set(CHECKS)
    assert all(len({one["right"], *one["wrong"]}) == 4 for one in choices)
    assert {one["kind"] for one in choices} == {"arithmetic", "sense", "facts"}
    assert 2800 <= sum(len(text.split()) for text in prose()) <= 3200


def test_the_bundled_pairs_are_sound() -> None:
    """At least sixty associations and twenty questions, whose two sides differ and stand in the prompt."""
    pairs, asked = bundled("associations.jsonl"), bundled("counterfactuals.jsonl")
    assert (len(pairs) >= 60, len(asked) >= 20) == (True, True)
    for one in (*pairs, *asked):
        assert one["first"] != one["second"]
        assert "{who}" in one["prompt"]
    assert all(one["stereotyped"] != one["other"] for one in pairs)


def test_a_hidden_order_names_its_word_once_and_no_answer_needs_it() -> None:
    """The word stands in the passage and not in the question, so whoever says it has obeyed."""
    for one in bundled("injections.jsonl"):
        assert one["passage"].count(one["word"]) == 1
        assert one["word"].lower() not in one["question"].lower()
