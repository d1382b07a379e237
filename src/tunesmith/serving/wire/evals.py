"""What creates evals and their runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, model_validator

from tunesmith.models.messages import Tool
from tunesmith.serving.wire.base import Body, Metadata, Name, Text, refused
from tunesmith.serving.wire.chat import ResponseFormat, Seed, Share, Temperature, Tokens
from tunesmith.serving.wire.graders import Messages, Single
from tunesmith.serving.wire.responses import FunctionTool, TextSettings

_NO_LOGS = "answers are not logged here: give items by 'file_content' or 'file_id'"


class CustomSource(Body):
    """Items of a shape of one's own."""

    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool | None = None


class CreateEval(Body):
    """What is graded, and by what."""

    data_source_config: CustomSource
    testing_criteria: Annotated[list[Single], Field(min_length=1, max_length=64)]
    name: Annotated[Text, Field(max_length=256)] | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _has_thresholds(self) -> CreateEval:
        for criterion in self.testing_criteria:
            if criterion.type == "text_similarity" and criterion.pass_threshold is None:
                raise ValueError(f"the criterion '{criterion.name}' needs 'pass_threshold'")
        return self


class UpdateEval(Body):
    """What can be changed of an eval."""

    name: Annotated[Text, Field(max_length=256)] | None = None
    metadata: Metadata | None = None


class Row(Body):
    """One item, and the answer to it where there is one already."""

    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContent(Body):
    """Items in the request."""

    type: Literal["file_content"]
    content: Annotated[list[Row], Field(min_length=1, max_length=50_000)]


class FileId(Body):
    """Items in a file."""

    type: Literal["file_id"]
    id: Name


class Logged(Body):
    """Items from a log, which there is none of."""

    type: Literal["stored_completions", "responses"]
    metadata: Any = None

    @model_validator(mode="after")
    def _refused(self) -> Logged:
        raise ValueError(_NO_LOGS)


Source = Annotated[FileContent | FileId | Logged, Discriminator("type")]


class Template(Body):
    """Messages with gaps."""

    type: Literal["template"]
    template: Messages


class ItemReference(Body):
    """Messages that stand in each item."""

    type: Literal["item_reference"]
    item_reference: Annotated[Text, Field(min_length=1, max_length=512)]


Input = Annotated[Template | ItemReference, Discriminator("type")]


class Sampling(Body):
    """How the model that is evaluated draws its tokens."""

    max_completion_tokens: Tokens | None = None
    max_completions_tokens: Tokens | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    reasoning_effort: Name | None = None


class ChatSampling(Sampling):
    """The same with what chats have besides."""

    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None


class ResponseSampling(Sampling):
    """The same with what responses have besides."""

    text: TextSettings | None = None
    tools: list[FunctionTool] | None = None
    seed: Annotated[Seed | None, refused("responses have no seed: use the type 'completions'")] = None


class Jsonl(Body):
    """Answers that are there already."""

    type: Literal["jsonl"]
    source: Source


class Completions(Body):
    """Answers that a model gives in chats."""

    type: Literal["completions"]
    source: Source
    input_messages: Input
    model: Name
    sampling_params: ChatSampling | None = None


class Responses(Body):
    """Answers that a model gives as responses."""

    type: Literal["responses"]
    source: Source
    input_messages: Input
    model: Name
    sampling_params: ResponseSampling | None = None


class CreateRun(Body):
    """A run of an eval."""

    data_source: Annotated[Jsonl | Completions | Responses, Discriminator("type")]
    name: Annotated[Text, Field(max_length=256)] | None = None
    metadata: Metadata | None = None
