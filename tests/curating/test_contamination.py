"""Leaks between sets, and how far a test set is from the training questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tunesmith.curating.benchmarks import Benchmark, Hit
from tunesmith.curating.contamination import (
    Distance,
    Leak,
    distance,
    find_leaks,
    leaks_in_meaning,
    named_unseen,
)
from tunesmith.records import Evidence, Example

Make = Callable[..., Example]

SENTENCE = "in my road network I need the fastest way from the depot to all the shops"


def test_leaks_are_found_by_equality_runs_and_words(make: Make) -> None:
    """Each likeness has its name and its similarity; what is not alike is no leak."""
    test = make(1, SENTENCE)
    train = [
        make(1, SENTENCE.upper() + "?", "written:a:2"),
        make(2, f"{SENTENCE} {' '.join(f'word{n}' for n in range(30))}", "written:a:3"),
        make(3, " ".join(reversed(SENTENCE.split())), "written:a:4"),
        make(4, "something else", "written:a:5"),
    ]

    leaks = find_leaks("asked", [test], train, run_length=8, similarity=0.85)

    assert [(leak.train, leak.likeness) for leak in leaks] == [
        (train[0].id, "same question"),
        (train[1].id, "shared run of words"),
        (train[2].id, "most words shared"),
    ]
    assert leaks[0] == Leak(
        "asked", test.id, test.question, train[0].id, train[0].question, "same question", 1.0
    )


def test_the_length_of_a_run_and_the_similarity_are_settings(make: Make) -> None:
    """A longer run or a higher similarity lets more pass."""
    test, train = make(1, "one two three four five six"), [make(1, "one two three four seven", "written:a:2")]

    assert len(find_leaks("seen", [test], train, run_length=4, similarity=1)) == 1
    assert len(find_leaks("seen", [test], train, run_length=5, similarity=0.5)) == 1
    assert find_leaks("seen", [test], train, run_length=5, similarity=0.6) == ()


def test_two_questions_by_rule_may_share_their_docstring(make: Make) -> None:
    """Only the same question counts between two that rules made."""
    test = make(1, f"Which function: {SENTENCE}?", "rule:does")
    near, same = (
        make(1, f"How: {SENTENCE}?", "rule:howto"),
        make(2, f"which function {SENTENCE}", "rule:does"),
    )

    assert [
        leak.train for leak in find_leaks("seen", [test], [near, same], run_length=8, similarity=0.5)
    ] == [same.id]


def test_an_unseen_entry_is_found_wherever_it_is_named(make: Make) -> None:
    """In the question, the answer, the acceptable list or the evidence; a longer name is another one."""
    unseen = {"many.f_2"}
    quoted = (Evidence("s", "d1", 0, 8, "see many.f_2"),)

    assert named_unseen(make(1, "Use `many.f_1` or `many.f_2`?"), unseen) == "many.f_2"
    assert named_unseen(make(2, "How is it?"), unseen) == "many.f_2"
    assert named_unseen(make(1, "How is it?", acceptable=("many.f_1", "many.f_2")), unseen) == "many.f_2"
    assert named_unseen(make(1, "How is it?", evidence=quoted), unseen) == "many.f_2"
    assert named_unseen(make(1, "Use `many.f_22`?"), unseen) is None


def test_the_distance_is_that_to_the_nearest_question(make: Make) -> None:
    """Mean and median are over 1 - Jaccard; new words are those no training question of the entry has."""
    train = [make(1, "count green apples", "written:a:2"), make(2, "peel ripe bananas", "written:a:3")]
    tests = [make(1, "count green apples"), make(1, "peel green bananas"), make(3, "open doors")]

    assert distance("asked", tests, train) == Distance("asked", 3, 0.5, 0.5, round((0 + 2 / 3 + 1) / 3, 4))
    assert distance("asked", [], train) is None
    assert distance("asked", tests, []) is None


# --- benchmarks, and meanings


ROWS = [
    "How many apples has Tom after he gave three of his seven apples to his sister Ann? Four.",
    "Choose the best answer. What is the capital of the country that lies between Spain and Andorra's other neighbour?",
    "Choose the best answer. Which gas do plants take from the air that they stand in during the day?",
    "Why not now?",
]


def test_a_benchmarks_rows_are_found_by_a_run_of_words() -> None:
    """Whatever stands around it, in other spelling; a short row must be there whole."""
    benchmark = Benchmark.of("quiz.txt", ROWS)

    assert benchmark.length == 13
    hit = benchmark.first_hit(
        "He asks: HAS Tom, after he gave three of his seven apples to his sister, any left?"
    )
    assert hit == Hit("quiz.txt", 1, "has tom after he gave three of his seven apples to his sister")
    assert benchmark.first_hit("Tom gave three of his apples to Ann.") is None
    assert benchmark.first_hit("Why not now, or later?") is None  # three words are no row


def test_what_many_rows_have_says_nothing() -> None:
    """A form that a benchmark repeats is found in honest data."""
    rows = [
        f"Read the passage and then answer the question about it with one word. Item {n}?" for n in range(9)
    ]

    assert Benchmark.of("forms.txt", rows).first_hit(rows[0].replace("Item", "Piece")) is None


def test_the_length_follows_the_rows() -> None:
    """Long rows are told by longer runs."""
    assert (
        Benchmark.of("long.txt", [" ".join(f"w{n}x{m}" for n in range(40)) for m in range(30)]).length == 13
    )


class ByEnd:
    """An encoder for which questions of one last letter mean the same."""

    name = "ends"

    def embed(self, texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Return a vector of length one for each text."""
        return np.eye(128, dtype=np.float32)[[ord(text[-1]) for text in texts]]


def test_leaks_in_meaning_are_told_beside_those_in_words(make: Make) -> None:
    """But not those that are known already, nor between two rules."""
    train = (make(1, "how is it a"), make(1, "where is it b"), make(1, "rule of c", "rule:does"))
    tests = (make(1, "what was there b"), make(1, "another rule c", "rule:howto"))

    [leak] = leaks_in_meaning([("asked", tests)], train, ByEnd(), 0.9)

    assert (leak.test, leak.train, leak.likeness) == (tests[0].id, train[1].id, "same meaning")
    assert leaks_in_meaning([("asked", tests)], train, ByEnd(), 0.9, known=[leak]) == ()
    assert leaks_in_meaning([("asked", tests)], (), ByEnd(), 0.9) == ()
