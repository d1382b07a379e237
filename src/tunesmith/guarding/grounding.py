"""Grounding: whether each sentence of an answer rests on what was retrieved, by its words, numbers and names.

No model: a sentence is supported if enough of its content words, and all of its numbers, stand in the question or the
retrieved texts. Not covered: a sentence that says the opposite in the same words, and one that says the same in others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from tunesmith.guarding.rails import Context, Find, Found
from tunesmith.guarding.sentences import is_block
from tunesmith.models.citations import without_citations

_FEWEST_WORDS: Final = 3  # "Here is how." claims nothing
_WORD = re.compile(r"[^\W\d_]{2,}")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*%?(?![\w])")
_LIST_MARK = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*•])\s+")
_PLAIN_LIST = """
the and for are was were will would can could should may might must has have had been being with without from
into that this these those there here when where which who whom whose what how why not but yet nor than then
them they you your yours our ours his her its their one two also only just very more most much many some any
all each every other such same own both either neither between among about above below after before under over
again further once here use used using call calls called calling function method example following like
returns return given want need get gets got let lets make makes made see note please sure yes does did done
doing way help know works work first second next finally therefore thus however because since while though
although answer question
"""
_PLAIN: Final = frozenset(_PLAIN_LIST.split())


def grounded(least: float, tell: Callable[[str], str] = str) -> Find:
    """Return what finds a sentence of which less than `least` of the content words stand in what was retrieved.

    Where nothing was retrieved there is nothing to hold it against; code and the numbers of citations are not looked
    at. `tell` says which of a sentence's words may be repeated, before it is cut short.
    """

    def find(text: str, context: Context) -> Found | None:
        if not context.passages or is_block(text):
            return None
        sentence = without_citations(_LIST_MARK.sub("", text)).strip()
        words = {_stem(word) for word in _WORD.findall(sentence.lower()) if word not in _PLAIN}
        numbers = set(_NUMBER.findall(sentence))
        if len(words) < _FEWEST_WORDS and not numbers:
            return None
        known, known_numbers = _known(
            "\n".join((context.question, *(each.text for each in context.passages)))
        )
        strange = sorted(numbers - known_numbers)
        if strange:
            return Found(f"not in the retrieved text: the number {strange[0]} in {_short(tell(sentence))!r}")
        share = len(words & known) / len(words) if words else 1.0
        if share >= least:
            return None
        return Found(f"not in the retrieved text: {_short(tell(sentence))!r} ({share:.0%} of its words are)")

    return find


@lru_cache(maxsize=64)
def _known(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the stems and the numbers of a text; parts of names such as shortest_path count as words."""
    return frozenset(_stem(word) for word in _WORD.findall(text.lower())), frozenset(_NUMBER.findall(text))


_ENDINGS = re.compile(r"(?:ations?|ingly|ings?|edly|ed|ies|es|s|ly|e|y)$")


def _stem(word: str) -> str:
    """Return a word without its ending, roughly: computes, computed and computing are one."""
    stem = _ENDINGS.sub("", word)
    return stem if len(stem) >= 3 else word


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 90 else f"{plain[:87]}..."
