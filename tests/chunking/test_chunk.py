"""Chunks: contiguous, within the limit, cut where the text is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunesmith.chunking.chunk import WHOLE_UP_TO, ChunkSettings, chunk
from tunesmith.records import Chunk, Document


def _letters(texts: Sequence[str]) -> list[int]:
    """Count each character as a token."""
    return [len(text) for text in texts]


def _texts(text: str, limit: int) -> list[str]:
    document = Document("d", "s", "Title", text, "markdown")
    return [piece.text for piece in chunk([document], ChunkSettings(max_tokens=limit), count=_letters)]


PIECES = st.sampled_from(
    [
        "# Head\n",
        "Title\n=====\n",
        "some words here ",
        "\n",
        "\n\n",
        "```py\nx = 1\n",
        "```\n",
        ">>> f()\n1\n",
        "é\r\n",
        "x" * 60,
    ]
)


@given(st.one_of(st.text(max_size=400), st.lists(PIECES, max_size=40).map("".join)), st.integers(40, 120))
def test_chunks_rejoin_to_the_document(text: str, limit: int) -> None:
    """Whatever the text, its chunks are contiguous, true to their offsets, not empty and within the limit.

    Code and tables may be four times as long.
    """
    document = Document("d", "s", "Title", text, "markdown", entry="p.f")
    made = chunk([document], ChunkSettings(max_tokens=limit), count=_letters)

    assert "".join(piece.text for piece in made) == text
    assert [piece.start for piece in made] == [0, *(piece.end for piece in made[:-1])][: len(made)]
    assert all(text[piece.start : piece.end] == piece.text for piece in made)
    whole = "```" in text or "~~~" in text or ">>>" in text or "|" in text or "+" in text
    assert all(0 < len(piece.text) <= limit * (WHOLE_UP_TO + 1 if whole else 1) for piece in made)
    assert {(piece.document, piece.title, piece.entry) for piece in made} <= {("d", "Title", "p.f")}


def test_a_document_that_fits_is_one_chunk() -> None:
    """Structure does not matter where nothing needs to be cut."""
    text = "# One\n\nwords\n\n# Two\n\nwords\n"

    assert chunk([Document("d", "s", "T", text, "api", "p.f")], ChunkSettings()) == (
        Chunk(f"d:0-{len(text)}", "d", 0, len(text), text, "T", "p.f"),
    )


def test_cuts_fall_before_headings_and_after_blank_lines() -> None:
    """A heading goes with what follows it, Markdown's and an underlined one."""
    first, second = "Some words of a paragraph.\n\n", "Heading\n-------\nWords below the heading.\n\n"
    third = "## Another\n\nThe last words are here now.\n"

    assert _texts(first + second + third, 50) == [first, second, third]


def test_code_is_not_cut_if_it_fits() -> None:
    """A fenced block with blank lines, and a doctest with its output, stay whole."""
    fence = "```python\na = 1\n\n# no heading\nb = 2\n```\n"
    doctest = ">>> shapes.area(s)\n# 4.0\n>>> 1\n1\n\n"

    assert _texts(f"Some words before it.\n\n{fence}\n{doctest}", 45) == [
        "Some words before it.\n\n",
        f"{fence}\n",
        doctest,
    ]


def test_what_is_too_long_is_cut_at_lines_then_spaces_then_anywhere() -> None:
    """No structure is left to respect inside of a block that is longer than the limit."""
    assert _texts("a" * 30 + "\n" + "b" * 30, 40) == ["a" * 30 + "\n", "b" * 30]
    assert _texts("a" * 30 + " " + "b" * 30, 40) == ["a" * 30 + " ", "b" * 30]
    assert _texts("a" * 50, 40) == ["a" * 40, "a" * 10]


def test_an_empty_document_has_no_chunks() -> None:
    """There is nothing to retrieve in it."""
    assert _texts("", 40) == []


def test_settings_are_strict() -> None:
    """Unknown keys and limits too small for a line are refused."""
    for wrong in ({"max_chars": 100}, {"max_tokens": 1}):
        with pytest.raises(ValidationError):
            ChunkSettings.model_validate(wrong)


def test_tables_and_code_are_whole_though_longer_than_a_chunk() -> None:
    """Half a table has no head, and half a block of code does not run; far longer ones are cut between lines."""
    table = "".join(f"| option {number} | what it does |\n" for number in range(4))
    code = "```python\n" + "first = 1\n" * 6 + "```\n"

    assert _texts(f"Words before.\n\n{table}\n{code}", 40) == ["Words before.\n\n", f"{table}\n", code]
    assert all(piece.endswith("\n") and len(piece) <= 40 for piece in _texts(table * 3, 40))


def test_length_is_counted_in_the_tokens_that_are_given() -> None:
    """The same words make more chunks for a model whose tokenizer needs more tokens for them."""
    document = Document("d", "s", "T", "Some words here.\n\n" * 40, "text")
    settings = ChunkSettings(max_tokens=60)

    few = chunk([document], settings, count=lambda texts: [len(text.split()) for text in texts])
    many = chunk([document], settings, count=_letters)

    assert max(len(piece.text.split()) for piece in few) == 60
    assert max(len(piece.text) for piece in many) <= 60
