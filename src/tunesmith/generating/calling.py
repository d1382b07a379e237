"""The catalogue as functions that a model may call, and each call as the answer that it stands for.

A function of Python has its parameters as properties: a text where the signature says so, else a value or, as a string,
a variable's name or another expression, since questions rarely hold the data. An operation of an API has its parameters
and `body`; what proves who asks is left to the user's variables. A tool has its own schema.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, Final

from tunesmith.catalogue import Catalogue, Entry, Parameter, judge
from tunesmith.errors import ConfigError
from tunesmith.generating.derive import answer_text, call_text, import_line
from tunesmith.generating.requests import given_code
from tunesmith.generating.running import run_script
from tunesmith.generating.script import Script
from tunesmith.models.tools import Outcome, Tool
from tunesmith.operations import Operation, ToolSchema, invalid

_LONGEST_NAME: Final = 64  # OpenAI's
_LONGEST_DESCRIPTION: Final = 160
_LONGEST_PARAMETER: Final = 80
_LONGEST_RESULT: Final = 1000
_TEXTS: Final = frozenset(("str", "string", "text"))
_TYPES: Final = (
    ("boolean", r"bool(ean)?"),
    ("integer", r"int(eger)?"),
    ("number", r"float|number|numeric|real"),
    ("array", r"list|tuple|sequence|iterable|iterator|set|array.*|collection"),
    ("object", r"dict(ionary)?|mapping"),
)


class CatalogueTools:
    """A Toolbox of all entries of a catalogue; `sentences` are what answers say of an entry, by id.

    `run` are the ids of functions that may be run, in the sandbox (`running`). Raises ConfigError for one that is not
    there, or is none: a request or a tool's call would reach outside.
    """

    def __init__(
        self, catalogue: Catalogue, sentences: Mapping[str, str] | None = None, *, run: Collection[str] = ()
    ) -> None:
        self._catalogue = catalogue
        self._sentences = sentences or {}
        self._may_run = frozenset(map(self._runnable, run))

    def tool(self, entry_id: str) -> Tool | None:
        """Return the function of an entry, None if there is no such entry."""
        return self._by_id.get(entry_id)

    def named(self, name: str) -> Tool | None:
        """Return the function of a name; an entry's id or another path of it does as well."""
        found = self._by_name.get(name)
        if found is not None:
            return found
        entry = self._catalogue.resolve(name)
        return None if entry is None else self._by_id[entry.id]

    def fault(self, tool: Tool, arguments: Mapping[str, Any]) -> str | None:
        """Return why arguments do not fit the schema, or the call does not bind, None if it can be made."""
        misfit = invalid(tool.parameters, dict(arguments))
        if misfit is not None:
            return misfit
        judgement = judge(self.answer(tool, arguments, ""), (tool.id,), self._catalogue)
        return None if judgement.verdict == "exact" else judgement.reason

    def answer(self, tool: Tool, arguments: Mapping[str, Any], words: str) -> str:
        """Return the call in the one form of answers: a sentence, and a block with the imports and the call."""
        entry = self._catalogue.by_id[tool.id]
        sentence = words or self._sentences.get(tool.id) or f"`{tool.id}` does it."
        return answer_text(sentence, self._imports(entry), self._call(entry, arguments))

    def unknown(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Return a call of what the catalogue does not have, in the form of its kind: it is judged as such."""
        packages = self._catalogue.importable
        if not packages:
            call = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
            return answer_text(f"`{name}` does it.", "", call)
        path = re.sub(r"\W+", "_", name.removeprefix(f"{packages[0]}.").removeprefix(f"{packages[0]}_"))
        given = ", ".join(f"{key}={_source(value)}" for key, value in arguments.items() if key.isidentifier())
        call = f"{packages[0]}.{path}({given})"
        return answer_text(f"`{name}` does it.", f"import {packages[0]}", call)

    def run(self, tool: Tool, arguments: Mapping[str, Any]) -> Outcome | None:
        """Run a call in the sandbox; None unless its function is among those that may be, and all its values are known.

        A variable of the user's is no value.
        """
        entry = self._catalogue.by_id[tool.id]
        if tool.id not in self._may_run or not _is_closed(self._call(entry, arguments)):
            return None
        call = self._call(entry, arguments)
        text = f"{import_line(entry, self._catalogue)}\n\nresult = {call}\nprint(repr(result)[:{_LONGEST_RESULT}])\n"
        result = run_script(Script(text, entry.id, call, (), "tools"), self._catalogue)
        if result.error is not None:
            return Outcome(result.error, failed=True)
        return Outcome(result.printed.strip())

    def _runnable(self, entry_id: str) -> str:
        entry = self._catalogue.resolve(entry_id)
        if entry is None:
            near = ", ".join(self._catalogue.suggest(entry_id))
            raise ConfigError(
                f"[tools] run: {entry_id!r} is not in the catalogue.",
                hint=f"Did you mean {near}?" if near else "Name functions by their whole path.",
            )
        if entry.kind != "function":
            raise ConfigError(
                f"[tools] run: {entry_id!r} is no function but a {entry.kind}.",
                hint="Only functions of Python packages can be run, in the sandbox.",
            )
        return entry.id

    @cached_property
    def _by_id(self) -> dict[str, Tool]:
        found: dict[str, Tool] = {}
        taken: set[str] = set()
        for entry in self._catalogue.entries:
            name = _free_name(entry, taken)
            taken.add(name)
            summary = textwrap.shorten(entry.summary, _LONGEST_DESCRIPTION, placeholder=" ...")
            found[entry.id] = Tool(entry.id, name, summary, json.dumps(_schema(entry), ensure_ascii=False))
        return found

    @cached_property
    def _by_name(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in self._by_id.values()}

    def _imports(self, entry: Entry) -> str:
        if isinstance(entry.operation, ToolSchema):
            return ""
        return "import httpx" if entry.operation is not None else import_line(entry, self._catalogue)

    def _call(self, entry: Entry, arguments: Mapping[str, Any]) -> str:
        match entry.operation:
            case Operation() as operation:
                return given_code(operation, arguments)
            case ToolSchema() as tool:
                return json.dumps({"name": tool.name, "arguments": dict(arguments)}, ensure_ascii=False)
        return call_text(entry, _written(entry, arguments), self._catalogue)


def _free_name(entry: Entry, taken: Collection[str]) -> str:
    """Return a name that OpenAI takes: the id, dots as underscores, of a long one the end; numbered if it is taken."""
    plain = entry.operation.name if isinstance(entry.operation, ToolSchema) else entry.id
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", plain)[-_LONGEST_NAME:].lstrip("_-") or "function"
    number, found = 2, name
    while found in taken:
        found = f"{name[: _LONGEST_NAME - 4]}_{number}"
        number += 1
    return found


# --- schemas


def _schema(entry: Entry) -> dict[str, Any]:
    match entry.operation:
        case ToolSchema() as tool:
            schema = json.loads(tool.schema)
            return schema if isinstance(schema, dict) else {"type": "object"}
        case Operation() as operation:
            return _operation_schema(operation)
    named = {one.name: _parameter_schema(one) for one in entry.parameters if one.kind != "var_keyword"}
    return {
        "type": "object",
        "properties": named,
        "required": [one.name for one in entry.parameters if one.required],
        "additionalProperties": any(one.kind == "var_keyword" for one in entry.parameters),
    }


def _parameter_schema(parameter: Parameter) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if parameter.kind == "var_positional":
        told = {"type": "array"}
    elif is_text(parameter):
        told = {"type": "string"}
    elif kind := _kind(parameter):
        told = {"type": [kind, "string", *(["null"] if parameter.default == "None" else [])]}
    if parameter.description:
        told["description"] = textwrap.shorten(parameter.description, _LONGEST_PARAMETER, placeholder=" ...")
    elif parameter.annotation and not is_text(parameter):
        told["description"] = textwrap.shorten(parameter.annotation, _LONGEST_PARAMETER, placeholder=" ...")
    return told


def is_text(parameter: Parameter) -> bool:
    """Tell whether a parameter takes a text: its default is one, or its type says so and names nothing else."""
    default = parameter.default or ""
    if default[:1] in ("'", '"'):
        return True
    words = {word.lower() for word in re.findall(r"\w+", parameter.annotation or "")}
    return bool(words & _TEXTS) and words <= _TEXTS | {"none", "optional"}


def _kind(parameter: Parameter) -> str | None:
    """Return the JSON type of a parameter whose type begins with one that JSON has."""
    first = re.match(r"[\w.]+", parameter.annotation or "")
    name = (first[0] if first else "").rpartition(".")[2].lower()
    return next((kind for kind, pattern in _TYPES if re.fullmatch(pattern, name)), None)


def _operation_schema(operation: Operation) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    required: list[str] = []
    for parameter in operation.parameters:
        properties.setdefault(parameter.name, _hoisted(parameter.schema, shared))
        if parameter.required and parameter.name not in required:
            required.append(parameter.name)
    content = next(iter(operation.contents), None)
    if content is not None:
        told = operation.content("json") or operation.content("form") or content
        # A raw body is a file or text of the user's.
        properties["body"] = _hoisted(told.schema, shared) if told.kind != "raw" else {"type": "string"}
        required += ["body"] if operation.body_required else []
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **shared,
    }


def _hoisted(text: str, shared: dict[str, Any]) -> Any:
    """Return a schema whose definitions are moved to where references begin."""
    schema = json.loads(text)
    if isinstance(schema, dict):
        for place in ("$defs", "definitions"):
            if place in schema:
                shared.setdefault(place, {}).update(schema.pop(place))
    return schema


# --- arguments as code


def _written(entry: Entry, arguments: Mapping[str, Any]) -> str:
    """Return arguments as in a call: those that are required by position, the others by name."""
    by_position: list[str] = []
    by_name: list[str] = []
    starred = next((one.name for one in entry.parameters if one.kind == "var_positional"), None)
    left = dict(arguments)
    gap = False
    for parameter in entry.parameters:
        if parameter.name not in left:
            gap = gap or parameter.kind in ("positional_only", "positional_or_keyword")
            continue
        value = left.pop(parameter.name)
        if parameter.kind == "var_positional":
            by_position += map(_source, value if isinstance(value, list) else [value])
            continue
        source = _literal(value) if is_text(parameter) else _source(value)
        named = parameter.kind == "keyword_only" or (
            parameter.kind == "positional_or_keyword"
            and (gap or not (parameter.required or arguments.get(starred or "")))
        )
        (by_name if named else by_position).append(f"{parameter.name}={source}" if named else source)
    by_name += [f"{name}={_source(value)}" for name, value in left.items() if name.isidentifier()]
    return ", ".join([*by_position, *by_name])


def _source(value: Any) -> str:
    """Return a value as code; a string that is an expression is one, any other a text."""
    if isinstance(value, str):
        try:
            # As Python writes it: a comment or a line break would end the call's line.
            return ast.unparse(ast.parse(value.strip(), mode="eval"))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return _literal(value)
    return _literal(value)


def _literal(value: Any) -> str:
    """Return a value as a literal on one line, in which no fence of code ends."""
    plain = isinstance(value, str) and value.isprintable()
    return (json.dumps(value, ensure_ascii=False) if plain else repr(value)).replace("```", r"\x60\x60\x60")


def _is_closed(call: str) -> bool:
    """Tell whether all arguments of a call are values, and none a name that only the user knows."""
    tree = ast.parse(call, mode="eval").body
    if not isinstance(tree, ast.Call):
        return False
    for argument in (*tree.args, *(one.value for one in tree.keywords)):
        try:
            ast.literal_eval(argument)
        except (ValueError, TypeError):  # a name; what cannot be a key, as in {[1]: 2}
            return False
    return True
