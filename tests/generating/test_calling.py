"""The catalogue as functions: what a model is told of an entry, and what becomes of its calls."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.catalogue import Catalogue, Entry, Parameter, judge
from tunesmith.errors import ConfigError
from tunesmith.generating.calling import CatalogueTools, is_text
from tunesmith.models.tools import Outcome
from tunesmith.operations import Content, Credential, Operation, OperationParameter, ToolSchema

PET = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"$ref": "#/$defs/Name"}},
    "$defs": {"Name": {"type": "string", "minLength": 2}},
}
SERVER = "https://api.pets.example/v1"


def operation(method: str, path: str, **more: Any) -> Operation:
    """Return an operation of the API of pets."""
    return Operation("Pets", method, path, servers=(SERVER,), **more)


LIMIT = OperationParameter("limit", "query", schema='{"type": "integer"}')
OPERATIONS = {
    "pets.list": operation("get", "/pets", parameters=(LIMIT,)),
    "pets.get": operation("get", "/pets/{petId}", parameters=(OperationParameter("petId", "path", required=True),)),
    "pets.create": operation(
        "post",
        "/pets",
        contents=(Content("application/json", json.dumps(PET)),),
        body_required=True,
        security=((Credential("bearer"),),),
    ),
    "pets.photo": operation(
        "put", "/pets/{petId}/photo", contents=(Content("image/png"),), body_required=True,
        parameters=(OperationParameter("petId", "path", required=True), OperationParameter("X-Trace", "header")),
    ),
}  # fmt: skip
SEARCH = ToolSchema(
    "box",
    "search-code",
    '{"type": "object", "required": ["query"], "properties": {"query": {"type": "string"}}}',
)
API = Catalogue(
    "pets",
    "1",
    (
        *(Entry(name, "operation", summary=name, operation=one) for name, one in OPERATIONS.items()),
        Entry("box.search-code", "tool", summary="Search code.", operation=SEARCH),
    ),
)


def answered(tools: CatalogueTools, entry_id: str, **arguments: Any) -> str:
    """Return the code of the answer that a call stands for."""
    tool = tools.tool(entry_id)
    assert tool is not None
    text = tools.answer(tool, arguments, "")
    [code] = re.findall(r"```(?:python|json)\n(.*?)\n```", text, re.DOTALL)
    return str(code)


def fault(tools: CatalogueTools, entry_id: str, **arguments: Any) -> str | None:
    """Return what is wrong with a call."""
    tool = tools.tool(entry_id)
    assert tool is not None
    return tools.fault(tool, arguments)


def test_a_function_is_told_with_its_parameters(catalogue: Catalogue) -> None:
    """Its name is the id with underscores; what is required, and what takes texts, is in the schema."""
    tool = CatalogueTools(catalogue).tool("shapes.area")
    assert tool is not None
    assert tool.told == {
        "name": "shapes_area",
        "description": "Return the area of a shape.",
        "parameters": {
            "type": "object",
            "properties": {
                "shape": {},
                "unit": {"type": "string", "description": "Name of the unit of length. Else metres."},
            },
            "required": ["shape"],
            "additionalProperties": False,
        },
    }


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        (Parameter("a", annotation="str | None"), {"type": "string"}),
        (
            Parameter("a", annotation="int", default="None"),
            {"type": ["integer", "string", "null"], "description": "int"},
        ),
        (
            Parameter("a", annotation="Sequence[float]"),
            {"type": ["array", "string"], "description": "Sequence[float]"},
        ),
        (Parameter("a", annotation="NetworkX graph"), {"description": "NetworkX graph"}),
        (Parameter("a", "var_positional"), {"type": "array"}),
        (Parameter("a", default='"x"'), {"type": "string"}),
        (Parameter("a", annotation="None"), {"description": "None"}),
    ],
)
def test_types_are_told_where_json_has_them(parameter: Parameter, told: dict[str, Any]) -> None:
    """A value may always be an expression instead, as a string, but for texts, which are strings themselves."""
    found = CatalogueTools(Catalogue("p", "1", (Entry("p.f", "function", (parameter,)),))).tool("p.f")
    assert found is not None
    assert found.told["parameters"]["properties"] == {"a": told}
    assert is_text(parameter) == (told.get("type") == "string")


def test_operations_and_tools_are_told_with_their_own_schemas() -> None:
    """Parameters of all places and the body stand side by side, definitions where references begin."""
    tools = CatalogueTools(API)
    told = {one.id: one.told for name in API.by_id if (one := tools.tool(name)) is not None}
    assert told["pets.create"]["parameters"] == {
        "type": "object",
        "properties": {"body": {name: PET[name] for name in ("type", "required", "properties")}},
        "required": ["body"],
        "additionalProperties": False,
        "$defs": PET["$defs"],
    }
    assert told["pets.photo"]["parameters"]["required"] == ["petId", "body"]
    assert told["box.search-code"]["parameters"] == json.loads(SEARCH.schema)
    assert [one["name"] for one in told.values()] == [
        "pets_list", "pets_get", "pets_create", "pets_photo", "search-code",
    ]  # fmt: skip


def test_names_are_taken_once_and_are_short() -> None:
    """OpenAI takes letters, digits, underscores and dashes, 64 at most."""
    ids = ["a.b_c", "a_b.c", f"long.{'x' * 80}", f"longer.{'x' * 80}"]
    tools = CatalogueTools(Catalogue("a", "1", tuple(Entry(name, "function") for name in ids)))
    names = [tool.name for name in ids if (tool := tools.tool(name)) is not None]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    found = [tools.named(name) for name in names]
    assert [tool.id for tool in found if tool is not None] == ids


def test_a_function_is_found_by_its_name_and_its_path(catalogue: Catalogue) -> None:
    """Models write the path that they know as well; what is nothing is None."""
    tools = CatalogueTools(catalogue)
    area = tools.tool("shapes.area")
    assert tools.named("shapes_area") == tools.named("shapes.area") == area
    assert tools.named("shapes_weight") is None
    assert tools.tool("a document's passage") is None


@pytest.mark.parametrize(
    ("entry", "arguments", "call"),
    [
        ("shapes.area", {"shape": "s"}, "sh.area(s)"),
        ("shapes.area", {"shape": "sh.Polygon(4)", "unit": "cm"}, 'sh.area(sh.Polygon(4), unit="cm")'),
        ("shapes.area", {"shape": "no expression!"}, 'sh.area("no expression!")'),
        ("shapes.Polygon", {"corners": [1, 2]}, "sh.Polygon([1, 2])"),
        ("shapes.Polygon", {"corners": "4  # or five"}, "sh.Polygon(4)"),
        ("shapes.area", {"shape": "s", "unit": "```\n"}, r"sh.area(s, unit='\x60\x60\x60\n')"),
        ("shapes.Polygon.add_corner", {"x": 1, "y": 2.5, "at": None}, "polygon.add_corner(1, 2.5, at=None)"),
        ("shapes.net.unfold", {"solid": "solid", "overlap": True}, "sh.net.unfold(solid, overlap=True)"),
    ],
)
def test_a_call_of_a_function_is_shown_as_answers_are(
    catalogue: Catalogue, entry: str, arguments: dict[str, Any], call: str
) -> None:
    """What is required stands by position, the rest by name; it is judged as what it calls."""
    tools = CatalogueTools(catalogue, {entry: "That does."})
    tool = tools.tool(entry)
    assert tool is not None
    text = tools.answer(tool, arguments, "")
    assert text == f"That does.\n\n```python\nimport shapes as sh\n\n{call}\n```"
    assert judge(text, (entry,), catalogue).verdict == "exact"
    assert tools.answer(tool, arguments, "It says so.").startswith("It says so.\n\n```python\n")
    assert tools.fault(tool, arguments) is None


def test_stars_are_written_out() -> None:
    """Positional ones after what stands before them, named ones by their names."""
    parameters = (
        Parameter("first"),
        Parameter("second", default="2"),
        Parameter("rest", "var_positional"),
        Parameter("more", "var_keyword"),
    )
    tools = CatalogueTools(Catalogue("p", "1", (Entry("p.f", "function", parameters),)))
    assert answered(tools, "p.f", first=1, second=2, rest=["x", 4], deep="d").endswith(
        "p.f(1, 2, x, 4, deep=d)"
    )
    assert answered(tools, "p.f", first=1, second=3).endswith("p.f(1, second=3)")
    assert fault(tools, "p.f", first=1, second=2, rest=["x"], deep=1) is None


def test_requests_and_tools_calls_are_shown_as_answers_are() -> None:
    """With httpx and the values given; a token is the user's variable; and JSON in one line."""
    tools = CatalogueTools(API)
    shown: dict[str, tuple[dict[str, Any], str]] = {
        "pets.list": ({"limit": 3}, f'httpx.get("{SERVER}/pets", params={{"limit": 3}})'),
        "pets.get": ({"petId": "p7"}, f'httpx.get("{SERVER}/pets/p7")'),
        "pets.create": (
            {"body": {"name": "Rex"}},
            f'httpx.post(\n    "{SERVER}/pets",\n    headers={{"Authorization": f"Bearer {{token}}"}},\n'
            '    json={"name": "Rex"},\n)',
        ),
        "pets.photo": (
            {"petId": 7, "body": "data", "X-Trace": "t"},
            f'httpx.put(\n    "{SERVER}/pets/7/photo",\n    headers={{"X-Trace": "t", "Content-Type": "image/png"}},\n'
            '    content="data",\n)',
        ),
        "box.search-code": ({"query": "loops"}, '{"name": "search-code", "arguments": {"query": "loops"}}'),
    }
    for entry, (arguments, call) in shown.items():
        tool = tools.tool(entry)
        assert tool is not None
        assert answered(tools, entry, **arguments).removeprefix("import httpx\n\n") == call
        assert tools.fault(tool, arguments) is None, entry
        assert judge(tools.answer(tool, arguments, ""), (entry,), API).verdict == "exact"


