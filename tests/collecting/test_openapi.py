"""Descriptions of APIs read: references, both versions of OpenAPI and Swagger, what cannot be read, real documents."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.collecting.site import served

from tunesmith.catalogue import Catalogue, judge
from tunesmith.collecting.collect import Collected, collect, digest_sources
from tunesmith.collecting.web import WebSettings
from tunesmith.curating.checks import check
from tunesmith.errors import SourceError
from tunesmith.generating.derive import derive_answers
from tunesmith.generating.generate import GenerateSettings, generate
from tunesmith.generating.prompts import system_prompt, teacher_prompt
from tunesmith.operations import Content, Credential, Operation, invalid
from tunesmith.records import Rejection

PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pet Store - OpenAPI 3.0", "version": "1.2"},
    "servers": [{"url": "https://{region}.pets.example/v1", "variables": {"region": {"default": "eu"}}}],
    "security": [{"token": []}],
    "paths": {
        "/pets": {
            "parameters": [{"$ref": "#/components/parameters/Trace"}],
            "get": {
                "operationId": "listPets",
                "summary": "List all pets",
                "description": "Comes in pages.",
                "security": [],
                "parameters": [
                    {
                        "name": "limit",
                        "in": "query",
                        "schema": {"type": "integer"},
                        "description": "Number of pets that come",
                    }
                ],
                "responses": {
                    "200": {
                        "description": "The pets",
                        "content": {
                            "application/json": {"schema": {"type": "array", "items": {"$ref": "#/x/Pet"}}}
                        },
                    }
                },
            },
            "post": {
                "operationId": "pets/create",
                "summary": "Create a pet",
                "requestBody": {"$ref": "#/components/requestBodies/Pet"},
                "responses": {"201": {"description": "Made"}},
            },
        },
        "/pets/{petId}": {
            "delete": {"summary": "Delete a pet", "security": [{"key": []}], "responses": {}},
            "get": {"operationId": "old", "deprecated": True, "responses": {}},
        },
        "/broken": {"get": {"operationId": "broken", "parameters": [{"$ref": "#/nowhere"}], "responses": {}}},
    },
    "components": {
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
        },
        "parameters": {"Trace": {"name": "X-Trace", "in": "header", "schema": {"type": "string"}}},
        "requestBodies": {
            "Pet": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
            }
        },
        "schemas": {
            "Pet": {
                "type": "object",
                "required": ["id", "name", "kind"],
                "properties": {
                    "id": {"type": "integer", "readOnly": True},
                    "name": {
                        "type": "string",
                        "nullable": True,
                        "example": "Rex",
                        "description": "What it is called",
                    },
                    "kind": {"type": "string", "enum": ["cat", "dog"]},
                    "weight": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
                    "parents": {"type": "array", "items": {"$ref": "#/components/schemas/Pet"}},
                },
            }
        },
    },
    "x": {"Pet": {"$ref": "#/components/schemas/Pet"}},
}


def _collect(folder: Path, description: Any, name: str = "api.json") -> Collected:
    (folder / name).write_text(json.dumps(description), encoding="utf-8")
    return collect([f"openapi:{name}"], base=folder)


def _catalogue(found: Collected) -> Catalogue:
    assert found.catalogue is not None
    return found.catalogue


def _operation(catalogue: Catalogue, entry_id: str) -> Operation:
    operation = catalogue.by_id[entry_id].operation
    assert isinstance(operation, Operation)
    return operation


def _one(folder: Path, operation: dict[str, Any], **more: Any) -> Operation:
    """Return the only operation of a small description."""
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "One"},
        "paths": {"/x": {"post": {"operationId": "x"} | operation}},
    }
    return _operation(_catalogue(_collect(folder, whole | more)), "one.x")


def test_operations_become_entries(tmp_path: Path) -> None:
    """Each operation is an entry under its operationId, or under its method and path where it has none."""
    found = _collect(tmp_path, PETS)
    catalogue = _catalogue(found)
    assert (catalogue.package, catalogue.version) == ("pet_store", "1.2")
    assert list(catalogue.by_id) == [
        "pet_store.listPets",
        "pet_store.pets.create",
        "pet_store.delete_pets_petId",
    ]
    listed = catalogue.by_id["pet_store.listPets"]
    assert (listed.kind, listed.summary, listed.description) == (
        "operation",
        "List all pets.",
        "Comes in pages.",
    )
    assert listed.signature == "(X-Trace=None, limit=None)"
    assert listed.see_also == ("pet_store.pets.create",)
    operation = _operation(catalogue, "pet_store.listPets")
    assert (operation.api, operation.method, operation.path) == ("Pet Store", "get", "/pets")
    assert (operation.servers, operation.security) == (("https://eu.pets.example/v1",), ())
    assert [(source.address, source.version) for source in found.sources] == [("openapi:api.json", "1.2")]


def test_what_cannot_be_read_is_told_and_stops_nothing_else(tmp_path: Path) -> None:
    """One operation that refers to nothing is a rejection; a deprecated one exists, and is no entry."""
    found = _collect(tmp_path, PETS)
    reason = "#/nowhere leads to nothing"
    assert found.rejections == (Rejection("collect", "reference", "openapi:api.json GET /broken", reason),)
    assert found.left_out == {"deprecated": 1}
    code = '```python\nimport httpx\nhttpx.get(f"https://eu.pets.example/v1/pets/{pet}", headers=h)\n```'
    assert judge(code, (), _catalogue(found)).reason.startswith(
        "exists and binds, but is undocumented, deprecated"
    )


def test_a_document_tells_readers_what_there_is_to_know(tmp_path: Path) -> None:
    """A document is Markdown: summary, method and path, parameters, body, responses, authentication."""
    texts = {document.title: document.text for document in _collect(tmp_path, PETS).documents}
    assert texts["pet_store.listPets"] == (
        "# pet_store.listPets\n\nList all pets.\n\nComes in pages.\n\n`GET https://eu.pets.example/v1/pets`\n\n"
        "## Parameters\n\n| name | in | type | required | description |\n|---|---|---|---|---|\n"
        "| `X-Trace` | header | string | no |  |\n| `limit` | query | integer | no | Number of pets that come |\n\n"
        "## Responses\n\n**200**: The pets\n\n- `name` (string, required): What it is called\n"
        "- `kind` (string, required): One of `cat`, `dog`.\n- `weight` (number)\n- `parents` (array of object)\n"
        "  - `name` (string, required): What it is called\n  - `kind` (string, required): One of `cat`, `dog`.\n"
        "  - `weight` (number)\n  - `parents` (array of object)\n    - `name` (string, required): What it is called\n"
        "    - `kind` (string, required): One of `cat`, `dog`.\n    - `weight` (number)\n"
        "    - `parents` (array of object)\n"
    )
    assert "## Body\n\napplication/json, required\n\n- `name`" in texts["pet_store.pets.create"]
    assert texts["pet_store.pets.create"].endswith("## Authentication\n\na bearer token\n")


def test_a_schema_is_one_piece_and_may_hold_itself(tmp_path: Path) -> None:
    """What a body refers to comes with it, itself too; nullable, bounds and readOnly become JSON Schema's words."""
    operation = _operation(_catalogue(_collect(tmp_path, PETS)), "pet_store.pets.create")
    [content] = operation.contents
    assert (content.media, operation.body_required) == ("application/json", True)
    assert list(json.loads(content.schema)["$defs"]) == ["Pet"]
    assert (
        invalid(content.schema, {"name": None, "kind": "cat", "parents": [{"name": "Ada", "kind": "dog"}]})
        is None
    )
    for wrong in (
        {"name": "Rex"},
        {"name": "Rex", "kind": "cow"},
        {"name": "Rex", "kind": "cat", "weight": 0},
    ):
        assert invalid(content.schema, wrong) is not None
    deep = {
        "name": "a",
        "kind": "cat",
        "parents": [{"name": "b", "kind": "cat", "parents": [{"kind": "cat"}]}],
    }
    assert invalid(content.schema, deep) == 'parents.0.parents.0: "name" is a required property'


