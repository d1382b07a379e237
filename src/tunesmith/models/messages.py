"""OpenAI's chat messages and tools, and what a local model is given of them, in training and in serving alike.

Templates differ in what they know of tools, if anything: every model is told of them in words, ahead of the
conversation, calls one by answering with JSON, and gets the result from the user. A message under a name begins with
it; the assistant's own name is not told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tunesmith.records import Conversation, Message, Role

# How a model is told of functions: it answers with this JSON and nothing else to call one.
TOOLS = """\
You can call functions. To call one, answer with JSON alone, like {"name": "FUNCTION", "arguments": {}}. \
The functions, each with the JSON schema of its arguments:
"""
_ONLY_TEXT = "pictures, sounds and files are not read here: send text"


class Body(BaseModel):
    """What somebody else has written: what it does not know is refused, as OpenAI does."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _clean(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a surrogate pair") from error
    return text


# What a database can keep and a file can hold.
Text = Annotated[str, AfterValidator(_clean)]
Name = Annotated[Text, Field(min_length=1, max_length=256)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


def refused(why: str) -> Any:
    """Return a validator for a field that may only be left out (or be null, empty or false)."""

    def check(value: Any) -> Any:
        if value:
            raise ValueError(why)
        return value

    # Before the shape is looked at: what is not read need not be right.
    return BeforeValidator(check)


class TextPart(Body):
    """A part of a message."""

    type: Literal["text", "refusal", "image_url", "input_audio", "file"]
    text: Text | None = None
    refusal: Text | None = None
    image_url: Annotated[Any, refused(_ONLY_TEXT)] = None
    input_audio: Annotated[Any, refused(_ONLY_TEXT)] = None
    file: Annotated[Any, refused(_ONLY_TEXT)] = None

    @model_validator(mode="after")
    def _is_text(self) -> TextPart:
        if self.words is None:
            raise ValueError(
                _ONLY_TEXT if self.type not in ("text", "refusal") else f"'{self.type}' is missing"
            )
        return self

    @property
    def words(self) -> str | None:
        """What it says."""
        return self.text if self.type == "text" else self.refusal


class CalledFunction(Body):
    """A function that the assistant called, its arguments as JSON text."""

    name: FunctionName
    arguments: Text


class ToolCall(Body):
    """A call of a tool."""

    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[TextPart] | None = None
    name: Name | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: Name | None = None
    function_call: CalledFunction | None = None
    refusal: Text | None = None
    audio: Annotated[Any, refused(_ONLY_TEXT)] = None
    annotations: list[Any] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not (self.calls or self.refusal):
            raise ValueError("'content' is missing")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message of a tool needs 'tool_call_id'")
        return self

    @property
    def words(self) -> str:
        """What it says as one text."""
        if isinstance(self.content, list):
            return "".join(part.words or "" for part in self.content)
        return self.content if self.content is not None else self.refusal or ""

    @property
    def under_name(self) -> str:
        """What it says, behind its name if it has one."""
        return self.words if self.name is None else f"{self.name}: {self.words}"

    @property
    def calls(self) -> list[CalledFunction]:
        """The functions that it calls."""
        old = [] if self.function_call is None else [self.function_call]
        return [*(call.function for call in self.tool_calls or ()), *old]


class Function(Body):
    """A function that may be called."""

    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool that may be called."""

    type: Literal["function"]
    function: Function


@dataclass(frozen=True, slots=True)
class Call:
    """A function that a model calls, with arguments as JSON text."""

    name: str
    arguments: str

    @property
    def said(self) -> str:
        """The words by which a model makes the call; arguments that are no JSON are left as they are."""
        try:
            arguments = json.dumps(json.loads(self.arguments), ensure_ascii=False)
        except ValueError:
            arguments = self.arguments
        return f'{{"name": {json.dumps(self.name)}, "arguments": {arguments}}}'


def conversation(
    messages: Sequence[ChatMessage], functions: Sequence[Function] = (), *, more: Sequence[str] = ()
) -> Conversation:
    """Return messages as a chat template takes them, with what the model must know of functions ahead.

    `more` is told after that. Each assistant's message is one turn; results that follow each other are one turn of
    the user's, for templates want turns to alternate.
    """
    told = [told_of([_described(function) for function in functions])] if functions else []
    words = "\n\n".join([*told, *more])
    turns = _joined(messages)
    if not words:
        return tuple(turns)
    if turns and turns[0].role == "system":
        return (Message("system", f"{turns[0].content}\n\n{words}"), *turns[1:])
    return (Message("system", words), *turns)


def told_of(functions: Sequence[Mapping[str, Any]]) -> str:
    """Return the words by which a model is told of functions, and of how to call one."""
    return TOOLS + "\n".join(json.dumps(function) for function in functions)


def result_of(name: str, words: str) -> str:
    """Return the words by which the user tells a model what a function gave."""
    return f"Result of {name}: {words}"


def calls_in(text: str, names: frozenset[str]) -> tuple[Call, ...]:
    """Return the calls that an answer is, one a line; none if it is words, or if it was cut off."""
    if not text.startswith("{"):
        return ()
    calls = []
    for line in text.split("\n"):
        try:
            found = json.loads(line)
        except ValueError:
            return ()
        if not isinstance(found, dict) or found.keys() != {"name", "arguments"} or found["name"] not in names:
            return ()
        calls.append(Call(found["name"], json.dumps(found["arguments"], ensure_ascii=False)))
    return tuple(calls)


def _described(function: Function) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": function.name}
    if function.description:
        shown["description"] = function.description
    return shown | {"parameters": function.parameters or {"type": "object", "properties": {}}}


def _joined(messages: Sequence[ChatMessage]) -> list[Message]:
    found: list[Message] = []
    names = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    for message in messages:
        role, words = _as_said(message, names)
        if found and role == "user" and found[-1].role == "user" and message.role in ("tool", "function"):
            found[-1] = Message("user", f"{found[-1].content}\n{words}")
        else:
            found.append(Message(role, words))
    return found


def _as_said(message: ChatMessage, names: dict[str, str]) -> tuple[Role, str]:
    if message.role in ("tool", "function"):
        name = message.name or names.get(message.tool_call_id or "", "the function")
        return "user", result_of(name, message.words)
    if message.role == "assistant":
        calls = [Call(call.name, call.arguments).said for call in message.calls]
        return "assistant", "\n".join([*([message.words] if message.words else []), *calls])
    return ("user" if message.role == "user" else "system"), message.under_name
