"""A file of examples, read line by line: chats, preference pairs or texts, and what cannot be read.

Chats and pairs are JSON lines in OpenAI's two shapes; texts are lines of `{"text": ...}`, or a plain file, cut at blank
lines. Nothing of a file stays in memory but eight bytes a row. Tools, calls and names become words, as in serving.
Pictures, sounds and an assistant's name are faults, not left out.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tunesmith.errors import DatasetError, UsageError
from tunesmith.models.messages import Body, ChatMessage, Function, Text, Tool, conversation
from tunesmith.records import Conversation, Preference, fingerprint
from tunesmith.training.formats import form_of
from tunesmith.training.rows import Teaching
from tunesmith.training.settings import Objective

# About 1,000 tokens: a text is cut once more where it is longer than max_length.
TEXT_CHARACTERS: Final = 4_000
HELD_OUT, MOST_HELD_OUT = 0.05, 500
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Line:
    """An example and the line, from 1, where it begins."""

    number: int
    example: Teaching


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a line: the rule that it breaks, what was found, and what to do."""

    line: int
    rule: str
    found: str
    way_out: str | None

    def __str__(self) -> str:
        """Return the fault as one line."""
        return f"line {self.line}, {self.rule}: {self.found}"


class _Said(ChatMessage):
    """A message in a file: all that it calls must be there, and what it calls with must be JSON."""

    @model_validator(mode="after")
    def _is_learnable(self) -> Self:
        if self.role == "assistant" and self.name is not None:
            raise ValueError("an assistant's 'name' is not read, so it would be lost: take it out")
        if self.role != "assistant" and self.calls:
            raise ValueError(f"a message of the {self.role} calls a function: only the assistant can")
        for call in self.calls:
            try:
                arguments = json.loads(call.arguments)
            except ValueError as error:
                raise ValueError(f"the arguments of '{call.name}' are not JSON: {error}") from error
            if not isinstance(arguments, dict):
                raise ValueError(f"the arguments of '{call.name}' are no JSON object")
        return self


class _Weighed(_Said):
    weight: Literal[0, 1] = 1

    @model_validator(mode="after")
    def _is_weighed(self) -> Self:
        if self.role != "assistant" and "weight" in self.model_fields_set:
            raise ValueError(
                f"a message of the {self.role} has a 'weight': only what the assistant says is learned"
            )
        return self


class _Input(Body):
    messages: list[_Said] = Field(min_length=1)
    tools: list[Tool] | None = None
    functions: list[Function] | None = None
    # Whether several calls may be made is for who asks; what is learned is what the answers do.
    parallel_tool_calls: bool | None = None

    @property
    def callable(self) -> list[Function]:
        return [*(tool.function for tool in self.tools or ()), *(self.functions or ())]

    @model_validator(mode="after")
    def _calls_what_is_there(self) -> Self:
        _check_calls(self.messages, self.callable)
        return self


class _Chat(_Input):
    messages: list[_Weighed] = Field(min_length=1)  # type: ignore[assignment]

    def example(self) -> Conversation:
        weights = iter([said.weight for said in self.messages if said.role == "assistant"])
        return tuple(
            replace(turn, weight=next(weights)) if turn.role == "assistant" else turn
            for turn in conversation(self.messages, self.callable)
        )


class _Text(Body):
    text: Text = Field(min_length=1)

    def example(self) -> str:
        return self.text


class _Pair(Body):
    input: _Input
    preferred_output: list[_Said] = Field(min_length=1, max_length=1)
    non_preferred_output: list[_Said] = Field(min_length=1, max_length=1)

    @model_validator(mode="after")
    def _calls_what_is_there(self) -> Self:
        _check_calls([*self.preferred_output, *self.non_preferred_output], self.input.callable)
        return self

    def example(self) -> Preference:
        prompt, (preferred,), (other,) = self.input, self.preferred_output, self.non_preferred_output
        # In company: results are told by the names of the calls before them.
        chosen, rejected = (
            conversation([*prompt.messages, answer], prompt.callable)[-1] for answer in (preferred, other)
        )
        return Preference(conversation(prompt.messages, prompt.callable), chosen, rejected)


def _check_calls(messages: Sequence[ChatMessage], functions: Sequence[Function]) -> None:
    names = {function.name for function in functions}
    for message in messages:
        for call in message.calls:
            if call.name not in names:
                raise ValueError(f"'{call.name}' is called and is not among the tools")


