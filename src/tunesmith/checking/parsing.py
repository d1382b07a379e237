"""A line of a file as the rules see it: who says what, and what may be called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.curating.rules import Words
from tunesmith.records import Role

Row = tuple[tuple[Words, ...], Mapping[str, Any]]
_PLAIN_KEYS = ({"role", "content"}, {"content", "role"})
_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def plain_turns(row: Any) -> tuple[tuple[Role, ...], list[str]] | None:
    """Return roles and texts of a chat that holds nothing but these; None for a row with anything else in it."""
    if type(row) is not dict or len(row) != 1:
        return None
    messages = row.get("messages")
    if type(messages) is not list:
        return None
    roles: list[Role] = []
    texts: list[str] = []
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        role, text = _ROLES.get(message.get("role") or ""), message.get("content")
        if role is None or type(text) is not str or "\0" in text:
            return None
        roles.append(role)
        texts.append(text)
    return tuple(roles), texts


def words_of(row: Any) -> list[Row]:
    """Return the conversations of a row, two of a preference pair; what has no form that is known has none."""
    if not isinstance(row, dict):
        return []
    if isinstance(row.get("messages"), list):
        return [(_turns(row["messages"]), _schemas(row))]
    asked = row.get("input")
    if isinstance(asked, dict) and isinstance(asked.get("messages"), list):
        before = _turns(asked["messages"])
        return [
            ((*before, *_turns(answers)), _schemas(asked))
            for key in ("preferred_output", "non_preferred_output")
            if isinstance(answers := row.get(key), list)
        ]
    if isinstance(row.get("text"), str):
        return [((Words("text", row["text"]),), {})]
    return []


def _turns(messages: list[Any]) -> tuple[Words, ...]:
    return tuple(_words(message) for message in messages if isinstance(message, dict))


def _words(message: Mapping[str, Any]) -> Words:
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    functions = [call.get("function") for call in message.get("tool_calls") or () if isinstance(call, dict)]
    calls = [
        (str(function.get("name")), str(function.get("arguments")))
        for function in (*functions, message.get("function_call"))
        if isinstance(function, dict)
    ]
    said = content if isinstance(content, str) else str(message.get("refusal") or "")
    return Words(str(message.get("role")), said, tuple(calls))


def _schemas(row: Mapping[str, Any]) -> dict[str, Any]:
    tools = [tool.get("function") for tool in row.get("tools") or () if isinstance(tool, dict)]
    functions = [each for each in (*tools, *(row.get("functions") or ())) if isinstance(each, dict)]
    return {
        str(each.get("name")): each["parameters"]
        for each in functions
        if isinstance(each.get("parameters"), dict)
    }
