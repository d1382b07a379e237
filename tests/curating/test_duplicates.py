"""Duplicates: the same question is kept once, contradictions are kept out, neighbours stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tunesmith.curating.duplicates import deduplicate, without_same_meaning
from tunesmith.records import Example

Make = Callable[..., Example]


def test_the_same_question_is_kept_once_a_persons_first(make: Make) -> None:
    """Folded equality counts; a person's question stays, whatever the order, and both are shown."""
    by_rule = make(1, "How do I do it?", "rule:howto")
    by_teacher = make(1, "how do I do it", "teacher:fake")
    by_person = make(1, "How  do I DO it?!")

    made = deduplicate([by_rule, by_teacher, by_person], 0.85)

    assert made.kept == (by_person,)
    assert [(found.rule, found.item) for found in made.rejections] == [
        ("duplicate", by_rule.id),
        ("duplicate", by_teacher.id),
    ]
    assert made.rejections[0].detail == (
        "'How do I do it?' (rule:howto, many.f_1) repeats "
        "'How  do I DO it?!' (written:train.jsonl:1, many.f_1)"
    )


def test_one_question_with_two_answers_is_kept_out_and_both_are_named(make: Make) -> None:
    """A model cannot learn both; who is right is for a person to say."""
    one, other = make(1, "How do I do it?"), make(2, "how do i do it")

    made = deduplicate([one, other], 0.85)

    assert made.kept == ()
    assert [(found.rule, found.item) for found in made.rejections] == [
        ("contradiction", one.id),
        ("contradiction", other.id),
    ]
    assert "many.f_1" in made.rejections[0].detail
    assert "many.f_2" in made.rejections[0].detail


def test_answers_that_accept_each_other_do_not_contradict(make: Make) -> None:
    """The first of two equal questions stays; accepting in one direction alone is a contradiction."""
    both = ("many.f_1", "many.f_2")
    one, other = make(1, "How do I do it?", acceptable=both), make(2, "How do I do it?", acceptable=both)
    alone = make(2, "How do I do it?")

    assert deduplicate([one, other], 0.85).kept == (one,)
    assert deduplicate([one, alone], 0.85).kept == ()


def test_nearly_the_same_question_goes_if_it_is_about_the_same_entry(make: Make) -> None:
    """The threshold decides; the one word between two entries' questions is the one that matters."""
    one = make(1, "please tell me how many nodes there are")
    near = make(1, "please tell me how many nodes there were")
    other = make(2, "please tell me how many edges there are")

    assert deduplicate([one, near, other], 0.75).kept == (one, other)
    assert deduplicate([one, near, other], 0.85).kept == (one, near, other)
    assert deduplicate([one, near, other], 0.75).rejections[0].rule == "near duplicate"


class ByLength:
    """An encoder for which texts of one length mean the same."""

    name = "lengths"

    def embed(self, texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Return a vector of length one for each text."""
        return np.eye(200, dtype=np.float32)[[len(text) for text in texts]]


def test_questions_of_one_meaning_about_one_entry_are_one(make: Make) -> None:
    """A person's stays before a rule's; about another entry the same meaning is another question."""
    rule = make(1, "how is it made", "rule:howto")
    written = make(1, "where is it at")
    other = make(2, "when is it done")

    found = without_same_meaning((rule, written, other), ByLength(), 0.9)

    assert found.kept == (written, other)
    [rejection] = found.rejections
    assert (rejection.rule, rejection.item) == ("same meaning", rule.id)
    assert "where is it at" in rejection.detail