_SHAPES: Final[Mapping[Objective, type[_Chat] | type[_Text] | type[_Pair]]] = {
    "answers": _Chat,
    "preferences": _Pair,
    "text": _Text,
}
_CALLED: Final[Mapping[Objective, str]] = {
    "answers": "a chat (messages)",
    "preferences": "a preference pair (input, preferred_output, non_preferred_output)",
    "text": "a text (text)",
}


def objective_in(path: Path) -> Objective:
    """Return what a file's first row is to be learned as; raises UsageError if there is no such file."""
    if is_plain(path):
        return "text"
    first = next((line for _, line in _lines(path) if line.strip()), b"")
    try:
        found = json.loads(first)
    except ValueError:
        return "answers"
    return _shape_of(found) or "answers"


def read(path: Path, objective: Objective) -> Iterator[Line | Fault]:
    """Yield a file's examples in order, and in the place of one that cannot be read its faults; blank lines are none.

    Raises UsageError if there is no such file.
    """
    if is_plain(path):
        if objective != "text":
            raise UsageError(
                f"{path} is plain text, which is not learned as {objective}.",
                hint="Give JSON lines, or take the objective text.",
            )
        yield from _texts(path)
        return
    for number, line in _lines(path):
        if line.strip():
            yield from read_line(number, line, objective)


def examples(path: Path, objective: Objective) -> Iterator[Teaching]:
    """Yield a file's examples; raises DatasetError at the first that cannot be read, and UsageError without a file."""
    for line in read(path, objective):
        if isinstance(line, Fault):
            raise faulty(path, [line])
        yield line.example


def read_line(number: int, line: bytes, objective: Objective) -> Iterator[Line | Fault]:
    """Yield the example of a line, or its faults."""
    try:
        yield Line(number, _SHAPES[objective].model_validate_json(line).example())
    except ValidationError as error:
        yield from _faults(number, line, objective, error)


def _faults(number: int, line: bytes, objective: Objective, error: ValidationError) -> Iterator[Fault]:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        said = str(first["ctx"]["error"]).replace("at line 1 column", "in column")
        yield Fault(number, "json", f"not JSON: {said}", "Write one JSON object on each line.")
        return
    foreign = form_of(json.loads(line))
    if foreign not in (None, "openai"):
        way = "Convert the file: tunesmith convert FILE --to openai --out NEW"
        yield Fault(number, "shape", f"a row of {foreign}, where {_CALLED[objective]} is needed", way)
        return
    other = _shape_of(json.loads(line))
    if other not in (None, objective):
        way = f"Take it out, or take the objective {other} for the whole file."
        yield Fault(number, "shape", f"{_CALLED[other]}, where {_CALLED[objective]} is needed", way)
        return
    for each in _meant(error):
        yield _misfit(number, objective, each)


def _meant(error: ValidationError) -> Iterator[Mapping[str, Any]]:
    """Yield what is wrong, and where several shapes are allowed, what is wrong with the one that fits best."""
    found: dict[tuple[int | str, ...], dict[str, Any]] = {}
    for each in error.errors():
        shapes = [
            i for i, part in enumerate(each["loc"]) if isinstance(part, str) and not part.isidentifier()
        ]
        place = each["loc"][: shapes[0]] if shapes else each["loc"]
        loc = tuple(part for i, part in enumerate(each["loc"]) if i not in shapes)
        if place not in found or len(loc) > len(found[place]["loc"]):
            found[place] = dict(each) | {"loc": loc}
    yield from found.values()


def _misfit(number: int, objective: Objective, error: Mapping[str, Any]) -> Fault:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    wanted = f"A line is {_CALLED[objective]} as OpenAI's files have it."
    if error["type"] == "value_error":
        said = str(error["msg"]).removeprefix("Value error, ")
        return Fault(number, "shape", f"{place}: {said}" if place else said, wanted)
    if not place:
        return Fault(number, "shape", f"a {type(error['input']).__name__}, not an object", wanted)
    if error["type"] == "missing":
        return Fault(number, "shape", f"{place} is missing", wanted)
    if error["type"] == "extra_forbidden":
        return Fault(number, "shape", f"{place} is not read, so it would be lost", "Take it out.")
    shown = json.dumps(error["input"], ensure_ascii=False)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    said = str(error["msg"]).replace("Input should", "it should")
    return Fault(number, "shape", f"{place} is {shown}: {said}", wanted)


