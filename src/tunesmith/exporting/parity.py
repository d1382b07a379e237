"""Prove an export: the engine that serves it replays 32 prompts token by token, and may differ by its rounding only.

What a precision explains is measured, not assumed. The reference is the model in float32 with its weights rounded as
the export's are. It reads every answer twice: as it is, and rounding what the engine rounds on its way. The distance
between the two readings, in log-probabilities (nats) of the eight likeliest tokens of each step, is what rounding does
to this model on these prompts; the engine may be `_OFTEN` times as far from the reference on the whole, and `_EVER`
times in any one step. Engines that compute in float32 round nothing: they have `FLOOR`.

A token that differs is explained where the reference itself was torn: where the two tokens' log-probabilities are
nearer to each other than two such distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tunesmith.errors import ParityError
from tunesmith.exporting.engines import Engine, Step, Transformers
from tunesmith.exporting.prompts import TEXTS
from tunesmith.progress import Progress, silent
from tunesmith.records import Conversation

PROMPTS: Final = 32
TOKENS: Final = 16
FLOOR: Final = 2e-3
_OFTEN: Final = 2.0
_EVER: Final = 4.0
_COMPARED: Final = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One prompt as the model reads it, and the model's own greedy answer; both as ids."""

    conversation: Conversation
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """What is replayed: the lines, and the tokens that end an answer."""

    lines: tuple[Line, ...]
    ends: frozenset[int]

    @property
    def tokens(self) -> int:
        """How many tokens all answers have."""
        return sum(len(line.answer) for line in self.lines)


Replay = tuple[tuple[Step, ...], ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """What an engine is held to: the script, and how the model itself replays it.

    `tuned` was replayed before its weights were rounded to `precision`, `reference` after, and `disturbed` while what
    the engine rounds on its way was rounded too. `model` reads texts, and shows tokens as they are read.
    """

    precision: str
    model: Transformers
    script: Script
    tuned: Replay
    reference: Replay
    disturbed: Replay


@dataclass(frozen=True, slots=True)
class Distance:
    """How far two replays are apart, in nats: in the worst step, and in the root of the mean square."""

    largest: float
    typical: float


@dataclass(frozen=True, slots=True)
class Divergence:
    """A step in which the engine would say another token than the reference; texts as they are read.

    `position` counts the answer's tokens from 0; `margin` is by how much the reference prefers its own token, `gap`
    how far the engine is from the reference in this step, both in nats.
    """

    question: str
    position: int
    expected: str
    said: str
    margin: float
    gap: float


@dataclass(frozen=True, slots=True)
class Parity:
    """What the proof found: how far the engine is from the reference, how far it may be, and what its precision costs.

    `rounded` is the distance that rounding the weights alone puts between export and tuned model, `changed` how many
    tokens that changes; `divergences` are all explained.
    """

    engine: str
    precision: str
    prompts: int
    tokens: int
    found: Distance
    allowed: Distance
    divergences: tuple[Divergence, ...]
    rounded: Distance
    changed: int


def write_script(
    model: Transformers,
    conversations: Sequence[Conversation],
    ends: frozenset[int],
) -> Script:
    """Return the prompts with the model's own greedy answers of at most `TOKENS` tokens."""
    prompts = [model.prompt(conversation) for conversation in conversations]
    answers = model.answers(prompts, TOKENS, ends)
    lines = zip(conversations, prompts, answers, strict=True)
    return Script(tuple(Line(*line) for line in lines), ends)


def replay(engine: Engine, script: Script, *, on_progress: Progress = silent) -> Replay:
    """Return what an engine would say in the place of each token of the script."""
    steps: list[tuple[Step, ...]] = []
    for line in script.lines:
        steps.append(engine.replay(line.prompt, line.answer))
        on_progress(len(steps), len(script.lines), f"prompts replayed by {engine.name}")
    return tuple(steps)


def prove(engine: Engine, trial: Trial, *, on_progress: Progress = silent) -> Parity:
    """Return the proof that an engine with the export reads, speaks and stops as the model does.

    Raises ParityError, naming the first text that is read otherwise, the end that is not one, or the first divergence
    of a drift beyond what is explained.
    """
    _require_same_reading(engine, trial)
    found = replay(engine, trial.script, on_progress=on_progress)
    noise = distance(trial.reference, trial.disturbed)
    parity = Parity(
        engine=engine.name,
        precision=trial.precision,
        prompts=len(trial.script.lines),
        tokens=trial.script.tokens,
        found=distance(trial.reference, found),
        allowed=Distance(max(FLOOR, _EVER * noise.largest), max(FLOOR, _OFTEN * noise.typical)),
        divergences=tuple(_divergences(trial, found)),
        rounded=distance(trial.tuned, trial.reference),
        changed=sum(a.token != b.token for a, b in _pairs(trial.tuned, trial.reference)),
    )
    _require_explained(parity)
    return parity


def distance(reference: Replay, other: Replay) -> Distance:
    """Return how far a replay is from the reference, over the likeliest tokens of each step."""
    gaps = [_gap(a, b) for a, b in _pairs(reference, other)]
    return Distance(max(gaps), math.sqrt(sum(gap * gap for gap in gaps) / len(gaps)))


_NOT_KEPT: Final = (
    "Nothing was kept. If the model's files are whole this is a defect of the export: please report it. "
    "--no-parity exports without this proof."
)


def _require_explained(parity: Parity) -> None:
    bound, found = parity.allowed, parity.found
    unexplained = [each for each in parity.divergences if not each.margin <= 2 * bound.largest]
    # Written so that what is no number is refused too.
    if found.largest <= bound.largest and found.typical <= bound.typical and not unexplained:
        return
    first = next(iter(unexplained or parity.divergences), None)
    raise ParityError(
        f"the export drifts beyond what {parity.precision} explains. In {parity.engine} its log-probabilities are "
        f"{found.typical:.3g} off on the whole and {found.largest:.3g} at worst, where rounding explains "
        f"{bound.typical:.3g} and {bound.largest:.3g}; {len(parity.divergences)} of {parity.tokens} tokens differ. "
        f"{_shown(first)}",
        hint=_NOT_KEPT,
    )


def _shown(first: Divergence | None) -> str:
    if first is None:
        return "No token differs yet."
    return (
        f"First divergence: token {first.position + 1} of the answer to {first.question[:60]!r} is {first.said!r} "
        f"instead of {first.expected!r}, which the model prefers by {first.margin:.3g} (gap {first.gap:.3g})."
    )


def _require_same_ids(
    what: str, text: str, expected: tuple[int, ...], found: tuple[int, ...], reference: Transformers
) -> None:
    if expected == found:
        return
    pairs = zip(expected, found, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(found)))
    raise ParityError(
        f"the export's {what} reads {text[:60]!r} otherwise: its token {at + 1} is "
        f"{_token(reference, found, at)} instead of {_token(reference, expected, at)}",
        hint=_NOT_KEPT,
    )


