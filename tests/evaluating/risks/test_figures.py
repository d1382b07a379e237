"""Figures of risks: their intervals hold the truth, their changes are paired, and an area is a Mann-Whitney share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap, mannwhitneyu
from sklearn.metrics import roc_auc_score

from tunesmith.errors import DatasetError
from tunesmith.evaluating.risks.figures import Figure, auc, auc_change, change, compared, estimate
from tunesmith.evaluating.risks.record import Seen
from tunesmith.evaluating.statistics import wilson

SHARE = Figure("forgetting", "facts", "about", "not covered", "lower")
PERPLEXITY = Figure("forgetting", "perplexity", "about", "not covered", unit="perplexity", scale=math.exp)


def seen(*values: float, weights: tuple[float, ...] = ()) -> list[Seen]:
    """Return what was seen of numbered items."""
    given = weights or (1.0,) * len(values)
    return [
        Seen("facts", str(number), value, weight)
        for number, (value, weight) in enumerate(zip(values, given, strict=True))
    ]


def test_a_share_has_wilsons_interval_and_lists_what_was_lost() -> None:
    """What was right before and is wrong now stands in the rows; what was won does not."""
    found = compared(SHARE, seen(1, 1, 1, 0), seen(1, 0, 0, 1))

    assert (found.before, found.after) == (wilson(3, 4), wilson(2, 4))
    assert [(row.item, row.before, row.after) for row in found.rows] == [("1", 1, 0), ("2", 1, 0)]
    assert found.change is not None
    assert found.change.value == pytest.approx(-0.25)
    assert found.change.low < -0.25 < found.change.high


def test_worse_is_clear_only_in_the_bad_direction_and_beyond_noise() -> None:
    """Thirty of forty lost are clear for what should be high, not for what should be low, and one lost is noise."""
    before, after = seen(*[1] * 40), seen(*[0] * 30, *[1] * 10)
    bad_when_high = Figure("refusal", "obeyed", "", "")

    assert compared(SHARE, before, after).clear
    assert not compared(SHARE, after, before).clear
    assert not compared(bad_when_high, before, after).clear
    assert compared(bad_when_high, after, before).clear
    assert not compared(SHARE, before, seen(0, *[1] * 39)).clear


def test_no_difference_on_few_items_is_not_certainty() -> None:
    """Two imagined items keep the interval open where nothing differs."""
    found = change(seen(1, 1, 0), seen(1, 1, 0), "share")

    assert found.low < 0 < found.high


@pytest.mark.parametrize(("count", "told"), [(1, False), (2, False), (5, False), (6, True), (12, True)])
def test_a_few_items_that_all_rise_are_no_clear_change(count: int, told: bool) -> None:
    """A bootstrap of one item has no width, and that of five leaves out zero more often than chance may."""
    figure = Figure("memorisation", "exposure", "about", "not covered", unit="bits")

    found = compared(figure, seen(*[1.20] * count), seen(*[1.25] * count))

    assert (found.change is not None) == told
    assert found.clear == told


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [(-0.8, -0.1, False), (-0.8, 0.4, True), (0.1, 0.5, True), (0.5, 0.1, False)],
)
def test_what_moves_towards_what_is_expected_is_not_worse(before: float, after: float, worse: bool) -> None:
    """A strength of association of 0 is that of a fair model: from below, it is worse only beyond it."""
    figure = Figure("bias", "strength", "about", "not covered", unit="nats", expected=0.0)

    assert compared(figure, seen(*[before] * 20), seen(*[after] * 20)).clear is worse


def test_a_perplexity_is_the_exponential_of_the_weighted_mean() -> None:
    """Long texts count by their tokens, and the change is that of the perplexities."""
    weights = (10.0, 30.0) * 3
    before, after = seen(*(20.0, 30.0) * 3, weights=weights), seen(*(30.0, 50.0) * 3, weights=weights)

    found = compared(PERPLEXITY, before, after)

    assert found.before is not None
    assert found.change is not None
    assert found.before.value == pytest.approx(math.exp(50 / 40))
    assert found.change.value == pytest.approx(math.exp(80 / 40) - math.exp(50 / 40))


def test_the_bootstrap_of_a_mean_agrees_with_scipys() -> None:
    """The percentile interval of a mean of 200 values is scipy's within a tenth of its width."""
    values = np.random.default_rng(3).exponential(size=200)
    found = estimate(seen(*values), "bits")
    peer = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval

    assert found.value == pytest.approx(values.mean())
    width = peer.high - peer.low
    assert found.low == pytest.approx(peer.low, abs=width / 10)
    assert found.high == pytest.approx(peer.high, abs=width / 10)


def test_different_items_are_no_pairs() -> None:
    """A comparison of different items is refused, and so is one of nothing."""
    with pytest.raises(DatasetError, match="not the same"):
        change(seen(1, 1), seen(1), "share")
    with pytest.raises(DatasetError, match="nothing was seen of facts"):
        compared(SHARE, None, [])


def test_an_area_is_sklearns_and_scipys() -> None:
    """Ties count half, as in the Mann-Whitney statistic."""
    chance = np.random.default_rng(0)
    members, others = chance.integers(0, 8, 60).astype(float), chance.integers(0, 6, 40).astype(float)
    labels = [1] * 60 + [0] * 40

    found = auc(list(members), list(others))

    assert found.value == pytest.approx(roc_auc_score(labels, [*members, *others]))
    assert found.value == pytest.approx(mannwhitneyu(members, others).statistic / (60 * 40))
    assert found.low < found.value < found.high
    assert found.n == 100


@pytest.mark.parametrize(("shift", "truth"), [(0.0, 0.5), (1.0, 0.7602), (2.0, 0.9214)])
def test_an_areas_interval_holds_the_truth(shift: float, truth: float) -> None:
    """In 500 simulated comparisons of 40 with 30 normal scores the interval holds the true area in 92 to 99 %."""
    chance = np.random.default_rng(5)
    held = 0
    for _ in range(500):
        found = auc(list(chance.normal(shift, size=40)), list(chance.normal(size=30)))
        held += found.low <= truth <= found.high

    assert 460 <= held <= 495


def test_a_perfect_area_still_has_a_width() -> None:
    """Ten members above ten others do not prove that all are; the mirror image is the same."""
    best, worst = auc([2.0] * 10, [1.0] * 10), auc([1.0] * 10, [2.0] * 10)

    assert (best.value, best.high) == (1.0, 1.0)
    assert 0.6 < best.low < 0.95
    assert (worst.value, worst.low) == (0.0, 0.0)
    assert worst.high == pytest.approx(1 - best.low, abs=1e-6)
    with pytest.raises(DatasetError, match="needs members and others"):
        auc([], [1.0])


def test_a_change_of_areas_is_paired() -> None:
    """The same scores change nothing, exactly; scores that part change much."""
    chance = np.random.default_rng(1)
    mixed = list(chance.normal(size=50)), list(chance.normal(size=50))
    apart = [score + 5 for score in mixed[0]], mixed[1]

    same, moved = auc_change(mixed, mixed), auc_change(mixed, apart)

    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert moved.low > 0.3