def test_references_lead_into_files_beside_the_description(tmp_path: Path) -> None:
    """YAML and JSON files refer to each other, whole and in part; a change of any of them is another source."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "paths.yaml").write_text(
        "get:\n  operationId: getPet\n  summary: Get a pet\n  parameters:\n"
        "    - $ref: '../api.yaml#/components/parameters/id'\n"
        "  responses:\n    200: {$ref: 'answers.json#/good'}\n"
    )
    (tmp_path / "parts" / "answers.json").write_text('{"good": {"description": "It worked"}}')
    (tmp_path / "api.yaml").write_text(
        "openapi: 3.1.0\ninfo: {title: Split, version: 2024-01-01}\n"
        "paths:\n  /pets/{no}: {$ref: parts/paths.yaml}\n"
        "components:\n  parameters:\n    id: {name: no, in: path, required: true, schema: {enum: [no, on]}}\n"
    )
    found = collect(["openapi:api.yaml"], base=tmp_path)
    catalogue = _catalogue(found)
    operation = _operation(catalogue, "split.getPet")
    # Dates are texts, and "no" is a word.
    assert (catalogue.version, operation.parameters[0].name) == ("2024-01-01", "no")
    assert json.loads(operation.parameters[0].schema) == {"enum": ["no", "on"]}
    assert "**200**: It worked" in found.documents[0].text
    [before] = digest_sources(["openapi:api.yaml"], tmp_path)
    (tmp_path / "parts" / "answers.json").write_text('{"good": {"description": "Fine"}}')
    [after] = digest_sources(["openapi:api.yaml"], tmp_path)
    assert before.digest != after.digest


@pytest.mark.parametrize(
    "reference",
    ["https://elsewhere.example/x.json#/a", "/etc/x.json", "missing.yaml", "#/paths/~1x/post/parameters/0"],
)
def test_references_that_lead_nowhere_are_told(tmp_path: Path, reference: str) -> None:
    """Other addresses are not asked; missing files and circles of references are reasons."""
    broken = {"/x": {"post": {"operationId": "x", "parameters": [{"$ref": reference}], "responses": {}}}}
    whole = {"openapi": "3.0.0", "info": {"title": "t"}, "paths": broken | {"/y": {"get": {"responses": {}}}}}
    found = _collect(tmp_path, whole)
    assert list(_catalogue(found).by_id) == ["t.get_y"]
    [rejection] = found.rejections
    assert (rejection.rule in ("reference", "unreadable"), rejection.item) == (
        True,
        "openapi:api.json POST /x",
    )


def test_swagger_2_is_read(tmp_path: Path) -> None:
    """Host, basePath and schemes, body and form parameters, and its own words for security."""
    whole = {
        "swagger": "2.0",
        "info": {"title": "Old Pets", "version": "1"},
        "host": "pets.example",
        "basePath": "/v2/",
        "schemes": ["http", "https"],
        "securityDefinitions": {
            "login": {"type": "basic"},
            "oauth": {"type": "oauth2", "flow": "implicit"},
            "key": {"type": "apiKey", "in": "query", "name": "api_key"},
        },
        "paths": {
            "/pet": {
                "post": {
                    "operationId": "addPet",
                    "security": [{"login": [], "key": []}, {"oauth": []}],
                    "parameters": [
                        {"in": "body", "name": "body", "required": True, "schema": {"$ref": "#/d/Pet"}}
                    ],
                }
            },
            "/pet/{id}/photo": {
                "post": {
                    "operationId": "photo",
                    "parameters": [
                        {"in": "path", "name": "id", "type": "integer", "required": True},
                        {"in": "formData", "name": "note", "type": "string"},
                        {"in": "formData", "name": "photo", "type": "file", "required": True},
                    ],
                }
            },
        },
        "d": {"Pet": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
    }
    found = _collect(tmp_path, whole)
    catalogue = _catalogue(found)
    added, photo = (_operation(catalogue, f"old_pets.{name}") for name in ("addPet", "photo"))
    assert added.servers == ("https://pets.example/v2",)
    assert added.security == ((Credential("basic"), Credential("query", "api_key")), (Credential("bearer"),))
    assert (added.body_required, added.contents[0].media) == (True, "application/json")
    assert invalid(added.contents[0].schema, {}) == '"name" is a required property'
    assert photo.contents[0].media == "multipart/form-data"
    assert [(one.name, one.place) for one in photo.parameters] == [("id", "path")]
    answers = {answer.entry: answer.call for answer in derive_answers(found.documents, catalogue).answers}
    assert (
        answers["old_pets.photo"]
        == 'httpx.post("https://pets.example/v2/pet/1/photo", files={"photo": photo})'
    )
    assert answers["old_pets.addPet"].startswith("httpx.post(")
    assert "Bearer {token}" in answers["old_pets.addPet"]


def test_answers_are_derived_with_all_that_is_required(tmp_path: Path) -> None:
    """Path, credentials and body are there, with the description's examples, and each answer judges exact."""
    found = _collect(tmp_path, PETS)
    catalogue = _catalogue(found)
    derived = derive_answers(found.documents, catalogue)
    assert derived.rejections == ()
    texts = {answer.entry: answer.text for answer in derived.answers}
    assert texts["pet_store.pets.create"] == (
        "`pet_store.pets.create` creates a pet.\n\n```python\nimport httpx\n\nhttpx.post(\n"
        '    "https://eu.pets.example/v1/pets",\n    headers={"Authorization": f"Bearer {token}"},\n'
        '    json={"name": "Rex", "kind": "cat"},\n)\n```'
    )
    assert texts["pet_store.delete_pets_petId"] == (
        "`pet_store.delete_pets_petId` deletes a pet.\n\n```python\nimport httpx\n\n"
        'httpx.delete(f"https://eu.pets.example/v1/pets/{pet_id}", headers={"X-Key": api_key})\n```'
    )
    for entry_id, text in texts.items():
        assert judge(text, (entry_id,), catalogue).verdict == "exact"


