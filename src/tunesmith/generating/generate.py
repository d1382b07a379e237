"""Questions from rules, people and a teacher; answers derived from the catalogue."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.catalogue import Catalogue, Entry
from tunesmith.generating.derive import DerivedAnswer, derive_answers
from tunesmith.generating.prompts import teacher_prompt
from tunesmith.generating.rules import RuleName, ask_by_rule, look_around
from tunesmith.generating.verify import Refusal, folded, parse_proposals, verify
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.progress import Progress, silent
from tunesmith.records import Document, Example, Rejection, Tally, Written, fingerprint

_BATCH = 8
_TOKENS_PER_QUESTION = 120


class GenerateSettings(BaseModel):
    """Which rules ask, how many questions of an entry come from rules and from the teacher, and the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[RuleName, ...] = ("does", "howto", "parameter", "neighbours", "see_also")
    rules_per_entry: int = Field(default=2, ge=0)
    questions_per_entry: int = Field(default=4, ge=1)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class OriginCount:
    """How many examples come from one place: a rule, a teacher, a file."""

    origin: str
    count: int


@dataclass(frozen=True, slots=True)
class Generated:
    """Examples in the order written, rules, teacher; what was asked for and is not among them, and why."""

    examples: tuple[Example, ...]
    rejections: tuple[Rejection, ...]
    tally: Tally
    origins: tuple[OriginCount, ...]
    notes: tuple[str, ...]


def generate(
    documents: Sequence[Document],
    catalogue: Catalogue,
    *,
    written: Sequence[Written] = (),
    teacher: ChatModel | None = None,
    settings: GenerateSettings,
    journal: Path | None = None,
    on_progress: Progress = silent,
) -> Generated:
    """Make the examples of a catalogue: each written question, some by rule, and a teacher's for each entry.

    The teacher's replies are kept in `journal` as they come, so that a run that was cut off asks for none of
    them again. A reply that cannot be read counts as failed; a teacher that cannot be reached stops the run
    with its ModelError.
    """
    derived = derive_answers(documents, catalogue)
    ground = _Ground(
        catalogue,
        {document.id: document for document in documents},
        {answer.entry: answer for answer in derived.answers},
        {rejection.item: rejection for rejection in derived.rejections},
    )
    parts = [_from_written(written, ground, settings.seed), _from_rules(ground, settings)]
    if teacher is not None:
        asked = frozenset(folded(example.question) for part in parts for example in part.examples)
        parts.append(_from_teacher(_TeacherTask(teacher, settings, journal, on_progress), ground, asked))
    return _joined(parts)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What examples are made from: documents by id, answers by entry, and why some entries have none."""

    catalogue: Catalogue
    documents: Mapping[str, Document]
    answers: Mapping[str, DerivedAnswer]
    missing: Mapping[str, Rejection]

    def document(self, entry: Entry) -> Document:
        """Return the document that describes an answered entry."""
        return self.documents[entry.document]


@dataclass(frozen=True, slots=True)
class _Part:
    """What one kind of origin gave: requested = examples + rejections + failed."""

    examples: tuple[Example, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    failed: int = 0
    notes: tuple[str, ...] = ()


def _joined(parts: Sequence[_Part]) -> Generated:
    examples = tuple(example for part in parts for example in part.examples)
    rejections = tuple(rejection for part in parts for rejection in part.rejections)
    failed = sum(part.failed for part in parts)
    origins = Counter(_place(example.origin) for example in examples)
    return Generated(
        examples,
        rejections,
        Tally(
            requested=len(examples) + len(rejections) + failed,
            accepted=len(examples),
            rejected=dict(Counter(rejection.rule for rejection in rejections)),
            failed=failed,
        ),
        tuple(OriginCount(origin, count) for origin, count in sorted(origins.items())),
        tuple(note for part in parts for note in part.notes),
    )


def _place(origin: str) -> str:
    """Return an origin without its line number."""
    return origin.rpartition(":")[0] if origin.startswith("written:") else origin


# --- written questions


def _from_written(written: Sequence[Written], ground: _Ground, seed: int) -> _Part:
    examples: list[Example] = []
    rejections: list[Rejection] = []
    notes: list[str] = []
    for row in written:
        entry = ground.catalogue.resolve(row.acceptable[0])
        if entry is None:
            detail = f"{row.question!r}: {_unknown(row.acceptable[0], ground.catalogue)}"
            rejections.append(Rejection("generate", "unknown entry", row.origin, detail))
        elif entry.id in ground.missing:
            rejections.append(replace(ground.missing[entry.id], item=row.origin))
        else:
            examples.append(_written_example(row, ground.answers[entry.id], ground.catalogue, seed))
            unknown = [path for path in row.acceptable if ground.catalogue.resolve(path) is None]
            notes += [f"{row.file}, line {row.line}: {_unknown(path, ground.catalogue)}" for path in unknown]
    return _Part(tuple(examples), tuple(rejections), notes=tuple(notes))


def _written_example(row: Written, answer: DerivedAnswer, catalogue: Catalogue, seed: int) -> Example:
    known = (entry.id for path in row.acceptable if (entry := catalogue.resolve(path)) is not None)
    example = _example(row.question, answer, row.origin, seed)
    return replace(example, acceptable=tuple(dict.fromkeys(known)))


def _unknown(path: str, catalogue: Catalogue) -> str:
    nearest = catalogue.suggest(path, 1)
    hint = f", the nearest is {nearest[0]}" if nearest else ""
    return f"{path} is not in {catalogue.package} {catalogue.version}{hint}"


def _example(question: str, answer: DerivedAnswer, origin: str, seed: int) -> Example:
    return Example(
        id=fingerprint(question, answer.entry, origin),
        question=question,
        answer=answer.text,
        origin=origin,
        entry=answer.entry,
        acceptable=(answer.entry,),
        evidence=answer.evidence,
        seed=seed,
    )


# --- questions by rule


def _from_rules(ground: _Ground, settings: GenerateSettings) -> _Part:
    count = min(settings.rules_per_entry, len(settings.rules))
    around = look_around(ground.catalogue, ground.answers, settings.seed)
    examples: list[Example] = []
    rejections: list[Rejection] = []
    for entry in ground.catalogue.entries:
        if entry.id in ground.missing:
            rejections += [ground.missing[entry.id]] * count
            continue
        asked = ask_by_rule(entry, ground.document(entry), around, settings.rules, count)
        for made in asked:
            example = _example(made.question, ground.answers[entry.id], f"rule:{made.rule}", settings.seed)
            examples.append(replace(example, answer=made.answer, evidence=made.evidence))
        detail = f"{len(asked)} of {count} rules have something to ask"
        rejections += [Rejection("generate", "no rule applies", entry.id, detail)] * (count - len(asked))
    return _Part(tuple(examples), tuple(rejections))


# --- a teacher's questions


@dataclass(frozen=True, slots=True)
class _TeacherTask:
    """Who is asked, for what, where replies are kept, and who is told."""

    teacher: ChatModel
    settings: GenerateSettings
    journal: Path | None
    on_progress: Progress


def _from_teacher(task: _TeacherTask, ground: _Ground, asked: frozenset[str]) -> _Part:
    count = task.settings.questions_per_entry
    entries = [entry for entry in ground.catalogue.entries if entry.id in ground.answers]
    parts = [_Part(rejections=tuple(ground.missing.values()) * count)]
    taken = set(asked)
    for entry, reply in _replies(task, entries, ground):
        part = _read_reply(reply, entry, ground, task=task, taken=taken)
        taken |= {folded(example.question) for example in part.examples}
        parts.append(part)
    return _Part(
        tuple(example for part in parts for example in part.examples),
        tuple(rejection for part in parts for rejection in part.rejections),
        sum(part.failed for part in parts),
        tuple(note for part in parts for note in part.notes),
    )


def _read_reply(reply: str, entry: Entry, ground: _Ground, *, task: _TeacherTask, taken: Set[str]) -> _Part:
    """Verify a reply's proposals; those not there or not readable have failed."""
    count = task.settings.questions_per_entry
    parsed = parse_proposals(reply)
    answer = ground.answers[entry.id]
    examples: list[Example] = []
    rejections = [
        Rejection("generate", "more than asked for", entry.id, repr(extra.question))
        for extra in parsed.proposals[count:]
    ]
    seen = set(taken)
    for proposal in parsed.proposals[:count]:
        found = verify(proposal, entry, ground.document(entry), seen)
        seen.add(folded(proposal.question))
        if isinstance(found, Refusal):
            rejections.append(Rejection("generate", found.rule, entry.id, found.detail))
            continue
        example = _example(proposal.question, answer, f"teacher:{task.teacher.name}", task.settings.seed)
        examples.append(replace(example, evidence=(found, *answer.evidence)))
    notes = [
        f"{entry.id}: the teacher wrote a line that cannot be read: {line[:80]!r}" for line in parsed.broken
    ]
    missing = max(0, count - len(parsed.proposals))
    return _Part(tuple(examples), tuple(rejections), missing, tuple(notes))


