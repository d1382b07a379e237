"""The items of responses: as they are kept and shown, and as the messages and settings of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from tunesmith.models.messages import CalledFunction, ChatMessage, Function, TextPart, Tool, ToolCall
from tunesmith.serving.ids import new_id
from tunesmith.serving.wire.chat import CreateChat, JsonSchema, NamedFunction, NamedTool, ResponseFormat
from tunesmith.serving.wire.responses import (
    CallItem,
    Content,
    CreateResponse,
    Item,
    MessageItem,
    NamedChoice,
    OutputItem,
    Question,
    TextFormat,
)

_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


def kept(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Return items as they are kept and shown: each with an id, messages in parts."""
    return [_kept(item) for item in items]


def read(shown: Sequence[dict[str, Any]]) -> list[Item]:
    """Return items that were kept."""
    return _ITEMS.validate_python(list(shown))


def chat_of(body: Question, items: Sequence[Item]) -> CreateChat:
    """Return the chat that says the same as a question after what was said before, oldest item first."""
    messages = _messages(items)
    if body.instructions:
        messages.insert(0, ChatMessage(role="system", content=body.instructions))
    form = body.text.format if body.text else None
    settings: dict[str, Any] = {}
    if isinstance(body, CreateResponse):
        settings = {
            "temperature": body.temperature,
            "top_p": body.top_p,
            "max_completion_tokens": body.max_output_tokens,
            "logprobs": body.logprobs or None,
            "top_logprobs": body.top_logprobs,
        }
    return CreateChat(
        model=body.model,
        messages=messages,
        tools=[_tool(tool) for tool in body.tools] if body.tools else None,
        tool_choice=_choice(body.tool_choice),
        response_format=None if form is None else _format(form),
        **settings,
    )


def text_of(content: Content) -> str:
    """Return what parts say as one text."""
    return content if isinstance(content, str) else "".join(part.words or "" for part in content)


def _kept(item: Item) -> dict[str, Any]:
    if isinstance(item, CallItem):
        shown = item.model_dump(exclude_none=True)
        return shown | {"id": item.id or new_id("fc_"), "status": "completed"}
    if isinstance(item, OutputItem):
        shown = {"type": item.type, "call_id": item.call_id, "output": text_of(item.output)}
        return shown | {"id": item.id or new_id("fco_"), "status": "completed"}
    words = text_of(item.content)
    said = {"type": "output_text", "text": words, "annotations": []}
    part = said if item.role == "assistant" else {"type": "input_text", "text": words}
    return {
        "id": item.id or new_id("msg_"),
        "type": "message",
        "role": item.role,
        "content": [part],
        "status": "completed",
    }


def _messages(items: Sequence[Item]) -> list[ChatMessage]:
    found: list[ChatMessage] = []
    for item in items:
        if isinstance(item, OutputItem):
            found.append(
                ChatMessage(role="tool", content=text_of(item.output), tool_call_id=item.call_id),
            )
        elif isinstance(item, MessageItem):
            found.append(
                ChatMessage(role=item.role, content=[TextPart(type="text", text=text_of(item.content))])
            )
        else:
            call = ToolCall(
                id=item.call_id, function=CalledFunction(name=item.name, arguments=item.arguments)
            )
            before = found[-1] if found else None
            if before is not None and before.role == "assistant":
                # Calls of one turn, and what was said before them, are one message.
                calls = [*(before.tool_calls or ()), call]
                found[-1] = ChatMessage(role="assistant", content=before.content, tool_calls=calls)
            else:
                found.append(ChatMessage(role="assistant", tool_calls=[call]))
    return found


def _tool(tool: Any) -> Tool:
    return Tool(
        type="function",
        function=Function(
            name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
        ),
    )


def _choice(choice: Any) -> Any:
    if isinstance(choice, NamedChoice):
        return NamedTool(type="function", function=NamedFunction(name=choice.name))
    return choice


def _format(form: TextFormat) -> ResponseFormat:
    if form.type != "json_schema":
        return ResponseFormat(type=form.type)
    schema = JsonSchema(
        name=form.name or "", description=form.description, schema=form.schema_ or {}, strict=form.strict
    )
    return ResponseFormat(type="json_schema", json_schema=schema)