def test_questions_about_an_api_read_as_people_ask(tmp_path: Path) -> None:
    """Rules ask of operations by the API's own name, and what they make passes every check."""
    found = _collect(tmp_path, PETS)
    catalogue = _catalogue(found)
    made = generate(found.documents, catalogue, settings=GenerateSettings(rules_per_entry=5))
    documents = {document.id: document for document in found.documents}
    assert [check(example, documents, catalogue) for example in made.examples] == [None] * len(made.examples)
    assert sorted(example.question for example in made.examples if example.entry == "pet_store.listPets") == [
        "How can I list all pets in Pet Store?",
        "Is there an operation in Pet Store that lists all pets?",
        "Next to `pet_store.pets.create`, what is there that lists all pets?",
        "Should I use `pet_store.pets.create` or `pet_store.listPets` to list all pets?",
        "With `pet_store.listPets`, where do I give the number of pets that come?",
    ]
    prompt = system_prompt(catalogue)
    assert 'the HTTP API "Pet Store" 1.2 (https://eu.pets.example/v1)' in prompt
    assert "imports httpx and makes the request" in prompt
    asked = teacher_prompt(catalogue.by_id["pet_store.listPets"], found.documents[0], 3)[1].content
    assert asked.startswith("Documentation of an operation of the HTTP API Pet Store:")


