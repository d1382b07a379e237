"""Between rows: repeats, other answers to one question, system prompts that differ by a dot."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.curating.across import Between, Repeat, Rows, Variant
from tunesmith.curating.rules import Words


def _chat(question: str, answer: str, system: str = "Help.") -> tuple[Words, ...]:
    return Words("system", system), Words("user", question), Words("assistant", answer)


CHATS = [
    _chat("Why?", "Because."),
    _chat("Who?", "She."),
    _chat("why", "No idea."),
    _chat("Why?", "Because."),
    _chat("Where?", "There.", "help"),
]


def _between(chats: Sequence[tuple[Words, ...]], cut: int = 0) -> Between:
    first, second = Rows(), Rows()
    for line, turns in enumerate(chats, 1):
        (first if line <= cut else second).add(line, turns)
    first.join(second)
    return first.told()


def test_repeats_and_other_answers_are_told_with_the_first_line() -> None:
    """A question is the same in other spelling; a row only if it is so to the letter."""
    assert _between(CHATS) == Between(
        duplicates=(Repeat(4, 1),), inconsistent=(Repeat(3, 1),), variants=(Variant(5, 1, "help", "Help."),)
    )


@given(st.integers(0, 5))
def test_it_does_not_matter_which_process_saw_which_row(cut: int) -> None:
    """Rows seen apart and joined are as rows seen together."""
    assert _between(CHATS, cut) == _between(CHATS)


def test_nothing_is_between_no_rows() -> None:
    """An empty file has nothing to repeat."""
    assert Rows().told() == Between((), (), ())
