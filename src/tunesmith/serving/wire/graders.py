"""Graders as requests describe them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, model_validator

from tunesmith.serving.wire.base import Body, Name, Text, refused
from tunesmith.serving.wire.chat import Seed, Share, Temperature, Tokens

_ONLY_TEXT = "pictures and sounds are not graded here: send text"
Metric = Literal[
    "fuzzy_match", "bleu", "gleu", "meteor", "cosine",
    "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
]  # fmt: skip
Threshold = Annotated[float, Field(allow_inf_nan=False)]


class StringCheck(Body):
    """1 if a text is, is not, or holds another."""

    type: Literal["string_check"]
    name: Name
    input: Text
    reference: Text
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(Body):
    """How alike two texts are, from 0 to 1."""

    type: Literal["text_similarity"]
    name: Name = "text_similarity"
    input: Text
    reference: Text
    evaluation_metric: Metric
    pass_threshold: Threshold | None = None


class PythonGrader(Body):
    """A function `grade(sample, item)` in Python."""

    type: Literal["python"]
    name: Name
    source: Annotated[Text, Field(max_length=2**18)]
    image_tag: Annotated[
        str | None, refused("there are no images here: Python's own library is what there is")
    ] = None
    pass_threshold: Threshold | None = None


class GraderPart(Body):
    """A part of a message."""

    type: Literal["input_text", "output_text", "input_image", "input_audio"]
    text: Text | None = None
    image_url: Annotated[Any, refused(_ONLY_TEXT)] = None
    input_audio: Annotated[Any, refused(_ONLY_TEXT)] = None
    detail: Annotated[Any, refused(_ONLY_TEXT)] = None

    @model_validator(mode="after")
    def _is_text(self) -> GraderPart:
        if self.text is None:
            raise ValueError(_ONLY_TEXT)
        return self


class GraderMessage(Body):
    """A message with gaps such as {{ item.question }}."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Text | GraderPart | Annotated[list[GraderPart | Text], Field(min_length=1)]
    type: Literal["message"] | None = None

    @property
    def text(self) -> str:
        """What it says."""
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "".join(part if isinstance(part, str) else part.text or "" for part in parts)


Messages = Annotated[list[GraderMessage], Field(min_length=1, max_length=256)]


class GraderSampling(Body):
    """How a model that grades draws its tokens."""

    max_completions_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    reasoning_effort: Name | None = None


class ScoreModel(Body):
    """A model that gives a number."""

    type: Literal["score_model"]
    name: Name
    model: Name
    input: Messages
    range: Annotated[list[Threshold], Field(min_length=2, max_length=2)] | None = None
    sampling_params: GraderSampling | None = None
    pass_threshold: Threshold | None = None

    @model_validator(mode="after")
    def _rises(self) -> ScoreModel:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError("'range' must rise")
        return self


class LabelModel(Body):
    """A model that gives one of some labels; 1 if it is one that passes."""

    type: Literal["label_model"]
    name: Name
    model: Name
    input: Messages
    labels: Annotated[list[Name], Field(min_length=1, max_length=256)]
    passing_labels: Annotated[list[Name], Field(min_length=1, max_length=256)]

    @model_validator(mode="after")
    def _known(self) -> LabelModel:
        unknown = sorted(set(self.passing_labels) - set(self.labels))
        if unknown:
            raise ValueError(f"the passing label '{unknown[0]}' is none of the labels")
        return self


Single = Annotated[
    StringCheck | TextSimilarity | PythonGrader | ScoreModel | LabelModel, Discriminator("type")
]


class MultiGrader(Body):
    """A formula over the scores of other graders, by their names."""

    type: Literal["multi"]
    name: Name
    graders: Annotated[dict[Name, Single], Field(min_length=1, max_length=32)] | Single
    calculate_output: Annotated[Text, Field(min_length=1, max_length=4096)]

    @property
    def named(self) -> dict[str, Single]:
        """The graders by the names that the formula has for them."""
        return self.graders if isinstance(self.graders, dict) else {self.graders.name: self.graders}


Grader = Annotated[
    StringCheck | TextSimilarity | PythonGrader | ScoreModel | LabelModel | MultiGrader, Discriminator("type")
]


class RunGrader(Body):
    """A grader to be tried on an answer."""

    grader: Grader
    model_sample: Text
    item: dict[str, Any] | None = None
    reference_answer: Annotated[Any, refused("send it as a field of 'item'")] = None


class ValidateGrader(Body):
    """A grader to be looked at."""

    grader: Grader
