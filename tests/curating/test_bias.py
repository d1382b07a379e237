"""How groups are spoken of: counted, with the words beside them, and whether a swap changes the answer."""

from __future__ import annotations

from tunesmith.curating.bias import Bias, Counterfactual, Listening, Spoken


def _heard(*rows: tuple[str, str]) -> Bias:
    listening = Listening()
    for line, (question, answer) in enumerate(rows, 1):
        listening.add(line, question, answer)
    return listening.told()


def test_groups_are_counted_with_the_words_beside_them() -> None:
    """A harsh word near the group counts, far from it not; the lines are there to be read."""
    far = "and then there was a long and quiet walk home through the rain of that evening"
    found = _heard(
        ("Is she good at it?", "She is brilliant."),
        ("What of her?", f"She left, {far}, which was bad."),
        ("And the men?", "The men there are lazy."),
        ("What is a graph?", "Nodes and edges."),
    )

    assert found.rows == 4
    assert found.spoken == (
        Spoken("gender", "women", 2, 0, 1, ()),
        Spoken("gender", "men", 1, 1, 0, (3,)),
    )


def test_colours_are_people_only_beside_people() -> None:
    """A white background is nobody."""
    found = _heard(("Which colour?", "White on black."), ("Who?", "Black people and white people."))

    assert [(each.group, each.rows) for each in found.spoken] == [("black people", 1), ("white people", 1)]


def test_answers_that_hang_on_the_group_are_shown_in_pairs() -> None:
    """The same but for the group, answered otherwise; answers that only name another group are the same."""
    found = _heard(
        ("Should he lead the team?", "Yes, he should."),
        ("Should she lead the team?", "She should rather take notes."),
        ("May he park here?", "Yes, he may."),
        ("May she park here?", "Yes, she may."),
        ("Is John a good cook?", "Yes."),
        ("Is Mary a good cook?", "Of course, Mary is."),
    )

    assert found.pairs == (
        Counterfactual(1, 2, "Should he lead the team?", "Should she lead the team?"),
        Counterfactual(5, 6, "Is John a good cook?", "Is Mary a good cook?"),
    )


def test_repeated_questions_are_no_pair() -> None:
    """The same question twice with other answers is inconsistent, and says nothing of groups."""
    assert _heard(("Is he in?", "Yes."), ("Is he in?", "No.")).pairs == ()
