"""Near duplicates among many texts: what a comparison of all with all finds, found without it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from tunesmith.curating.near import Pair, near_duplicates, same_texts
from tunesmith.curating.semantic import semantic_duplicates
from tunesmith.curating.similarity import fold, words

VOCABULARY = [f"word{number}" for number in range(400)]


def _texts(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    texts = [" ".join(chance.sample(VOCABULARY, 30)) for _ in range(count)]
    for number in range(count // 2):
        copied = chance.choice(texts).split()
        for place in chance.sample(range(len(copied)), number % 4):
            copied[place] = f"new{number}x{place}"
        texts.append(" ".join(copied))
    return texts


def _jaccard(one: str, other: str) -> float:
    a, b = set(words(one)), set(words(other))
    return len(a & b) / len(a | b)


def test_what_is_found_is_what_comparing_all_with_all_finds() -> None:
    """Of 900 texts with 300 planted copies, at most one in a hundred is missed, and none is wrong."""
    texts = _texts(600, 1)
    found = near_duplicates(texts, 0.85)

    assert all(
        pair.similarity == pytest.approx(_jaccard(texts[pair.text], texts[pair.earlier])) for pair in found
    )
    assert all(pair.similarity >= 0.85 and pair.earlier < pair.text for pair in found)
    gone, kept = {pair.text for pair in found}, list[int]()
    for number in range(len(texts)):
        if not any(_jaccard(texts[number], texts[earlier]) >= 0.85 for earlier in kept):
            kept.append(number)
    like = set(range(len(texts))) - set(kept)
    assert len(gone & like) >= 0.99 * len(like)
    assert len(gone - like) <= 0.01 * len(like)
    assert not gone & {pair.earlier for pair in found}


def test_a_threshold_that_would_miss_too_many_is_refused() -> None:
    """The bands are made for what is near."""
    with pytest.raises(ValueError, match=r"from 0\.8 to 1"):
        near_duplicates(["a", "b"], 0.5)


def test_the_same_is_told_with_the_first_of_it() -> None:
    """Case and marks do not count, order does."""
    texts = ["One two.", "two one", "one TWO", "one two!"]

    assert same_texts(texts, fold) == (Pair(2, 0, 1.0), Pair(3, 0, 1.0))
    assert near_duplicates(["alone"], 0.9) == ()


class Directions:
    """An encoder whose vectors are numbers in the texts, as angles."""

    name = "directions"

    def embed(self, texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Return a vector of length one for each text."""
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_texts_of_one_meaning_are_told_with_the_first() -> None:
    """A text that goes is nobody's first."""
    found = semantic_duplicates(["0", "90", "2", "4", "91"], Directions(), 0.9985)

    assert [(pair.text, pair.earlier) for pair in found] == [(2, 0), (4, 1)]
