"""JSON objects in what models say, however they wrap them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.generating.parsing import Objects, json_objects

ROW = {"question": "Why {so}?", "answer": "Because [1] of\nthat."}


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(ROW),
        f"Here you are:\n```json\n{json.dumps(ROW)}\n```",
        json.dumps([ROW]),
        json.dumps({"examples": [ROW]}, indent=2),
        f"1. {json.dumps(ROW)},",
        f"- {json.dumps(ROW, indent=4)}\nThat is all.",
        json.dumps(ROW).replace("\\n", "\n"),
    ],
)
def test_an_object_is_found_in_whatever_stands_around_it(reply: str) -> None:
    """Fences, lists, bullets, commas, talk, and line feeds that JSON does not allow."""
    assert json_objects(reply) == Objects((ROW,), ())


def test_what_is_cut_off_is_told() -> None:
    """The objects before it are kept."""
    cut = '{"question": "Why is'

    assert json_objects(f"{json.dumps(ROW)}\n{cut}") == Objects((ROW,), (cut,))


@given(st.text())
def test_nothing_that_a_model_says_stops_the_reading(reply: str) -> None:
    """Any text is some objects and some that are broken."""
    found = json_objects(reply)

    assert all(isinstance(row, dict) for row in found.found)
