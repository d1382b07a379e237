"""What decisions come to: the last counts, undoing, disagreement, changed sources, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.records import Evidence, Example
from tunesmith.reviewing.decisions import Decision, Verdict, key_of, quotes_of, stamp
from tunesmith.reviewing.ledger import ledger

Make = Callable[..., Example]
Decide = Callable[..., Decision]


def _state(example: Example, *decisions: Decision) -> str | None:
    outcome = ledger(decisions).outcome(example)
    return None if outcome is None else outcome.state


def test_the_last_decision_of_a_reviewer_counts(make: Make, decide: Decide) -> None:
    """A change of mind needs no undoing."""
    one = make()
    assert _state(one) is None
    assert _state(one, decide(one)) == "accept"
    assert _state(one, decide(one), decide(one, "reject", at=1)) == "reject"
    assert _state(make("another"), decide(one)) is None


def test_undoing_gives_back_what_was_before(make: Make, decide: Decide) -> None:
    """Each undo takes one decision back, of that reviewer and that text; one too many does nothing."""
    one = make()
    story = [decide(one), decide(one, "reject", at=1), decide(one, "undo", at=2), decide(one, "undo", at=3)]
    assert [_state(one, *story[:count]) for count in range(5)] == [None, "accept", "reject", "accept", None]
    assert _state(one, *story, decide(one, "undo", at=4), decide(one, "flag", at=5)) == "open"
    assert _state(one, decide(one), decide(one, "undo", "ben", at=1)) == "accept"


def test_those_who_disagree_leave_it_open(make: Make, decide: Decide) -> None:
    """Another verdict or another edited text is a disagreement, another reason is none; a flag is open by itself."""
    one = make()
    assert _state(one, decide(one), decide(one, reviewer="ben")) == "accept"
    assert _state(one, decide(one), decide(one, "reject", "ben")) == "open"
    assert _state(one, decide(one, "reject"), decide(one, "reject", "ben", reason="bad")) == "reject"
    assert _state(one, decide(one, "edit"), decide(one, "edit", "ben")) == "edit"
    assert _state(one, decide(one, "edit"), decide(one, "edit", "ben", new_question="sort?")) == "open"
    assert (
        _state(one, decide(one, "flag"))
        == _state(one, decide(one, "flag"), decide(one, "accept", "ben"))
        == "open"
    )


def test_a_decision_that_names_others_settles(make: Make, decide: Decide) -> None:
    """It replaces those it names, until one of them is taken anew or it is undone."""
    one = make()
    accepts, rejects = decide(one), decide(one, "reject", "ben", at=1)
    settles = decide(one, "reject", "cem", at=2, settles=(accepts.id, rejects.id))
    assert _state(one, accepts, rejects, settles) == "reject"
    assert _state(one, accepts, rejects, settles, decide(one, at=3)) == "open"
    assert _state(one, accepts, rejects, settles, decide(one, "undo", "cem", at=3)) == "open"
    assert _state(one, accepts, rejects, decide(one, at=2, settles=(rejects.id,))) == "accept"


def test_a_changed_source_makes_decisions_stale(make: Make, decide: Decide) -> None:
    """They count for nothing, until somebody decides with what the source says now."""
    one = make()
    now = replace(one, evidence=(Evidence("python:p", "d1", 0, 7, "Orders "),))
    moved = replace(one, evidence=(Evidence("python:p", "d2", 9, 14, "Sorts"),))
    assert _state(now, decide(one, "reject")) == "stale"
    assert _state(moved, decide(one, "reject")) == "reject"
    assert _state(now, decide(one, "reject"), decide(now, "accept", "ben", at=1)) == "accept"


def test_a_changed_answer_makes_decisions_stale(make: Make, decide: Decide) -> None:
    """An answer that was derived from the source changes with it: the question is still known."""
    one, now = make(), make(answer="Call it twice.")
    assert _state(now, decide(one)) == "stale"
    assert _state(now, decide(one), decide(now, "reject", at=1)) == "reject"
    assert _state(now, decide(one, "edit", new_question=one.question, new_answer=now.answer)) == "accept"


def test_who_edits_accepts_what_it_becomes(make: Make, decide: Decide) -> None:
    """The edited text counts as seen, unless somebody decided about it by itself, or the edit does not hold."""
    one, new = make(), make("how do I sort a list")
    edit = decide(one, "edit")
    book = ledger([edit])
    assert _state(new, edit) == "accept"
    assert (book.by("ann", key_of(new)), book.by("ben", key_of(new))) == (edit, None)
    assert _state(new, edit, decide(new, "reject", "ben", at=1)) == "reject"
    assert _state(new, edit, decide(one, "reject", "ben", at=1)) is None


def test_the_digest_is_of_what_changes_examples(make: Make, decide: Decide) -> None:
    """Undoing everything, a rating or a second same decision change nothing; a verdict and a reason do."""
    one = make()
    digest = ledger([decide(one)]).digest
    assert ledger([]).digest is None
    assert ledger([decide(one), decide(one, "undo", at=1)]).digest is None
    assert ledger([decide(one), decide(one, rating=4, at=1)]).digest == digest
    others = [[decide(one, "flag")], [decide(one, reason="x")], [decide(one), decide(one, reviewer="ben")]]
    assert len({digest, *(ledger(each).digest for each in others)}) == 4


_START = datetime(2026, 1, 1, tzinfo=UTC)
_VERDICTS: list[Verdict] = ["accept", "edit", "reject", "flag", "undo"]
_TEXTS = [Example(f"e{n}", f"question {n}", "answer", "rule:does") for n in range(3)]


@st.composite
def _decisions(draw: st.DrawFn) -> list[Decision]:
    made: list[Decision] = []
    for _ in range(draw(st.integers(0, 12))):
        about = draw(st.sampled_from(_TEXTS))
        verdict = draw(st.sampled_from(_VERDICTS))
        edits = verdict == "edit"
        named = draw(st.lists(st.sampled_from(made), max_size=2)) if made else []
        made.append(
            Decision(
                key=key_of(about),
                verdict=verdict,
                reviewer=draw(st.sampled_from(["ann", "ben", "cem"])),
                # Few times, so that many are equal: even then the order of files must not matter.
                time=stamp(_START + timedelta(seconds=draw(st.integers(0, 5)))),
                question=about.question,
                answer=about.answer,
                example=about.id,
                reason=draw(st.sampled_from(["why", "because"])),
                new_question=draw(st.sampled_from(["question 2", "other"])) if edits else None,
                new_answer="new answer" if edits else None,
                quotes=quotes_of(about),
                settles=tuple(one.id for one in named),
            )
        )
    return made


@given(_decisions(), st.data())
def test_merging_does_not_hang_on_the_order(made: list[Decision], data: st.DataObject) -> None:
    """Whoever copies whose file first, and however often, all come to the same."""
    mixed = data.draw(st.permutations(made + made[:3]))
    one, other = ledger(made), ledger(mixed)
    assert one == other
    assert one.digest == other.digest
