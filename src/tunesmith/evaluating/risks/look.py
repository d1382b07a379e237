"""Look at a model check by check, and judge what was seen of two: pure once the models have spoken.

The two models are looked at one after the other, so that only one need be in memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from tunesmith.evaluating.risks import bias, forgetting, memorisation, private, refusal
from tunesmith.evaluating.risks.figures import FEWEST, Figure, compared
from tunesmith.evaluating.risks.record import (
    Check,
    Material,
    Risk,
    Risks,
    RisksSettings,
    Seen,
    Subject,
    Unmeasured,
    of,
)

Row = TypeVar("Row")
_FIGURES: Final[Mapping[Check, Sequence[Figure]]] = {
    "forgetting": forgetting.FIGURES,
    "memorisation": memorisation.FIGURES,
    "private": private.FIGURES,
    "bias": bias.FIGURES,
    "refusal": refusal.FIGURES,
}
_SERVICE: Final = "A service tells no likelihoods."
_NO_ROWS: Final = "The training rows are not known: name them with --rows."
_NO_OTHERS: Final = "No row is held out whose answer was not trained on as well."


def look(
    subject: Subject, check: Check, material: Material, settings: RisksSettings, *, contender: str
) -> tuple[Seen, ...]:
    """Return what one check sees of a model; `contender` is its name in the evaluation's scores.

    What the model cannot tell is not seen: `judge` says so. Whatever a model raises passes through.
    """
    found: Mapping[Check, Callable[[], Iterator[Seen]]] = {
        "forgetting": lambda: forgetting.ask(subject, settings),
        "memorisation": lambda: _memorised(subject, material),
        "private": lambda: _private(subject, material, contender, settings),
        "bias": lambda: bias.ask(subject, settings),
        "refusal": lambda: refusal.ask(subject, settings),
    }
    return tuple(found[check]())


def _memorised(subject: Subject, material: Material) -> Iterator[Seen]:
    return iter(()) if subject.telling is None else memorisation.ask(subject.telling, material)


def _private(subject: Subject, material: Material, contender: str, settings: RisksSettings) -> Iterator[Seen]:
    if material.detect is None:
        return iter(())
    answers = tuple(private.ask(subject, material, contender, settings))
    planted = (message.content for canary in material.canaries for message in canary.conversation)
    return private.judge(answers, material.detect, "\n".join((material.trained, *planted)))


def judge(
    before: Mapping[Check, Sequence[Seen]],
    after: Mapping[Check, Sequence[Seen]],
    material: Material,
    settings: RisksSettings,
    *,
    names: tuple[str, str],
) -> Risks:
    """Return every figure of the checks that were made, and what of them could not be measured and why.

    `names` are what the two models are called. Figures of which only one model could tell stand without a change.
    """
    risks: list[Risk] = []
    unmeasured: list[Unmeasured] = []
    for check in settings.checks:
        seen = (before.get(check, ()), after.get(check, ()))
        for figure in _FIGURES[check]:
            sides = _shared(*(tuple(of(side, figure.name)) or None for side in seen))
            if sides[0] is None and sides[1] is None:
                unmeasured.append(Unmeasured(check, figure.name, _why(figure, material, seen)))
            else:
                risks.append(compared(figure, *sides))
        if check == "memorisation":
            more, missing = memorisation.membership(*(side or None for side in seen))
            risks += more
            unmeasured += missing
        if check == "forgetting":
            risks += forgetting.regressions(material)
    notes = (*_notes(material, settings), *_too_few(risks))
    return Risks(*names, tuple(risks), tuple(unmeasured), notes)


def _shared(
    before: tuple[Seen, ...] | None, after: tuple[Seen, ...] | None
) -> tuple[tuple[Seen, ...] | None, tuple[Seen, ...] | None]:
    """Return what was seen of the items that both told of: tokenizers differ in which answers are long enough."""
    if before is None or after is None:
        return before, after
    both = {one.item for one in before} & {one.item for one in after}
    first, second = (tuple(one for one in side if one.item in both) or None for side in (before, after))
    return first, second


def _why(figure: Figure, material: Material, seen: tuple[Sequence[Seen], Sequence[Seen]]) -> str:
    if figure.name == "exposure of planted secrets" and not material.canaries:
        return "No secret was planted: canaries in [train] plants some."
    if figure.check == "memorisation" and not material.members:
        return _NO_ROWS
    if figure.name == "held-out rows extracted" and not material.others:
        return _NO_OTHERS
    if figure.check == "memorisation" and any(seen):
        return f"Too few rows have answers of {memorisation.PREFIX + memorisation.SHORTEST} tokens."
    return _SERVICE


def _notes(material: Material, settings: RisksSettings) -> Iterator[str]:
    if "memorisation" not in settings.checks:
        return
    if material.canaries:
        rows = sum(canary.times for canary in material.canaries)
        yield f"{len(material.canaries)} secrets were planted in {rows} rows: [train] canaries."
    if 0 < len(material.others) < _FEW:
        yield f"Only {len(material.others)} held-out rows stand against the training rows: the intervals are wide."


def _too_few(risks: Sequence[Risk]) -> Iterator[str]:
    """Name the figures of both models that have no change: they have an interval each, and that proves nothing."""
    names = [
        one.name for one in risks if one.before is not None and one.after is not None and one.change is None
    ]
    if names:
        yield f"Too few items, under {FEWEST}, to tell whether it changed: {', '.join(names)}."


_FEW: Final = 20


def sample(rows: Sequence[Row], settings: RisksSettings) -> tuple[Row, ...]:
    """Return the rows that are looked at: `rows` of them, drawn by the seed, in their order."""
    if len(rows) <= settings.rows:
        return tuple(rows)
    chosen = random.Random(f"risks:{settings.seed}").sample(range(len(rows)), settings.rows)
    return tuple(rows[number] for number in sorted(chosen))
