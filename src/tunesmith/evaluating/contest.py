"""Contenders on one set of questions, right or wrong each: a table with intervals, and the cheapest within noise.

For tasks of one's own whose rightness is a function: `evaluate` asks and judges projects, this only compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.errors import DatasetError
from tunesmith.evaluating.statistics import Estimate, Paired, detectable_difference, paired_difference, wilson
from tunesmith.records import Answer, Score


@dataclass(frozen=True, slots=True)
class Contest:
    """Each contender's share of right answers, in the order of cost, and what follows.

    `best` has the largest share, the cheaper one of equals. `choice` is the cheapest contender that `best` is not
    clearly above (paired on the same questions, its interval widened for having been picked among several). `gap` is
    how far `best` is above the choice, or, if they are one, above the runner-up; None if there is one contender.
    `floors` are what a contender must be clearly above to be worth its cost, no contenders themselves; `unbeaten` is
    how far `best` is above the highest of those that it is not clearly above, None if there is none.
    """

    shares: Mapping[str, Estimate]
    floors: Mapping[str, Estimate]
    best: str
    choice: str
    gap: Paired | None
    unbeaten: Paired | None

    def table(self) -> str:
        """Return the shares as rows of Markdown, the cheapest contender first, floors last."""
        rows = ["| contender | right | 95 % interval | n |", "|---|---|---|---|"]
        named = [*self.shares.items(), *((f"floor: {name}", each) for name, each in self.floors.items())]
        rows += [
            f"| {name} | {100 * one.value:.1f} % | {100 * one.low:.1f} to {100 * one.high:.1f} | {one.n} |"
            for name, one in named
        ]
        return "\n".join(rows)

    @property
    def verdict(self) -> str:
        """The choice and what it rests on, in a few sentences; that there is none where nothing was ever right."""
        best = self.shares[self.best]
        if best.value == 0:
            return f"Take none: nothing was right in {best.n} questions, so at most {100 * best.high:.1f} % would be."
        if self.shares[self.choice].value == 0:
            return f"Take none yet: {self.best}, with {_share(best)}, is not clearly above never being right."
        if self.unbeaten is not None:
            floor = self.unbeaten.b
            return (
                f"Take none yet: {self.best}, with {_share(best)}, is not clearly above the floor {floor} with "
                f"{_share(self.floors[floor])}: {_points(self.unbeaten)}.{_power(self.unbeaten, len(self.shares))}"
            )
        said = f"Take {self.choice}: {_share(self.shares[self.choice])}."
        if self.gap is None:
            return said
        return f"{said} {self._lead(self.gap)}{_power(self.gap, len(self.shares) - 1)}"

    def _lead(self, gap: Paired) -> str:
        """Say how far the best is above the choice, or above the runner-up if choice and best are one."""
        clear = gap.above_among(len(self.shares) - 1)
        alone = f", clear by its interval alone, but not for the best of {len(self.shares)}"
        spared = alone if gap.low > 0 and not clear else ""
        if self.choice != self.best:
            noise = spared or ", which is within noise"
            return f"{self.best} has {_share(self.shares[self.best])}, {_points(gap)}{noise}, and costs more."
        word = "clearly above" if clear else "not clearly above"
        return f"It is {word} the next best, {gap.b}, by {_points(gap)}{spared}."


def contest(
    right: Mapping[str, Sequence[bool]], floors: Mapping[str, Sequence[bool]] | None = None
) -> Contest:
    """Compare contenders on the same questions; `right` has them in the order of cost, the cheapest first.

    Shares have Wilson's interval, differences the cluster bootstrap's with each question a cluster. Raises DatasetError
    for no contender, no question, or columns of different lengths.
    """
    floors = floors or {}
    sizes = {len(each) for each in (*right.values(), *floors.values())}
    if not right or len(sizes) != 1:
        raise DatasetError(
            f"a contest needs contenders that were asked the same questions, and got {sorted(sizes)} of them",
            hint="Give each contender's answers as right or wrong, question by question.",
        )
    shares, floor_shares = _shares(right), _shares(floors)
    best = max(right, key=lambda name: shares[name].value)  # the first of equals, so the cheapest
    above = _above(best, right[best])
    gaps = {name: above(name, column) for name, column in right.items() if name != best}
    before = list(right)[: list(right).index(best)]
    choice = next((name for name in before if not gaps[name].above_among(len(gaps))), best)
    runner_up = max(gaps, key=lambda name: shares[name].value, default=None)
    against = choice if choice != best else runner_up
    over = [above(name, column) for name, column in floors.items()]
    return Contest(
        shares=shares,
        floors=floor_shares,
        best=best,
        choice=choice,
        gap=None if against is None else gaps[against],
        unbeaten=max(
            (one for one in over if not one.above_among(len(right))),
            key=lambda one: floor_shares[one.b].value,
            default=None,
        ),
    )


def _shares(columns: Mapping[str, Sequence[bool]]) -> dict[str, Estimate]:
    return {name: wilson(sum(column), len(column)) for name, column in columns.items()}


def _above(best: str, its: Sequence[bool]) -> Callable[[str, Sequence[bool]], Paired]:
    """Return what tells how far the best is above another."""
    return lambda name, column: paired_difference(_scores(best, its), _scores(name, column), "right")


def _scores(name: str, column: Sequence[bool]) -> list[Score]:
    return [
        Score(name, "test", str(number), str(number), None, None, Answer(""), measures={"right": float(one)})
        for number, one in enumerate(column)
    ]


def _share(one: Estimate) -> str:
    return f"{100 * one.value:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f})"


def _points(gap: Paired) -> str:
    return f"{100 * gap.difference:+.1f} points ({100 * gap.low:.1f} to {100 * gap.high:.1f})"


def _power(gap: Paired, rivals: int) -> str:
    least = 100 * detectable_difference(gap, rivals=rivals)
    return f" So many questions show a difference of {least:.0f} points four times in five."
