"""Contenders on one set: shares, the cheapest within noise, the verdict in words."""

from __future__ import annotations

import pytest

from tunesmith.errors import DatasetError
from tunesmith.evaluating.contest import contest
from tunesmith.evaluating.statistics import wilson


def column(share: float, n: int = 100) -> list[bool]:
    """Return so many right answers, spread evenly."""
    return [int((number + 1) * share) > int(number * share) for number in range(n)]


def test_the_cheapest_within_noise_is_chosen() -> None:
    """One point more is not worth a dearer contender; thirty are."""
    near = contest({"cheap": column(0.80), "dear": column(0.81)})
    assert (near.best, near.choice) == ("dear", "cheap")
    assert "within noise" in near.verdict
    far = contest({"cheap": column(0.50), "dear": column(0.80)})
    assert (far.best, far.choice, far.gap and far.gap.clear) == ("dear", "dear", True)
    assert "clearly above the next best, cheap" in far.verdict


def test_of_equals_the_cheaper_is_the_best() -> None:
    """The order of the contenders is that of their cost."""
    assert contest({"cheap": column(0.5), "dear": column(0.5)}).best == "cheap"


def test_a_floor_that_nobody_beats_is_named() -> None:
    """A constant answer as good as the best contender makes all of them worthless."""
    made = contest({"one": column(0.5), "two": column(0.4)}, {"constant": column(0.6)})
    assert "No contender is above the floor constant" in made.verdict
    assert made.table().splitlines()[-1].startswith("| floor: constant | 60.0 %")


def test_where_nothing_is_ever_right_nothing_is_chosen() -> None:
    """The best of several failures is none."""
    assert contest({"one": [False] * 20, "two": [False] * 20}).verdict == (
        "Take none: nothing was right in 20 questions, so at most 16.1 % would be."
    )
    hardly = contest({"one": [False] * 20, "two": [True] + [False] * 19})
    assert hardly.verdict.startswith("Take none yet: two, with 5.0 %")


def test_shares_have_wilsons_interval() -> None:
    """As the product's reports do."""
    assert contest({"one": column(0.5)}).shares == {"one": wilson(50, 100)}
    assert contest({"one": column(0.5)}).verdict == "Take one: 50.0 % (40.4 to 59.6)."


@pytest.mark.parametrize("right", [{}, {"one": [True], "two": [True, False]}])
def test_different_questions_are_no_contest(right: dict[str, list[bool]]) -> None:
    """Each contender must have answered each question."""
    with pytest.raises(DatasetError):
        contest(right)
