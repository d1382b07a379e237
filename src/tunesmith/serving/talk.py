"""From a chat request to what an engine is asked: the conversation as records, tools told in words, the grammar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.records import Conversation, Message, Role
from tunesmith.serving.wire.chat import ChatMessage, CreateChat, Function

# How a model is told of functions, whatever its template knows: it answers with this JSON and nothing else to call one.
TOOLS = """\
You can call functions. To call one, answer with JSON alone, like {"name": "FUNCTION", "arguments": {}}. \
The functions, each with the JSON schema of its arguments:
"""
FORMAT = "Answer with JSON of this schema alone: "
ANY_OBJECT: dict[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Call:
    """A function that the model calls, with arguments as JSON text."""

    name: str
    arguments: str


def conversation_of(body: CreateChat) -> Conversation:
    """Return the messages as a model's chat template takes them, with what it must know of tools and form ahead."""
    told = []
    if body.callable:
        told.append(TOOLS + "\n".join(json.dumps(_described(function)) for function in body.callable))
    if body.response_format is not None and body.response_format.json_schema is not None:
        told.append(FORMAT + json.dumps(body.response_format.json_schema.schema_))
    messages = _joined(body.messages)
    if not told:
        return tuple(messages)
    words = "\n\n".join(told)
    if messages and messages[0].role == "system":
        return (Message("system", f"{messages[0].content}\n\n{words}"), *messages[1:])
    return (Message("system", words), *messages)


def grammar_of(body: CreateChat) -> tuple[str, Any] | None:
    """Return what the answer must look like: ("schema", a JSON schema) or ("lark", a grammar); None: anything.

    Where functions may be called and need not be, an answer that begins with a brace is a call that fits.
    """
    schema = _schema_of(body)
    if not body.callable:
        return None if schema is None else ("schema", schema)
    calls = [_call_schema(function) for function in body.callable if body.must_call in (None, function.name)]
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if body.must_call is not None or body.tool_choice == "required":
        return "schema", call
    said = "SAID" if schema is None else f"%json {json.dumps(schema)}"
    words = r"SAID: /[^{](.|\n)*/" if schema is None else ""
    return "lark", f"start: call | said\ncall: %json {json.dumps(call)}\nsaid: {said}\n{words}\n"


def call_in(body: CreateChat, text: str) -> Call | None:
    """Return the call that an answer is, or None if it is words."""
    if not body.callable or not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        # Cut off in its middle.
        return None
    names = {function.name for function in body.callable}
    if not isinstance(found, dict) or found.keys() != {"name", "arguments"} or found["name"] not in names:
        return None
    return Call(found["name"], json.dumps(found["arguments"], ensure_ascii=False))


def _schema_of(body: CreateChat) -> dict[str, Any] | None:
    form = body.response_format
    if form is None or form.type == "text":
        return None
    return ANY_OBJECT if form.json_schema is None else form.json_schema.schema_


def _call_schema(function: Function) -> dict[str, Any]:
    arguments = function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _described(function: Function) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": function.name}
    if function.description:
        shown["description"] = function.description
    return shown | {"parameters": function.parameters or {"type": "object", "properties": {}}}


def _joined(messages: Sequence[ChatMessage]) -> list[Message]:
    """Return the messages in the roles that templates know; what tools gave is told by the user."""
    found: list[Message] = []
    names = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    for message in messages:
        role, words = _as_said(message, names)
        # Results of several calls come one after the other, and templates want turns to alternate.
        if found and role == "user" and found[-1].role == "user" and message.role in ("tool", "function"):
            found[-1] = Message("user", f"{found[-1].content}\n{words}")
        else:
            found.append(Message(role, words))
    return found


def _as_said(message: ChatMessage, names: dict[str, str]) -> tuple[Role, str]:
    if message.role in ("tool", "function"):
        name = message.name or names.get(message.tool_call_id or "", "the function")
        return "user", f"Result of {name}: {message.words}"
    if message.role == "assistant":
        calls = [call.function for call in message.tool_calls or ()]
        calls += [] if message.function_call is None else [message.function_call]
        told = [f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}' for call in calls]
        return "assistant", "\n".join([*([message.words] if message.words else []), *told])
    return ("system" if message.role in ("system", "developer") else "user"), message.words
