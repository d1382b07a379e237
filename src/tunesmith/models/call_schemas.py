"""The JSON schema of a call: the name of a function, and arguments that its own schema allows.

A schema's references begin at its root. Inside the schema of a call it has another root, so one that refers to parts of
itself (`$defs`, as pydantic writes for models in models) is kept whole among the call's, and its references with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What stands there is data, and an address in data refers to nothing.
_DATA = frozenset({"const", "default", "enum", "examples"})


def call_schema(functions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the schema of a call of one of the functions, given the schema of each one's arguments by its name."""
    calls: list[dict[str, Any]] = []
    kept: dict[str, Any] = {}
    for number, (name, parameters) in enumerate(functions.items()):
        arguments: Mapping[str, Any] = parameters
        if _refers(parameters):
            place = f"#/$defs/{number}"
            kept[str(number)] = {
                key: _moved(value, place)
                for key, value in parameters.items()
                if key not in ("$id", "$schema")
            }
            arguments = {"$ref": place}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    whole = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**whole, "$defs": kept} if kept else whole


def _refers(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return isinstance(schema.get("$ref"), str) or any(
            _refers(value) for key, value in schema.items() if key not in _DATA
        )
    return isinstance(schema, list) and any(map(_refers, schema))


def _moved(schema: Any, place: str) -> Any:
    """Return a part of a schema whose root has moved to `place`."""
    if isinstance(schema, Mapping):
        moved = {key: value if key in _DATA else _moved(value, place) for key, value in schema.items()}
        address = schema.get("$ref")
        if isinstance(address, str) and address.startswith("#"):
            moved["$ref"] = f"{place}{address[1:]}"
        return moved
    return [_moved(value, place) for value in schema] if isinstance(schema, list) else schema