def test_one_of_several_schemas_follows_its_discriminator(tmp_path: Path) -> None:
    """Where several schemas fit, the mapping's value says which one a body is of."""
    schemas = {
        "Cat": {"type": "object", "properties": {"kind": {"type": "string"}, "lives": {"type": "integer"}}},
        "Dog": {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]},
    }
    ways = {
        "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
        "discriminator": {"propertyName": "kind", "mapping": {"c": "#/components/schemas/Cat", "d": "Dog"}},
    }
    body = {"content": {"application/json": {"schema": ways}}}
    operation = _one(tmp_path, {"requestBody": body}, components={"schemas": schemas})
    schema = operation.contents[0].schema
    assert invalid(schema, {"kind": "c", "lives": 9}) is None
    assert invalid(schema, {"kind": "d"}) is None
    assert invalid(schema, {"kind": "x"}) is not None


def test_parts_that_close_each_other_out_are_read_as_meant(tmp_path: Path) -> None:
    """Of parts that each forbid further properties, the whole forbids what none of them has."""
    base = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    more = {"type": "object", "properties": {"b": {"type": "integer"}}, "additionalProperties": False}
    body = {
        "content": {"application/json": {"schema": {"allOf": [{"$ref": "#/components/schemas/Base"}, more]}}}
    }
    operation = _one(tmp_path, {"requestBody": body}, components={"schemas": {"Base": base}})
    assert invalid(operation.contents[0].schema, {"a": 1, "b": 2}) is None
    assert invalid(operation.contents[0].schema, {"a": 1, "c": 2}) is not None


def test_a_schema_that_grows_without_end_is_cut(tmp_path: Path) -> None:
    """YAML's aliases may unfold to millions of nodes: beyond a bound the farther parts count as anything."""
    lines = ["a0: &a0 {type: object, properties: {x: {type: integer}}}"]
    for level in range(1, 30):
        inner = ", ".join(f"p{one}: *a{level - 1}" for one in range(9))
        lines.append(f"a{level}: &a{level} {{type: object, properties: {{{inner}}}}}")
    lines += ["openapi: 3.0.0", "info: {title: Bomb}", "paths:", "  /x:", "    post:", "      requestBody:"]
    lines += ["        content:", "          application/json: {schema: *a29}"]
    (tmp_path / "api.yaml").write_text("\n".join(lines))
    operation = _operation(_catalogue(collect(["openapi:api.yaml"], base=tmp_path)), "bomb.post_x")
    assert len(operation.contents[0].schema) < 10**6
    assert invalid(operation.contents[0].schema, {"p0": 3}) is not None


