"""A reviewer's way through the examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from tests.reviewing.conftest import START

from tunesmith.errors import UsageError
from tunesmith.records import Document, Evidence, Example
from tunesmith.reviewing.decisions import Decision, key_of
from tunesmith.reviewing.ledger import ledger
from tunesmith.reviewing.sample import Risk
from tunesmith.reviewing.session import Candidate, Done, Excerpt, Item, Session, excerpts

Make = Callable[..., Example]
Decide = Callable[..., Decision]


class Desk:
    """A session whose decisions are kept in a list, at a clock that stands still."""

    def __init__(
        self,
        examples: Sequence[Example],
        decisions: Sequence[Decision] = (),
        *,
        reviewer: str = "ann",
        count: int | None = None,
        second: bool = False,
        now: datetime = START,
    ) -> None:
        self.written: list[Decision] = []
        self.session = Session(
            [Candidate(one, "train", Risk(0, ())) for one in examples],
            decisions,
            reviewer=reviewer,
            write=self.written.append,
            check=lambda example: "no call" if "bad" in example.answer else None,
            count=count,
            second=second,
            clock=lambda: now,
        )

    def shown(self) -> str | None:
        """Return the question that is shown."""
        item = self.session.next()
        return None if item is None else item.example.question


@pytest.fixture
def rows(make: Make) -> list[Example]:
    """Return four examples: "q 0" to "q 3"."""
    return [make(f"q {number}") for number in range(4)]


def test_each_decision_is_written_at_once(rows: list[Example]) -> None:
    """With what the reviewer saw; times grow even where the clock stands."""
    desk = Desk(rows)
    assert desk.session.next() == Item(Candidate(rows[0], "train", Risk(0, ())), 1, 4)
    desk.session.decide("accept", rating=5)
    desk.session.decide("reject", reason=" off ")
    first, second = desk.written
    assert (first.verdict, first.rating, first.key, first.quotes) == (
        "accept",
        5,
        key_of(rows[0]),
        ("Sorts",),
    )
    assert (second.reason, second.time > first.time) == ("off", True)
    desk.session.skip()
    desk.session.decide("flag")
    assert desk.shown() is None
    assert desk.session.done() == Done("ann", {"accept": 1, "edit": 0, "reject": 1, "flag": 1}, 1, 0)
    with pytest.raises(UsageError, match="nothing left to decide"):
        desk.session.skip()


def test_what_is_no_decision_is_refused(rows: list[Example]) -> None:
    """Nothing is written, and the example is still there."""
    desk = Desk(rows)
    with pytest.raises(UsageError, match="a rejection needs a reason"):
        desk.session.decide("reject", reason=" ")
    with pytest.raises(UsageError, match="changes something"):
        desk.session.decide("edit", question=rows[0].question, answer=rows[0].answer)
    assert (desk.written, desk.shown()) == ([], "q 0")
    with pytest.raises(UsageError, match="cannot be a reviewer's name"):
        Desk(rows, reviewer="a/b")


def test_an_edit_is_checked_at_once(rows: list[Example]) -> None:
    """What curate would leave out is told; the decision is written all the same, and can be undone."""
    desk = Desk(rows)
    assert desk.session.decide("edit", question="q 0", answer="bad") == "no call"
    assert desk.session.decide("edit", question="q 1", answer="good") is None
    assert [(one.new_question, one.new_answer) for one in desk.written] == [("q 0", "bad"), ("q 1", "good")]


def test_undoing_shows_the_example_again(rows: list[Example]) -> None:
    """One step back at a time, over what was skipped; what was undone counts no more."""
    desk = Desk(rows)
    desk.session.decide("accept")
    desk.session.skip()
    desk.session.decide("flag")
    undone = desk.session.undo()
    assert (undone, desk.shown()) == (desk.written[1], "q 2")
    desk.session.undo()
    assert desk.shown() == "q 0"
    assert desk.session.undo() is None
    assert desk.session.done() == Done("ann", dict.fromkeys(("accept", "edit", "reject", "flag"), 0), 0, 4)
    assert [one.verdict for one in desk.written] == ["accept", "flag", "undo", "undo"]
    assert ledger(desk.written).standing == {}


def test_decisions_of_earlier_sessions_can_be_undone(rows: list[Example], decide: Decide) -> None:
    """Only one's own; the example is shown next, once, as it was or as its edit made it."""
    edit = decide(rows[3], "edit", at=1, new_question="q 1", new_answer="Call it.")
    desk = Desk(rows[:3], [decide(rows[2], "flag", at=0), edit, decide(rows[0], "accept", "ben", at=2)])
    assert desk.shown() == "q 2"
    assert desk.session.undo() == edit
    assert (desk.shown(), desk.session.decided_before) == ("q 1", 2)
    desk.session.undo()
    shown = [desk.shown()]
    for _ in range(2):
        desk.session.skip()
        shown.append(desk.shown())
    assert shown == ["q 2", "q 1", None]


