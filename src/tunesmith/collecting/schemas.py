"""Schemas of descriptions: each made one piece of JSON Schema 2020-12, and outlined as Markdown for readers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.collecting.formats.refusal import Refusal
from tunesmith.collecting.references import Description, Node
from tunesmith.operations import validator

_MOST_NODES = 1500
_DEEPEST = 60
_LONGEST_EXAMPLE = 400  # characters of JSON
_DEEPEST_SHOWN = 3
_MOST_SHOWN = 40

_TYPES = frozenset(("null", "boolean", "object", "array", "number", "integer", "string"))
_NUMBERS = ("minimum", "maximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_SINGLE = (
    "additionalProperties",
    "unevaluatedProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)
# What says nothing of validity, and is wanted where values are made.
_TOLD = ("example", "default")


def schema_json(description: Description, node: Node) -> str:
    """Return a schema in one piece, what it refers to among its `$defs`; raises Refusal where that is not there.

    `nullable`, bounds that are `true`, `type: file` and other words of OpenAPI 3.0 and Swagger 2 become JSON Schema's;
    `oneOf` counts as `anyOf`. Of what a request need not hold (`readOnly`) nothing is required. Patterns that are none
    of the engine's are left out. Beyond `_MOST_NODES` nodes the farther parts of a schema count as anything.
    """
    text = json.dumps(_Converter(description).whole(node), ensure_ascii=False)
    try:
        validator(text)
    except ValueError:
        text = json.dumps(_without_patterns(json.loads(text)), ensure_ascii=False)
    try:
        validator(text)
    except ValueError as error:
        raise Refusal("schema", f"a schema is none: {error}") from error
    return text


def _without_patterns(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_patterns(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    is_pattern = isinstance(schema.get("pattern"), str)
    return {
        name: _without_patterns(value)
        for name, value in schema.items()
        if name != "patternProperties" and not (name == "pattern" and is_pattern)
    }


class _Converter:
    """One schema and those that it refers to, near ones first, being converted."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._names: dict[tuple[Path, str], str] = {}
        self._waiting: list[tuple[str, Node]] = []
        self._nodes = 0

    def whole(self, node: Node) -> Any:
        """Return the schema with its `$defs`."""
        made = self._schema(node, 0)
        definitions: dict[str, Any] = {}
        while self._waiting:
            name, target = self._waiting.pop(0)
            definitions[name] = self._schema(target, 0)
        if not definitions:
            return made
        return {**(made if isinstance(made, dict) else {}), "$defs": definitions}

    def _schema(self, node: Node, depth: int) -> Any:
        value = node.value
        if isinstance(value, bool) or value is None:
            return value is not False
        if not isinstance(value, dict):
            raise Refusal("schema", f"a schema is {type(value).__name__}, which is none")
        self._nodes += 1
        if self._nodes > _MOST_NODES or depth > _DEEPEST:
            return True
        made: dict[str, Any] = {}
        if isinstance(value.get("$ref"), str):
            made["$ref"] = self._reference(node)
            if set(value) <= {"$ref", "description", "summary", *_TOLD}:
                return made
        made |= dict(self._plain(value))
        made |= dict(self._nested(node, depth))
        _open_parts(made)
        return _nullable(made) if value.get("nullable") is True else made

    def _part(self, node: Node, depth: int) -> Any:
        """Return a part of an `allOf`, in place of a reference where it is closed to further properties."""
        target = self._description.resolve(node)
        return self._schema(target if _is_closed(self._description, target, 0) else node, depth)

    def _way(self, node: Node, way: Any, depth: int) -> Any:
        """Return one of several schemas, with the values that its discriminator's mapping has for it."""
        made = self._schema(node.child(way), depth)
        told = node.value.get("discriminator")
        mapping = told.get("mapping") if isinstance(told, dict) else None
        reference = way.get("$ref") if isinstance(way, dict) else None
        if not isinstance(mapping, dict) or not isinstance(reference, str):
            return made
        values = [
            name for name, target in mapping.items() if target in (reference, reference.rpartition("/")[2])
        ]
        return {**made, "properties": {str(told["propertyName"]): {"enum": values}}} if values else made

    def _reference(self, node: Node) -> str:
        target = self._description.resolve(node)
        key = (target.file, target.pointer)
        if key not in self._names:
            base = "".join(c if c.isalnum() else "_" for c in target.pointer.rpartition("/")[2]) or "root"
            taken = set(self._names.values())
            name = next(one for one in _numbered(base) if one not in taken)
            self._names[key] = name
            self._waiting.append((name, target))
        return f"#/$defs/{self._names[key]}"

    def _plain(self, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        types = value.get("type")
        told = types if isinstance(types, list) else [types]
        known = [one for one in told if isinstance(one, str) and one in _TYPES]
        if known:
            yield "type", known if isinstance(types, list) else known[0]
        if types == "file":
            yield "format", "binary"
        elif isinstance(value.get("format"), str):
            yield "format", value["format"]
        if isinstance(value.get("enum"), list) and value["enum"]:
            yield "enum", value["enum"]
        if "const" in value:
            yield "const", value["const"]
        if isinstance(value.get("pattern"), str):
            yield "pattern", value["pattern"]
        if value.get("uniqueItems") is True:
            yield "uniqueItems", True
        yield from _bounds(value)
        required = value.get("required")
        if isinstance(required, list):
            hidden = {
                name
                for name, one in _properties(value).items()
                if isinstance(one, dict) and one.get("readOnly")
            }
            names = [name for name in dict.fromkeys(map(str, required)) if name not in hidden]
            if names:
                yield "required", names
        for name in _TOLD:
            if name in value and _is_short(value[name]):
                yield name, value[name]
        examples = value.get("examples")
        if isinstance(examples, list) and examples and "example" not in value and _is_short(examples[0]):
            yield "example", examples[0]

    def _nested(self, node: Node, depth: int) -> Iterator[tuple[str, Any]]:
        value = node.value
        for name in _MAPS:
            if isinstance(value.get(name), dict):
                yield (
                    name,
                    {str(key): self._schema(node.child(one), depth + 1) for key, one in value[name].items()},
                )
        if isinstance(value.get("allOf"), list) and value["allOf"]:
            yield "allOf", [self._part(node.child(one), depth + 1) for one in value["allOf"]]
        if isinstance(value.get("prefixItems"), list) and value["prefixItems"]:
            yield "prefixItems", [self._schema(node.child(one), depth + 1) for one in value["prefixItems"]]
        for name in ("anyOf", "oneOf"):
            if isinstance(value.get(name), list) and value[name]:
                # Descriptions say oneOf where several fit: objects without required fields fit everywhere.
                yield "anyOf", [self._way(node, one, depth + 1) for one in value[name]]
        for name in _SINGLE:
            if isinstance(value.get(name), dict | bool):
                yield name, self._schema(node.child(value[name]), depth + 1)
        items = value.get("items")
        if isinstance(items, dict | bool):
            yield "items", self._schema(node.child(items), depth + 1)
        elif isinstance(items, list) and items:
            yield "prefixItems", [self._schema(node.child(one), depth + 1) for one in items]


def _is_closed(description: Description, schema: Node, depth: int) -> bool:
    """Tell whether a schema, or a part of its `allOf`, forbids further properties."""
    value = schema.value
    if not isinstance(value, dict) or depth > _DEEPEST_SHOWN:
        return False
    if value.get("additionalProperties") is False:
        return True
    parts = value.get("allOf")
    return isinstance(parts, list) and any(
        _is_closed(description, description.resolve(schema.child(one)), depth + 1) for one in parts
    )


def _open_parts(made: dict[str, Any]) -> None:
    """Let the whole forbid further properties where its parts do, or it does beside them.

    To the letter such schemas fit nothing: a part does not see the properties of the others.
    """
    parts = [part for part in made.get("allOf", ()) if isinstance(part, dict)]
    holders = [*parts, made] if parts or "anyOf" in made or "$ref" in made else parts
    closed = [
        holder.pop(name)
        for holder in holders
        for name in ("additionalProperties", "unevaluatedProperties")
        if holder.get(name) is False
    ]
    if closed:
        made["unevaluatedProperties"] = False


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        yield f"{base}_{number}"
        number += 1


def _bounds(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _NUMBERS:
        if _is_number(value.get(name)) and (name != "multipleOf" or value[name] > 0):
            exclusive = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}.get(name, "")
            yield (exclusive if value.get(exclusive) is True else name), value[name]
    for name in ("exclusiveMinimum", "exclusiveMaximum"):
        if _is_number(value.get(name)):
            yield name, value[name]
    for name in _COUNTS:
        if _is_number(value.get(name)) and value[name] >= 0:
            yield name, int(value[name])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_short(value: Any) -> bool:
    return len(json.dumps(value, default=str)) <= _LONGEST_EXAMPLE


def _properties(value: Mapping[str, Any]) -> Mapping[str, Any]:
    found = value.get("properties")
    return found if isinstance(found, dict) else {}


def _nullable(made: dict[str, Any]) -> dict[str, Any]:
    if isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
        if "enum" in made and None not in made["enum"]:
            made["enum"] = [*made["enum"], None]
        return made
    return {"anyOf": [made, {"type": "null"}]} if made else made


# --- for readers


def properties_of(description: Description, node: Node) -> Iterator[tuple[str, Node, bool]]:
    """Yield the properties of an object's schema, those of its `allOf` too, and whether each is required.

    What a request need not hold is left out.
    """
    found: dict[str, Node] = {}
    required: set[str] = set()
    waiting, depth = [node], 0
    while waiting and depth < _DEEPEST:
        depth += 1
        schema = description.resolve(waiting.pop(0))
        if not isinstance(schema.value, dict):
            continue
        if isinstance(schema.value.get("required"), list):
            required |= set(map(str, schema.value["required"]))
        for name, value in _properties(schema.value).items():
            found.setdefault(str(name), schema.child(value))
        if isinstance(schema.value.get("allOf"), list):
            waiting += [schema.child(one) for one in schema.value["allOf"]]
    for name, one in found.items():
        if not (isinstance(one.value, dict) and one.value.get("readOnly") is True):
            yield name, one, name in required


def type_name(description: Description, node: Node) -> str:
    """Return a schema's type in a word or two: "string", "array of integer", "string (date)"."""
    schema = description.resolve(node).value
    if not isinstance(schema, dict):
        return "any"
    types = schema.get("type")
    if isinstance(types, list):
        types = " or ".join(str(one) for one in types)
    if types == "array" and isinstance(schema.get("items"), dict):
        items = description.resolve(description.resolve(node).child(schema["items"]))
        inner = items.value.get("type", "object") if isinstance(items.value, dict) else "any"
        return f"array of {inner}" if isinstance(inner, str) else "array"
    if types is None:
        has_parts = any(key in schema for key in ("properties", "allOf", "additionalProperties"))
        types = "object" if has_parts else next((key for key in ("oneOf", "anyOf") if key in schema), "any")
        types = "one of several" if types in ("oneOf", "anyOf") else types
    return f"{types} ({schema['format']})" if isinstance(schema.get("format"), str) else str(types)


def outline(description: Description, node: Node) -> str:
    """Return a schema's properties as a nested list, three deep; "" where it has none."""
    lines: list[str] = []
    _outline(description, node, "", lines)
    if len(lines) > _MOST_SHOWN:
        lines[_MOST_SHOWN:] = [f"- and {len(lines) - _MOST_SHOWN} more"]
    return "\n".join(lines)


def _outline(description: Description, node: Node, indent: str, lines: list[str]) -> None:
    if len(indent) >= 2 * _DEEPEST_SHOWN or len(lines) > 4 * _MOST_SHOWN:
        return
    schema = _inside(description, node)
    for name, one, required in properties_of(description, schema):
        needed = ", required" if required else ""
        told = told_of(description, one)
        lines.append(
            f"{indent}- `{name}` ({type_name(description, one)}{needed})" + (f": {told}" if told else "")
        )
        _outline(description, one, indent + "  ", lines)


def _inside(description: Description, node: Node) -> Node:
    """Return what a list holds, of a list of lists what these hold; any other schema as it is."""
    schema = description.resolve(node)
    for _ in range(_DEEPEST_SHOWN):
        if not isinstance(schema.value, dict) or not isinstance(schema.value.get("items"), dict):
            break
        schema = description.resolve(schema.child(schema.value["items"]))
    return schema


def told_of(description: Description, node: Node) -> str:
    """Return a schema's description in one line, with its enumerated values."""
    schema = description.resolve(node).value
    told = node.value.get("description") if isinstance(node.value, dict) else None
    if not isinstance(told, str):
        told = schema.get("description") if isinstance(schema, dict) else None
    words = " ".join(told.split()) if isinstance(told, str) else ""
    values = schema.get("enum") if isinstance(schema, dict) else None
    if isinstance(values, list) and values:
        shown = ", ".join(f"`{one}`" for one in values[:12])
        words = (
            f"{words.rstrip('.')}{'. ' if words else ''}One of {shown}{', ...' if len(values) > 12 else ''}."
        )
    return words
