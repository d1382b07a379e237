"""Which passages hold an answer."""

from __future__ import annotations

from tunesmith.records import Chunk, Evidence, Example
from tunesmith.retrieving.passages import Places, shown_text

PASSAGES = [
    Chunk("d:0-100", "d", 0, 100, "x" * 100),
    Chunk("d:100-200", "d", 100, 200, "y" * 100),
    Chunk("e:0-100", "e", 0, 100, "z" * 100),
]


def example(start: int, end: int) -> Example:
    """Return an example whose evidence is a stretch of d."""
    return Example("1", "q", "a", "written:f:1", evidence=(Evidence("s", "d", start, end, ""),))


def test_the_passage_with_most_of_the_quote_is_right() -> None:
    """The other too if it holds a third of it."""
    places = Places(PASSAGES)
    assert places.right(example(10, 50)) == ("d:0-100",)
    assert places.right(example(80, 200)) == ("d:100-200",)
    assert places.right(example(60, 120)) == ("d:0-100", "d:100-200")
    assert places.right(example(300, 320)) == ()


def test_an_entry_is_its_own_place() -> None:
    """The best first, whatever its evidence is."""
    one = Example("1", "q", "a", "rule:x", entry="p.f", acceptable=("p.f", "p.g"))
    assert Places(PASSAGES).right(one) == ("p.f", "p.g")


def test_a_passage_is_shown_under_its_title() -> None:
    """Unless it begins with it."""
    assert shown_text(Chunk("i", "d", 0, 3, " abc\n", title="Loans")) == "Loans: abc"
    assert shown_text(Chunk("i", "d", 0, 9, "Loans are", title="Loans")) == "Loans are"
    assert shown_text(Chunk("i", "d", 0, 7, "# Loans", title="Loans")) == "# Loans"
