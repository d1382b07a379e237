"""What asks for a response, and how its items become the messages of a chat."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tunesmith.models.messages import FunctionName
from tunesmith.serving.wire.base import Body, Metadata, Name, Text, refused
from tunesmith.serving.wire.chat import Share, Temperature, Tokens

_ONLY_TEXT = "pictures, sounds and files are not read here: send text"
_NO_TOOLS = "tools that run at OpenAI are not served here: give functions"

Status = Literal["in_progress", "completed", "incomplete"]


class ContentPart(Body):
    """A part of a message; what an answer held may be sent back as it was."""

    type: Literal["input_text", "output_text", "text", "refusal", "input_image", "input_file", "input_audio"]
    text: Text | None = None
    refusal: Text | None = None
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    image_url: Annotated[Any, refused(_ONLY_TEXT)] = None
    file_id: Annotated[Any, refused(_ONLY_TEXT)] = None
    file_data: Annotated[Any, refused(_ONLY_TEXT)] = None
    file_url: Annotated[Any, refused(_ONLY_TEXT)] = None
    input_audio: Annotated[Any, refused(_ONLY_TEXT)] = None

    @model_validator(mode="after")
    def _is_text(self) -> ContentPart:
        if self.words is None:
            raise ValueError(_ONLY_TEXT if self.type.startswith("input_") else f"'{self.type}' is missing")
        return self

    @property
    def words(self) -> str | None:
        """What it says."""
        return self.refusal if self.type == "refusal" else self.text


Content = Text | list[ContentPart]


class MessageItem(Body):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: Name | None = None
    status: Status | None = None
    phase: Name | None = None


class CallItem(Body):
    """A function that the assistant has called."""

    type: Literal["function_call"]
    call_id: Name
    name: FunctionName
    arguments: Text
    id: Name | None = None
    status: Status | None = None


class OutputItem(Body):
    """What a called function has given."""

    type: Literal["function_call_output"]
    call_id: Name
    output: Content
    id: Name | None = None
    status: Status | None = None


Item = MessageItem | CallItem | OutputItem
Items = Annotated[list[Item], Field(min_length=1, max_length=2048)]


class FunctionTool(Body):
    """A function that may be called."""

    type: Annotated[Literal["function"], Field(description=_NO_TOOLS)]
    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedChoice(Body):
    """The function that must be called."""

    type: Literal["function"]
    name: FunctionName


class TextFormat(Body):
    """What an answer looks like."""

    type: Literal["text", "json_object", "json_schema"]
    name: FunctionName | None = None
    description: Text | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> TextFormat:
        whole = self.name is not None and self.schema_ is not None
        if self.type == "json_schema" and not whole:
            raise ValueError("a format of type 'json_schema' needs 'name' and 'schema'")
        if self.type != "json_schema" and (self.name is not None or self.schema_ is not None):
            raise ValueError("'name' and 'schema' belong to the type 'json_schema'")
        return self


class TextSettings(Body):
    """How an answer is written."""

    format: TextFormat | None = None
    # A hint for models that were trained to follow it.
    verbosity: Name | None = None


class StreamSettings(Body):
    """What a stream tells beside the answer."""

    include_obfuscation: Annotated[bool | None, refused("streams are not padded here")] = None


class Question(Body):
    """What is asked: the input, what was said before, the functions, the form of the answer."""

    model: Name
    input: Text | Items | None = None
    instructions: Text | None = None
    previous_response_id: Name | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    truncation: Literal["auto", "disabled"] | None = None
    reasoning: dict[str, Any] | None = None
    personality: Annotated[Any, refused("models have none here: use instructions")] = None
    conversation: Annotated[Any, refused("conversations are not kept here: use previous_response_id")] = None

    @model_validator(mode="after")
    def _asks(self) -> Question:
        if self.input is None and self.previous_response_id is None:
            raise ValueError("'input' is missing")
        return self

    @property
    def items(self) -> list[Item]:
        """The input as items."""
        if isinstance(self.input, str):
            return [MessageItem(role="user", content=self.input)]
        return list(self.input or ())


class CreateResponse(Question):
    """An input to be answered."""

    stream: bool | None = None
    stream_options: StreamSettings | None = None
    store: bool | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    max_output_tokens: Tokens | None = None
    include: list[Name] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    metadata: Metadata | None = None
    background: Annotated[
        bool | None, refused("nothing is answered in the background here: stream, or use /v1/batches")
    ] = None
    background_options: Annotated[Any, refused("nothing is answered in the background here")] = None
    image: Annotated[Any, refused("no pictures are made here")] = None
    prompt: Annotated[Any, refused("prompts are not kept here: send 'input'")] = None
    moderation: Annotated[Any, refused("ask /v1/moderations beside it")] = None
    context_management: Annotated[Any, refused("use truncation 'auto'")] = None
    # What changes no word of an answer here: accounts, bills, caches, hints, and bounds on tools that are not there.
    max_tool_calls: int | None = None
    user: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    prompt_cache_options: Any = None
    access_programs: Any = None
    prompt_cache_retention: Name | None = None
    service_tier: Name | None = None

    @property
    def logprobs(self) -> bool:
        """Whether log-probabilities are told."""
        return "message.output_text.logprobs" in (self.include or ())

    @model_validator(mode="after")
    def _fits(self) -> CreateResponse:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("'top_logprobs' needs 'message.output_text.logprobs' in 'include'")
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' needs 'stream' to be true")
        return self
