"""Agreement beyond chance, checked against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from tunesmith.raters import kappa, kappa_interval

PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=60)


@given(PAIRS)
def test_kappa_is_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    """Wherever scikit-learn has a number, it is ours; where it has none, ours says None."""
    value = kappa(pairs)
    if len({label for pair in pairs for label in pair}) == 1:
        assert value is None
    else:
        expected = cohen_kappa_score([one for one, _ in pairs], [other for _, other in pairs])
        assert value == pytest.approx(expected)


def test_intervals_hold_the_true_kappa() -> None:
    """Of 200 samples of 80 items, from raters who agree in 80 % of two even labels, about 95 % hold kappa 0.6."""
    random = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        first = random.random(80) < 0.5
        second = first ^ (random.random(80) < 0.2)
        found = kappa_interval([(str(a), str(b)) for a, b in zip(first, second, strict=True)])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.6 <= found.high
    assert 180 <= held <= 198


def test_groups_make_the_interval_wider() -> None:
    """Ten times the same items of one group each know no more than the items themselves."""
    items = [("a", "a"), ("b", "b"), ("a", "b"), ("b", "b"), ("a", "a"), ("b", "a"), ("b", "b"), ("a", "a")]
    alone = kappa_interval(items * 10)
    grouped = kappa_interval(items * 10, [str(number) for number in range(8)] * 10)
    assert alone.value == grouped.value
    assert alone.low is not None
    assert grouped.low is not None
    assert grouped.low < alone.low


def test_raters_of_one_label_have_no_kappa() -> None:
    """Where chance would always agree there is no number, and the items are still counted."""
    found = kappa_interval([("a", "a")] * 4)
    assert (found.value, found.low, found.high, found.n, found.same) == (None, None, None, 4, 4)
    assert kappa([("a", "b")] * 3) == 0
