"""How far reviewers agree with one another and with a judge, and what all decisions come to in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from tunesmith.raters import kappa
from tunesmith.records import Example
from tunesmith.reviewing.decisions import Decision, Verdict, judge_score, key_of
from tunesmith.reviewing.ledger import Ledger, Outcome, combine

VERDICTS: Final[tuple[Verdict, ...]] = ("accept", "edit", "reject", "flag")


@dataclass(frozen=True, slots=True)
class Reviewer:
    """One reviewer's standing decisions by verdict, how many have a rating, and the ratings' mean."""

    name: str
    verdicts: Mapping[str, int]
    rated: int
    mean_rating: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two reviewers on the texts that both decided by themselves: how many, how often the same verdict, Cohen's kappa.

    `kappa` is None where both always gave one and the same verdict: chance alone would agree as well.
    """

    one: str
    other: str
    both: int
    same: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """A judge's scores against people: `order` is how often an accepted text has a higher score than one that was not.

    Of all pairs of one accepted and one rejected or edited text, ties by half (the area under the ROC curve): 0.5 is
    chance, and no threshold is needed. `threshold` is the score that parts them best, and the shares of both that reach
    it are `kept_accepted` and `kept_others`; None if none keeps more of the accepted (W. J. Youden, Index for rating
    diagnostic tests, Cancer 3, 1950). It is set on these same texts, and knows only those that people were shown.
    """

    accepted: int
    others: int
    order: float
    threshold: float | None = None
    kept_accepted: float = 1.0
    kept_others: float = 1.0


@dataclass(frozen=True, slots=True)
class Open:
    """A text that somebody must settle, and what was decided about it."""

    key: str
    question: str
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the decisions come to: texts by outcome, what is open, who decided what, and agreement.

    `stale` counts examples whose source has changed since, and None where no examples were there to compare; where some
    were, only their texts can be `open`: what is made no more cannot be settled. `judge` is
    None where no decided example carries a judge's score, or all have the same outcome.
    """

    outcomes: Mapping[str, int]
    open: tuple[Open, ...]
    stale: int | None
    reviewers: tuple[Reviewer, ...]
    agreements: tuple[Agreement, ...]
    judge: JudgeAgreement | None


def summarise(ledger: Ledger, examples: Sequence[Example] | None) -> Summary:
    """Return all figures; an outcome is that by the newest source which a reviewer saw."""
    outcomes = {key: combine(found, found[-1].quotes) for key, found in ledger.standing.items()}
    counts = Counter(outcome.state for outcome in outcomes.values())
    waiting = tuple(_open(outcomes, examples))
    return Summary(
        outcomes={state: counts[state] for state in ("accept", "edit", "reject")} | {"open": len(waiting)},
        open=waiting,
        stale=None if examples is None else _stale(ledger, examples),
        reviewers=tuple(_reviewers(ledger)),
        agreements=agreements(ledger),
        judge=judge_agreement(one for found in ledger.standing.values() for one in found),
    )


def agreements(ledger: Ledger) -> tuple[Agreement, ...]:
    """Return each pair of reviewers that decided the same texts, seeing the same source, and neither to settle."""
    views: dict[str, dict[tuple[str, tuple[str, ...]], str]] = {}
    for (reviewer, key), stack in ledger.stacks.items():
        alone = [one for one in stack if not one.settles]
        if alone:
            views.setdefault(reviewer, {})[key, alone[-1].quotes] = alone[-1].verdict
    found = []
    for one, other in combinations(sorted(views), 2):
        shared = sorted(views[one].keys() & views[other].keys())
        pairs = [(views[one][key], views[other][key]) for key in shared]
        if pairs:
            same = sum(mine == theirs for mine, theirs in pairs)
            found.append(Agreement(one, other, len(pairs), same, kappa(pairs)))
    return tuple(found)


def judge_agreement(decisions: Iterable[Decision]) -> JudgeAgreement | None:
    """Return how a judge's scores order what people decided, None where there is nothing to compare."""
    scored = [(one.verdict, score) for one in decisions if (score := judge_score(one.checks)) is not None]
    good = [score for verdict, score in scored if verdict == "accept"]
    bad = [score for verdict, score in scored if verdict in ("reject", "edit")]
    if not good or not bad:
        return None
    won = sum((high > low) + (high == low) / 2 for high in good for low in bad)
    order = won / (len(good) * len(bad))
    best = max(sorted({*good, *bad}), key=lambda at: _kept(good, at) - _kept(bad, at))  # the lowest of equals
    if _kept(good, best) <= _kept(bad, best):
        return JudgeAgreement(len(good), len(bad), order)
    return JudgeAgreement(len(good), len(bad), order, best, _kept(good, best), _kept(bad, best))


def _kept(scores: Sequence[float], threshold: float) -> float:
    return sum(score >= threshold for score in scores) / len(scores)


def _open(outcomes: Mapping[str, Outcome], examples: Sequence[Example] | None) -> Iterable[Open]:
    found = [(key, one) for key, one in sorted(outcomes.items()) if one.state == "open"]
    made = {key_of(example) for example in examples or ()} if found else set()
    for key, one in found:
        if examples is None or key in made:
            yield Open(key, one.last.question, one.decisions)


def _stale(ledger: Ledger, examples: Iterable[Example]) -> int:
    outcomes = (ledger.outcome(example) for example in examples) if ledger.standing else ()
    return sum(outcome is not None and outcome.state == "stale" for outcome in outcomes)


def _reviewers(ledger: Ledger) -> Iterable[Reviewer]:
    standing = [one for found in ledger.standing.values() for one in found]
    for name in sorted({one.reviewer for one in standing}):
        own = [one for one in standing if one.reviewer == name]
        ratings = [one.rating for one in own if one.rating is not None]
        counts = Counter(one.verdict for one in own)
        yield Reviewer(
            name,
            {verdict: counts[verdict] for verdict in VERDICTS},
            len(ratings),
            sum(ratings) / len(ratings) if ratings else None,
        )
