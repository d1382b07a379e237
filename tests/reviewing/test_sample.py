"""The order of a review."""

from __future__ import annotations

import random
from collections.abc import Callable

from tunesmith.records import Example
from tunesmith.reviewing.sample import Order, Risk, ordered, risks

Make = Callable[..., Example]


def _asked(make: Make, count: int = 20, **changed: object) -> list[Example]:
    return [make("how do I sort", id=f"e{number:02}", **changed) for number in range(count)]


def test_risk_is_a_sum_that_says_why(make: Make) -> None:
    """Each reason adds its points, and examples without any have none."""
    usual = _asked(make, origin="rule:does", checks=("a", "b", "judge:0.9"))
    odd = make(
        "whither zebras",
        "x" * 99,
        id="odd",
        origin="teacher:m",
        evidence=(),
        checks=("a", "judge:0.1", "reviewed"),
    )
    found = risks([*usual, odd])
    assert found.pop("odd") == Risk(
        8,
        (
            "a teacher's question",
            "nothing quoted",
            "long answer",
            "unusual words",
            "fewer checks",
            "the judge gave 0.1",
        ),
    )
    assert set(found.values()) == {Risk(0, ())}


def test_origins_have_their_ranks(make: Make) -> None:
    """A teacher's question before a written one before a rule's."""
    rows = [make(id=origin, origin=origin) for origin in ("rule:does", "teacher:m", "written:f:1")]
    assert [risks(rows)[name].points for name in ("teacher:m", "written:f:1", "rule:does")] == [2, 1, 0]
    assert risks([]) == {}


def _order(rows: list[Example], by: Order) -> list[str]:
    topics = {row.id: row.acceptable[0] if row.acceptable else None for row in rows}
    return [one.id for one in ordered(rows, by, risks(rows), lambda one: topics[one.id])]


def test_the_riskiest_come_first(make: Make) -> None:
    """Those of equal risk are mixed, always alike."""
    rows = [make(f"q {n}", id=f"{n}", origin="teacher:m" if n % 3 == 0 else "rule:does") for n in range(12)]
    found = _order(rows, "risk")
    assert {int(name) % 3 for name in found[:4]} == {0}
    assert _order(random.Random(1).sample(rows, len(rows)), "risk") == found
    assert sorted(found) == sorted(row.id for row in rows)


def test_topics_come_in_turn(make: Make) -> None:
    """Every topic has its first example before any has its second; examples without one are one more."""
    rows = [make(f"q {n}", id=f"{n}", acceptable=("many",)) for n in range(5)]
    rows += [make("r", id="r", acceptable=("few",)), make("s", id="s", acceptable=())]
    found = _order(rows, "topic")
    assert (found[0], found[2]) == ("r", "s")
    assert {int(name) for name in [found[1], *found[3:]]} == set(range(5))


def test_at_random_is_the_same_for_all(make: Make) -> None:
    """The order hangs on the texts, not on where they stand, and is not that of the risk."""
    rows = [make(f"q {n}", id=f"{n}", origin="teacher:m" if n < 6 else "rule:does") for n in range(12)]
    found = _order(rows, "random")
    assert _order(rows[::-1], "random") == found != _order(rows, "risk")
