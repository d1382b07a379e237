"""Lists of tools as MCP servers give them: read whole, with reasons for what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.catalogue import Catalogue, judge
from tunesmith.collecting.collect import Collected, collect
from tunesmith.curating.checks import check
from tunesmith.errors import SourceError
from tunesmith.generating.derive import derive_answers
from tunesmith.generating.generate import GenerateSettings, generate
from tunesmith.generating.prompts import system_prompt, teacher_prompt
from tunesmith.records import Rejection

TOOLS: list[Any] = [
    {
        "name": "search_code",
        "title": "Search code",
        "description": "Search for code in all repositories.\n\nReturns the best matches.",
        "inputSchema": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "required": ["query"],
            "properties": {
                "query": {"type": "string", "description": "The words to look for"},
                "order": {"$ref": "#/definitions/Order", "description": "The order of the results"},
            },
            "additionalProperties": False,
            "definitions": {"Order": {"type": "string", "enum": ["asc", "desc"]}},
        },
        "annotations": {"readOnlyHint": True, "destructiveHint": False},
    },
    {"name": "get-me", "inputSchema": {"type": "object"}},
    {"name": "bad", "inputSchema": {"properties": {"a": {"type": "nonsense"}}}},
    {"name": "far", "inputSchema": {"$ref": "https://elsewhere.example/schema.json"}},
    {"description": "no name"},
]


def _collect(folder: Path, value: Any) -> Collected:
    (folder / "code-host.json").write_text(json.dumps(value))
    return collect(["mcp:code-host.json"], base=folder)


def _catalogue(found: Collected) -> Catalogue:
    assert found.catalogue is not None
    return found.catalogue


def test_tools_become_entries(tmp_path: Path) -> None:
    """Each tool is an entry under its server and name, with its arguments and a document."""
    found = _collect(tmp_path, {"tools": TOOLS})
    catalogue = _catalogue(found)
    assert (catalogue.package, list(catalogue.by_id)) == (
        "code_host",
        ["code_host.search_code", "code_host.get_me"],
    )
    entry = catalogue.by_id["code_host.search_code"]
    assert (entry.kind, entry.summary) == ("tool", "Search for code in all repositories.")
    assert entry.signature == "(query, order=None)"
    assert found.documents[0].text == (
        "# code_host.search_code\n\nSearch for code in all repositories.\n\nReturns the best matches.\n\n"
        "Tool `search_code`\n\n## Arguments\n\n- `query` (string, required): The words to look for\n"
        "- `order` (string): The order of the results. One of `asc`, `desc`.\n\nIt changes nothing.\n"
    )


def test_tools_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """No name, no schema, and a schema that lies elsewhere are reasons; the others are read."""
    rejections = _collect(tmp_path, {"tools": TOOLS, "nextCursor": "x"}).rejections
    assert [(each.rule, each.item) for each in rejections] == [
        ("schema", "mcp:code-host.json bad"),
        ("schema", "mcp:code-host.json far"),
        ("form", "mcp:code-host.json tool 5"),
        ("page", "mcp:code-host.json"),
    ]
    assert rejections[2] == Rejection("collect", "form", "mcp:code-host.json tool 5", "a tool has no name")


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        lambda tools: {"tools": tools},
        lambda tools: {"result": {"tools": tools}},
        lambda tools: {"result": tools},
    ],
)
def test_a_list_may_be_wrapped(tmp_path: Path, wrap: Any) -> None:
    """The list alone, the result, and the whole answer of JSON-RPC are read alike."""
    assert len(_catalogue(_collect(tmp_path, wrap(TOOLS[:2])))) == 2


@pytest.mark.parametrize("value", [{}, 3, {"tools": {}}, [], [{"description": "no name"}], {"result": None}])
def test_what_is_no_list_of_tools_is_refused(tmp_path: Path, value: Any) -> None:
    """The error names the source and what is needed."""
    with pytest.raises(SourceError, match="what tools/list answers") as caught:
        _collect(tmp_path, value)
    assert caught.value.message.startswith("mcp:code-host.json ")


def test_answers_and_questions_about_tools(tmp_path: Path) -> None:
    """Calls are derived as JSON and judge exact; what rules make of them passes every check."""
    found = _collect(tmp_path, TOOLS)
    catalogue = _catalogue(found)
    texts = {answer.entry: answer.text for answer in derive_answers(found.documents, catalogue).answers}
    assert texts["code_host.search_code"] == (
        "`code_host.search_code` searches for code in all repositories.\n\n"
        '```json\n{"name": "search_code", "arguments": {"query": "query"}}\n```'
    )
    for entry_id, text in texts.items():
        assert judge(text, (entry_id,), catalogue).verdict == "exact"
    made = generate(found.documents, catalogue, settings=GenerateSettings(rules_per_entry=5))
    documents = {document.id: document for document in found.documents}
    assert [check(example, documents, catalogue) for example in made.examples] == [None] * len(made.examples)
    by_rule = {
        example.origin: example for example in made.examples if example.entry == "code_host.search_code"
    }
    assert '"order": "asc"' in by_rule["rule:parameter"].answer
    assert "code-host" in system_prompt(catalogue)
    assert '{"name": "...", "arguments": {...}}' in system_prompt(catalogue)
    prompt = teacher_prompt(catalogue.by_id["code_host.search_code"], found.documents[0], 2)
    assert prompt[1].content.startswith("Documentation of a tool of code-host:")
