"""Intervals hold what they promise, checked against scipy, statsmodels and a simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tunesmith.errors import DatasetError
from tunesmith.evaluating.statistics import (
    Estimate,
    Paired,
    detectable_difference,
    holm,
    mcnemar,
    paired_difference,
    wilson,
)
from tunesmith.records import Answer, Score

MakeScores = Callable[..., tuple[Score, ...]]


@given(st.integers(1, 2000), st.data())
def test_wilson_is_scipys(n: int, data: st.DataObject) -> None:
    """The interval is that of scipy for any share and level."""
    successes = data.draw(st.integers(0, n))
    level = data.draw(st.sampled_from((0.8, 0.95, 0.99)))
    expected = binomtest(successes, n).proportion_ci(level, method="wilson")
    estimate = wilson(successes, n, level)
    assert estimate.value == successes / n
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_reproduces_a_published_figure() -> None:
    """64 of 127 has the interval that a textbook calculator gives."""
    estimate = wilson(64, 127)
    assert (round(estimate.low, 3), round(estimate.high, 3), estimate.n) == (0.418, 0.589, 127)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_a_share_without_questions_is_refused(successes: int, n: int) -> None:
    """No question, or more successes than questions, is an error and no NaN."""
    with pytest.raises(DatasetError, match="has no meaning"):
        wilson(successes, n)


def test_mcnemar_is_statsmodels_exact_test() -> None:
    """The p-value is that of statsmodels for the same table, and 1 where nothing differs."""
    from statsmodels.stats.contingency_tables import mcnemar as reference

    table = [[30, 12], [4, 9]]
    assert mcnemar(12, 4) == pytest.approx(reference(table, exact=True).pvalue)
    assert mcnemar(0, 0) == 1.0


def test_the_difference_is_that_of_the_shares(scores: MakeScores) -> None:
    """Difference, question count and p-value are those of the two columns."""
    a, b = scores("tuned", "xxxxxxxxvv"), scores("base", "xvvvvvvvvx")
    paired = paired_difference(a, b, "exact")
    assert (paired.a, paired.b, paired.set, paired.metric, paired.n) == (
        "tuned",
        "base",
        "asked",
        "exact",
        10,
    )
    assert paired.difference == pytest.approx(0.6)
    assert paired.p_value == pytest.approx(binomtest(7, 8).pvalue)


def test_independent_questions_give_the_interval_of_the_textbook(scores: MakeScores) -> None:
    """With groups of one, the bootstrap comes near the adjusted Wald interval of Bonett and Price."""
    a, b = scores("a", "x" * 130 + "v" * 70), scores("b", "x" * 90 + "v" * 60 + "x" * 20 + "v" * 30)
    wins, losses, n = 40, 20, 200
    up, down = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = 1.96 * ((up + down - (up - down) ** 2) / (n + 2)) ** 0.5
    paired = paired_difference(a, b, "exact", resamples=20_000)
    assert (paired.low, paired.high) == pytest.approx((up - down - half, up - down + half), abs=0.005)


def test_questions_of_one_group_count_less_than_independent_ones(scores: MakeScores) -> None:
    """Five questions that rise and fall together make the interval about the root of five wider."""
    a, b = scores("a", "xxxxxvvvvv" * 20), scores("b", "vvvvvvvvvv" * 20)
    single = paired_difference(a, b, "exact")
    clustered = paired_difference(
        scores("a", "xxxxxvvvvv" * 20, cluster=5), scores("b", "v" * 200, cluster=5), "exact"
    )
    ratio = (clustered.high - clustered.low) / (single.high - single.low)
    assert 1.9 < ratio < 2.6


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """In 300 made-up tests with clusters, the 95 % interval holds the true difference in about 95 %."""
    random = np.random.default_rng(7)

    def column(name: str, right: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[Score]:
        return [
            Score(name, "asked", str(i), str(i // 4), "exact" if ok else "valid", None, Answer(""))
            for i, ok in enumerate(right)
        ]

    covered = 0
    for _ in range(300):
        ease = np.repeat(random.normal(0, 0.25, 40), 4)
        a = random.random(160) < np.clip(0.6 + ease, 0, 1)
        b = random.random(160) < np.clip(0.45 + 0.5 * ease, 0, 1)
        paired = paired_difference(column("a", a), column("b", b), "exact", resamples=500)
        covered += paired.low <= 0.15 <= paired.high
    assert 0.91 <= covered / 300 <= 0.99


def test_a_tiny_test_is_never_certain(scores: MakeScores) -> None:
    """Three questions won by one side, or by none, leave an interval that holds more than one value."""
    won = paired_difference(scores("a", "xxx"), scores("b", "vvv"), "exact")
    even = paired_difference(scores("a", "xxx"), scores("b", "xxx"), "exact")
    assert won.low <= 0 < won.difference == won.high == 1
    assert even.low < 0 == even.difference < even.high


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=40),
    st.randoms(),
)
def test_pairs_obey_their_rules(rows: list[tuple[bool, bool, int]], random: object) -> None:
    """The interval holds the difference; swapping sides flips it; the order of the scores does not matter."""

    def column(name: str, place: int) -> list[Score]:
        return [
            Score(name, "asked", str(i), str(row[2]), "exact" if row[place] else "valid", None, Answer(""))
            for i, row in enumerate(rows)
        ]

    a, b = column("a", 0), column("b", 1)
    paired = paired_difference(a, b, "exact", resamples=200)
    assert -1 <= paired.low <= paired.difference <= paired.high <= 1
    assert paired == paired_difference(a[::-1], b, "exact", resamples=200)
    assert paired.flipped().flipped() == paired
    assert paired.flipped().difference == paired_difference(b, a, "exact", resamples=200).difference


def test_different_questions_are_not_a_pair(scores: MakeScores) -> None:
    """Other questions, another set, no questions and a question twice are each refused."""
    a, b = scores("a", "xx"), scores("b", "xxx")
    with pytest.raises(DatasetError, match="1 questions were asked of one only, q2 first"):
        paired_difference(a, b, "exact")
    with pytest.raises(DatasetError, match="a on asked and b on seen"):
        paired_difference(a, scores("b", "xx", set_name="seen"), "exact")
    with pytest.raises(DatasetError, match="no questions"):
        paired_difference((), (), "exact")
    with pytest.raises(DatasetError, match="each question once"):
        paired_difference((*a, a[0]), a, "exact")


def test_the_detectable_difference_shrinks_with_the_test(scores: MakeScores) -> None:
    """It is 2.8 standard errors, so four times the questions find half the difference."""
    paired = paired_difference(scores("a", "xv" * 50), scores("b", "vx" * 50), "exact")
    exact = replace(paired, low=-0.1, high=0.1)
    assert detectable_difference(exact) == pytest.approx(0.1 / 1.96 * 2.8016, abs=1e-4)
    assert detectable_difference(replace(paired, low=-1, high=1)) == 1.0


def test_the_detectable_difference_is_that_of_the_test_that_is_made(scores: MakeScores) -> None:
    """A lead so large less 0.84 standard errors is just clear among the rivals: so it is found four times in five."""
    paired = paired_difference(scores("a", "xv" * 50), scores("b", "vx" * 50), "exact")
    for rivals in (1, 4, 7):
        least = detectable_difference(replace(paired, low=-0.1, high=0.1), rivals=rivals)
        lead = least - 0.8416 * 0.1 / 1.96
        assert replace(paired, difference=lead + 1e-4, low=lead + 1e-4 - 0.1).above_among(rivals)
        assert not replace(paired, difference=lead - 1e-4, low=lead - 1e-4 - 0.1).above_among(rivals)


def test_an_estimate_compares_by_value() -> None:
    """Two estimates with equal figures are equal."""
    assert wilson(0, 4) == Estimate(0.0, 0.0, wilson(0, 4).high, 4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    """The adjusted p-values are those of statsmodels, in the order they came in."""
    from statsmodels.stats.multitest import multipletests

    _, expected, _, _ = multipletests(p_values, method="holm")
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_holm_of_nothing() -> None:
    """No comparison, no p-value."""
    assert holm([]) == ()


def test_the_best_of_several_must_be_further_ahead() -> None:
    """The lower end moves out by the ratio of the normal quantiles; alone it is the interval's."""
    paired = Paired("a", "b", "asked", "exact", 0.10, 0.01, 0.19, 200, 0.03)
    # 0.09 below the difference at 97.5 %; at 1 - 0.025 / 2 that is 0.1029.
    assert paired.above_among(1)
    assert not paired.above_among(2)
    assert replace(paired, low=0.03).above_among(4)
    assert not replace(paired, low=-0.01).above_among(1)
