"""Questions from rules, people and a teacher; answers derived from the catalogue, or written and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tunesmith.catalogue import Catalogue, Entry
from tunesmith.generating.asking import Asker, Price, Purse, Unanswered
from tunesmith.generating.derive import DerivedAnswer, derive_answers
from tunesmith.generating.documents import ModelGate, Writing, write_examples
from tunesmith.generating.gates import Style
from tunesmith.generating.material import PERSONAS, STYLES, Order, place_orders
from tunesmith.generating.part import Part, joined
from tunesmith.generating.prompts import Prompts, teacher_prompt
from tunesmith.generating.rules import RuleName, ask_by_rule, look_around
from tunesmith.generating.verify import Refusal, folded, parse_proposals, verify
from tunesmith.models.base import Encoder, Sampling
from tunesmith.models.likelihood import Likelihood
from tunesmith.progress import Progress, silent
from tunesmith.records import Chunk, Document, Example, Rejection, Tally, Written, fingerprint, locate

_TOKENS_PER_QUESTION = 120


class GenerateSettings(BaseModel):
    """Which rules ask, what a teacher is asked for and may cost, what its examples must pass, and the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[RuleName, ...] = ("does", "howto", "parameter", "neighbours", "see_also")
    rules_per_entry: int = Field(default=2, ge=0)
    questions_per_entry: int = Field(default=4, ge=1)
    examples_per_chunk: int = Field(default=4, ge=1, le=12)
    budget: int | None = Field(default=None, ge=1)
    styles: tuple[Style, ...] = Field(default=STYLES, min_length=1)
    personas: tuple[str, ...] = Field(default=PERSONAS, min_length=1)
    gates: tuple[ModelGate, ...] = ("relevance", "doctest", "round trip", "judge")
    judge_threshold: int = Field(default=4, ge=1, le=5)
    usd_per_million: tuple[float, float] | None = None
    max_cost_usd: float | None = Field(default=None, gt=0)
    seed: int = 0

    @model_validator(mode="after")
    def _is_priced(self) -> Self:
        if self.max_cost_usd is not None and self.usd_per_million is None:
            raise ValueError(
                "max_cost_usd needs prices: usd_per_million = [READ, WRITTEN], of a million tokens each"
            )
        return self

    def purse(self) -> Purse:
        """Return what may be spent."""
        price = None if self.usd_per_million is None else Price(*self.usd_per_million)
        return Purse(price, self.max_cost_usd)


@dataclass(frozen=True, slots=True)
class Material:
    """The pieces of documents that a teacher is asked about, their topics' weights, what it is told, who checks."""

    chunks: tuple[Chunk, ...]
    weights: Mapping[str, float]
    prompts: Prompts
    judge: Asker
    encoder: Callable[[], Encoder]
    likelihood: Callable[[], Likelihood]


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
    catalogue: Catalogue | None,
    *,
    written: Sequence[Written] = (),
    teacher: Asker | None = None,
    material: Material | None = None,
    settings: GenerateSettings,
    on_progress: Progress = silent,
) -> Generated:
    """Make examples: of a catalogue each written question, some by rule, a teacher's; a teacher's of documents.

    The answers about a catalogue are derived from it; those about documents are the teacher's own and must pass the
    gates. A reply that cannot be read counts as failed; a teacher that cannot be reached stops the run with its
    ModelError.
    """
    in_words = [one for one in written if one.answer]
    parts = [joined([_in_words(one, documents, settings.seed) for one in in_words])]
    if catalogue is None:
        parts.append(_without_catalogue([one for one in written if not one.answer]))
    else:
        derived = derive_answers(documents, catalogue)
        ground = _Ground(
            catalogue,
            {document.id: document for document in documents},
            {answer.entry: answer for answer in derived.answers},
            {rejection.item: rejection for rejection in derived.rejections},
        )
        about_calls = [one for one in written if not one.answer]
        parts += [_from_written(about_calls, ground, settings.seed), _from_rules(ground, settings)]
        if teacher is not None:
            asked = frozenset(folded(example.question) for part in parts for example in part.examples)
            parts.append(_from_teacher(teacher, ground, asked, settings, on_progress))
    if teacher is not None and material is not None:
        writing = Writing(
            teacher,
            material.judge,
            material.prompts,
            settings.gates,
            settings.judge_threshold,
            settings.seed,
            material.encoder,
            material.likelihood,
            on_progress,
        )
        taken = frozenset(folded(example.question) for part in parts for example in part.examples)
        by_id = {document.id: document for document in documents}
        orders = _orders(material.chunks, material.weights, settings)
        parts.append(write_examples(orders, by_id, catalogue, writing, taken))
    return _generated(parts)