def _shape_of(found: object) -> Objective | None:
    """Return which objective an object's keys belong to."""
    if not isinstance(found, dict):
        return None
    near = {objective: len(found.keys() & shape.model_fields.keys()) for objective, shape in _SHAPES.items()}
    best = max(near, key=lambda objective: near[objective])
    return best if near[best] else None


def is_plain(path: Path) -> bool:
    """Tell whether a file is text by its name, and not JSON lines."""
    return path.suffix.lower() in (".txt", ".md")


def count_lines(path: Path) -> int:
    """Return how many lines a file has; raises UsageError if there is no such file."""
    return sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Give a file of examples: JSON lines, or a .txt.",
        ) from error


def _texts(path: Path) -> Iterator[Line | Fault]:
    """Yield a plain file as texts, cut at a blank line after enough characters, anywhere after twice as many."""
    held: list[str] = []
    size, begin = 0, 1
    for number, line in _lines(path):
        try:
            words = line.decode()
        except UnicodeDecodeError:
            yield Fault(number, "encoding", "not UTF-8", "Save the file as UTF-8.")
            continue
        if not held:
            begin = number
        held.append(words)
        size += len(words)
        if size >= 2 * TEXT_CHARACTERS or (size >= TEXT_CHARACTERS and not words.strip()):
            yield Line(begin, "".join(held))
            held, size = [], 0
    if "".join(held).strip():
        yield Line(begin, "".join(held))


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds: its rows, a SHA-256 over them, and a number in [0, 1) for each row's prompt."""

    rows: int
    digest: str
    places: Sequence[float]


def survey(path: Path, objective: Objective) -> Survey:
    """Read a whole file once; raises DatasetError with the lines that cannot be read, or if there is no row."""
    places, faults, found = array("d"), [], hashlib.sha256()
    for line in read(path, objective):
        if isinstance(line, Fault):
            faults.append(line)
        else:
            places.append(_place(line.example))
            found.update(fingerprint(_plain(line.example)).encode())
    if faults:
        raise faulty(path, faults)
    if not places:
        raise DatasetError(f"{path} holds no example.", hint="Give JSON lines, one example each, or a text.")
    return Survey(len(places), found.hexdigest(), places)


def faulty(path: Path, faults: Sequence[Fault], options: str = "") -> DatasetError:
    """Return the error that names the first faults of a file, and the command, with its options, that shows all."""
    shown = "".join(f"\n  {fault}" for fault in faults[:_SHOWN])
    more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return DatasetError(
        f"{path} cannot be trained on:{shown}{more}",
        hint=f"See each with its way out: tunesmith check {path}{options}",
    )


class HoldOut:
    """Which rows of a file are kept for validation: those whose prompts have the lowest hashes.

    The same file is always split alike, and the same prompt never stands on both sides. Raises DatasetError for a file
    of one prompt, which cannot be split.
    """

    def __init__(self, path: Path, found: Survey) -> None:
        count = max(1, min(MOST_HELD_OUT, round(HELD_OUT * found.rows)))
        self._limit = heapq.nsmallest(count, found.places)[-1]
        self.rows = sum(place <= self._limit for place in found.places)
        if self.rows == found.rows:
            raise DatasetError(
                f"{path} holds one prompt, and some are needed for training and others for validation.",
                hint="Give more examples, or a file of others with --valid.",
            )

    def keeps(self, example: Teaching) -> bool:
        """Tell whether an example is for validation."""
        return _place(example) <= self._limit


def _place(example: Teaching) -> float:
    """Return a number in [0, 1) that hangs on what is asked, not on what is answered."""
    if isinstance(example, Preference):
        asked: object = _plain(example.prompt)
    else:
        asked = example if isinstance(example, str) else _plain(example[:-1])
    return int(fingerprint(asked)[:13], 16) / 16**13


def _plain(example: Teaching) -> object:
    if isinstance(example, str):
        return example
    if isinstance(example, Preference):
        return [_plain(example.prompt), *_plain_turns((example.chosen, example.rejected))]
    return _plain_turns(example)


def _plain_turns(messages: Conversation) -> list[list[object]]:
    return [[message.role, message.content, *([] if message.weight else [0])] for message in messages]
