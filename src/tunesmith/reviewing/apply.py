"""From decisions to examples: rejected ones go, edited ones are replaced, accepted ones say that a person saw them."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.records import Example, Rejection
from tunesmith.reviewing.decisions import REVIEWED, Decision, key_of
from tunesmith.reviewing.ledger import Ledger, Outcome


def reviewed(example: Example, ledger: Ledger) -> Example | Rejection:
    """Return what becomes of an example: itself, itself with another text or the check "reviewed", or its rejection.

    An edited text may have decisions of its own, which are followed too. Where nobody decided, where it is open and
    where the source has changed since, the example stays as it is. The id stays always, and with it the set.
    """
    current, outcome, passed = example, ledger.outcome(example), set[str]()
    while outcome is not None and outcome.state == "edit" and key_of(current) not in passed:
        passed.add(key_of(current))
        current = edited(current, outcome.last)
        outcome = ledger.outcome(current)
    if outcome is None or outcome.state in ("open", "stale"):
        return current
    if outcome.state == "reject":
        return Rejection("curate", "reviewed out", example.id, _why(current, outcome))
    return replace(current, checks=(*(one for one in current.checks if one != REVIEWED), REVIEWED))


def edited(example: Example, edit: Decision) -> Example:
    """Return an example with the text that an edit gave it."""
    return replace(
        example,
        question=example.question if edit.new_question is None else edit.new_question,
        answer=example.answer if edit.new_answer is None else edit.new_answer,
    )


def waits(example: Example, ledger: Ledger) -> bool:
    """Tell whether somebody must look at an example: reviewers disagree, one flagged it, or the source has changed."""
    outcome = ledger.outcome(example)
    return outcome is not None and outcome.state in ("open", "stale")


def _why(example: Example, outcome: Outcome) -> str:
    said = "; ".join(f"{one.reviewer}: {one.reason}" for one in outcome.decisions)
    return f"{example.question!r} ({example.origin}): {said}"
