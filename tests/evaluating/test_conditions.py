"""Conditions for CI: what they read, and that what they cannot read is never let pass."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.errors import UsageError
from tunesmith.evaluating.conditions import hold, parse_condition

REPORT: dict[str, Any] = {
    "contenders": {
        "tuned": {"asked": {"exact": {"value": 0.67, "low": 0.61, "high": 0.73, "n": 230}, "no_call": 0.02}},
        "base+adapter:v1.2": {
            "asked": {"exact": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}, "latency_s": {"p95": 1.5}}
        },
    },
    "floors": {"nearest": {"asked": {"exact": {"value": 0.46, "low": 0.39, "high": 0.52, "n": 230}}}},
    "ceilings": {"oracle:tuned": {"asked": {"exact": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 9}}}},
}


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("tuned.asked.exact < 0.6", False),
        ("tuned.asked.exact<70%", True),
        ("tuned.asked.exact.low <= 0.61", True),
        ("tuned.asked.no_call > 0.02", False),
        ("tuned.asked.no_call >= 0.02", True),
        ("0.6 > nearest.asked.exact", True),
        ("tuned.asked.exact <= nearest.asked.exact", False),
        ("base+adapter:v1.2.asked.latency_s.p95 > 1", True),
        ("oracle:tuned.asked.exact.n < 10", True),
    ],
)
def test_conditions(text: str, true: bool) -> None:
    """Numbers and shares in per cent, figures of contenders, floors and ceilings, names with dots."""
    assert hold(parse_condition(text), REPORT).true is true


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tuned.asked.exact", "is no condition"),
        ("tuned.asked.exact = 0.6", "is no condition"),
        ("0.5 < 0.6", "compares two numbers"),
        ("tund.asked.exact < 0.6", "Did you mean tuned"),
        ("tuned.seen.exact < 0.6", "'seen' is no part of tuned"),
        ("tuned.asked.exact.value.more < 0.6", "Nothing is below"),
        ("tuned.asked < 0.6", "several figures"),
    ],
)
def test_what_cannot_be_told_is_an_error(text: str, said: str) -> None:
    """A gate on a figure that is not there must not pass."""
    with pytest.raises(UsageError, match=said):
        hold(parse_condition(text), REPORT)


def test_a_figure_without_a_value_is_an_error() -> None:
    """What was not measured is said."""
    with pytest.raises(UsageError, match="was not measured"):
        hold(parse_condition("a.asked.exact < 1"), {"contenders": {"a": {"asked": {"exact": None}}}})