@pytest.mark.parametrize(
    ("told", "server"),
    [
        ("https://a.example/v1/", "https://a.example/v1"),
        ("//a.example", "https://a.example"),
        ("v1", "/v1"),
        ("./v1/", "/v1"),
        ("/", ""),
        ("{host}/v1", "/v1"),
        ("https://{place}.a.example", "https://{place}.a.example"),
    ],
)
def test_servers_may_be_told_in_part(tmp_path: Path, told: str, server: str) -> None:
    """What is no whole address is a path, and its answer judges exact with the host as a variable."""
    operation = _one(tmp_path, {}, servers=[{"url": told}])
    assert operation.servers == (server,)
    found = collect(["openapi:api.json"], base=tmp_path)
    [answer] = derive_answers(found.documents, _catalogue(found)).answers
    assert answer.call == ('httpx.post("' if "{" not in answer.call else 'httpx.post(f"') + (
        f'{server}/x")' if "://" in server else f'{{base_url}}{server}/x")'
    )


def test_bodies_may_have_several_forms(tmp_path: Path) -> None:
    """All media types are kept; JSON by any of its names is JSON."""
    content = {
        media: {"schema": {"type": "object"}} for media in ("text/csv", "application/merge-patch+json; v=1")
    }
    operation = _one(tmp_path, {"requestBody": {"content": content}})
    assert [one.media for one in operation.contents] == ["text/csv", "application/merge-patch+json"]
    assert operation.content("json") == Content("application/merge-patch+json", '{"type": "object"}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "the description is no mapping"),
        ("{}", "it has neither `openapi` nor `swagger` with a version"),
        ('{"openapi": "4.0"}', "its version is '4.0'"),
        ('{"swagger": "1.2"}', "its version is '1.2'"),
        ('{"openapi": "3.0.0"}', "it has no `paths`"),
        ('{"openapi": "3.0.0", "paths": {}}', "has no operation that can be read."),
        ('{"openapi": "3.0.0", "paths": {"/x": {"get": 1}}}', "GET /x: an operation is no mapping"),
        ("{", "api.json is no JSON"),
    ],
)
def test_what_is_no_description_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The error names the source and the reason, and what is needed."""
    (tmp_path / "api.json").write_text(text)
    with pytest.raises(SourceError, match=r"OpenAPI 3\.0, 3\.1 or Swagger 2") as caught:
        collect(["openapi:api.json"], base=tmp_path)
    assert caught.value.message.startswith("openapi:api.json ")
    assert message in caught.value.message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The error says where it was looked for."""
    with pytest.raises(SourceError, match=r"the source 'openapi:none\.yaml' does not exist") as caught:
        collect(["openapi:none.yaml"], base=tmp_path)
    assert str(tmp_path / "none.yaml") in str(caught.value)