@pytest.mark.parametrize(
    ("entry", "arguments", "message"),
    [
        ("pets.create", {"body": {"name": "R"}}, "body.name: "),
        ("pets.create", {}, '"body" is a required property'),
        ("pets.list", {"offset": 1}, "'offset' was unexpected"),
        ("box.search-code", {"query": 3}, "query: 3 is not of type"),
    ],
)
def test_what_is_wrong_with_a_call_is_told(entry: str, arguments: dict[str, Any], message: str) -> None:
    """In the validator's words, with the place."""
    assert message in (fault(CatalogueTools(API), entry, **arguments) or "")


def test_a_call_of_nothing_is_judged_as_such(catalogue: Catalogue) -> None:
    """It is shown in the form of the catalogue's kind, so that it counts as hallucinated and not as no call."""
    text = CatalogueTools(catalogue).unknown("shapes_weigh", {"shape": "s"})
    assert "shapes.weigh(shape=s)" in text
    assert judge(text, ("shapes.area",), catalogue).verdict == "hallucinated"
    assert (
        judge(CatalogueTools(API).unknown("find-code", {}), ("box.search-code",), API).verdict
        == "hallucinated"
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(shape=VALUES, unit=st.text())
def test_whatever_fits_a_schema_binds(shape: Any, unit: str) -> None:
    """Any value goes into code that parses, names no other call of the package and binds."""
    entry = Entry("p.area", "function", (Parameter("shape"), Parameter("unit", default="'m'")))
    tools = CatalogueTools(Catalogue("p", "1", (entry,)))
    tool = tools.tool("p.area")
    assert tool is not None
    arguments = {"shape": shape, "unit": unit}
    jsonschema.validate(arguments, json.loads(tool.parameters))
    assert tools.fault(tool, arguments) is None


def test_a_function_that_may_be_run_is(toolbox_site: object) -> None:
    """In the sandbox, with values alone; what is no value, or another function, is not run; errors are told."""
    clamp = Entry("toolbox.clamp", "function", tuple(map(Parameter, ("value", "low", "high"))))
    size = Entry("toolbox.parse_size", "function", (Parameter("text", annotation="str"),))
    flat = Entry("toolbox.flatten", "function", (Parameter("nested"),))
    tools = CatalogueTools(
        Catalogue("toolbox", "1", (clamp, size, flat)), run=("toolbox.clamp", "toolbox.parse_size")
    )

    def run(entry: str, **arguments: Any) -> Outcome | None:
        tool = tools.tool(entry)
        assert tool is not None
        return tools.run(tool, arguments)

    assert run("toolbox.clamp", value=12, low=0, high=10) == Outcome("10")
    assert run("toolbox.parse_size", text="2kB") == Outcome("2000")
    assert run("toolbox.clamp", value="x", low=0, high=10) is None
    assert run("toolbox.clamp", value="{[1]: 2}", low=0, high=10) is None
    assert run("toolbox.flatten", nested=[[1]]) is None
    failed = run("toolbox.parse_size", text="two")
    assert failed is not None
    assert failed.failed
    assert failed.words.startswith(("ValueError", "KeyError"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shapes.arae", "'shapes.arae' is not in the catalogue"),
        ("shapes.Polygon", "is no function but a class"),
    ],
)
def test_only_functions_of_packages_can_be_run(catalogue: Catalogue, name: str, message: str) -> None:
    """Another is refused when it is named, with the nearest."""
    with pytest.raises(ConfigError, match=message):
        CatalogueTools(catalogue, run=[name])
