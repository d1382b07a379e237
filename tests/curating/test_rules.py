"""The rules about words: each finds its fault, mends what needs no guess, and leaves good text alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunesmith.curating.rules import Words, findings, mended, without_junk

ASKED = Words("user", "How do I set the timeout of a request?")


def _rules(*turns: Words, **schemas: object) -> list[str]:
    return [finding.rule for finding in findings(turns, schemas)]


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("", "empty"),
        ("Pass `timeout\x07`.", "control character"),
        ("Pass\u200b `timeout`.", "control character"),
        ("Pass \ufffd.", "encoding"),
        ("CafÃ© closes at ten.", "encoding"),
        ("Pass it. " + "And then it is passed to the next one. " * 6, "repeated text"),
        ("{'timeout': 5, 'retry': None}", "Python for JSON"),
        ('{"name": "\\"get", "retries": 3}', "stray quote"),
        ('{"model": "model_type"}', "placeholder"),
        ("Set YOUR_API_KEY first.", "placeholder"),
        ("Use [insert name here] for it.", "placeholder"),
        ("Man übergibt der Funktion einfach das Argument und wartet, bis die Antwort da ist.", "language"),
    ],
)
def test_each_rule_finds_its_fault(answer: str, rule: str) -> None:
    """In an answer to a good question, and nothing else is found there."""
    assert set(_rules(ASKED, Words("assistant", answer))) == {rule}


@pytest.mark.parametrize(
    "answer",
    [
        "Pass `timeout=5` to it.",
        '{"timeout": 5, "retry": null}',
        "Größe ändern? 👩‍💻 can. نعم",
        "```python\nclient.get(url, timeout=5)\n```",
        "Your key is shown once; write it down.",
        ">>> der = {'das': 1}\n>>> die = der\n>>> und = die\n1",
        "a\n" * 50,
    ],
)
def test_good_words_are_left_alone(answer: str) -> None:
    """JSON, other scripts, joined emoji, code, a plain sentence with a word that placeholders have."""
    assert _rules(ASKED, Words("assistant", answer)) == []
    assert mended(answer) == answer


def test_the_order_of_turns_is_looked_at() -> None:
    """Two turns of one role, and a system that speaks late."""
    turns = (ASKED, ASKED, Words("system", "Be brief."), Words("assistant", "Pass `timeout`."))

    assert _rules(*turns) == ["order", "order"]


def test_calls_are_held_against_their_schemas() -> None:
    """A wrong type and a missing argument are told by name; a function that is not described is not judged."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

    def found(arguments: object, name: str = "weather") -> list[str]:
        turn = Words("assistant", "", ((name, json.dumps(arguments)),))
        return [finding.found for finding in findings((ASKED, turn), {"weather": schema})]

    assert found({"city": "Bern"}) == []
    assert found({"city": 3}) == ["weather('{\"city\": 3}'): ['city'] 3 is not of type \"string\""]
    assert found({}) == ["weather('{}'): \"city\" is a required property"]
    assert found({}, "other") == []


def test_a_schema_that_is_none_is_told() -> None:
    """Nothing can be held against it."""
    turn = Words("assistant", "", (("weather", "{}"),))

    assert _rules(ASKED, turn, weather={"type": 5}) == ["tool schema"]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("CafÃ© â€” itâ€™s Ã¼ber", "Café — it’s über"),
        ("a\u200bb\x00c\ufeff", "abc"),
        ("{'a': (1, None), 'ü': True}", '{"a": [1, null], "ü": true}'),
        ("{'a': {1, 2}}", "{'a': {1, 2}}"),
        ("{'a': float('nan')}", "{'a': float('nan')}"),
    ],
)
def test_what_needs_no_guess_is_mended(text: str, whole: str) -> None:
    """Characters, and Python that JSON can say; what it cannot say stays."""
    assert mended(text) == whole


@given(st.text())
@example("Ã‚\xa0")
def test_mending_is_done_once(text: str) -> None:
    """What was mended needs no mending, and has no character that nobody sees."""
    once = without_junk(text)

    assert without_junk(once) == once
    assert "control character" not in _rules(ASKED, Words("assistant", once))
