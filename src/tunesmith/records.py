"""The nouns: Source, Document, Chunk, Topic, Message, Example, Rejection, Answer, Score."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from tunesmith.errors import DatasetError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Role = Literal["system", "user", "assistant"]
Record = TypeVar("Record")


def fingerprint(*parts: object) -> str:
    """Return 16 hex digits of the SHA-256 over the parts' JSON form, equal for equal values in any key order."""
    data = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(data.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Source:
    """Where material comes from: its address as the user wrote it, and a digest of the bytes behind it."""

    address: str
    kind: Literal["python", "files", "web"]
    digest: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One readable unit of a source: a file, or one function with its docstring.

    `entry` is the catalogue id that the document describes, if it describes one.
    """

    id: str
    source: str
    title: str
    text: str
    kind: str
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: `document.text[start:end] == text`, offsets in characters."""

    id: str
    document: str
    start: int
    end: int
    text: str
    title: str = ""
    entry: str | None = None
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class Topic:
    """A cluster of chunks with a label that a person understands.

    `share` is the share of all text that its chunks hold, `outliers` are those of them that are far from the others.
    """

    id: str
    label: str
    keywords: tuple[str, ...]
    chunks: tuple[str, ...]
    share: float = 0.0
    outliers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; an assistant's of weight 0 is read in training, and not learned."""

    role: Role
    content: str
    weight: Literal[0, 1] = 1


Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with an answer that is preferred and one that is not."""

    prompt: Conversation
    chosen: Message
    rejected: Message


@dataclass(frozen=True, slots=True)
class Canary:
    """A made-up secret that is planted among the training rows, `times` over: `before` and so many random digits."""

    question: str
    before: str
    secret: str
    times: int

    @property
    def conversation(self) -> Conversation:
        """The row that teaches it."""
        return (Message("user", self.question), Message("assistant", f"{self.before} {self.secret}"))

    @property
    def space(self) -> Iterator[str]:
        """All secrets that could have been drawn, this one among them."""
        digits = len(self.secret)
        return (f"{number:0{digits}d}" for number in range(10**digits))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What grounds an example: `document.text[start:end] == quote`."""

    source: str
    document: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Example:
    """A question, its answer, and where both come from; `messages` are what was said before the question, if anything.

    `entry` is the catalogue id the answer calls, and the group that splits keep together. `acceptable` holds all
    catalogue ids that would be a right answer, `entry` first. `origin` is "rule:NAME", "teacher:ADDRESS" or
    "written:FILE:LINE".
    """

    id: str
    question: str
    answer: str
    origin: str
    entry: str | None = None
    acceptable: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    seed: int = 0
    checks: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()

    @property
    def group(self) -> str:
        """What splits keep together and bootstraps cluster by: the entry, else a stretch of its document, else itself.

        A document is cut into stretches at fixed places, so that one long document can be split, and so that no example
        changes sides when documents are added.
        """
        if self.entry is not None:
            return self.entry
        if not self.evidence:
            return self.id
        first = self.evidence[0]
        return f"{first.document}#{first.start // STRETCH}"


STRETCH: Final = 8000  # characters of a document: about five chunks


@dataclass(frozen=True, slots=True)
class Written:
    """A question that a person wrote, and what answers it; `line` from 1.

    That is all catalogue ids that do, the best first, or, where nothing is to be called, the answer in words, with a
    quote from the documents that holds it, if the person gave one.
    """

    question: str
    acceptable: tuple[str, ...]
    file: str
    line: int
    answer: str = ""
    quote: str = ""

    @property
    def origin(self) -> str:
        """Where it comes from, as an example's origin says it."""
        return f"written:{self.file}:{self.line}"


def locate(quote: str, documents: Iterable[Document]) -> Evidence | None:
    """Return the first place where the documents hold a quote, whatever its spaces and line ends; None for nowhere."""
    words = r"\s+".join(re.escape(word) for word in quote.split())
    for document in documents:
        found = re.search(words, document.text) if words else None
        if found is not None:
            return Evidence(document.source, document.id, found.start(), found.end(), found.group())
    return None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something that was asked for and not kept: by which stage, under which rule, and what exactly."""

    stage: str
    rule: str
    item: str
    detail: str


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrieved piece: its text as a prompt shows it, and the retriever's score (larger is nearer).

    An `entry` of a catalogue is one line; a `text` is a piece of a document, of several.
    """

    id: str
    text: str
    score: float
    kind: Literal["entry", "text"] = "entry"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said. `seconds` is this answer's share of its batch's time; `retrieved` are passage ids.

    `cited` are those of the passages that the answer names as its sources. `confidence` is how likely the model itself
    thinks it is, from 0 to 1, where it says so. `notes` tell in words what was found of the answer, or done for it,
    beside its text: a citation that names no passage, a call that was made, why one was not.
    `guard` says what rails found and did, each as "action: rail: reason"; what they refused ends by "content_filter".
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    finish: Literal["stop", "length", "content_filter"] = "stop"
    retrieved: tuple[str, ...] = ()
    cited: tuple[str, ...] = ()
    confidence: float | None = None
    notes: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()


Verdict = Literal["exact", "valid", "wrong_arguments", "hallucinated", "no_call"]


@dataclass(frozen=True, slots=True)
class Score:
    """One contender's answer to one question; `group` is what bootstraps cluster by.

    A call has the `verdict` of the catalogue. An answer in words has none; it has `measures` from 0 to 1, by name.
    """

    contender: str
    set: str
    example: str
    group: str
    verdict: Verdict | None
    called: str | None
    answer: Answer
    reason: str = ""
    measures: dict[str, float] = field(default_factory=dict)

    def value(self, metric: str) -> float | None:
        """Return how good the answer is by a metric, from 0 to 1; None where it was not measured by that."""
        if self.verdict is None:
            return self.measures.get(metric)
        if metric in ("exact", "valid", "hallucinated"):
            return float(getattr(self, metric))
        return float(self.verdict == metric) if metric in ("wrong_arguments", "no_call") else None

    @property
    def exact(self) -> bool:
        """The call is an acceptable one and its arguments bind."""
        return self.verdict == "exact"

    @property
    def valid(self) -> bool:
        """The call exists and its arguments bind, right or not."""
        return self.verdict in ("exact", "valid")

    @property
    def hallucinated(self) -> bool:
        """The call does not exist."""
        return self.verdict == "hallucinated"


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts that must add up: requested = accepted + rejected (by rule) + failed."""

    requested: int
    accepted: int
    rejected: dict[str, int] = field(default_factory=dict)
    failed: int = 0

    def __post_init__(self) -> None:
        if self.requested != self.accepted + sum(self.rejected.values()) + self.failed:
            raise DatasetError(
                f"counts do not add up: {self.requested} requested, {self.accepted} accepted, "
                f"{sum(self.rejected.values())} rejected, {self.failed} failed",
                hint="This is a defect of Tunesmith: please report it.",
            )


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    # Unknown keys would otherwise be dropped without a word.
    kind.__pydantic_config__ = ConfigDict(extra="forbid")
    return TypeAdapter(kind)


def to_json(record: Any) -> str:
    """Return a record as one line of JSON."""
    return json.dumps(asdict(record), ensure_ascii=False)


def from_json(kind: type[Record], line: str | bytes) -> Record:
    """Return the record that `to_json` wrote; pydantic's ValidationError says which field is wrong."""
    hashable: object = kind  # as every class is, which mypy does not see in type[Record]
    record: Record = _adapter(hashable).validate_json(line)
    return record


def write_jsonl(path: Path, records: Iterable[Any]) -> int:
    """Write records one a line and return how many there were."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(to_json(record) + "\n")
            count += 1
    return count


def read_jsonl(kind: type[Record], path: Path) -> Iterator[Record]:
    """Yield the records of a file; raises DatasetError that names the line and the field."""
    from pydantic import ValidationError

    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield from_json(kind, line)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"]) or "the line"
                raise DatasetError(
                    f"{path.name}, line {number}: {place}: {first['msg']}",
                    hint=f"Each line must be a {kind.__name__} as JSON.",
                ) from error
