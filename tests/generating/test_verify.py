"""A teacher's replies: read whatever their wrapping, believed only with a true quote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.catalogue import Catalogue, Entry
from tunesmith.generating.verify import Parsed, Proposal, Refusal, names_entry, parse_proposals, verify
from tunesmith.records import Document, Evidence

LINE = '{"question": "How  big is it?", "quote": "the area of"}'
READ = Proposal("How big is it?", "the area of")


@pytest.mark.parametrize(
    "reply",
    [
        LINE,
        f"Sure!\n```json\n{LINE}\n```\nBye.",
        f"1. {LINE},",
        f"- {LINE}",
        f"```\n[{LINE}]\n```",
        f"[{LINE}]",
    ],
)
def test_a_proposal_is_read_in_any_wrapping(reply: str) -> None:
    """Fences, bullets, numbers, commas, lists and chatter around the JSON do no harm."""
    assert parse_proposals(reply) == Parsed((READ,), ())


def test_lines_that_are_no_proposal_are_kept_as_broken() -> None:
    """What begins like an object and is none is shown, not lost."""
    cut = '{"question": "How lo'

    assert parse_proposals(f'{LINE}\n{cut}\n{{"question": "x?"}}') == Parsed(
        (READ,), (cut, '{"question": "x?"}')
    )


@given(st.text())
def test_any_reply_is_read_without_an_error(reply: str) -> None:
    """A model may say anything."""
    parse_proposals(reply)


@pytest.mark.parametrize(
    ("question", "quote", "rule"),
    [
        ("Does unfold_it help?", "the area of a", "names the entry"),
        ("How BIG is it", "the area of a", "repeats a question"),
        ("How wide is it?", "area of", "quote too short"),
        ("How wide is it?", "the width of a shape", "quote not in the document"),
    ],
)
def test_a_proposal_that_breaks_a_rule_is_refused_under_its_name(
    question: str, quote: str, rule: str
) -> None:
    """Each rule has its name, and the detail shows the question."""
    document = Document("d", "s", "t", "Return the area\n    of a ``shape``.", "api")

    found = verify(
        Proposal(question, quote), Entry("shapes.unfold_it", "function"), document, {"how big is it"}
    )
    assert isinstance(found, Refusal)
    assert found.rule == rule
    assert question in found.detail


def test_a_true_quote_becomes_evidence_across_line_breaks(catalogue: Catalogue) -> None:
    """Spaces of the quote may be any white space of the document; the evidence has the document's."""
    document = Document("d", "s", "t", "Return the area\n    of a ``shape``.", "api")

    assert verify(Proposal("How wide?", "the area of a"), catalogue.entries[0], document, set()) == Evidence(
        "s", "d", 7, 24, "the area\n    of a"
    )


@pytest.mark.parametrize(
    ("name", "question", "given_away"),
    [
        ("shortest_path", "Which shortest_path is it?", True),
        ("shortest_path", "Which shortest path is it?", False),
        ("density", "What is the density?", False),
        ("density", "What does density() do?", True),
        ("density", "What does `density` do?", True),
        ("MinHeap", "Is there a MinHeap?", True),
    ],
)
def test_a_plain_word_gives_a_name_away_only_as_code(name: str, question: str, given_away: bool) -> None:
    """ "density" is what people say; "shortest_path" is not."""
    assert names_entry(question, Entry(f"p.{name}", "function")) is given_away
