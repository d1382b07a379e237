"""What asks for an answer: chats, and the old completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tunesmith.models.messages import ChatMessage, Function, FunctionName, Tool
from tunesmith.serving.wire.base import Body, Metadata, Name, Text, refused

Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=1, le=2**20)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Stop = Annotated[Text, Field(min_length=1, max_length=512)]
Stops = Stop | Annotated[list[Stop], Field(max_length=16)]
Bias = Annotated[
    dict[Annotated[str, Field(pattern=r"^\d{1,7}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=4096),
]
_ONLY_TEXT = "pictures, sounds and files are not read here: send text"


class NamedFunction(Body):
    """The function that must be called."""

    name: FunctionName


class NamedTool(Body):
    """The tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Body):
    """The schema that an answer keeps to."""

    name: FunctionName
    description: Text | None = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """What an answer looks like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("'json_schema' is given exactly when 'type' is 'json_schema'")
        return self


class StreamOptions(Body):
    """What a stream tells beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, refused("streams are not padded here")] = None


class CreateChat(Body):
    """A conversation to be answered."""

    model: Name
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Annotated[int, Field(ge=1, le=32)] | None = None
    seed: Seed | None = None
    stop: Stops | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Field(min_length=1, max_length=128)] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    audio: Annotated[Any, refused(_ONLY_TEXT)] = None
    moderation: Annotated[Any, refused("ask /v1/moderations beside it")] = None
    web_search_options: Annotated[Any, refused("nothing is searched here")] = None
    # What changes no word of an answer: accounts, bills, caches and hints of speed.
    metadata: Metadata | None = None
    store: bool | None = None
    user: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Name | None = None
    service_tier: Name | None = None
    prediction: Any = None
    reasoning_effort: Name | None = None
    verbosity: Name | None = None

    @model_validator(mode="after")
    def _fits(self) -> CreateChat:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("'top_logprobs' needs 'logprobs' to be true")
        if self.tools is not None and self.functions is not None:
            raise ValueError("give 'tools' or 'functions', not both")
        if self.tool_choice not in (None, "none", "auto") and self.tools is None:
            raise ValueError("'tool_choice' needs 'tools'")
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' needs 'stream' to be true")
        names = [function.name for function in self.callable]
        if len(set(names)) < len(names):
            raise ValueError("two functions have the same name")
        if self.must_call is not None and self.must_call not in names:
            raise ValueError(f"'{self.must_call}' is none of the functions")
        return self

    @property
    def callable(self) -> list[Function]:
        """The functions that may be called."""
        if self.tools is not None:
            return [] if self.tool_choice == "none" else [tool.function for tool in self.tools]
        if self.functions is not None:
            return [] if self.function_call == "none" else self.functions
        return []

    @property
    def must_call(self) -> str | None:
        """The one function that must be called, if it is named."""
        if isinstance(self.tool_choice, NamedTool):
            return self.tool_choice.function.name
        return self.function_call.name if isinstance(self.function_call, NamedFunction) else None


Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=2**17)]
Strings = Annotated[list[Text], Field(min_length=1, max_length=2048)]
ManyIds = Annotated[list[Ids], Field(min_length=1, max_length=2048)]


class CreateCompletion(Body):
    """Texts to go on from."""

    model: Name
    prompt: Text | Strings | Ids | ManyIds
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Annotated[int, Field(ge=1, le=32)] | None = None
    best_of: Annotated[int, Field(ge=1, le=32)] | None = None
    echo: bool | None = None
    seed: Seed | None = None
    stop: Stops | None = None
    max_tokens: Annotated[int, Field(ge=0, le=2**20)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    suffix: Annotated[Text | None, refused("texts are continued here, not filled in")] = None
    user: Name | None = None

    @model_validator(mode="after")
    def _fits(self) -> CreateCompletion:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ValueError("'best_of' other than 'n' is not served: all that is generated is given")
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' needs 'stream' to be true")
        return self


Said = Annotated[Text, Field(min_length=1)]


class CreateEmbedding(Body):
    """Texts to be embedded."""

    model: Name
    input: (
        Said
        | Annotated[list[Said], Field(min_length=1, max_length=2048)]
        | Annotated[Ids | ManyIds, refused("send texts: token ids are another model's")]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=2**16)] | None = None
    user: Name | None = None
