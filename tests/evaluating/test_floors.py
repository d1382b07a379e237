"""Floors and ceilings: what is scored without a language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tunesmith.catalogue import Catalogue
from tunesmith.errors import DatasetError
from tunesmith.evaluating import floors
from tunesmith.records import Example, Score

MakeExample = Callable[..., Example]
Said = Callable[..., str]


class LetterEncoder:
    """An encoder whose vectors count the letters a and b, scaled to length one."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row a text."""
        rows = np.array([[text.count("a"), text.count("b"), 1e-3] for text in texts], dtype=np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def verdicts(scores: Sequence[Score]) -> list[tuple[str, str, str | None, str | None]]:
    """Return what matters of scores."""
    return [(score.contender, score.example, score.called, score.verdict) for score in scores]


def test_the_constant_answer_counts_acceptable_lists(example: MakeExample, catalogue: Catalogue) -> None:
    """`center` would be right in four rows, so it is the constant; `bridges` has most rows of its own."""
    train = [
        example(0, "bridges", acceptable=["center"]),
        example(1, "bridges", acceptable=["center"]),
        example(2, "bridges"),
        example(3, "center"),
        example(4, "center"),
    ]
    sets = {"asked": [example(5, "center"), example(6, "bridges")]}
    assert verdicts(floors.constant(train, sets, catalogue)) == [
        ("constant", "e5", "networkx.center", "exact"),
        ("constant", "e6", "networkx.center", "valid"),
    ]
    assert verdicts(floors.majority(train, sets, catalogue)) == [
        ("majority", "e5", "networkx.bridges", "valid"),
        ("majority", "e6", "networkx.bridges", "exact"),
    ]


def test_an_equal_majority_is_left_out(example: MakeExample, catalogue: Catalogue) -> None:
    """Where the majority answer is the constant one, there is one floor and not two."""
    train = [example(0, "bridges"), example(1, "bridges"), example(2, "center")]
    assert floors.majority(train, {"asked": [example(3, "center")]}, catalogue) == ()


def test_nearest_copies_the_question_with_most_rare_words(example: MakeExample, catalogue: Catalogue) -> None:
    """Words that few training questions hold decide; without any known word the first answer stands."""
    train = [
        example(0, "bridges", "which roads of the town would cut it in two"),
        example(1, "center", "which town is in the middle"),
        example(2, "density", "how full is the network"),
    ]
    sets = {
        "asked": [
            example(3, "bridges", "roads that cut the network"),
            example(4, "density", "is it full?"),
            example(5, "center", "zzz"),
            example(6, "center", "?"),
        ],
        "unseen": [],
    }
    assert verdicts(floors.nearest(train, sets, catalogue)) == [
        ("nearest", "e3", "networkx.bridges", "exact"),
        ("nearest", "e4", "networkx.density", "exact"),
        ("nearest", "e5", "networkx.bridges", "valid"),
        ("nearest", "e6", "networkx.bridges", "valid"),
    ]


def test_nearest_embedded_goes_by_cosine(example: MakeExample, catalogue: Catalogue) -> None:
    """The training question with the nearest direction lends its answer, whatever its length."""
    train = [example(0, "bridges", "aaaa"), example(1, "center", "ab"), example(2, "density", "b")]
    sets = {
        "asked": [example(3, "bridges", "a"), example(4, "center", "aabb"), example(5, "bridges", "bbbbba")]
    }
    assert verdicts(floors.nearest_embedded(train, sets, catalogue, LetterEncoder())) == [
        ("nearest_embedded", "e3", "networkx.bridges", "exact"),
        ("nearest_embedded", "e4", "networkx.center", "exact"),
        ("nearest_embedded", "e5", "networkx.density", "valid"),
    ]


def test_the_first_hit_is_the_answer(said: Said, example: MakeExample, catalogue: Catalogue) -> None:
    """Only the first retrieved entry counts; nothing retrieved is no call."""
    sets = {"asked": [example(0, "bridges"), example(1, "center"), example(2, "center")]}
    answers = {f"networkx.{name}": said(f"networkx.{name}") for name in ("bridges", "density")}
    retrieved = {"e0": ["networkx.bridges"], "e1": ["networkx.density", "networkx.center"], "e2": []}
    assert verdicts(floors.first_hit("tuned_first_hit", answers, retrieved, sets, catalogue)) == [
        ("tuned_first_hit", "e0", "networkx.bridges", "exact"),
        ("tuned_first_hit", "e1", "networkx.density", "valid"),
        ("tuned_first_hit", "e2", None, "no_call"),
    ]


def test_the_ceiling_looks_at_the_first_hits_only(example: MakeExample) -> None:
    """An acceptable entry within the first `count` is exact; one that comes later is not."""
    hits = ["networkx.density", "networkx.center", "networkx.bridges"]
    sets = {
        "asked": [example(0, "bridges", acceptable=["center"]), example(1, "bridges"), example(2, "bridges")]
    }
    retrieved = {"e0": hits, "e1": hits, "e2": []}
    assert verdicts(floors.hit_in("hit_in_2", retrieved, 2, sets)) == [
        ("hit_in_2", "e0", "networkx.center", "exact"),
        ("hit_in_2", "e1", "networkx.density", "valid"),
        ("hit_in_2", "e2", None, "no_call"),
    ]


def test_what_is_missing_is_named(example: MakeExample, catalogue: Catalogue) -> None:
    """No training examples, a question never searched for and an entry without an answer stop the run."""
    sets = {"asked": [example(0, "bridges")]}
    with pytest.raises(DatasetError, match="there are none"):
        floors.constant([], sets, catalogue)
    with pytest.raises(DatasetError, match="retrieved for example e0"):
        floors.hit_in("hit_in_5", {}, 5, sets)
    with pytest.raises(DatasetError, match=r"found networkx\.center"):
        floors.first_hit("first_hit", {}, {"e0": ["networkx.center"]}, sets, catalogue)
