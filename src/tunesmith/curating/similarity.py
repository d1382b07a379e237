"""How alike two questions are: the same when folded, sharing a run of words, or sharing most words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

_STOP_LIST = """
a about after all also am an and any are as at be because been before being between both but by can
could did do does doing done each every few for from get gets getting give given gives go goes going had
has have having he her here him his how i if in into is it its just let like lot make makes many may me
might more most much my need needs no not now of off on once one only or other our out over own please
same she should so some such than that the their them then there these they thing things this those
through to too two under up us use used using very want wants was way we were what when where whether
which while who whole whose why will with within without would you your
"""
_STOP_WORDS = frozenset(_STOP_LIST.split())


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text, folded: compatibility forms, case, and all that is no letter or digit."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return tuple(re.findall(r"[^\W_]+", folded))


def fold(text: str) -> str:
    """Return the form in which two questions are the same: its words, one space between."""
    return " ".join(words(text))


def content_words(text: str) -> frozenset[str]:
    """Return the words that carry meaning, a plural and its singular as one."""
    kept = (word for word in words(text) if word not in _STOP_WORDS and len(word) > 1)
    return frozenset(
        word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" else word for word in kept
    )


def runs(text: str, length: int) -> frozenset[tuple[str, ...]]:
    """Return every run of `length` words."""
    found = words(text)
    return frozenset(found[start : start + length] for start in range(len(found) - length + 1))


class OverlapIndex:
    """The word sets of some texts, asked for the Jaccard similarity of all of them to one more text."""

    def __init__(self, texts: Iterable[str]) -> None:
        import numpy as np

        sets = [frozenset(words(text)) for text in texts]
        self._sizes: NDArray[int64] = np.array([len(found) for found in sets], dtype=np.int64)
        postings: dict[str, list[int]] = {}
        for row, found in enumerate(sets):
            for word in found:
                postings.setdefault(word, []).append(row)
        self._lists = postings

    @cached_property
    def _postings(self) -> dict[str, NDArray[int64]]:
        import numpy as np

        return {word: np.array(rows, dtype=np.int64) for word, rows in self._lists.items()}

    def similarities(self, text: str) -> NDArray[float64]:
        """Return the Jaccard similarity of the text's word set to each text of the index, shape (texts,)."""
        import numpy as np

        found = frozenset(words(text))
        hits = [self._postings[word] for word in found if word in self._postings]
        shared = np.bincount(
            np.concatenate(hits) if hits else np.array([], dtype=np.int64), minlength=len(self._sizes)
        )
        union = self._sizes + len(found) - shared
        return np.asarray(np.divide(shared, union, out=np.zeros(len(union)), where=union > 0))
