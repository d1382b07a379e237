"""Examples from documents: a teacher is asked piece by piece, and what it writes must pass every gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from tunesmith.catalogue import Catalogue
from tunesmith.generating.asking import Asker, Unanswered
from tunesmith.generating.gates import GATES, Ground, Pair, find_verbatim, first_stop, sessions
from tunesmith.generating.material import SCHEMA, TOKENS_PER_EXAMPLE, Order, read_pairs
from tunesmith.generating.nearness import relevance, support
from tunesmith.generating.part import Part, joined
from tunesmith.generating.prompts import Prompts
from tunesmith.generating.replies import Reply
from tunesmith.generating.rounds import Checking, Outcome, judge_pairs, round_trip
from tunesmith.generating.verify import folded
from tunesmith.models.base import Encoder, Sampling
from tunesmith.models.likelihood import Likelihood
from tunesmith.progress import Progress, silent
from tunesmith.records import Chunk, Document, Evidence, Example, Message, Rejection, fingerprint
from tunesmith.sandbox.run import Limits, call_function

ModelGate = Literal["relevance", "support", "doctest", "round trip", "judge"]
_TEMPERATURE: Final = 0.7


@dataclass(frozen=True, slots=True)
class Writing:
    """Who writes, who judges, in which words, and what an example must pass besides the gates that need no model.

    The encoder of the gate relevance and the model of the gate support are loaded when they are first needed.
    """

    teacher: Asker
    judge: Asker
    prompts: Prompts
    gates: tuple[ModelGate, ...]
    threshold: int
    seed: int
    encoder: Callable[[], Encoder]
    likelihood: Callable[[], Likelihood]
    on_progress: Progress = silent


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A pair, the order that it answers, and the gates it has passed."""

    pair: Pair
    order: Order
    ground: Ground
    passed: tuple[str, ...] = ()


def write_examples(
    orders: Sequence[Order],
    documents: Mapping[str, Document],
    catalogue: Catalogue | None,
    writing: Writing,
    taken: frozenset[str],
) -> Part:
    """Return what becomes of everything that is ordered; `taken` are the questions there are, as `folded` has them."""
    sampling = Sampling(
        max_tokens=TOKENS_PER_EXAMPLE * max((len(order.styles) for order in orders), default=1),
        temperature=_TEMPERATURE,
        seed=writing.seed,
        schema=SCHEMA,
    )
    asked = [order.prompt(writing.prompts) for order in orders]
    replies = writing.teacher.ask(asked, sampling, writing.on_progress)
    candidates: list[_Candidate] = []
    parts: list[Part] = []
    questions = set(taken)
    for order, reply in zip(orders, replies, strict=True):
        kept, part = _read(order, reply, catalogue, questions)
        candidates += kept
        parts.append(part)
    for gate in writing.gates:
        candidates, part = _through(gate, candidates, writing)
        parts.append(part)
    origin = f"teacher:{writing.teacher.model.name}"
    made = tuple(
        _example(each, documents[each.order.chunk.document], origin, writing.seed) for each in candidates
    )
    return joined([*parts, Part(made)])


def _read(
    order: Order, reply: Reply | Unanswered, catalogue: Catalogue | None, questions: set[str]
) -> tuple[list[_Candidate], Part]:
    """Return the pairs of a reply that pass the gates, and what became of the others; adds to `questions`."""
    place, wanted = order.chunk.id, len(order.styles)
    if isinstance(reply, Unanswered):
        return [], Part(rejections=(Rejection("generate", reply.rule, place, reply.detail),) * wanted)
    proposed = read_pairs(reply.text)
    ground = Ground(order.chunk.text, order.chunk.title, catalogue)
    kept: list[_Candidate] = []
    rejections = [
        Rejection("generate", "more than asked for", place, repr(extra.question))
        for extra in proposed.pairs[wanted:]
    ]
    for pair in proposed.pairs[:wanted]:
        rejection = _refused(pair, ground, place, questions)
        questions.add(folded(pair.question))
        if rejection is None:
            kept.append(_Candidate(pair, order, ground, tuple(gate.name for gate in GATES)))
        else:
            rejections.append(rejection)
    notes = tuple(f"{place}: {line}" for line in proposed.broken)
    if reply.cut:
        notes = (*notes, f"{place}: the teacher's reply was cut at its limit of tokens")
    return kept, Part((), tuple(rejections), max(0, wanted - len(proposed.pairs)), notes)


def _refused(pair: Pair, ground: Ground, place: str, questions: set[str]) -> Rejection | None:
    if folded(pair.question) in questions:
        return Rejection("generate", "repeats a question", place, repr(pair.question))
    stopped = first_stop(pair, ground)
    if stopped is None:
        return None
    return Rejection("generate", f"gate: {stopped.gate}", place, f"{pair.question!r}: {stopped.detail}")