def test_what_is_decided_is_not_shown_again(rows: list[Example], decide: Decide) -> None:
    """By whomever; a second reviewer may ask for it, and is not told what others said."""
    made = [decide(rows[0]), decide(rows[1], "reject", "ben")]
    desk = Desk(rows, made, count=1)
    assert (desk.shown(), desk.session.decided_before, desk.session.done().left) == ("q 2", 2, 1)
    second = Desk(rows, made, second=True)
    item = second.session.next()
    assert item is not None
    assert (item.example, item.said, item.total) == (rows[1], (), 3)


def test_what_must_be_settled_comes_first(rows: list[Example], decide: Decide) -> None:
    """With what was said of it; the decision names the others', and so ends it."""
    made = [decide(rows[3]), decide(rows[3], "reject", "ben", at=1)]
    desk = Desk(rows, made)
    item = desk.session.next()
    assert item is not None
    assert (item.example, item.said, item.stale) == (rows[3], tuple(made), False)
    desk.session.decide("accept")
    assert desk.written[0].settles == (made[1].id,)
    outcome = ledger([*made, *desk.written]).outcome(rows[3])
    assert outcome is not None
    assert outcome.state == "accept"


def test_a_changed_source_is_shown_with_what_it_was(rows: list[Example], decide: Decide) -> None:
    """The reviewer sees both, decides again, and the new decision holds."""
    now = replace(rows[2], evidence=(Evidence("python:p", "d1", 0, 6, "Orders"),))
    before = decide(rows[2], "reject")
    desk = Desk([*rows[:2], now], [before])
    item = desk.session.next()
    assert item is not None
    assert (item.example, item.said, item.stale) == (now, (before,), True)
    desk.session.decide("accept")
    assert desk.written[0].quotes == ("Orders",)


def test_a_quote_stands_within_its_document(make: Make) -> None:
    """Cut at ends of lines, and in long lines anywhere; a lost document is left out."""
    lines = "\n".join(f"line {number:02} of the page" for number in range(40))
    start = lines.index("line 20")
    documents = {
        "d1": Document("d1", "s", "The page", lines, "text"),
        "d2": Document("d2", "s", "Long", "x" * 1000 + "Sorts" + "y" * 1000, "text"),
        "d3": Document("d3", "s", "Short", "It. Sorts all.", "text"),
    }
    pieces = (
        Evidence("s", "d1", start, start + 7, "line 20"),
        Evidence("s", "d2", 1000, 1005, "Sorts"),
        Evidence("s", "d3", 4, 9, "Sorts"),
        Evidence("s", "lost", 0, 5, "Sorts"),
    )
    page, long, short = excerpts(make(evidence=pieces), documents)
    assert (page.title, page.quote) == ("The page", "line 20")
    assert page.before.startswith("…line ")
    assert page.after.endswith(" of the page…")
    assert page.before[1:] + page.quote + page.after[:-1] in lines
    assert long == Excerpt("Long", "…" + "x" * 160, "Sorts", "y" * 160 + "…")
    assert short == Excerpt("Short", "It. ", "Sorts", " all.")