def test_two_apis_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their entries would have the same ids."""
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(PETS))
    with pytest.raises(SourceError, match=r"openapi:a\.json and openapi:b\.json are both called pet_store"):
        collect(["openapi:a.json", "openapi:b.json"], base=tmp_path)


_ODD: tuple[Any, ...] = (
    None,
    True,
    3,
    -1.5,
    "",
    "x",
    [],
    {},
    [1],
    [[]],
    {"$ref": "#/"},
    {"$ref": 3},
    {"$ref": "#/paths"},
    {"type": {}},
)


def _places(value: Any) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (key,)
            yield from ((key, *place) for place in _places(inner))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(_places(PETS))), st.sampled_from(_ODD)), min_size=1, max_size=3)
)
def test_whatever_stands_where_is_a_reason_and_no_crash(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    """With odd values anywhere, the description is refused, or its operations are read or rejected one by one."""
    whole = copy.deepcopy(PETS)
    for place, odd in changes:
        holder: Any = whole
        for key in place[:-1]:
            holder = holder[key] if isinstance(holder, dict) and key in holder else None
        if isinstance(holder, dict):
            holder[place[-1]] = copy.deepcopy(odd)
    with TemporaryDirectory() as folder:
        try:
            found = _collect(Path(folder), whole)
        except SourceError:
            return
    catalogue = _catalogue(found)
    made = generate(found.documents, catalogue, settings=GenerateSettings())
    for example in made.examples:
        assert judge(example.answer, example.acceptable, catalogue).verdict == "exact"


def test_a_description_is_fetched_once(tmp_path: Path) -> None:
    """One at an address is kept like pages are; its servers may be told relative to it."""
    whole = PETS | {"servers": [{"url": "/v1"}]}
    with served() as site:
        kinds = {"content-type": "application/json; charset=utf-8"}
        site.answers["/docs/api.json"] = (200, kinds, json.dumps(whole).encode())
        address = f"openapi:{site.url}/docs/api.json"
        reach = WebSettings(private=True, seconds_apart=0)
        with pytest.raises(SourceError, match="private = true"):
            collect([address], base=tmp_path)
        found = collect([address], base=tmp_path, web=reach)
        again = collect([address], base=tmp_path, web=reach)
        assert site.paths.count("/docs/api.json") == 1
        assert _operation(_catalogue(found), "pet_store.listPets").servers == (f"{site.url}/v1",)
    assert found == again
    assert found.sources[0].kind == "web"


# --- real documents, as packages ship them

_PACKAGES = {
    "@readme/oas-examples@8.2.2": {
        "2.0/json/petstore.json": (19, 19),
        "3.0/yaml/uspto.yaml": (3, 3),
        "3.0/json/star-trek.json": (120, 120),
        "3.0/json/discriminators.json": (10, 10),
        "3.0/json/schema-types.json": (21, 19),  # two bodies whose parts exclude each other
        "3.1/json/train-travel.json": (7, 7),
        "3.1/yaml/readme.yaml": (54, 54),
    },
    "@directus/specs@15.2.0": {"dist/openapi.json": (136, 136)},
    "@blockfrost/openapi@0.1.93": {"openapi.yaml": (127, 127)},
    "@ideal-postcodes/openapi@4.21.0": {"dist/openapi.json": (31, 31)},
    "@scalar/galaxy@0.6.12": {"dist/3.1.yaml": (10, 10)},
    "@figma/rest-api-spec@0.43.0": {"openapi/openapi.yaml": (50, 50)},
    "rclone-openapi@1.75.0": {"openapi.json": (101, 101)},
    "shipengine-openapi@1.4.0": {"openapi.yaml": (76, 74)},  # the same for two
    "@octokit/openapi@23.0.2": {"generated/api.github.com.json": (1186, 1186)},
}


def _packed(package: str, folder: Path) -> Path:
    """Return the folder of a package's files, as npm fetches it."""
    npm = shutil.which("npm")
    if npm is None:
        # These are other people's files, fetched where they are published and not kept here.
        pytest.skip("npm is not here")
    ran = subprocess.run(
        [npm, "pack", "--silent", package], cwd=folder, capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        pytest.skip(f"npm cannot fetch {package}: {ran.stderr.strip()[-200:]}")
    with tarfile.open(folder / ran.stdout.split()[-1]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


@pytest.mark.slow
@pytest.mark.parametrize("package", _PACKAGES)
def test_real_descriptions_are_read_whole(package: str, tmp_path: Path) -> None:
    """Of each operation a call is derived that judges exact, and that httpx can be made to send, its body valid."""
    root = _packed(package, tmp_path)
    for name, (operations, derivable) in _PACKAGES[package].items():
        found = collect([f"openapi:{root / name}"], base=tmp_path)
        catalogue = _catalogue(found)
        derived = derive_answers(found.documents, catalogue)
        assert (len(catalogue), len(derived.answers), found.rejections) == (operations, derivable, ()), name
        for answer in derived.answers:
            assert judge(answer.text, (answer.entry,), catalogue).verdict == "exact"
            _send(answer.call, _operation(catalogue, answer.entry))


class _Anything(dict[str, Any]):
    """What a derived call's variables hold."""

    def __missing__(self, name: str) -> Any:
        return b"data" if name in ("content", "data") else "x"


def _send(call: str, operation: Operation) -> None:
    """Run a derived call against a transport that answers nothing, and check what arrives there."""
    arrived: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        arrived.append(request)
        return httpx.Response(204)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        names = _Anything(httpx=client, base_url="https://server.example")
        eval(call, {"__builtins__": {}}, names)  # written by our own code, from a pinned document
    [request] = arrived
    assert request.method.lower() == operation.method
    content = operation.content("json")
    if request.headers.get("content-type") == "application/json" and content is not None:
        assert invalid(content.schema, json.loads(request.content)) is None
