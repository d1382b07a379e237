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


HOSTED = Made(encoder_seconds=60.0, model_seconds=None, model_usd=4.0)


@pytest.mark.parametrize(
    ("made", "settings", "making"),
    [
        (HOSTED, ReportSettings(), {"base": 0.0, "tuned": None, "tuned_retrieval": 60.0}),
        (
            HOSTED,
            ReportSettings(usd_per_million=(1.0, 2.0)),
            {"base": 0.0, "tuned": 4.0, "tuned_retrieval": None},
        ),
        (
            Made(60.0, None),
            ReportSettings(usd_per_hour=60.0, usd_per_million=(1.0, 2.0)),
            {"base": 0.0, "tuned": None, "tuned_retrieval": 1.0},
        ),
    ],
)
def test_training_without_a_price_is_not_free(
    made: Made, settings: ReportSettings, making: dict[str, float | None]
) -> None:
    """What making took is not known in the bill's unit, and so nothing has paid it back."""
    found = bills(COLUMNS, made, settings, remote=True)
    assert {bill.contender: bill.making for bill in found} == making
    known = {name for name, value in making.items() if value is not None}
    for name in making:
        assert {one.against for one in break_even(name, found)} <= (
            known - {name} if name in known else set()
        )


def test_an_encoder_that_was_not_tuned_costs_nothing() -> None:
    """No price is needed for no seconds."""
    settings = ReportSettings(usd_per_million=(1.0, 2.0))
    [_, _, bill] = bills(COLUMNS, Made(0.0, None, 4.0), settings, remote=True)
    assert (bill.contender, bill.making) == ("tuned_retrieval", 0.0)


def test_an_adapter_from_elsewhere_is_not_billed_the_training_here() -> None:
    """Nobody knows here what it took."""
    columns = COLUMNS | {name: scores(name, 0.5) for name in ("mine", "mine+tuned_retrieval")}
    found = bills(columns, MADE, ReportSettings(), remote=False)
    assert [bill.making for bill in found] == [0.0, 300.0, 60.0, None, None]
    assert [one.against for one in break_even("tuned", found)] == ["base", "tuned_retrieval"]
    assert break_even("mine", found) == ()
