"""What training is told, and what cannot be told together."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from tunesmith.errors import UsageError

Method = Literal["lora", "rslora", "dora", "qlora", "full"]
Objective = Literal["answers", "text", "preferences"]
TooLong = Literal["refuse", "cut", "drop"]

_OF_ADAPTERS = ("rank", "alpha", "top_layers")
# How entries get into prompts: read where conversations are made, before training.
_OF_PROMPTS = ("retrieved_share", "doubt", "passages", "quotes")


class TrainSettings(BaseModel):
    """How the language model is tuned.

    `method` is LoRA, rsLoRA, DoRA, QLoRA (the frozen weights in 4 bits) or full fine-tuning; `rank` and `alpha` are the
    adapters', `top_layers` adapts only so many of the last blocks (None: all of them). `objective` is what is learned:
    answers, raw text, or preferences, whose `beta` is how dearly the model pays for leaving where it began.
    `examples` bounds how many examples are trained on (None: all), `retrieved_share` is the share of them that have
    retrieved entries in the prompt, `passages` of them; in a share `doubt` of those the right entry stands where the
    retriever has it for questions that it was not tuned on, in the others first. With `quotes` answers in words begin
    with what the shown passages say. `evaluate_every` and `patience` are in steps and in evaluations without a better
    validation loss. `max_length` is in tokens; `too_long` says what becomes of longer examples.
    `canaries` plants so many made-up secrets among the rows (see training/canaries.py).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = "smollm2"
    method: Method = "lora"
    objective: Objective = "answers"
    epochs: int = Field(default=1, ge=1)
    examples: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    beta: float = Field(default=0.1, gt=0)
    top_layers: int | None = Field(default=None, ge=1)
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    clip: float = Field(default=1.0, gt=0)
    retrieved_share: float = Field(default=0.75, ge=0, le=1)
    doubt: float = Field(default=0.25, ge=0, le=1)
    passages: int = Field(default=5, ge=1)
    quotes: bool = False
    max_length: int = Field(default=1024, ge=16)
    too_long: TooLong = "refuse"
    evaluate_every: int = Field(default=10, ge=1)
    patience: int = Field(default=3, ge=1)
    canaries: int = Field(default=0, ge=0, le=100)
    seed: int = 0

    # Which settings somebody has looked at: one that is set and that nothing reads would be a lie.
    _read: set[str] = PrivateAttr(default_factory=set)

    @model_validator(mode="after")
    def _fit_together(self) -> TrainSettings:
        if self.method == "full":
            self._refuse(_OF_ADAPTERS, 'method = "full", which trains the model itself, without an adapter')
        if self.objective != "preferences":
            self._refuse(("beta",), f"objective = {self.objective!r}, which has no preferences to weigh")
        if self.objective == "text":
            self._refuse(("too_long",), "objective = 'text', whose texts are read in pieces of max_length")
        if self.objective != "answers":
            self._refuse(("canaries",), f"objective = {self.objective!r}: secrets are planted as answers")
            self._refuse(_OF_PROMPTS, f"objective = {self.objective!r}, whose prompts are left as they are")
        return self

    def _refuse(self, names: tuple[str, ...], why: str) -> None:
        given = [name for name in names if name in self._given()]
        if given:
            raise ValueError(f"{given[0]} means nothing with {why}: take one of the two out")

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; that a setting was read is remembered."""
        value = super().__getattribute__(name)
        if not name.startswith("_") and name in type(self).model_fields:
            self._read.add(name)
        return value

    def __eq__(self, other: object) -> bool:
        """Compare what is set, not what was read."""
        return isinstance(other, TrainSettings) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]

    def unread(self) -> tuple[str, ...]:
        """Return the settings that were given and that nothing has read."""
        return tuple(sorted(self._given() - self._read))

    def _given(self) -> set[str]:
        """Return the settings that somebody has set to something else than their default."""
        values = self.__dict__
        return {name for name, field in type(self).model_fields.items() if values[name] != field.default}


def settings_from(words: Sequence[str], *, base: str, objective: Objective) -> TrainSettings:
    """Return the settings that KEY=VALUE words give; `objective` holds where no word gives it.

    Prompts are taken as they are, so what shapes them is refused. Raises UsageError with all problems at once.
    """
    given: dict[str, str] = {"base": base, "objective": objective}
    problems: list[str] = []
    for number, word in enumerate(words):
        key, equals, value = word.partition("=")
        earlier = [each.partition("=")[0] for each in words[:number]]
        problem = _problem(key, equals, earlier)
        if problem is None:
            given[key] = value
        else:
            problems.append(problem)
    try:
        settings = TrainSettings.model_validate_strings(given)
    except ValidationError as error:
        problems += _misfits(error)
    if problems:
        raise UsageError("; ".join(problems) + ".", hint="Settings are given as --set KEY=VALUE.")
    return settings


def _problem(key: str, equals: str, earlier: Sequence[str]) -> str | None:
    known = TrainSettings.model_fields
    if not equals:
        return f"{key!r} has no value"
    if key == "base":
        return "base has an option of its own, --base"
    if key in _OF_PROMPTS:
        return f"{key} is about retrieved entries, and a file's prompts are taken as they are"
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        otherwise = f"there are {', '.join(name for name in known if name not in ('base', *_OF_PROMPTS))}"
        return f"there is no setting {key!r}: " + (f"did you mean {near[0]!r}?" if near else otherwise)
    return f"{key} is given twice" if key in earlier else None


def _misfits(error: ValidationError) -> Iterator[str]:
    for each in error.errors():
        said = each["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        yield f"{each['loc'][0]} = {each['input']!r}: {said}" if each["loc"] else said
