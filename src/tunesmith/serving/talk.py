"""From a chat request to what an engine is asked: the conversation with tools told in words, and the grammar."""

from __future__ import annotations

import json
from typing import Any

from tunesmith.inference.grammar import JSON
from tunesmith.models.call_schemas import call_schema
from tunesmith.models.messages import Call, calls_in, conversation
from tunesmith.models.wrappers import SCHEMA
from tunesmith.records import Conversation
from tunesmith.serving.wire.chat import CreateChat

ANY_OBJECT: dict[str, Any] = {"type": "object"}
_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}  # arguments of what takes none
_MOST_CALLS = 16


def conversation_of(body: CreateChat) -> Conversation:
    """Return the messages as a model's chat template takes them, with what it must know of tools and form ahead."""
    more = []
    if body.response_format is not None and body.response_format.json_schema is not None:
        more.append(SCHEMA + json.dumps(body.response_format.json_schema.schema_))
    return conversation(body.messages, body.callable, more=more)


def grammar_of(body: CreateChat) -> tuple[str, Any] | None:
    """Return what the answer must look like: ("schema", a JSON schema) or ("lark", a grammar); None: anything.

    Where functions may be called and need not be, an answer that begins with a brace is a call that fits, or several,
    one a line, where `parallel_tool_calls` says so.
    """
    schema = _schema_of(body)
    if not body.callable:
        return None if schema is None else ("schema", schema)
    call = call_schema(
        {one.name: one.parameters or _NOTHING for one in body.callable if body.must_call in (None, one.name)}
    )
    must = body.must_call is not None or body.tool_choice == "required"
    several = body.tools is not None and body.parallel_tool_calls is True
    if must and not several:
        return "schema", call
    more = rf' ("\n" call){{0,{_MOST_CALLS - 1}}}' if several else ""
    rules = [f"start: call{more}" + ("" if must else " | said"), f"call: %json {_json(call)}"]
    if not must:
        rules.append(f"said: {'SAID' if schema is None else f'%json {_json(schema)}'}")
        rules += [r"SAID: /[^{](.|\n)*/"] if schema is None else []
    return "lark", "\n".join([*rules, ""])


def made_calls(body: CreateChat, text: str) -> tuple[Call, ...]:
    """Return the calls that an answer is; none if it is words."""
    return calls_in(text, frozenset(function.name for function in body.callable))


def _json(schema: dict[str, Any]) -> str:
    # White space as where a schema is all there is.
    return json.dumps(schema | {"x-guidance": JSON})


def _schema_of(body: CreateChat) -> dict[str, Any] | None:
    form = body.response_format
    if form is None or form.type == "text":
        return None
    return ANY_OBJECT if form.json_schema is None else form.json_schema.schema_
