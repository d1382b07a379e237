"""What the decisions of all reviewers come to, in whatever order they were merged.

For each reviewer and each text the last decision counts that was not undone. Decisions that were taken while the
source said something else are stale and count for nothing. Of those left, one that names others (`settles`) replaces
them. If what is then left agrees, that is the outcome; if it does not, or somebody flagged it, it is open: the example
stays as it was made until somebody settles it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.records import Example, fingerprint
from tunesmith.reviewing.decisions import Decision, in_order, key_of, quotes_of

State = Literal["accept", "edit", "reject", "open", "stale"]
Stacks = Mapping[tuple[str, str], tuple[Decision, ...]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What holds for a text, and the decisions that say so, by time; of an open one, all that disagree."""

    state: State
    decisions: tuple[Decision, ...]

    @property
    def last(self) -> Decision:
        """The newest decision of those that say so."""
        return self.decisions[-1]


@dataclass(frozen=True, slots=True)
class Ledger:
    """All decisions: `stacks` by reviewer and key, the undone ones gone; `standing` by key, one a reviewer.

    `edits` are the standing edits by the key of the text that they made, `asked` the standing decisions by question.
    """

    stacks: Stacks
    standing: Mapping[str, tuple[Decision, ...]]
    edits: Mapping[str, tuple[Decision, ...]]
    asked: Mapping[str, tuple[Decision, ...]]

    def outcome(self, example: Example) -> Outcome | None:
        """Return what holds for an example's text, None if nobody decided.

        Who edits a text accepts what it becomes. Where only the question is one that was decided, the answer has
        changed with its source, and those decisions are stale.
        """
        key, quotes = key_of(example), quotes_of(example)
        own = self.standing.get(key)
        if own is not None:
            return combine(own, quotes)
        for edit in self.edits.get(key, ()):
            made = combine(self.standing[edit.key], quotes)
            if made.state == "edit" and made.last.new_key == key:
                return Outcome("accept", made.decisions)
        before = self.asked.get(example.question)
        return None if before is None else Outcome("stale", before)

    def by(self, reviewer: str, key: str) -> Decision | None:
        """Return a reviewer's standing decision about a text, or the edit that made it."""
        decisions = (*self.standing.get(key, ()), *self.edits.get(key, ()))
        return next((one for one in decisions if one.reviewer == reviewer), None)

    def last_of(self, reviewer: str) -> Decision | None:
        """Return a reviewer's newest decision that stands."""
        own = (one for decisions in self.standing.values() for one in decisions if one.reviewer == reviewer)
        return max(own, key=lambda one: one.time, default=None)

    @property
    def digest(self) -> str | None:
        """A fingerprint of all that decides what becomes of examples, None where nothing does; no rating changes it."""
        told = [
            (one.key, one.reviewer, one.verdict, one.reason, one.new_question, one.new_answer, one.quotes, one.settles)
            for decisions in self.standing.values()
            for one in decisions
        ]  # fmt: skip
        return fingerprint(sorted(told, key=lambda each: each[:2])) if told else None


def ledger(decisions: Iterable[Decision]) -> Ledger:
    """Return what decisions in any order come to."""
    stacks: dict[tuple[str, str], list[Decision]] = defaultdict(list)
    for one in in_order(set(decisions)):
        stack = stacks[one.reviewer, one.key]
        if one.verdict != "undo":
            stack.append(one)
        elif stack:
            stack.pop()
    left = {who: tuple(stack) for who, stack in stacks.items() if stack}
    standing = in_order(stack[-1] for stack in left.values())
    edits = [one for one in standing if one.new_key is not None]
    return Ledger(
        left,
        _grouped((one.key, one) for one in standing),
        _grouped((str(one.new_key), one) for one in edits),
        _grouped((one.question, one) for one in standing),
    )


def combine(decisions: Sequence[Decision], quotes: tuple[str, ...]) -> Outcome:
    """Return what the standing decisions about one text come to, given what it quotes now."""
    fresh = [one for one in decisions if one.quotes == quotes]
    if not fresh:
        return Outcome("stale", tuple(decisions))
    settled = {name for one in fresh for name in one.settles}
    left = tuple(one for one in fresh if one.id not in settled)
    views = {(one.verdict, one.new_key) for one in left}
    verdict = left[-1].verdict
    if len(views) > 1 or verdict not in ("accept", "edit", "reject"):
        return Outcome("open", left)
    return Outcome(verdict, left)


def _grouped(pairs: Iterable[tuple[str, Decision]]) -> dict[str, tuple[Decision, ...]]:
    groups: dict[str, list[Decision]] = defaultdict(list)
    for key, one in pairs:
        groups[key].append(one)
    return {key: tuple(group) for key, group in groups.items()}
