"""What becomes of examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tunesmith.records import Example, Rejection
from tunesmith.reviewing.apply import reviewed, waits
from tunesmith.reviewing.decisions import Decision
from tunesmith.reviewing.ledger import ledger

Make = Callable[..., Example]
Decide = Callable[..., Decision]


def test_what_nobody_decided_stays(make: Make) -> None:
    """Not a letter changes."""
    assert reviewed(make(), ledger([])) == make()


def test_an_accepted_example_says_so_once(make: Make, decide: Decide) -> None:
    """The check is added behind those it has."""
    one = make(checks=("judge:0.5",))
    accepted = replace(one, checks=("judge:0.5", "reviewed"))
    book = ledger([decide(one)])
    assert reviewed(one, book) == reviewed(accepted, book) == accepted


def test_a_rejected_example_goes_with_all_reasons(make: Make, decide: Decide) -> None:
    """The rejection names its rule, its reviewers and why."""
    one = make()
    book = ledger([decide(one, "reject"), decide(one, "reject", "ben", reason="old")])
    detail = "'how do I sort' (written:train.jsonl:1): ann: wrong; ben: old"
    assert reviewed(one, book) == Rejection("curate", "reviewed out", one.id, detail)


def test_an_edited_example_keeps_id_and_origin(make: Make, decide: Decide) -> None:
    """Only text and checks change, so that it stays in its set."""
    one = make()
    expected = replace(one, question="how do I sort a list", checks=("reviewed",))
    assert reviewed(one, ledger([decide(one, "edit")])) == expected


@pytest.mark.parametrize("verdict", ["accept", "reject", "flag"])
def test_decisions_about_the_edited_text_count(make: Make, decide: Decide, verdict: str) -> None:
    """An edit is followed by what people say of the text that it made."""
    one, new = make(), make("how do I sort a list", id="id of how do I sort")
    made = reviewed(one, ledger([decide(one, "edit"), decide(new, verdict, "ben", at=1)]))
    expected = {
        "accept": replace(new, checks=("reviewed",)),
        "reject": Rejection("curate", "reviewed out", one.id, f"{new.question!r} ({one.origin}): ben: wrong"),
        "flag": new,
    }
    assert made == expected[verdict]


def test_an_edit_there_and_back_ends(make: Make, decide: Decide) -> None:
    """Who edits a text and then edits it back has it as it was, seen."""
    one, new = make(), make("how do I sort a list")
    back = decide(new, "edit", at=1, new_question=one.question, new_answer=one.answer)
    assert reviewed(one, ledger([decide(one, "edit"), back])) == replace(one, checks=("reviewed",))


def test_what_is_open_or_stale_stays_and_waits(make: Make, decide: Decide) -> None:
    """Nobody's word holds until it is settled."""
    one = make()
    changed = replace(one, evidence=())
    book = ledger([decide(one), decide(one, "reject", "ben")])
    assert (reviewed(one, book), waits(one, book)) == (one, True)
    assert (reviewed(changed, book), waits(changed, book)) == (changed, True)
    assert (waits(one, ledger([decide(one)])), waits(one, ledger([]))) == (False, False)
