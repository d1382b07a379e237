"""What a model forgot shows, and what it kept does not."""

from __future__ import annotations

import math

import pytest
from tests.evaluating.risks.conftest import FakeTelling

from tunesmith.evaluating.risks import Material, Risk, RisksSettings, Seen, Subject, judge, look
from tunesmith.evaluating.risks.record import bundled, prose
from tunesmith.models.fake import FakeModel
from tunesmith.records import Answer, Conversation, Example, Score

SETTINGS = RisksSettings(checks=("forgetting",))
RIGHT = {one["prompt"]: one["right"] for one in bundled("general.jsonl") if "right" in one}


def knows(prompt: str, answer: str) -> float:
    """Think the right choice likely, and prose as likely as a word in eight."""
    if prompt in RIGHT:
        return -0.01 * len(answer) if answer == RIGHT[prompt] else -1.0 * len(answer)
    return -math.log(8)


def knows_no_sums(prompt: str, answer: str) -> float:
    """Think a wrong sum the likeliest, and prose half as likely."""
    kind = next((one["kind"] for one in bundled("general.jsonl") if one["prompt"] == prompt), "")
    if kind == "arithmetic":
        return -0.01 * len(answer) if answer != RIGHT[prompt] else -1.0 * len(answer)
    return knows(prompt, answer) * (2 if not kind else 1)


def obedient(conversation: Conversation) -> str:
    """Say what some of the instructions want."""
    asked = conversation[-1].content
    if "capital letters" in asked:
        return "RIVER"
    return (
        "yes"
        if "yes or no" in asked
        else "I would rather talk about something else, and at some length at that."
    )


def looked(before: Subject, after: Subject, material: Material | None = None) -> dict[str, Risk]:
    """Return the figures of two models by name."""
    given = material or Material()
    seen = [
        look(subject, "forgetting", given, SETTINGS, contender=name)
        for subject, name in ((before, "base"), (after, "tuned"))
    ]
    made = judge({"forgetting": seen[0]}, {"forgetting": seen[1]}, given, SETTINGS, names=("one", "other"))
    return {one.name: one for one in made.risks}


KNOWING = Subject(FakeModel(obedient, "one"), FakeTelling(knows))


def test_what_was_forgotten_is_marked_and_what_was_kept_is_not() -> None:
    """Sums are lost, facts and instructions kept, and the perplexity of prose goes from 8 to 64."""
    found = looked(KNOWING, Subject(FakeModel(obedient, "other"), FakeTelling(knows_no_sums)))

    shares = {name: (one.before, one.after) for name, one in found.items() if one.unit == "share"}
    assert {name: (was and was.value, now and now.value) for name, (was, now) in shares.items()} == {
        "instructions followed": (pytest.approx(11 / 44), pytest.approx(11 / 44)),
        "arithmetic": (1, 0),
        "common sense": (1, 1),
        "facts": (1, 1),
    }
    perplexity = found["perplexity of prose"]
    assert perplexity.before is not None
    assert perplexity.after is not None
    assert perplexity.before.value == pytest.approx(8)
    assert perplexity.after.value == pytest.approx(64)
    assert {name for name, one in found.items() if one.clear} == {
        "arithmetic",
        "perplexity of prose",
        "bits per byte of prose",
    }


def test_bits_are_counted_by_byte() -> None:
    """A model of three bits a word has three bits times words over bytes."""
    found = looked(KNOWING, KNOWING)["bits per byte of prose"]

    words = sum(len(text.split()) for text in prose())
    size = sum(len(text.encode()) for text in prose())
    assert found.after is not None
    assert found.after.value == pytest.approx(3 * words / size)
    assert not found.clear


def test_a_service_is_asked_for_instructions_alone() -> None:
    """What needs likelihoods is named as not measured."""
    served = Subject(FakeModel(obedient, "service"), None)
    seen = look(served, "forgetting", Material(), SETTINGS, contender="base")

    made = judge({"forgetting": seen}, {"forgetting": seen}, Material(), SETTINGS, names=("a", "b"))

    assert [one.name for one in made.risks] == ["instructions followed"]
    assert {each.why for each in made.unmeasured} == {"A service tells no likelihoods."}
    assert len(made.unmeasured) == 5


def test_regressions_come_from_the_evaluation() -> None:
    """A question that base got right and the tuned model does not is listed with both calls."""
    questions = {
        f"q{i}": Example(f"q{i}", f"How {i}?", "", "written:q:1", f"e{i}", (f"e{i}",)) for i in range(4)
    }

    def score(contender: str, number: int, exact: bool) -> Score:
        verdict, called = ("exact", "right") if exact else ("hallucinated", "wrong")
        return Score(contender, "asked", f"q{number}", f"e{number}", verdict, called, Answer(""))  # type: ignore[arg-type]

    scores = tuple(
        score(name, number, exact)
        for name, right in (("base", (True, True, False, False)), ("tuned", (False, True, True, True)))
        for number, exact in enumerate(right)
    )
    found = looked(KNOWING, KNOWING, Material(scores=scores, questions=questions))["exact calls on asked"]

    assert (found.before and found.before.value, found.after and found.after.value) == (0.5, 0.75)
    assert [(row.item, row.said_before, row.said_after) for row in found.rows] == [
        ("How 0?", "right", "wrong")
    ]
    assert "1 were right before and are wrong now, 2 the other way" in found.about


def test_models_that_tell_of_different_items_are_compared_on_those_of_both() -> None:
    """An item that only one side has is left out of both."""
    one, other = (
        [Seen("facts", item, 1.0) for item in items] for items in (("a", "b", "c"), ("b", "c", "d"))
    )

    made = judge({"forgetting": one}, {"forgetting": other}, Material(), SETTINGS, names=("a", "b"))

    assert [risk.n for risk in made.risks] == [2]
