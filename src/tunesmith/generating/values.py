"""Values that fit a JSON Schema: its own examples where they fit, else the smallest made by its rules.

What is not covered: `if`, `dependentSchemas`, `contains` and other rules by which one part hangs on another, beyond
trying what is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from tunesmith.generating.patterns import matching_text
from tunesmith.operations import invalid

_DEEPEST = 12
_DEEP = 2
_MOST_TRIED = 24
_FORMATS: Mapping[str, str] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com",
    "url": "https://example.com",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "byte": "aGVsbG8=",
}
# Tried where a pattern asks for something particular.
_USUAL = (
    *(
        "a",
        "A",
        "1",
        "12",
        "abc",
        "ABC",
        "a1",
        "abc-123",
        "abc_123",
        "2026-01-31",
        "12:00",
        "1.0",
        "1.0.0",
        "10.5",
    ),
    *(
        "en",
        "EN",
        "en-US",
        "USD",
        "#112233",
        "0a1b2c3d4e5f",
        "/a",
        "https://example.com",
        "ada@example.com",
        "true",
    ),
    *("+14155550100", "192.0.2.1", "192.0.2.0/24", "0" * 8, "0" * 12, "0" * 16, "0" * 20, "0" * 24, "a" * 32),
    *("0" * 32, "0" * 40, "0" * 64, "123e4567-e89b-12d3-a456-426614174000", "2026-01-31T12:00:00Z"),
)


def fitting_value(schema: str, name: str) -> Any:
    """Return a value that is valid under a schema given as JSON; `name` is what a free text says.

    Raises ValueError where none is found.
    """
    return _Maker(json.loads(schema)).value(name)


class _Maker:
    """Makes values under one schema, whose references point into it."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._failed = ""
        self._definitions = {
            name: root[name] for name in ("$defs", "definitions") if isinstance(root, dict) and name in root
        }

    def value(self, name: str) -> Any:
        """Return the first value made that is valid."""
        return self._fitting(self._root, name, 0)

    def _fitting(self, schema: Any, name: str, depth: int) -> Any:
        for candidate in islice(self._candidates(schema, name, depth), _MOST_TRIED):
            if self._is_valid(schema, candidate):
                return candidate
        # The innermost fails first, and is the reason of the others.
        self._failed = self._failed or name
        raise ValueError(f"nothing was found that fits {self._failed}")

    def _is_valid(self, schema: Any, candidate: Any) -> bool:
        whole = {**schema, **self._definitions} if isinstance(schema, dict) else schema
        return invalid(json.dumps(whole), candidate) is None

    def _candidates(self, schema: Any, name: str, depth: int) -> Iterator[Any]:
        if depth > _DEEPEST:
            return
        if not isinstance(schema, dict) or not schema.keys() - {"$defs", "definitions"}:
            yield name
            return
        for told in ("example", "default", "const"):
            if schema.get(told) is not None:
                yield schema[told]
        examples = schema.get("examples")
        if isinstance(examples, list):
            yield from examples
        if isinstance(schema.get("enum"), list):
            yield from schema["enum"]
            return
        for flat in self._flattened(schema, depth):
            yield from self._by_type(flat, name, depth)

    def _flattened(self, schema: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
        """Yield the schema with what it refers to and all of its `allOf` in it, once for each of its alternatives."""
        if depth > _DEEPEST:
            return
        flat = dict(schema)
        parts = list(flat.pop("allOf", ()))
        if isinstance(flat.get("$ref"), str):
            parts.append(self._target(flat.pop("$ref")))
        ways = flat.pop("oneOf", None) or flat.pop("anyOf", None) or [{}]
        if depth > _DEEP:
            # What holds itself ends where it may.
            ways = sorted(ways, key=lambda way: isinstance(way, dict) and "$ref" in way)
        for way in ways:
            every = [
                self._first_flattened(part, depth + 1) for part in (*parts, way) if isinstance(part, dict)
            ]
            merged = dict(flat)
            for part in every:
                merged = _merged(merged, part)
            yield merged

    def _first_flattened(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        return next(self._flattened(schema, depth), {})

    def _target(self, reference: str) -> Any:
        value = self._root
        for step in filter(None, reference.removeprefix("#").split("/")):
            key = step.replace("~1", "/").replace("~0", "~")
            try:
                value = value[int(key)] if isinstance(value, list) else value[key]
            except (KeyError, IndexError, TypeError, ValueError):
                return {}
        return value if isinstance(value, dict) else {}

    def _by_type(self, schema: Mapping[str, Any], name: str, depth: int) -> Iterator[Any]:
        for told in ("example", "default", "const"):
            if schema.get(told) is not None:
                yield schema[told]
        if isinstance(schema.get("enum"), list):
            yield from schema["enum"]
        for kind in _kinds(schema):
            if kind == "object":
                yield from self._objects(schema, name, depth)
            elif kind == "array":
                yield from self._arrays(schema, name, depth)
            elif kind in ("integer", "number"):
                yield from _numbers(schema)
            elif kind == "string":
                yield from _texts(schema, name)
            elif kind == "boolean":
                yield from (True, False)
            else:
                yield None

    def _objects(self, schema: Mapping[str, Any], name: str, depth: int) -> Iterator[dict[str, Any]]:
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        made = {}
        for one in schema.get("required", ()):
            try:
                made[one] = self._fitting(
                    known.get(one, schema.get("additionalProperties", {})), one, depth + 1
                )
            except ValueError:
                return
        others = [one for one in known if one not in made and not _is_hidden(known[one])]
        others.sort(key=lambda one: re.search(r"(?:^|_)u?u?id$", one, re.IGNORECASE) is not None)
        if made or depth > 1:
            yield made
        # A body without any field would say nothing: the first that can be made, then more of them.
        for one in others:
            try:
                made = {**made, one: self._fitting(known[one], one, depth + 1)}
            except ValueError:
                continue
            yield made
        if isinstance(schema.get("additionalProperties"), dict) or schema.get("patternProperties"):
            inner = schema.get("additionalProperties")
            if isinstance(schema.get("patternProperties"), dict):
                inner = next(iter(schema["patternProperties"].values()), inner)
            with suppress(ValueError):
                yield {**made, "key": self._fitting(inner, "value", depth + 1)}
        yield {}

    def _arrays(self, schema: Mapping[str, Any], name: str, depth: int) -> Iterator[list[Any]]:
        first = schema.get("prefixItems")
        items = [self._fitting(one, name, depth + 1) for one in first] if isinstance(first, list) else []
        item, count = schema.get("items", {}), max(1, int(schema.get("minItems", 1)))
        if depth > _DEEP:
            yield items
        try:
            one = self._fitting(item, _singular(name), depth + 1)
        except ValueError:
            yield []
            return
        yield [*items, *[one] * (count - len(items))]
        if isinstance(item, dict) and isinstance(item.get("enum"), list):
            yield item["enum"][:count]
        if isinstance(one, str):
            yield [f"{one}{number}" for number in range(1, count + 1)]
        if isinstance(one, int | float):
            yield [one + number for number in range(count)]
        yield []


def _merged(above: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """Return two schemas that both hold as one, as far as a value is made by it."""
    merged = {**below, **above}
    for name in ("properties", "patternProperties"):
        if isinstance(above.get(name), dict) and isinstance(below.get(name), dict):
            merged[name] = {**below[name], **above[name]}
    if "required" in above and "required" in below:
        merged["required"] = list(dict.fromkeys((*below["required"], *above["required"])))
    return merged


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    """Return the types that a schema allows, its `null` last, guessed from its words where it names none."""
    kind = schema.get("type")
    if isinstance(kind, list):
        return sorted(kind, key=lambda one: one == "null")
    if isinstance(kind, str):
        return [kind]
    if any(
        word in schema for word in ("properties", "required", "additionalProperties", "patternProperties")
    ):
        return ["object"]
    if "items" in schema or "prefixItems" in schema:
        return ["array"]
    return (
        ["integer"]
        if "minimum" in schema or "maximum" in schema
        else ["string", "object", "integer", "boolean"]
    )


def _is_hidden(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("readOnly") is True


def _numbers(schema: Mapping[str, Any]) -> Iterator[int | float]:
    step = schema.get("multipleOf", 1)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    for start in (1, low, high):
        if start is not None:
            whole = int(start) if float(start).is_integer() else start
            yield from (whole, whole + step, whole - step)
            yield int(start // step * step) if isinstance(step, int) else start // step * step
            yield (start // step + 1) * step
    if low is not None and high is not None:
        yield (low + high) / 2


def _texts(schema: Mapping[str, Any], name: str) -> Iterator[str]:
    said = _FORMATS.get(str(schema.get("format")), name)
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    words = (said * (least // max(len(said), 1) + 1))[: max(least, len(said))] if len(said) < least else said
    yield words if most is None else words[: int(most)]
    if isinstance(schema.get("pattern"), str):
        yield from (one for one in _USUAL if _matches(schema["pattern"], one))
        made = matching_text(schema["pattern"])
        if made is not None:
            yield made
            yield made + "a" * (least - len(made))


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        # Another engine's: what is made is tried by that.
        return True


def _singular(name: str) -> str:
    return name[:-1] if re.search(r"[^su]s$", name) else name
