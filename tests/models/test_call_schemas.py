"""Schemas of calls: what a function's own schema allows, wherever its references lead."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from llguidance import LLMatcher, LLTokenizer

from tunesmith.models.call_schemas import call_schema

# As pydantic writes a model in a model; two functions have a definition of the same name.
PLACE: dict[str, Any] = {
    "$id": "https://a.example/place",
    "type": "object",
    "properties": {"at": {"$ref": "#/$defs/Point"}},
    "required": ["at"],
    "additionalProperties": False,
    "$defs": {
        "Point": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"],
                  "additionalProperties": False},
    },
}  # fmt: skip
NAME: dict[str, Any] = {
    "type": "object",
    "properties": {"at": {"$ref": "#/definitions/Point"}, "as": {"const": {"$ref": "#"}}},
    "required": ["at"],
    "additionalProperties": False,
    "definitions": {"Point": {"type": "string"}},
}
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"below": {"type": "array", "items": {"$ref": "#"}}},
    "additionalProperties": False,
}
PLAIN: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "additionalProperties": False,
}
ALL = {"place": PLACE, "name": NAME, "tree": TREE, "plain": PLAIN}


@pytest.mark.parametrize(
    ("name", "arguments", "fits"),
    [
        ("place", {"at": {"x": 1}}, True),
        ("place", {"at": {"x": "one"}}, False),
        ("place", {"at": "here"}, False),
        ("name", {"at": "here"}, True),
        ("name", {"at": {"x": 1}}, False),
        ("tree", {"below": [{"below": []}, {}]}, True),
        ("tree", {"below": [{"above": []}]}, False),
        ("plain", {"n": 1}, True),
        ("plain", {"at": "here"}, False),
        ("other", {}, False),
    ],
)
def test_a_call_fits_where_its_functions_schema_says_so(name: str, arguments: Any, fits: bool) -> None:
    """By the standard and by what holds a model's answers, for each function alone and all together."""
    call = {"name": name, "arguments": arguments}
    for functions in (ALL, {name: ALL[name]} if name in ALL else {"plain": PLAIN}):
        schema = call_schema(functions)
        assert jsonschema.Draft202012Validator(schema).is_valid(call) is fits
        assert _spoken(schema, json.dumps(call)) is fits


def test_what_is_data_stays_as_it_is() -> None:
    """An address in a constant refers to nothing, and what refers to nothing stays in its place."""
    schema = call_schema({"name": NAME})
    assert {"$ref": "#"} in [
        one["const"] for one in schema["$defs"]["0"]["properties"].values() if "const" in one
    ]
    assert call_schema({"plain": PLAIN})["properties"]["arguments"] == PLAIN


def _spoken(schema: dict[str, Any], text: str) -> bool:
    matcher = LLMatcher(LLTokenizer("byte"), LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.is_error(), matcher.get_error()
    said = list(text.encode())
    return matcher.try_consume_tokens(said) == len(said) and bool(matcher.is_accepting())