def _replies(task: _TeacherTask, entries: Sequence[Entry], ground: _Ground) -> Iterator[tuple[Entry, str]]:
    """Yield each entry's reply, from the journal where it has it, else from the teacher, batch by batch."""
    settings = task.settings
    sampling = Sampling(max_tokens=_TOKENS_PER_QUESTION * settings.questions_per_entry, seed=settings.seed)
    prompts = [
        teacher_prompt(entry, ground.document(entry), settings.questions_per_entry) for entry in entries
    ]
    keys = [fingerprint(task.teacher.name, repr(sampling), repr(prompt)) for prompt in prompts]
    known = _read_journal(task.journal)
    rows = list(zip(entries, prompts, keys, strict=True))
    with _journal_writer(task.journal) as file:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            new = [row for row in batch if row[2] not in known]
            replies = task.teacher.reply([prompt for _, prompt, _ in new], sampling) if new else []
            for (_, _, key), answer in zip(new, replies, strict=True):
                known[key] = answer.text
                _write_line(file, key, answer.text)
            task.on_progress(start + len(batch), len(rows), "entries asked about")
            yield from ((entry, known[key]) for entry, _, key in batch)


def _read_journal(path: Path | None) -> dict[str, str]:
    """Return the replies of a journal; a last line that was cut off is asked for again."""
    if path is None or not path.exists():
        return {}
    known: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        known[row["key"]] = row["reply"]
    return known


@contextmanager
def _journal_writer(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with path.open("a", encoding="utf-8") as file:
        # A line that a kill cut off must not swallow the next one.
        file.write("\n")
        yield file


def _write_line(file: TextIO | None, key: str, reply: str) -> None:
    if file is not None:
        file.write(json.dumps({"key": key, "reply": reply}, ensure_ascii=False) + "\n")
        file.flush()
