"""A policy: a TOML file that says which rails there are, what each does, and texts that prove it.

Each table is a rail at a place, such as [input.injection]; a rail without a table is off. Unknown keys are refused with
the nearest name, all of a file's problems at once.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tunesmith.errors import ConfigError
from tunesmith.guarding.injection import LEAST
from tunesmith.guarding.rails import Action, Where

# What can be done about a text that is read, and about one that is said; and where a part cannot be taken out.
OnRead = Literal["allow", "redact", "refuse"]
OnWholeRead = Literal["allow", "refuse"]
OnSaid = Action
OnWholeSaid = Literal["allow", "ask_again", "refuse"]
Words = tuple[str, ...]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _expressions(values: Words) -> Words:
    for value in values:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
    return values


class Length(_Table):
    """A text of more than `most` characters."""

    action: OnWholeRead = "refuse"
    most: int = Field(default=8000, ge=1)


class Injection(_Table):
    """Words that turn a model away from what it is for; `allow`: regular expressions of what may be said.

    `least`: how likely the classifier must think it; 1 leaves the rail to the expressions alone.
    """

    action: OnRead = "refuse"
    allow: Words = ()
    least: float = Field(default=LEAST, gt=0, le=1)

    _compiles = field_validator("allow")(_expressions)


class PrivateRead(_Table):
    """Private data; `kinds` that are looked for (all), `allow` values or patterns of them such as *@our.org."""

    action: OnRead = "redact"
    kinds: Words | None = None
    allow: Words = ()


class PrivateSaid(PrivateRead):
    """The same in what is said."""

    action: OnSaid = "redact"  # type: ignore[assignment] # what is said may be asked for again, too


class SecretsRead(_Table):
    """Keys, tokens and passwords; `allow`: values or patterns of them."""

    action: OnRead = "redact"
    allow: Words = ()


class SecretsSaid(SecretsRead):
    """The same in what is said."""

    action: OnSaid = "redact"  # type: ignore[assignment]


class WordsRead(_Table):
    """Words that are not wanted: of lists that come along (toxic), of files with one a line, and those given here."""

    action: OnRead = "refuse"
    lists: tuple[Literal["toxic"], ...] = ("toxic",)
    files: Words = ()
    words: Words = ()


class WordsSaid(WordsRead):
    """The same in what is said."""

    action: OnSaid = "redact"  # type: ignore[assignment]


class OffTopic(_Table):
    """Questions far from everything in `corpus`, a file with a text a line, or JSON lines with "question" or "text".

    `least`: the cosine to the nearest one; left out, what 99 in 100 of the corpus's texts reach among themselves.
    """

    action: OnWholeRead = "refuse"
    corpus: str
    encoder: str = "minilm"
    least: float | None = Field(default=None, ge=-1, le=1)


class Sources(_Table):
    """Passages by their ids: patterns that are allowed (all), and that are not."""

    action: OnWholeRead = "refuse"
    allow: Words = ()
    deny: Words = ()


class Calls(_Table):
    """Calls that do not exist or do not bind; `catalogue`: a catalogue.json, or a project's folder.

    Within a project it can be left out.
    """

    action: OnWholeSaid = "ask_again"
    catalogue: str | None = None


class Schema(_Table):
    """Answers that are not JSON of the schema in a file."""

    action: OnWholeSaid = "ask_again"
    file: str


class Grounding(_Table):
    """Sentences of which less than `least` of the content words stand in what was retrieved."""

    action: OnSaid = "redact"
    least: float = Field(default=0.5, ge=0, le=1)


class Refusals(_Table):
    """A model's own refusals: asked again, or said in the policy's words."""

    action: OnWholeSaid = "refuse"


class ToolNames(_Table):
    """Tools that may be called, as patterns such as search_*."""

    action: OnWholeSaid = "refuse"
    allow: Words


class ToolArguments(_Table):
    """Arguments that do not fit; `file`: JSON with a JSON schema for each tool's name."""

    action: OnWholeSaid = "ask_again"
    file: str


class DryRun(_Table):
    """Tools, as patterns, whose calls are shown and not made."""

    names: Words


class InputRails(_Table):
    """What is asked."""

    length: Length | None = None
    injection: Injection | None = None
    secrets: SecretsRead | None = None
    private: PrivateRead | None = None
    words: WordsRead | None = None
    off_topic: OffTopic | None = None


