"""Texts that share most of their words, among very many: MinHash to find candidates, their words to decide.

Candidates come from 128 minima in 16 bands of 8 (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets,
chapter 3), by rensa. At a Jaccard similarity of 0.85 a pair is a candidate with a probability of 99.4 %, at 0.9 of
99.99 %; each candidate is then compared word by word, so that no pair is named that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tunesmith.curating.similarity import words
from tunesmith.progress import Progress, silent

if TYPE_CHECKING:
    from numpy import int64, uint32, uint64
    from numpy.typing import NDArray

MINIMA, BANDS = 128, 16
#: Below this the bands let too many pairs through unseen: 0.7 would be found in 61 of 100 cases.
LEAST: Final = 0.8
_BATCH: Final = 10_000
_LEADERS: Final = 16


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and an earlier one that it is like, by their numbers, and how like they are, from 0 to 1."""

    text: int
    earlier: int
    similarity: float


def near_duplicates(
    texts: Sequence[str], threshold: float, *, seed: int = 0, on_progress: Progress = silent
) -> tuple[Pair, ...]:
    """Return each text that is like an earlier one, which is itself like none, with that one; by the texts' order.

    `texts` may be anything that gives a text by its number: those of a file are read again to be compared.
    """
    if not LEAST <= threshold <= 1:
        raise ValueError(f"a threshold from {LEAST} to 1 is needed, not {threshold}")
    if len(texts) < 2:
        return ()
    return pairs_from(_minima(texts, seed, on_progress), texts, threshold)


def pairs_from(minima_T_M: NDArray[uint32], texts: Sequence[str], threshold: float) -> tuple[Pair, ...]:
    """Return the pairs of texts whose minima are known, shape (texts, MINIMA)."""
    like = _Like(texts, threshold)
    found: dict[int, list[Pair]] = {}
    for group in _candidates(minima_T_M):
        leaders: list[int] = []
        for number in group.tolist():
            pair = next((pair for leader in leaders if (pair := like.pair(number, leader)) is not None), None)
            if pair is None and len(leaders) < _LEADERS:
                leaders.append(number)
            elif pair is not None and pair not in found.setdefault(number, []):
                found[number].append(pair)
    return tuple(_settled(found))


def minima_of(texts: Sequence[str], seed: int = 0) -> NDArray[uint32]:
    """Return the minima of some texts, shape (texts, MINIMA), as 32-bit numbers."""
    from rensa import RMinHash

    tokens = [list(dict.fromkeys(words(text))) for text in texts]
    rows = RMinHash.digest_matrix_from_token_sets(tokens, num_perm=MINIMA, seed=seed).to_rows()
    return np.asarray(rows, dtype=np.uint32)


def _minima(texts: Sequence[str], seed: int, on_progress: Progress) -> NDArray[uint32]:
    whole = np.empty((len(texts), MINIMA), dtype=np.uint32)
    for start in range(0, len(texts), _BATCH):
        stop = min(start + _BATCH, len(texts))
        whole[start:stop] = minima_of([texts[number] for number in range(start, stop)], seed)
        on_progress(stop, len(texts), "texts")
    return whole


def _candidates(minima_T_M: NDArray[uint32]) -> Iterator[NDArray[int64]]:
    """Yield groups of texts, in their order, that agree in all minima of a band."""
    for start in range(0, MINIMA, MINIMA // BANDS):
        keys = _keys(minima_T_M[:, start : start + MINIMA // BANDS])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        edges = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        starts, stops = np.concatenate(([0], edges)), np.concatenate((edges, [len(keys)]))
        for first in np.flatnonzero(stops - starts > 1):
            yield order[starts[first] : stops[first]]


def _keys(band_T_R: NDArray[uint32]) -> NDArray[uint64]:
    """Return one number for each row of a band: equal rows have equal ones, others hardly ever."""
    keys = np.zeros(len(band_T_R), dtype=np.uint64)
    for column in band_T_R.T:
        keys = (keys ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


class _Like:
    """Compares texts word by word, remembering the words of the last ones."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._texts, self._threshold = texts, threshold
        self._known: dict[int, frozenset[str]] = {}
        self._compared: dict[tuple[int, int], Pair | None] = {}

    def pair(self, number: int, earlier: int) -> Pair | None:
        """Return two texts as a pair if they are alike."""
        key = (number, earlier)
        if key not in self._compared:
            if len(self._compared) > 1_000_000:
                self._compared.clear()
            self._compared[key] = self._compare(number, earlier)
        return self._compared[key]

    def _compare(self, number: int, earlier: int) -> Pair | None:
        one, other = self._words(number), self._words(earlier)
        if min(len(one), len(other)) < self._threshold * max(len(one), len(other), 1):
            return None
        shared = len(one & other)
        union = len(one) + len(other) - shared
        similarity = shared / union if union else 1.0
        return Pair(number, earlier, similarity) if similarity >= self._threshold else None

    def _words(self, number: int) -> frozenset[str]:
        found = self._known.get(number)
        if found is None:
            if len(self._known) > 20_000:
                self._known.clear()
            found = self._known[number] = frozenset(words(self._texts[number]))
        return found


def _settled(found: dict[int, list[Pair]]) -> Iterator[Pair]:
    """Yield a pair for each text that is like an earlier one which stays; being like one that goes is no reason."""
    gone: set[int] = set()
    for number in sorted(found):
        staying = [pair for pair in found[number] if pair.earlier not in gone]
        if staying:
            gone.add(number)
            yield min(staying, key=lambda pair: pair.earlier)


def same_texts(texts: Sequence[str], form: Callable[[str], str]) -> tuple[Pair, ...]:
    """Return each text that is an earlier one's in its `form`, with that one."""
    from hashlib import blake2b

    first: dict[bytes, int] = {}
    pairs: list[Pair] = []
    for number in range(len(texts)):
        key = blake2b(form(texts[number]).encode("utf-8", "surrogatepass"), digest_size=12).digest()
        earlier = first.setdefault(key, number)
        if earlier != number:
            pairs.append(Pair(number, earlier, 1.0))
    return tuple(pairs)
