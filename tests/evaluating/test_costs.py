"""Bills and the break-even between contenders."""

from __future__ import annotations

import pytest

from tunesmith.evaluating.costs import Bill, BreakEven, Made, ReportSettings, bills, break_even
from tunesmith.records import Answer, Score


def scores(name: str, seconds: float, read: int = 100, written: int = 50) -> list[Score]:
    """Return two answers that take so long each."""
    answer = Answer("a", read, written, seconds)
    return [Score(name, "asked", str(number), "g", "exact", "p.f", answer) for number in range(2)]


COLUMNS = {"base": scores("base", 2.0), "tuned": scores("tuned", 0.5), "tuned_retrieval": scores("x", 3.0)}
MADE = Made(encoder_seconds=60.0, model_seconds=300.0, model_usd=4.0)


def test_without_prices_costs_are_seconds() -> None:
    """Of this machine, for making and for a thousand answers."""
    found = {bill.contender: bill for bill in bills(COLUMNS, MADE, ReportSettings(), remote=False)}
    assert found["base"] == Bill("base", 0.0, 2000.0, "s")
    assert found["tuned"] == Bill("tuned", 300.0, 500.0, "s")
    assert found["tuned_retrieval"] == Bill("tuned_retrieval", 60.0, 3000.0, "s")


def test_an_hours_price_makes_them_money() -> None:
    """Seconds times the hour's price."""
    found = {
        bill.contender: bill for bill in bills(COLUMNS, MADE, ReportSettings(usd_per_hour=3.6), remote=False)
    }
    assert found["tuned"].unit == "USD"
    assert found["tuned"].making == pytest.approx(0.3)
    assert found["tuned"].per_thousand == pytest.approx(0.5)


def test_a_service_takes_money_for_tokens() -> None:
    """For those read and those written, and for its training."""
    settings = ReportSettings(usd_per_million=(1.0, 2.0))
    found = {bill.contender: bill for bill in bills(COLUMNS, MADE, settings, remote=True)}
    assert found["tuned"].making == 4.0
    assert found["base"].per_thousand == pytest.approx(1000 * (100 * 1.0 + 50 * 2.0) / 1e6)


def test_break_even_is_where_the_saving_has_paid() -> None:
    """Against each that is cheaper to make; never where asking saves nothing."""
    found = break_even("tuned", bills(COLUMNS, MADE, ReportSettings(), remote=False))
    assert [(one.contender, one.against) for one in found] == [
        ("tuned", "base"),
        ("tuned", "tuned_retrieval"),
    ]
    assert [one.questions for one in found] == pytest.approx([300 / 1.5, 240 / 2.5])
    dearer = [Bill("tuned", 10.0, 5.0, "s"), Bill("base", 0.0, 5.0, "s")]
    assert break_even("tuned", dearer) == (BreakEven("tuned", "base", None),)