def _token(reference: Transformers, ids: tuple[int, ...], at: int) -> str:
    return repr(reference.text(ids[at : at + 1])) if at < len(ids) else "missing"


def _require_same_reading(engine: Engine, trial: Trial) -> None:
    model = trial.model
    for text in TEXTS:
        _require_same_ids("tokenizer", text, model.tokens(text), engine.tokens(text), model)
    for line in trial.script.lines:
        question = line.conversation[-1].content
        _require_same_ids("chat template", question, line.prompt, engine.prompt(line.conversation), model)
    for token in sorted(trial.script.ends):
        if not engine.stops_at(token):
            raise ParityError(
                f"{engine.name} does not stop after {model.text([token])!r}, with which the model ends a turn",
                hint=_NOT_KEPT,
            )


def _divergences(trial: Trial, found: Replay) -> Iterator[Divergence]:
    for line, expected, said in zip(trial.script.lines, trial.reference, found, strict=True):
        for position, (a, b) in enumerate(zip(expected, said, strict=True)):
            if a.token != b.token:
                yield Divergence(
                    question=line.conversation[-1].content,
                    position=position,
                    expected=trial.model.text([a.token]),
                    said=trial.model.text([b.token]),
                    margin=_logprob(a, a.token) - _logprob(a, b.token),
                    gap=_gap(a, b),
                )


def _pairs(reference: Replay, other: Replay) -> Iterator[tuple[Step, Step]]:
    for steps, others in zip(reference, other, strict=True):
        yield from zip(steps, others, strict=True)


def _gap(reference: Step, other: Step) -> float:
    """Return the largest difference over the tokens that the reference finds likeliest; NaN counts as infinite."""
    likeliest = sorted(reference.logprobs, key=lambda token: -reference.logprobs[token])[:_COMPARED]
    gaps = [abs(reference.logprobs[token] - _logprob(other, token)) for token in likeliest]
    return max(math.inf if math.isnan(gap) else gap for gap in gaps)


def _logprob(step: Step, token: int) -> float:
    """Return a token's log-probability: at most that of the least likely listed token, if it is not listed."""
    return step.logprobs.get(token, min(step.logprobs.values()))