def _through(
    gate: ModelGate, candidates: Sequence[_Candidate], writing: Writing
) -> tuple[list[_Candidate], Part]:
    rows = [Checking(each.pair, each.order.chunk.text.strip()) for each in candidates]
    outcomes = _outcomes(gate, rows, writing)
    kept: list[_Candidate] = []
    rejections: list[Rejection] = []
    failures: Counter[str] = Counter()
    for each, outcome in zip(candidates, outcomes, strict=True):
        if outcome.state == "accepted":
            marks = (gate, outcome.note) if outcome.note else (gate,)
            kept.append(replace(each, passed=(*each.passed, *marks)))
        elif outcome.state == "rejected":
            detail = f"{each.pair.question!r}: {outcome.detail}"
            rejections.append(Rejection("generate", f"gate: {gate}", each.order.chunk.id, detail))
        else:
            failures[outcome.detail] += 1
    notes = tuple(
        f"{gate}: {count} example(s) could not be checked: {why}" for why, count in failures.items()
    )
    return kept, Part((), tuple(rejections), sum(failures.values()), notes)


def _outcomes(gate: ModelGate, rows: Sequence[Checking], writing: Writing) -> list[Outcome]:
    seed, told = writing.seed, writing.on_progress
    match gate:
        case "relevance":
            return relevance(rows, writing.encoder()) if rows else []
        case "support":
            return support(rows, writing.likelihood(), on_progress=told) if rows else []
        case "doctest":
            return [_run(row.pair) for row in rows]
        case "round trip":
            return round_trip(rows, writing.teacher, writing.prompts, seed=seed, on_progress=told)
        case "judge":
            prompts, threshold = writing.prompts, writing.threshold
            return judge_pairs(rows, writing.judge, prompts, threshold=threshold, seed=seed, on_progress=told)


# A session's examples one after the other, as doctest runs them, which itself may not trace here.
_SESSION: Final = """
import contextlib, doctest, io, traceback
def run(code):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    names, checker = {"__name__": "answer"}, doctest.OutputChecker()
    for example in doctest.DocTestParser().get_examples(code):
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(example.source, "answer", "single"), names)
            got, raised = out.getvalue(), None
        except Exception as error:  # whatever an answer's code raises is what it shows
            raised = "".join(traceback.format_exception_only(error))
            got = raised
        wanted = example.exc_msg if raised is not None and example.exc_msg is not None else example.want
        if not checker.check_output(wanted, got, flags):
            return [True, f"{example.source.strip()} gives {got.strip()!r}, not {wanted.strip()!r}"]
    return [False, ""]
"""
_CANNOT_RUN: Final = ("ModuleNotFoundError", "ImportError", "PermissionError", "BlockingIOError", "OSError")


def _run(pair: Pair) -> Outcome:
    """Run the doctests of an answer, in a process without network, files and time; none is an answer that passes."""
    for code in sessions(pair.answer):
        ran = call_function(_SESSION, "run", [code], Limits(seconds=20.0, cpu_seconds=5))
        if ran.failure is not None:
            return Outcome("rejected", f"its code cannot be run: {ran.message}")
        failed, said = ran.value
        if failed and not any(word in said for word in _CANNOT_RUN):
            return Outcome("rejected", " ".join(said.split())[:200])
    return Outcome("accepted")


# --- what is kept


def _example(candidate: _Candidate, document: Document, origin: str, seed: int) -> Example:
    pair, chunk = candidate.pair, candidate.order.chunk
    return Example(
        id=fingerprint(pair.question, pair.answer, document.id, origin),
        question=pair.turns[0].question if len(pair.turns) == 1 else pair.turns[-1].question,
        answer=pair.turns[-1].answer,
        origin=origin,
        evidence=_evidence(pair, chunk, document),
        seed=seed,
        checks=(f"style:{pair.style}", *candidate.passed),
        messages=_messages(pair),
    )


def _messages(pair: Pair) -> tuple[Message, ...]:
    """Return what was said before the last question, of a conversation of several."""
    return tuple(
        message
        for turn in pair.turns[:-1]
        for message in (Message("user", turn.question), Message("assistant", turn.answer))
    )


def _evidence(pair: Pair, chunk: Chunk, document: Document) -> tuple[Evidence, ...]:
    """Return where the document has each quote; where it has no answer, the whole piece that was read for one."""
    found = [place for quote in pair.quotes if (place := find_verbatim(chunk.text, quote)) is not None]
    return tuple(
        Evidence(
            document.source,
            document.id,
            chunk.start + start,
            chunk.start + end,
            document.text[chunk.start + start : chunk.start + end],
        )
        for start, end in found or [(0, len(chunk.text))]
    )