def _orders(
    chunks: Sequence[Chunk], weights: Mapping[str, float], settings: GenerateSettings
) -> tuple[Order, ...]:
    return place_orders(
        # What describes an entry is asked about as an entry.
        [chunk for chunk in chunks if chunk.entry is None],
        per_chunk=settings.examples_per_chunk,
        budget=settings.budget,
        weights=weights,
        styles=settings.styles,
        personas=settings.personas,
        seed=settings.seed,
    )


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


def _generated(parts: Sequence[Part]) -> Generated:
    whole = joined(parts)
    origins = Counter(_place(example.origin) for example in whole.examples)
    return Generated(
        whole.examples,
        whole.rejections,
        Tally(
            requested=len(whole.examples) + len(whole.rejections) + whole.failed,
            accepted=len(whole.examples),
            rejected=dict(Counter(rejection.rule for rejection in whole.rejections)),
            failed=whole.failed,
        ),
        tuple(OriginCount(origin, count) for origin, count in sorted(origins.items())),
        whole.notes,
    )


def _place(origin: str) -> str:
    """Return an origin without its line number."""
    return origin.rpartition(":")[0] if origin.startswith("written:") else origin


# --- written questions


def _from_written(written: Sequence[Written], ground: _Ground, seed: int) -> Part:
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
    return Part(tuple(examples), tuple(rejections), notes=tuple(notes))


def _in_words(row: Written, documents: Sequence[Document], seed: int) -> Part:
    evidence = locate(row.quote, documents) if row.quote else None
    if row.quote and evidence is None:
        detail = f"{row.question!r}: no document holds {row.quote!r}"
        return Part(rejections=(Rejection("generate", "quote not in the sources", row.origin, detail),))
    key = fingerprint(row.question, row.answer, row.origin)
    quoted = () if evidence is None else (evidence,)
    return Part((Example(key, row.question, row.answer, row.origin, evidence=quoted, seed=seed),))


def _without_catalogue(written: Sequence[Written]) -> Part:
    detail = "the sources name nothing that can be called"
    return Part(
        rejections=tuple(
            Rejection("generate", "unknown entry", row.origin, f"{row.question!r}: {detail}")
            for row in written
        )
    )


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


def _from_rules(ground: _Ground, settings: GenerateSettings) -> Part:
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
    return Part(tuple(examples), tuple(rejections))


# --- a teacher's questions


def _from_teacher(
    teacher: Asker, ground: _Ground, asked: frozenset[str], settings: GenerateSettings, on_progress: Progress
) -> Part:
    count = settings.questions_per_entry
    entries = [entry for entry in ground.catalogue.entries if entry.id in ground.answers]
    prompts = [teacher_prompt(entry, ground.document(entry), count) for entry in entries]
    sampling = Sampling(max_tokens=_TOKENS_PER_QUESTION * count, seed=settings.seed)
    parts = [Part(rejections=tuple(ground.missing.values()) * count)]
    taken = set(asked)
    origin = f"teacher:{teacher.model.name}"
    for entry, reply in zip(entries, teacher.ask(prompts, sampling, on_progress), strict=True):
        if isinstance(reply, Unanswered):
            parts.append(
                Part(rejections=(Rejection("generate", reply.rule, entry.id, reply.detail),) * count)
            )
            continue
        part = _read_reply(reply.text, entry, ground, origin=origin, settings=settings, taken=taken)
        taken |= {folded(example.question) for example in part.examples}
        parts.append(part)
    return joined(parts)


def _read_reply(
    reply: str, entry: Entry, ground: _Ground, *, origin: str, settings: GenerateSettings, taken: Set[str]
) -> Part:
    """Verify a reply's proposals; those not there or not readable have failed."""
    count = settings.questions_per_entry
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
        example = _example(proposal.question, answer, origin, settings.seed)
        examples.append(replace(example, evidence=(found, *answer.evidence)))
    notes = [
        f"{entry.id}: the teacher wrote a line that cannot be read: {line[:80]!r}" for line in parsed.broken
    ]
    missing = max(0, count - len(parsed.proposals))
    return Part(tuple(examples), tuple(rejections), missing, tuple(notes))
