"""Contenders on one set of questions, right or wrong each: a table with intervals, and the cheapest within noise.

For tasks of one's own whose rightness is a function: `evaluate` asks and judges projects, this only compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    `floors` are what no contender may be below: no contenders themselves.
    """

    shares: Mapping[str, Estimate]
    floors: Mapping[str, Estimate]
    best: str
    choice: str
    gap: Paired | None

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
        said = f"Take {self.choice}: {_share(self.shares[self.choice])}."
        if self.gap is None:
            return said
        other = self.gap.b if self.gap.a == self.best else self.gap.a
        gap = (
            f"{100 * self.gap.difference:+.1f} points ({100 * self.gap.low:.1f} to {100 * self.gap.high:.1f})"
        )
        if self.choice != self.best:
            said += f" {self.best} has {_share(best)}, {gap}, which is within noise, and costs more."
        else:
            clear = "clearly above" if self.gap.clear else "not clearly above"
            said += f" It is {clear} the next best, {other}, by {gap}."
        above = [name for name, floor in self.floors.items() if floor.value >= best.value]
        if above:
            said += f" No contender is above the floor {above[0]}: none of them is worth its cost here."
        least = 100 * detectable_difference(self.gap)
        return f"{said} So many questions show a difference of {least:.0f} points four times in five."


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
    shares = {name: wilson(sum(each), len(each)) for name, each in right.items()}
    best = max(right, key=lambda name: shares[name].value)  # the first of equals, so the cheapest
    gaps = {name: _gap(right, best, name) for name in right if name != best}
    before = list(right)[: list(right).index(best)]
    choice = next((name for name in before if not gaps[name].above_among(len(gaps))), best)
    runner_up = max(gaps, key=lambda name: shares[name].value, default=None)
    against = choice if choice != best else runner_up
    return Contest(
        shares=shares,
        floors={name: wilson(sum(each), len(each)) for name, each in floors.items()},
        best=best,
        choice=choice,
        gap=None if against is None else gaps[against],
    )


def _gap(right: Mapping[str, Sequence[bool]], a: str, b: str) -> Paired:
    return paired_difference(_scores(a, right[a]), _scores(b, right[b]), "right")


def _scores(name: str, column: Sequence[bool]) -> list[Score]:
    return [
        Score(name, "test", str(number), str(number), None, None, Answer(""), measures={"right": float(one)})
        for number, one in enumerate(column)
    ]


def _share(one: Estimate) -> str:
    return f"{100 * one.value:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f})"