class RetrievalRails(_Table):
    """What is shown to a model: passages, and results of tools."""

    injection: Injection | None = None
    sources: Sources | None = None
    secrets: SecretsRead | None = None
    private: PrivateRead | None = None


class OutputRails(_Table):
    """What is said."""

    refusals: Refusals | None = None
    schema_: Schema | None = Field(default=None, alias="schema")
    calls: Calls | None = None
    grounding: Grounding | None = None
    secrets: SecretsSaid | None = None
    private: PrivateSaid | None = None
    words: WordsSaid | None = None


class ToolRails(_Table):
    """What is called."""

    names: ToolNames | None = None
    arguments: ToolArguments | None = None
    dry_run: DryRun | None = None


class Rate(_Table):
    """What a key of a server may use in a minute where it has no limits of its own."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)


class Test(_Table):
    """A text, where it is met, what must become of it, and by which rail; `rail` is needed unless it is allowed."""

    text: str
    where: Where = "input"
    action: Action = "allow"
    rail: str | None = None
    question: str = ""
    passages: Words = ()
    source: str = ""


class Policy(_Table):
    """All of a policy; `refusal` is what is said in place of an answer, `{reason}` in it stands for why."""

    refusal: Annotated[str, Field(min_length=1)] = "I cannot help with that."
    ask_again: Annotated[int, Field(ge=0, le=5)] = 1
    input: InputRails = InputRails()
    retrieval: RetrievalRails = RetrievalRails()
    output: OutputRails = OutputRails()
    tools: ToolRails = ToolRails()
    rate: Rate = Rate()
    test: tuple[Test, ...] = ()


def load_policy(path: Path) -> Policy:
    """Read a policy; raises ConfigError with all of the file's problems, each with its line."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint=f"Make one: tunesmith guard new {path}"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}", hint="Mend it and run the command again.") from error
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        problems = sorted({_problem(each, text) for each in error.errors()})
        listed = "\n".join(f"  {problem}" for _, problem in problems)
        raise ConfigError(f"{path} is no policy:\n{listed}", hint="Mend it and try again.") from error


def template() -> str:
    """Return the commented policy that a new one begins as; it holds its own tests."""
    return files("tunesmith.guarding").joinpath("policy.toml").read_text(encoding="utf-8")


def _problem(error: Mapping[str, Any], text: str) -> tuple[int, str]:
    """Return a problem's line, from 1 (0: of the whole file), and what it is."""
    place = tuple(error["loc"])
    named = ".".join(str(part + 1 if isinstance(part, int) else part) for part in place)
    line = _line_of(place, text)
    where = f"line {line}: " if line else ""
    if error["type"] == "extra_forbidden":
        known = _known(place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        other = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        return line, f"{where}there is no {named!r}; {other}"
    said = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return line, f"{where}{named}: {said}"


def _known(place: Sequence[int | str]) -> list[str]:
    """Return the names that are known at a place."""
    table: type[BaseModel] = Policy
    for part in place:
        if isinstance(part, int):
            continue
        field = next(
            (each for name, each in table.model_fields.items() if (each.alias or name) == part), None
        )
        inner = None if field is None else next(_tables(field.annotation), None)
        if inner is None:
            return []
        table = inner
    return [field.alias or name for name, field in table.model_fields.items()]


def _tables(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the tables in a type such as `Length | None` or `tuple[Test, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _tables(inner)


def _line_of(place: Sequence[int | str], text: str) -> int:
    """Return the line of a key or a table, from 1; 0 if it stands nowhere."""
    names = [str(part) for part in place if isinstance(part, str)]
    wanted = next((part for part in place if isinstance(part, int)), 0)
    table, seen, best = "", 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[{1,2})\s*([\w. -]+?)\s*\]", line)
        if header:
            table = header[2].replace(" ", "")
            seen += header[1] == "[["
        key = re.match(r"\s*([\w.-]+)\s*=", line)
        path = table.split(".") if table else []
        path += key[1].split(".") if key and not header else []
        if names[: len(path)] == path and len(path) > 0 and (table != "test" or seen == wanted + 1):
            best = number
            if path == names:
                return number
    return best
