"""Figures of a review: counts, kappa, and a judge against people."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from sklearn.metrics import roc_auc_score

from tunesmith.records import Example
from tunesmith.reviewing.agreement import (
    Agreement,
    JudgeAgreement,
    Open,
    Reviewer,
    agreements,
    judge_agreement,
    summarise,
)
from tunesmith.reviewing.decisions import Decision, key_of
from tunesmith.reviewing.ledger import ledger

Make = Callable[..., Example]
Decide = Callable[..., Decision]


def test_only_independent_decisions_are_compared(make: Make, decide: Decide) -> None:
    """Not those taken in view of others', not those of another state of the source; undone ones are gone."""
    one, two, three, four = (make(f"q {n}") for n in range(4))
    first = [decide(one), decide(two, "reject"), decide(three), decide(four), decide(four, "undo", at=1)]
    second = [
        decide(one, "reject", "ben"),
        decide(one, "accept", "ben", at=5, settles=(first[0].id,)),
        decide(two, "reject", "ben"),
        decide(replace(three, evidence=()), "reject", "ben"),
        decide(four, "reject", "ben"),
    ]
    assert agreements(ledger([*first, *second])) == (Agreement("ann", "ben", 2, 1, 0.0),)
    assert agreements(ledger(first)) == ()


def test_the_judges_order_is_the_area_under_the_curve(make: Make, decide: Decide) -> None:
    """As scikit-learn computes it; flags and texts without a score are left out."""
    chance = random.Random(1)
    verdicts = [chance.choice(["accept", "reject", "edit"]) for _ in range(30)]
    scores = [chance.randint(0, 5) / 5 for _ in verdicts]
    made = [
        decide(make(f"q {n}", checks=(f"judge:{score}",)), verdict)
        for n, (verdict, score) in enumerate(zip(verdicts, scores, strict=True))
    ]
    found = judge_agreement([*made, decide(make("f", checks=("judge:1",)), "flag"), decide(make("n"))])
    good = [verdict == "accept" for verdict in verdicts]
    assert found is not None
    assert (found.accepted, found.others) == (sum(good), len(good) - sum(good))
    assert math.isclose(found.order, roc_auc_score(good, scores))


def test_the_threshold_is_the_score_that_parts_people_s_verdicts(make: Make, decide: Decide) -> None:
    """Of equally good ones the lowest; none where the judge is no better than chance."""
    given = {"accept": (5, 5, 4, 2), "reject": (1, 2, 3), "edit": (4,)}

    def found(given: dict[str, tuple[int, ...]]) -> JudgeAgreement | None:
        return judge_agreement(
            decide(make(f"{verdict} {n}", checks=(f"judge:{score}",)), verdict)
            for verdict, scores in given.items()
            for n, score in enumerate(scores)
        )

    calibrated = found(given)
    assert calibrated is not None
    assert (calibrated.threshold, calibrated.kept_accepted, calibrated.kept_others) == (4, 3 / 4, 1 / 4)
    upside_down = found({"accept": (1, 2), "reject": (4, 5)})
    assert upside_down is not None
    assert (upside_down.order, upside_down.threshold) == (0.0, None)


@pytest.mark.parametrize("verdict", ["accept", "reject"])
def test_without_both_kinds_the_judge_is_left_out(make: Make, decide: Decide, verdict: str) -> None:
    """There is no pair to compare, and so no figure."""
    assert judge_agreement([decide(make(checks=("judge:0.5",)), verdict)]) is None


def test_a_summary_has_it_all(make: Make, decide: Decide) -> None:
    """Outcomes, what is open with who says what, what is stale, and each reviewer's figures."""
    one, two, three = make("one", checks=("judge:0.9",)), make("two", checks=("judge:0.2",)), make("three")
    made = [
        decide(one, rating=4),
        decide(two, "reject", rating=1),
        decide(three),
        decide(three, "reject", "ben", at=1),
    ]
    found = summarise(ledger(made), [replace(one, evidence=()), two, three])
    assert found.outcomes == {"accept": 1, "edit": 0, "reject": 1, "open": 1}
    assert found.open == (Open(key_of(three), "three", (made[2], made[3])),)
    assert found.stale == 1
    assert found.reviewers == (
        Reviewer("ann", {"accept": 2, "edit": 0, "reject": 1, "flag": 0}, 2, 2.5),
        Reviewer("ben", {"accept": 0, "edit": 0, "reject": 1, "flag": 0}, 0, None),
    )
    assert found.agreements == (Agreement("ann", "ben", 1, 0, 0.0),)
    assert found.judge == JudgeAgreement(1, 1, 1.0, 0.9, 1.0, 0.0)


def test_only_what_is_made_can_be_open(make: Make, decide: Decide) -> None:
    """A flagged text that a change of the source took away waits for nobody; its successor is stale."""
    flagged, now = make(), make(answer="Call it twice.")
    book = ledger([decide(flagged, "flag")])
    assert [len(summarise(book, known).open) for known in (None, [flagged], [now], [])] == [1, 1, 0, 0]
    assert [summarise(book, known).stale for known in (None, [flagged], [now], [])] == [None, 0, 1, 0]


def test_a_summary_of_nothing_is_empty() -> None:
    """No reviewer, and None where nothing could be compared."""
    found = summarise(ledger([]), None)
    assert (found.reviewers, found.open, found.stale, found.judge) == ((), (), None, None)
