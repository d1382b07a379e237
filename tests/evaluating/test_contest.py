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


def test_a_floor_that_is_not_clearly_beaten_forbids_all() -> None:
    """One as good as the best makes all of them worthless, a single contender too; so does one that is near."""
    made = contest({"one": column(0.5), "two": column(0.4)}, {"constant": column(0.6)})
    assert made.verdict.startswith(
        "Take none yet: one, with 50.0 % (40.4 to 59.6), is not clearly above the floor"
    )
    assert made.table().splitlines()[-1].startswith("| floor: constant | 60.0 %")
    alone = contest({"base": column(0.25)}, {"constant": column(0.75)})
    assert "the floor constant with 75.0 % (65.7 to 82.5): -50.0 points" in alone.verdict
    near = contest({"base": column(0.50)}, {"low": column(0.1), "near": column(0.49)})
    assert near.verdict.startswith("Take none yet: base") and "the floor near" in near.verdict


def test_floors_that_are_clearly_beaten_change_nothing() -> None:
    """The verdict is that without them."""
    right = {"cheap": column(0.50), "dear": column(0.80)}
    assert contest(right, {"constant": column(0.1)}).verdict == contest(right).verdict


def test_the_best_of_several_is_held_to_a_wider_interval_in_every_sentence() -> None:
    """A lead that is clear for one contender and not for the best of four is called neither noise nor clear."""
    lucky = [number < 26 for number in range(100)]
    others = [number < 20 for number in range(100)]
    cheap = contest({"one": others, "two": others, "three": others, "four": lucky})
    assert (cheap.best, cheap.choice) == ("four", "one")
    assert "clear by its interval alone, but not for the best of 4, and costs more" in cheap.verdict
    assert "within noise" not in cheap.verdict
    dear = contest({"four": lucky, "one": others, "two": others, "three": others})
    assert "It is not clearly above the next best, one, by +6.0 points" in dear.verdict
    assert "clear by its interval alone, but not for the best of 4." in dear.verdict


def test_the_best_of_more_needs_more_questions() -> None:
    """The power that is told is that of the test that is made: of the same gap more rivals hide more."""
    right = {"cheap": column(0.5), "dear": column(0.51)}
    two = contest(right)
    four = contest(right | {"other": column(0.1), "another": column(0.1)})
    assert two.gap == four.gap is not None
    least = [int(one.verdict.split(" points four times")[0].split()[-1]) for one in (two, four)]
    assert least[0] < least[1]


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
