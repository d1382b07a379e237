"""Quotes: answers that begin with what a shown passage says, word for word, as RAFT trains them; checked when asked.

RAFT: Zhang et al. 2024, arXiv:2403.10131, whose marks these are. A quote counts if it stands in a passage that was
shown, white space aside. What is not covered: whether the answer follows from what is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from tunesmith.records import Answer, Passage

BEGIN: Final = "##begin_quote##"
END: Final = "##end_quote##"

_QUOTE: Final = re.compile(rf"{BEGIN}(.*?){END}", re.DOTALL)
_LEADING: Final = re.compile(rf"\s*(?:{BEGIN}(?:(?!{BEGIN}).)*?{END}\s*)+", re.DOTALL)
_LONGEST: Final = 80  # characters of a quote that a note repeats


def quoting(quotes: Sequence[str], answer: str) -> str:
    """Return an answer behind its quotes, each in its marks; without quotes the answer as it is."""
    return "".join(f"{BEGIN} {quote} {END}\n" for quote in quotes) + answer


def quotes_in(text: str) -> tuple[str, ...]:
    """Return what a text quotes, wherever it does; a quote that never ends is none."""
    return tuple(quote.strip() for quote in _QUOTE.findall(text))


def without_quotes(text: str) -> str:
    """Return a text without the quotes that it begins with."""
    found = _LEADING.match(text)
    return text if found is None else text[found.end() :]


def in_passage(quote: str, passage: str) -> bool:
    """Tell whether a passage says what is quoted, word for word."""
    words = " ".join(quote.split())
    return bool(words) and words in " ".join(passage.split())


def checked(answer: Answer, passages: Sequence[Passage]) -> Answer:
    """Return an answer without the quotes that it begins with, `cited` naming the passages that say them.

    A quote that none of the passages says is told in `notes`. An answer without quotes stays as it is.
    """
    quotes = quotes_in(answer.text)
    if not quotes:
        return answer
    saying = [[one.id for one in passages if in_passage(quote, one.text)] for quote in quotes]
    notes = [
        f"quotes what no shown passage says: {_short(quote)}"
        for quote, ids in zip(quotes, saying, strict=True)
        if not ids
    ]
    cited = dict.fromkeys((*answer.cited, *(ids[0] for ids in saying if ids)))
    text = without_quotes(answer.text)
    return replace(answer, text=text, cited=tuple(cited), notes=(*answer.notes, *notes))


def streamed_without_quotes(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the pieces of a text but for the quotes that it begins with; what may be one is held back until it ends."""
    held, flowing = "", False
    for piece in pieces:
        if flowing:
            yield piece
            continue
        held += piece
        rest = without_quotes(held)
        start = rest.lstrip()
        if start and not BEGIN.startswith(start[: len(BEGIN)]):
            flowing = True
            yield rest
    if not flowing and (rest := without_quotes(held)):
        yield rest


def _short(quote: str) -> str:
    words = " ".join(quote.split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."
