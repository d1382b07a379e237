"""Rails of calls: which tools may be called, with which arguments, and which are shown instead of called."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from tunesmith.guarding.rails import Context, Find, Found, Span
from tunesmith.models.messages import Call
from tunesmith.operations import invalid


def calls_of(text: str) -> tuple[Call, ...]:
    """Return the calls that a text is, one a line of JSON with a name and arguments; none if it is words."""
    if not text.lstrip().startswith("{"):
        return ()
    calls = []
    for line in text.strip().split("\n"):
        try:
            found: Any = json.loads(line)
        except ValueError:
            return ()
        if (
            not isinstance(found, dict)
            or found.keys() != {"name", "arguments"}
            or not isinstance(found["name"], str)
        ):
            return ()
        arguments = found["arguments"]
        calls.append(
            Call(
                found["name"],
                arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
            )
        )
    return tuple(calls)


def lines_of(calls: Iterable[Call]) -> str:
    """Return the text that calls are, one a line of JSON, arguments as the text that they are."""
    return "\n".join(
        json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False) for call in calls
    )


def read_through(arguments: str, read: Callable[[str, str], str]) -> str:
    """Return arguments in which `read` has changed names and values, each with what stands before it.

    Arguments that are no JSON are read as one text.
    """
    try:
        given = json.loads(arguments)
        said = _read(given, read, "")
    except (ValueError, RecursionError):
        return read(arguments, "")
    return arguments if said == given else json.dumps(said, ensure_ascii=False)


def _read(value: Any, read: Callable[[str, str], str], before: str) -> Any:
    if isinstance(value, dict):
        return {read(name, ""): _read(each, read, f"{name}: ") for name, each in value.items()}
    if isinstance(value, list):
        return [_read(each, read, before) for each in value]
    if value is None or isinstance(value, bool):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    said = read(text, before)
    return value if said == text else said


def named(allowed: Sequence[str]) -> Find:
    """Return what finds a call of a tool whose name fits none of the patterns, such as search_*."""

    def find(text: str, _: Context) -> Found | None:
        strange = [call.name for call in calls_of(text) if not _fits(call.name, allowed)]
        return Found(f"the tool {strange[0]!r} may not be called") if strange else None

    return find


def with_arguments(schemas: Mapping[str, str]) -> Find:
    """Return what finds a call whose arguments are not what its tool's JSON schema says; other tools are let pass."""

    def find(text: str, _: Context) -> Found | None:
        for call in calls_of(text):
            if call.name not in schemas:
                continue
            try:
                arguments = json.loads(call.arguments)
            except ValueError:
                return Found(f"the arguments of {call.name!r} are no JSON")
            reason = invalid(schemas[call.name], arguments)
            if reason is not None:
                return Found(f"the arguments of {call.name!r} do not fit: {reason}")
        return None

    return find


def only_shown(names: Sequence[str]) -> Find:
    """Return what finds a call that is not to be made: all calls are shown in its place."""

    def find(text: str, _: Context) -> Found | None:
        calls = calls_of(text)
        dry = [call.name for call in calls if _fits(call.name, names)]
        if not dry:
            return None
        shown = "; ".join(f"{call.name}({call.arguments})" for call in calls)
        return Found(
            f"the tool {dry[0]!r} is only shown", (Span(0, len(text), f"Not called (dry run): {shown}"),)
        )

    return find


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
