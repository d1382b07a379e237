"""Questions by rule: true to the entry, varied by the seed, none where there is nothing to ask."""

from __future__ import annotations

import pytest

from tunesmith.catalogue import Catalogue, judge
from tunesmith.generating.derive import derive_answers
from tunesmith.generating.rules import RuleName, RuleQuestion, ask_by_rule, look_around, parameter_phrase
from tunesmith.records import Document

RULES: tuple[RuleName, ...] = ("does", "howto", "parameter", "neighbours", "see_also")


def _ask(
    catalogue: Catalogue,
    documents: tuple[Document, ...],
    rules: tuple[RuleName, ...],
    seed: int = 0,
    place: int = 0,
) -> tuple[RuleQuestion, ...]:
    answers = {answer.entry: answer for answer in derive_answers(documents, catalogue).answers}
    around = look_around(catalogue, answers, seed)
    return ask_by_rule(catalogue.entries[place], documents[place], around, rules, len(rules))


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_asks_about_its_entry(
    rule: RuleName, catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """Each rule's answer calls the entry that the question is about."""
    (asked,) = _ask(catalogue, documents, (rule,))

    assert asked.rule == rule
    assert judge(asked.answer, ("shapes.area",), catalogue).verdict == "exact"
    subject = {"parameter": "the name of the unit of length", "howto": "get the area of a shape"}
    assert (
        subject.get(rule, "returns the area of a shape") in asked.question or "get the area" in asked.question
    )


def test_the_parameter_rule_shows_the_parameter(
    catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """The answer says which parameter it is, calls with it, and quotes its description."""
    (asked,) = _ask(catalogue, documents, ("parameter",))

    assert asked.answer == (
        "`shapes.area` takes the name of the unit of length as `unit`.\n\n"
        "```python\nimport shapes as sh\n\nsh.area(shape, unit=unit)\n```"
    )
    assert asked.evidence[0].quote == "Name of the unit of length"


def test_other_seeds_ask_in_other_words(catalogue: Catalogue, documents: tuple[Document, ...]) -> None:
    """The seed picks among surface forms, and the same seed picks the same."""
    asked = [_ask(catalogue, documents, ("does",), seed)[0].question for seed in range(20)]

    assert len(set(asked)) == 4
    assert asked == [_ask(catalogue, documents, ("does",), seed)[0].question for seed in range(20)]


def test_a_method_is_asked_for_with_its_class(catalogue: Catalogue, documents: tuple[Document, ...]) -> None:
    """Several classes have a method that does the same: the question says whose it is."""
    (asked,) = _ask(catalogue, documents, ("does",), place=3)

    assert "method of `Polygon`" in asked.question


def test_rules_with_nothing_to_ask_are_passed_over(
    catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """A class without parameters described, neighbours or see-also entries is only asked what it does."""
    assert [asked.rule for asked in _ask(catalogue, documents, RULES, place=2)] == ["does"]


@pytest.mark.parametrize(
    ("description", "phrase"),
    [
        ("Starting node for path. If not given, all.", "the starting node for path"),
        ("A graph with weights (default: None).", "a graph with weights"),
        ("List of nodes to draw, optional.", "the list of nodes to draw"),
        ("If True, return the lengths.", None),
        ("Ensure connectivity for the graph.", None),
        ("Specifies the weight.", None),
        ("Weight", None),
        ("", None),
    ],
)
def test_only_noun_phrases_describe_what_a_parameter_takes(description: str, phrase: str | None) -> None:
    """A noun phrase gets its article; instructions and conditions are no such phrase."""
    assert parameter_phrase(description) == phrase
