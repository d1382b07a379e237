"""What takes a model to tell of an example: whether the source alone leads to its answer, and what a judge says.

- Round trip: the question is answered again, once from the source and once without it. The pair is kept if the first
  answer says the same; whether the second does is noted: then the example teaches nothing that the model does not know.
- The judge sees the source, has a prompt of its own, and names a problem before it gives a score.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tunesmith.generating.asking import Asker, Unanswered
from tunesmith.generating.gates import Pair, Turn
from tunesmith.generating.parsing import json_objects
from tunesmith.generating.prompts import Prompts
from tunesmith.generating.replies import Reply
from tunesmith.models.base import Sampling
from tunesmith.progress import Progress, silent

BEST_SCORE: Final = 5
_SILENT = "NOT IN THE TEXT"
_JUDGED: Final = (
    '{"type":"object","properties":{"problem":{"type":"string"},"score":{"type":"integer","minimum":1,"maximum":5}},'
    '"required":["problem","score"]}'
)


@dataclass(frozen=True, slots=True)
class Checking:
    """A pair, and the text that it was written from."""

    pair: Pair
    source: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a gate says: accepted, rejected and why, or that it failed to tell; `note` is kept with the example."""

    state: Literal["accepted", "rejected", "failed"]
    detail: str = ""
    note: str = ""


def round_trip(
    rows: Sequence[Checking], asker: Asker, prompts: Prompts, *, seed: int, on_progress: Progress = silent
) -> list[Outcome]:
    """Return whether each pair's last answer is found again from its source, and whether it is known without."""
    sampling = Sampling(max_tokens=220, seed=seed)
    turns = [_last(row.pair) for row in rows]
    asked = [
        *(
            prompts.fill("answer_from_source", document=row.source, question=_question(row.pair))
            for row in rows
        ),
        *(prompts.fill("answer_alone", question=_question(row.pair)) for row in rows),
    ]
    replies = asker.ask(asked, sampling, on_progress)
    with_source, alone = replies[: len(rows)], replies[len(rows) :]
    compared: list[tuple[int, bool, str]] = []
    outcomes: dict[int, Outcome] = {}
    for number, (row, first, second) in enumerate(zip(rows, with_source, alone, strict=True)):
        settled = _settled(row.pair, first)
        if settled is not None:
            outcomes[number] = settled
        elif isinstance(first, Reply):
            compared.append((number, True, first.text))
            if isinstance(second, Reply) and "DO NOT KNOW" not in second.text.upper():
                compared.append((number, False, second.text))
    same = _same(rows, compared, asker, prompts, seed)
    for number in range(len(rows)):
        if number not in outcomes:
            outcomes[number] = _outcome(
                same.get((number, True)), same.get((number, False)), with_source[number], turns[number]
            )
    return [outcomes[number] for number in range(len(rows))]


def _settled(pair: Pair, first: Reply | Unanswered) -> Outcome | None:
    """Return what is decided without comparing two answers."""
    if isinstance(first, Unanswered):
        return Outcome("failed", f"{first.rule}: {first.detail}")
    silent_source = _SILENT in first.text.upper()
    if pair.style == "not in the material":
        if silent_source:
            return Outcome("accepted")
        return Outcome("rejected", f"the source does answer it: {first.text[:100]!r}")
    if silent_source:
        return Outcome("rejected", "whoever reads the source alone finds no answer in it")
    return None


def _same(
    rows: Sequence[Checking],
    compared: Sequence[tuple[int, bool, str]],
    asker: Asker,
    prompts: Prompts,
    seed: int,
) -> dict[tuple[int, bool], bool | None]:
    """Return by row, and by whether the source was seen, if the answers say the same; None if nobody can tell."""
    asked = [
        prompts.fill(
            "same_answer",
            question=_question(rows[number].pair),
            first=_last(rows[number].pair).answer,
            second=text,
        )
        for number, _, text in compared
    ]
    replies = asker.ask(asked, Sampling(max_tokens=8, seed=seed))
    return {(number, seen): _yes(reply) for (number, seen, _), reply in zip(compared, replies, strict=True)}


def _yes(reply: Reply | Unanswered) -> bool | None:
    if isinstance(reply, Unanswered):
        return None
    found = re.search(r"\b(yes|no)\b", reply.text, re.IGNORECASE)
    return None if found is None else found[1].lower() == "yes"


def _outcome(same: bool | None, known: bool | None, first: Reply | Unanswered, turn: Turn) -> Outcome:
    if same is None:
        return Outcome("failed", "whether two answers say the same was not told")
    if not same:
        said = first.text if isinstance(first, Reply) else ""
        return Outcome("rejected", f"from the source the answer is another: {' '.join(said.split())[:100]!r}")
    return Outcome("accepted", note="known without the source" if known else "")


def judge_pairs(
    rows: Sequence[Checking],
    asker: Asker,
    prompts: Prompts,
    *,
    threshold: int,
    seed: int,
    on_progress: Progress = silent,
) -> list[Outcome]:
    """Return whether each pair's score, from 1 to 5, reaches the threshold; the score is its note."""
    asked = [
        prompts.fill(
            "judge", document=row.source, question=_question(row.pair), answer=_last(row.pair).answer
        )
        for row in rows
    ]
    replies = asker.ask(asked, Sampling(max_tokens=120, seed=seed, schema=_JUDGED), on_progress)
    return [_judged(reply, threshold) for reply in replies]


def _judged(reply: Reply | Unanswered, threshold: int) -> Outcome:
    if isinstance(reply, Unanswered):
        return Outcome("failed", f"{reply.rule}: {reply.detail}")
    rows = json_objects(reply.text).found
    score = rows[0].get("score") if rows else None
    if isinstance(score, str) and score.isdigit():
        score = int(score)
    if not isinstance(score, int) or not 1 <= score <= BEST_SCORE:
        return Outcome("failed", f"the judge gave no score from 1 to {BEST_SCORE}: {reply.text[:80]!r}")
    if score >= threshold:
        return Outcome("accepted", note=f"judge:{score}")
    return Outcome("rejected", f"score {score} of {BEST_SCORE}: {rows[0].get('problem', '')}")


def _last(pair: Pair) -> Turn:
    return pair.turns[-1]


def _question(pair: Pair) -> str:
    """Return what is asked last, with what was said before it."""
    if len(pair.turns) == 1:
        return pair.turns[0].question
    before = "\n".join(
        f"Earlier question: {turn.question}\nEarlier answer: {turn.answer}" for turn in pair.turns[:-1]
    )
    return f"{before}\nThe question: {pair.turns[-1].question}"
