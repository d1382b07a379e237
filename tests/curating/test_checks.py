"""Checks: each rule catches what it is for, under its name, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunesmith.catalogue import Catalogue
from tunesmith.curating.checks import CHECKS, PASSED, Failure, check, one_sentence, remarks
from tunesmith.curating.privacy import PrivacySettings
from tunesmith.records import Document, Evidence, Example

Make = Callable[..., Example]
Package = tuple[dict[str, Document], Catalogue]


@pytest.fixture
def package(catalogue: Catalogue, documents: tuple[Document, ...]) -> Package:
    """Return what examples are checked against."""
    return {document.id: document for document in documents}, catalogue


GOOD = "`many.f_1` does it.\n\n```python\nimport many\n\nmany.f_1(x)\n```"


def test_a_good_example_passes_every_check(make: Make, package: Package) -> None:
    """What generating makes is kept."""
    assert check(make(1, "How do I do it?"), *package) is None


@pytest.mark.parametrize(
    ("question", "changed", "failure"),
    [
        ("Eh?", {}, Failure("question too short", "1 words, at least 2 make a question")),
        (
            "why " * 151,
            {},
            Failure("too long", "the question has 604 characters, at most 600 are allowed"),
        ),
        (
            "How is it?",
            {"answer": "x" * 1501},
            Failure("too long", "the answer has 1501 characters, at most 1500 are allowed"),
        ),
        (
            "How is\x00 it?",
            {},
            Failure("words", "control character: U+0000, which nobody sees: 'How is\\x00 it?'"),
        ),
        (
            "How is \ufffd it?",
            {},
            Failure("words", "encoding: U+FFFD, where bytes could not be read: 'How is � it?'"),
        ),
        ("What is f_1 for?", {}, Failure("names the function", "the question says 'f_1'")),
        (
            "How is it?",
            {"answer": "Call many.f_1(x)."},
            Failure("answer form", "the answer is not a sentence and one fenced Python block"),
        ),
        (
            "How is it?",
            {"answer": GOOD.replace("does it.", "does it. It is good.")},
            Failure("answer form", "not one sentence: '`many.f_1` does it. It is good.'"),
        ),
        (
            "How is it?",
            {"answer": GOOD.replace("many.f_1(x)", "many.f_2(x)")},
            Failure("call not exact", "valid: exists and binds, but is not what was asked for"),
        ),
        (
            "How is it?",
            {"evidence": (Evidence("python:many", "d1", 0, 3, "f_2"),)},
            Failure("evidence not in the source", "d1, 0 to 3, does not read 'f_2'"),
        ),
        (
            "How is it?",
            {"evidence": (Evidence("python:many", "gone", 0, 3, "f_1"),)},
            Failure("evidence not in the source", "the document 'gone' is not there"),
        ),
    ],
)
def test_a_bad_example_fails_under_the_rules_name(
    make: Make, package: Package, question: str, changed: dict[str, object], failure: Failure
) -> None:
    """The failure names the rule and the place."""
    assert check(make(1, question, **changed), *package) == failure


def test_a_rule_may_name_the_function(make: Make, package: Package) -> None:
    """Which of two functions to use cannot be asked without their names."""
    example = make(1, "Should I use `many.f_1` or `many.f_2`?", "rule:neighbours")

    assert check(example, *package) is None


@pytest.mark.parametrize(
    ("text", "single"),
    [
        ("`a.b` does it.", True),
        ("`a.b` takes e.g. Alice (0.5).", True),
        ("`a.b` gives K_{n,m}.", True),
        ("`a.b` does it", False),
        ("`a.b` does it. And more.", False),
        ("`a.b` does\nit.", False),
        ("", False),
    ],
)
def test_one_sentence_has_one_end(text: str, single: bool) -> None:
    """Points inside of code, numbers and abbreviations do not end a sentence."""
    assert one_sentence(text) is single


def test_the_names_of_the_checks_are_what_examples_carry() -> None:
    """Each check has a name of its own."""
    assert tuple(rule.name for rule in CHECKS) == PASSED
    assert len(set(PASSED)) == len(CHECKS)


def test_private_data_is_remarked_with_the_setting_that_takes_it_out(make: Make) -> None:
    """A project has settings for it, `tunesmith check` options: each names its own."""
    example = make(1, "How do I write to jane.miller@kettles-and-more.co.uk about it?")

    [remark] = remarks([example], PrivacySettings(kinds=("email",)))

    assert remark.rule == "private data, email"
    assert "[curate]" in remark.way_out
    assert remarks([example]) == ()
