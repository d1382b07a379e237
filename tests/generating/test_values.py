"""Values that fit a schema, texts that match a pattern, and calls written from both."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.generating.patterns import matching_text
from tunesmith.generating.requests import request_code, tool_code, variable
from tunesmith.generating.values import fitting_value
from tunesmith.operations import Content, Credential, Operation, OperationParameter, ToolSchema, invalid


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (True, "pet"),
        ({"type": "string"}, "pet"),
        ({"type": "string", "minLength": 5}, "petpe"),
        ({"type": "string", "maxLength": 2}, "pe"),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}, "AA-000"),
        ({"type": "string", "example": "Rex"}, "Rex"),
        ({"type": "integer", "example": "no number"}, 1),
        ({"type": ["null", "integer"], "minimum": 7}, 7),
        ({"type": "integer", "exclusiveMinimum": 7, "multipleOf": 5}, 10),
        ({"type": "number", "minimum": 0.2, "maximum": 0.4}, 0.2),
        ({"enum": [None, "a"]}, None),
        ({"const": 3}, 3),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "uniqueItems": True}, [1, 2]),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "uniqueItems": True}, ["a", "b"]),
        ({"type": "object", "properties": {"id": {"type": "integer"}, "name": {}}}, {"name": "name"}),
        ({"type": "object", "required": ["a"], "properties": {"a": {"type": "boolean"}, "b": {}}}, {"a": True}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"key": 1}),
        ({"type": "object", "additionalProperties": False}, {}),
        ({"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "integer"}}}]}, {"a": 1}),
        ({"anyOf": [{"type": "integer", "minimum": 3, "maximum": 2}, {"type": "boolean"}]}, True),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "required": ["b"]}}}, {"b": "b"}),
        (
            {
                "$ref": "#/$defs/A",
                "$defs": {"A": {"type": "object", "required": ["n"], "properties": {"n": {"anyOf": [
                    {"$ref": "#/$defs/A"}, {"type": "null"}]}}}},
            },
            {"n": {"n": {"n": None}}},
        ),
    ],
)  # fmt: skip
def test_the_smallest_value_that_fits_is_made(schema: Any, value: Any) -> None:
    """Examples come first where they are valid, then what the schema's own rules give."""
    assert fitting_value(json.dumps(schema), "pet") == value


def test_what_nothing_fits_is_told_by_its_innermost_name() -> None:
    """A schema without any value is an error that names the part."""
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "object", "required": ["b"]}}}
    schema["properties"]["a"]["properties"] = {"b": {"allOf": [{"type": "string"}, {"type": "integer"}]}}  # type: ignore[index]
    with pytest.raises(ValueError, match="nothing was found that fits b"):
        fitting_value(json.dumps(schema), "pet")


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            r"^[0-9a-f]{8}$",
            r"^\+[1-9]\d{1,14}$",
            r"^(?:[A-Z]{2}|x)-\d+(\.\d+)?$",
            r"^[^/]+/[^/]+$",
            r"a|b",
            r"^$",
        ),
        *(
            r"^(?!foo)[a-z]+$",
            r"^ssh-(rsa|dss) (.+)$",
            r"[]a]+",
            r"\w\W\s\S\D\.",
            r"(?P<year>\d{4})",
            r"x{2,}y?z*",
        ),
    ],
)
def test_a_text_is_made_that_the_pattern_matches(pattern: str) -> None:
    """Classes, groups, alternatives and repeats are read."""
    made = matching_text(pattern)
    assert made is not None
    assert re.search(pattern, made)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="()[]{}|*+?^$\\.-,:=!<>P019aZdw", max_size=20))
def test_no_pattern_is_too_odd(pattern: str) -> None:
    """What is not read gives nothing, and never an error."""
    assert isinstance(matching_text(pattern), str | None)


_SCHEMAS = st.recursive(
    st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")] + [{}]),
    lambda inner: st.one_of(
        st.builds(lambda one: {"type": "array", "items": one, "minItems": 1}, inner),
        st.builds(lambda one: {"anyOf": one}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda names: {"type": "object", "properties": names, "required": list(names)},
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(_SCHEMAS)
def test_what_is_made_is_valid(schema: Any) -> None:
    """A value is made for every schema that nothing contradicts, and it is valid."""
    text = json.dumps(schema)
    assert invalid(text, fitting_value(text, "pet")) is None


def test_a_request_is_written_with_all_its_parts() -> None:
    """Query, headers, cookies, credentials and a form come where httpx takes them; free texts are variables."""
    form = {
        "type": "object",
        "required": ["photo", "note"],
        "properties": {"photo": {"format": "binary"}, "note": {}},
    }
    operation = Operation(
        "Pets",
        "delete",
        "/pets/{petId}/{class}",
        servers=("https://a.example/{region}/",),
        parameters=(
            OperationParameter("petId", "path", True, '{"type": "integer"}', "7"),
            OperationParameter("class", "path", True, '{"type": "string"}'),
            OperationParameter("q", "query", True, '{"type": "string"}'),
            OperationParameter("page", "query", False, '{"type": "integer", "default": 2}'),
            OperationParameter(
                "filter", "query", True, '{"type": "object", "required": ["tag"]}', spreads=True
            ),
            OperationParameter("X-Trace", "header", True, '{"type": "string", "enum": ["on"]}'),
            OperationParameter("sid", "cookie", True, '{"type": "string"}'),
        ),
        contents=(Content("multipart/form-data", json.dumps(form)),),
        body_required=True,
        security=((Credential("basic"), Credential("query", "key")),),
    )
    assert request_code(operation, also="page") == (
        'httpx.request(\n    "DELETE",\n    f"https://a.example/{region}/pets/7/{my_class}",\n'
        '    params={"q": q, "page": 2, "tag": "tag", "key": api_key},\n    headers={"X-Trace": "on"},\n'
        '    cookies={"sid": sid},\n    auth=(username, password),\n'
        '    data={"note": "note"},\n    files={"photo": photo},\n)'
    )


def test_a_tools_call_holds_what_is_required() -> None:
    """No arguments where none are needed; one more where it is asked for."""
    tool = ToolSchema("box", "list", '{"type": "object", "properties": {"n": {"type": "integer"}}}')
    assert tool_code(tool) == '{"name": "list", "arguments": {}}'
    assert tool_code(tool, also="n") == '{"name": "list", "arguments": {"n": 1}}'


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("petId", "pet_id"),
        ("X-Request-ID", "x_request_id"),
        ("class", "my_class"),
        ("list", "my_list"),
        ("2fa", "n2fa"),
    ],
)
def test_names_become_variables(name: str, said: str) -> None:
    """What is no name of Python, or Python's own, is made one of the user's."""
    assert variable(name) == said
