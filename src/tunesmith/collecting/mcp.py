"""The tools of an MCP server, as its `tools/list` answered: a catalogue of tools, one document for each."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.catalogue import Catalogue, Entry, Parameter
from tunesmith.collecting.docstrings import split_summary
from tunesmith.collecting.formats.refusal import Refusal
from tunesmith.collecting.openapi import first_paragraph, identifier, short_name
from tunesmith.collecting.python_package import PackageRead
from tunesmith.collecting.references import Description, Node, parse
from tunesmith.collecting.schemas import outline, properties_of, type_name
from tunesmith.errors import SourceError
from tunesmith.operations import ToolSchema, validator
from tunesmith.records import Document, Rejection, Source

MCP = "mcp:"
_WAY_OUT = 'Needed is what tools/list answers, as JSON: {"tools": [{"name": ..., "inputSchema": {...}}]}.'
_HINTS = {
    "readOnlyHint": "it changes nothing",
    "destructiveHint": "it may destroy what is there",
    "idempotentHint": "called again with the same arguments it changes nothing more",
    "openWorldHint": "it reaches beyond the server",
}


@dataclass(frozen=True, slots=True)
class _Listed:
    """An entry and the document it is described by."""

    entry: Entry
    document: Document


def read_mcp(path: Path, source: Source) -> PackageRead:
    """Read a list of tools; the server is called as the file is.

    A tool that cannot be read is a Rejection, and the others are read. Raises SourceError for a file that is no such
    list, or of which no tool can be read. The version is a digest of the list, which names none.
    """
    try:
        value = parse(path)
        tools = _tools(value)
    except Refusal as refusal:
        raise SourceError(f"{source.address} cannot be read: {refusal.detail}.", hint=_WAY_OUT) from refusal
    server = short_name(path.stem)
    rejections: list[Rejection] = []
    listed: list[_Listed] = []
    taken: Counter[str] = Counter()
    for number, tool in enumerate(tools, 1):
        try:
            listed.append(_read_tool(tool, server, path, source, taken))
        except Refusal as refusal:
            name = tool.get("name") if isinstance(tool, dict) else None
            item = f"{source.address} {name or f'tool {number}'}"
            rejections.append(Rejection("collect", refusal.rule, item, refusal.detail))
    if _goes_on(value):
        detail = "the list goes on (nextCursor): its other pages are not in the file"
        rejections.append(Rejection("collect", "page", source.address, detail))
    if not listed:
        told = "".join(f"\n  {each.item}: {each.detail}" for each in rejections[:5])
        raise SourceError(f"{source.address} has no tool that can be read.{told}", hint=_WAY_OUT)
    version = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return PackageRead(
        source=Source(source.address, source.kind, source.digest, version),
        documents=tuple(item.document for item in listed),
        catalogue=Catalogue(server, version, tuple(item.entry for item in listed)),
        left_out={},
        rejections=tuple(rejections),
    )


def _tools(value: Any) -> list[Any]:
    """Return the tools of a list, of `{"tools": [...]}`, or of a whole JSON-RPC answer."""
    for key in ("result", "tools"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    if not isinstance(value, list):
        raise Refusal("form", "it holds no list of tools")
    return value


def _goes_on(value: Any) -> bool:
    """Tell whether the list has further pages."""
    result = value.get("result", value) if isinstance(value, dict) else None
    return isinstance(result, dict) and bool(result.get("nextCursor"))


def _read_tool(tool: Any, server: str, path: Path, source: Source, taken: Counter[str]) -> _Listed:
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or not tool["name"].strip():
        raise Refusal("form", "a tool has no name")
    schema = tool.get("inputSchema", {"type": "object"})
    if not isinstance(schema, dict):
        raise Refusal("schema", "its inputSchema is no mapping")
    text = _schema_text(schema)
    name = identifier(tool["name"])
    taken[name] += 1
    entry_id = f"{server}.{name}" if taken[name] == 1 else f"{server}.{name}_{taken[name]}"
    described = tool.get("description")
    summary, rest = split_summary(_prose(described)) if isinstance(described, str) else ("", "")
    # References of a schema start at the schema itself.
    description = _Alone(path, schema)
    parameters = tuple(
        Parameter(
            name=one,
            default=None if required else "None",
            annotation=type_name(description, node),
            description=_told(node.value),
        )
        for one, node, required in properties_of(description, description.root)
    )
    parts = [f"# {entry_id}", summary, rest, f"Tool `{tool['name']}`"]
    shown = outline(description, description.root)
    parts += ["## Arguments", shown] if shown else ["It takes no arguments."]
    parts.append(_annotated(tool.get("annotations")))
    document = Document(
        id=f"{source.address}#{entry_id}",
        source=source.address,
        title=entry_id,
        text="\n\n".join(part for part in parts if part) + "\n",
        kind="api",
        entry=entry_id,
    )
    entry = Entry(
        id=entry_id,
        kind="tool",
        parameters=parameters,
        summary=summary,
        description=rest,
        document=document.id,
        operation=ToolSchema(server=path.stem, name=tool["name"], schema=text),
    )
    return _Listed(entry, document)


class _Alone(Description):
    """A schema that stands for itself."""

    def __init__(self, path: Path, schema: Mapping[str, Any]) -> None:
        super().__init__(path)
        self._parsed[path] = schema

    @property
    def root(self) -> Node:
        """The schema."""
        return Node(self._parsed[self.path], self.path)


def _schema_text(schema: Mapping[str, Any]) -> str:
    # What dialect it says it is would be looked up; all are read as 2020-12, which has every word that tools use.
    text = json.dumps(
        {key: value for key, value in schema.items() if key not in ("$schema", "$id")}, ensure_ascii=False
    )
    try:
        validator(text)
    except ValueError as error:
        raise Refusal("schema", f"its inputSchema is none: {error}") from error
    return text


def _prose(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _told(schema: Any) -> str:
    told = schema.get("description") if isinstance(schema, dict) else None
    return first_paragraph(told)


def _annotated(annotations: Any) -> str:
    if not isinstance(annotations, dict):
        return ""
    said = [words for name, words in _HINTS.items() if annotations.get(name) is True]
    return re.sub(r"^i", "I", f"{'; '.join(said)}.") if said else ""
