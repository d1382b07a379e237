"""A reviewer's way through the examples: one after the other, each decision written at once, the last one undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tunesmith.errors import UsageError
from tunesmith.records import Document, Example
from tunesmith.reviewing.apply import edited
from tunesmith.reviewing.decisions import Decision, Verdict, check_name, key_of, quotes_of, stamp
from tunesmith.reviewing.ledger import Outcome, ledger
from tunesmith.reviewing.sample import Risk

_CONTEXT = 160  # characters on each side of a quote, on to the line's end if that is not far


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A quote within its document: what stands before it and after it, cut at the ends of lines."""

    title: str
    before: str
    quote: str
    after: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example that may be shown: its set, its risk, its topic's label, and its evidence within the documents."""

    example: Example
    set: str
    risk: Risk
    topic: str | None = None
    excerpts: tuple[Excerpt, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """What is shown now, as number `number` of `total`.

    `said` are the decisions that must be known to settle it; it is empty otherwise, so that a second reviewer decides
    by themselves. `stale`: the source has changed since them, and with it a quote or the answer.
    """

    candidate: Candidate
    number: int
    total: int
    said: tuple[Decision, ...] = ()
    stale: bool = False

    @property
    def example(self) -> Example:
        """The example itself."""
        return self.candidate.example


@dataclass(frozen=True, slots=True)
class Done:
    """What a session came to: decisions by verdict without the undone ones, how many were skipped and are left."""

    reviewer: str
    verdicts: Mapping[str, int]
    skipped: int
    left: int


class Session:
    """Shows what nobody decided yet, what is open and what is stale before that; with `second`, what only others did.

    `check` returns what would keep an example out of the sets, None if nothing; `write` keeps a decision for good.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        decisions: Sequence[Decision],
        *,
        reviewer: str,
        write: Callable[[Decision], None],
        check: Callable[[Example], str | None],
        count: int | None = None,
        second: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        check_name(reviewer)
        self.reviewer = reviewer
        self._decisions = list(decisions)
        self._ledger = ledger(decisions)
        self._candidates = {key_of(one.example): one for one in candidates}
        self._write, self._check, self._clock = write, check, clock
        self._taken: list[tuple[int, Decision]] = []
        self._skipped: set[int] = set()
        self._place = 0
        todo = self._todo(candidates, second=second)
        self.decided_before = len(candidates) - len(self._todo(candidates, second=False))
        self._queue = todo if count is None else todo[:count]

    def next(self) -> Item | None:
        """Return what is to be decided now, None at the end; the same one until it is decided or skipped."""
        if self._place >= len(self._queue):
            return None
        candidate = self._queue[self._place]
        outcome = self._ledger.outcome(candidate.example)
        item = Item(candidate, self._place + 1, len(self._queue))
        if outcome is None or outcome.state not in ("open", "stale"):
            return item
        return replace(item, said=outcome.decisions, stale=outcome.state == "stale")

    def decide(
        self,
        verdict: Verdict,
        *,
        rating: int | None = None,
        reason: str = "",
        question: str | None = None,
        answer: str | None = None,
    ) -> str | None:
        """Write the decision about what is shown; returns what will keep an edited text out of the sets, if anything.

        Raises UsageError for what is no decision: an edit that changes nothing, a rejection without a reason.
        """
        item = self._shown()
        try:
            decision = Decision(
                key=key_of(item.example),
                verdict=verdict,
                reviewer=self.reviewer,
                time=self._now(),
                question=item.example.question,
                answer=item.example.answer,
                example=item.example.id,
                rating=rating,
                reason=reason.strip(),
                new_question=question,
                new_answer=answer,
                quotes=quotes_of(item.example),
                checks=item.example.checks,
                settles=tuple(one.id for one in item.said if one.reviewer != self.reviewer),
            )
        except ValueError as error:
            raise UsageError(f"this is no decision: {error}", hint="Nothing was written.") from error
        self._keep(decision)
        self._taken.append((self._place, decision))
        self._place += 1
        return None if verdict != "edit" else self._check(edited(item.example, decision))

    def skip(self) -> None:
        """Leave what is shown undecided, for this session."""
        self._shown()
        self._skipped.add(self._place)
        self._place += 1

    def undo(self) -> Decision | None:
        """Take back the reviewer's last decision, of this session or an earlier one, and show its example again.

        Returns that decision, None if there is none. The example of an earlier session is shown if it is in the sets.
        """
        last = self._ledger.last_of(self.reviewer)
        if last is None:
            return None
        taken_back = Decision(
            key=last.key,
            verdict="undo",
            reviewer=self.reviewer,
            time=self._now(),
            question=last.question,
            answer=last.answer,
            example=last.example,
            quotes=last.quotes,
        )
        self._keep(taken_back)
        self._show_again(last)
        return last

    def done(self) -> Done:
        """Return what the session came to so far."""
        verdicts = [one.verdict for _, one in self._taken]
        counts = {verdict: verdicts.count(verdict) for verdict in ("accept", "edit", "reject", "flag")}
        left = len(self._queue) - self._place
        return Done(self.reviewer, counts, len(self._skipped), left)

    def _todo(self, candidates: Sequence[Candidate], *, second: bool) -> list[Candidate]:
        urgent: list[Candidate] = []
        others: list[Candidate] = []
        for one in candidates:
            outcome = self._ledger.outcome(one.example)
            mine = self._ledger.by(self.reviewer, key_of(one.example))
            if _is_urgent(outcome):
                urgent.append(one)
            elif outcome is None or (second and mine is None):
                others.append(one)
        return [*urgent, *others]

    def _shown(self) -> Item:
        item = self.next()
        if item is None:
            raise UsageError("there is nothing left to decide", hint="Begin another review.")
        return item

    def _keep(self, decision: Decision) -> None:
        self._write(decision)
        self._decisions.append(decision)
        self._ledger = ledger(self._decisions)

    def _show_again(self, decision: Decision) -> None:
        if self._taken and self._taken[-1][1] == decision:
            self._place, _ = self._taken.pop()
            self._skipped = {place for place in self._skipped if place < self._place}
            return
        # Decided in an earlier session: the sets hold the text as it was, or as the edit made it.
        keys = (decision.key, decision.new_key)
        found = next((self._candidates[key] for key in keys if key in self._candidates), None)
        if found is not None:
            later = [one for one in self._queue[self._place :] if one != found]
            self._queue[self._place :] = [found, *later]

    def _now(self) -> str:
        """Return a time after all of the reviewer's, since what was decided last is what counts."""
        earlier = [one.time for one in self._decisions if one.reviewer == self.reviewer]
        now = self._clock()
        if earlier:
            now = max(now, datetime.fromisoformat(max(earlier)) + timedelta(microseconds=1))
        return stamp(now)


def _is_urgent(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.state in ("open", "stale")


def excerpts(example: Example, documents: Mapping[str, Document]) -> tuple[Excerpt, ...]:
    """Return an example's quotes within their documents, which are by id; those of a lost document are left out."""
    found = ((piece, documents.get(piece.document)) for piece in example.evidence)
    return tuple(
        _excerpt(document, piece.start, piece.end) for piece, document in found if document is not None
    )


def _excerpt(document: Document, start: int, end: int) -> Excerpt:
    text = document.text
    first = text.rfind("\n", 0, max(0, start - _CONTEXT)) + 1
    first = first if start - first <= 2 * _CONTEXT else start - _CONTEXT
    last = text.find("\n", end + _CONTEXT)
    last = len(text) if last < 0 else last
    last = last if last - end <= 2 * _CONTEXT else end + _CONTEXT
    before = ("…" if first else "") + text[first:start]
    after = text[end:last] + ("…" if last < len(text) else "")
    return Excerpt(document.title, before, text[start:end], after)
