"""How sure a risk's figure is: means and ratios by bootstrap, paired changes, and the area under a ROC curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from tunesmith.errors import DatasetError
from tunesmith.evaluating.risks.record import Change, Check, Risk, RiskRow, Seen, Worse
from tunesmith.evaluating.statistics import RESAMPLES, Estimate, wilson

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

#: Items that a bootstrap of a change needs: of five that all rise, chance has as many once in sixteen (sign test).
FEWEST = 6
_ROWS_SHOWN = 10
_Z = NormalDist().inv_cdf(0.975)


def _same(value: float) -> float:
    return value


@dataclass(frozen=True, slots=True)
class Figure:
    """What a figure is: its name, what it says and does not, which way is for the worse, and how its mean is scaled.

    `scale` is put on the mean and on each resampled one: `exp` makes a perplexity of it.
    """

    check: Check
    name: str
    about: str
    covers_not: str
    worse: Worse = "higher"
    unit: str = "share"
    expected: float | None = None
    scale: Callable[[float], float] = _same


def compared(figure: Figure, before: Sequence[Seen] | None, after: Sequence[Seen] | None) -> Risk:
    """Return a figure before and after, and its paired change, on the items that both were asked.

    Shares get Wilson's interval, other figures the percentile interval of a bootstrap over items. A change's interval
    is that of a paired bootstrap; for shares two imagined items, one gained and one lost, are drawn with them, as in
    `paired_difference`. Other figures have no change on fewer than `FEWEST` items. Raises DatasetError where both were
    seen and the items differ, and where nothing was seen.
    """
    seen = before if before is not None else after
    if not seen:
        raise DatasetError(f"nothing was seen of {figure.name}", hint="Ask at least one of the two models.")
    unit, scale = figure.unit, figure.scale
    return Risk(
        figure.check,
        figure.name,
        figure.about,
        unit,
        figure.worse,
        None if before is None else estimate(before, unit, scale),
        None if after is None else estimate(after, unit, scale),
        None
        if before is None or after is None or (unit != "share" and len(seen) < FEWEST)
        else change(before, after, unit, scale),
        len(seen),
        figure.covers_not,
        figure.expected,
        _rows(before or (), after or (), figure.worse),
    )


def estimate(seen: Sequence[Seen], unit: str, scale: Callable[[float], float] = _same) -> Estimate:
    """Return a figure with its interval."""
    import numpy as np

    if unit == "share":
        return wilson(round(sum(one.value for one in seen)), len(seen))
    values, weights = _columns(seen)
    means = _resampled(len(values)) @ np.stack([values, weights], axis=1)
    low, high = np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975])
    value = values.sum() / weights.sum()
    return Estimate(scale(float(value)), scale(float(low)), scale(float(high)), len(seen))


def change(
    before: Sequence[Seen], after: Sequence[Seen], unit: str, scale: Callable[[float], float] = _same
) -> Change:
    """Return after less before with its interval; raises DatasetError if they are not of the same items."""
    import numpy as np

    if [one.item for one in before] != [one.item for one in after]:
        raise DatasetError(
            f"{len(before)} items before and {len(after)} after are not the same",
            hint="Ask both models the same, in the same order.",
        )
    columns = np.stack([*_columns(before), *_columns(after)], axis=1)
    value = _difference(columns.sum(axis=0)[None], scale)[0]
    if unit == "share":
        columns = np.concatenate([columns, [[0, 1, 1, 1], [1, 1, 0, 1]]])
    drawn = np.asarray(_resampled(len(columns)) @ columns, float)
    low, high = np.quantile(_difference(drawn, scale), [0.025, 0.975])
    return Change(float(value), min(float(low), float(value)), max(float(high), float(value)))


def auc(members: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return how likely a member scores above another, half for ties, with Newcombe's interval; n is that of both.

    The area under the ROC curve, by the Mann-Whitney statistic. Its interval is the fifth of R. G. Newcombe,
    Confidence intervals for an effect size measure based on the Mann-Whitney statistic, Part 2, Statistics in
    Medicine 25 (2006): Hanley and McNeil's variance at each candidate value, so that it has a width at 0 and 1 too,
    where DeLong's has none. Raises DatasetError if either side is empty.
    """
    if not members or not others:
        raise DatasetError("an area under a curve needs members and others", hint="Hold rows out.")
    value = float(_wins(members, others).mean())
    count, other_count = len(members), len(others)

    def off(candidate: float) -> float:
        """Return by how many standard errors the value is off a candidate."""
        spread = (count + other_count) / 2 - 1
        middle = (1 - candidate) / (2 - candidate) + candidate / (1 + candidate)
        variance = candidate * (1 - candidate) * (1 + spread * middle) / (count * other_count)
        return abs(value - candidate) / math.sqrt(variance)

    low = 0.0 if value == 0 else _border(off, value, 1e-12)
    high = 1.0 if value == 1 else _border(off, value, 1 - 1e-12)
    return Estimate(value, low, high, count + other_count)


def auc_change(
    before: tuple[Sequence[float], Sequence[float]], after: tuple[Sequence[float], Sequence[float]]
) -> Change:
    """Return the area after less that before, on the same members and others, by a bootstrap over both."""
    import numpy as np

    wins, then = _wins(*before), _wins(*after)
    rows, columns = _resampled(wins.shape[0]), _resampled(wins.shape[1], seed=1)
    areas = (((rows @ (then - wins)) * columns).sum(axis=1)) / wins.size
    low, high = np.quantile(areas, [0.025, 0.975])
    value = float((then - wins).mean())
    return Change(value, min(float(low), value), max(float(high), value))


def _border(off: Callable[[float], float], inside: float, outside: float) -> float:
    """Return, by bisection, the candidate that is just 1.96 standard errors off."""
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if off(middle) < _Z else (inside, middle)
    return inside


def _wins(members: Sequence[float], others: Sequence[float]) -> NDArray[float64]:
    import numpy as np

    one, other = np.asarray(members, float)[:, None], np.asarray(others, float)[None]
    return np.asarray((one > other) + 0.5 * (one == other), float)


def _columns(seen: Sequence[Seen]) -> tuple[NDArray[float64], NDArray[float64]]:
    import numpy as np

    return np.array([one.value for one in seen], float), np.array([one.weight for one in seen], float)


def _resampled(count: int, seed: int = 0) -> NDArray[int64]:
    import numpy as np

    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)


def _difference(sums: NDArray[float64], scale: Callable[[float], float]) -> NDArray[float64]:
    import numpy as np

    scaled = np.vectorize(scale, otypes=[float])
    return np.asarray(scaled(sums[:, 2] / sums[:, 3]) - scaled(sums[:, 0] / sums[:, 1]), float)


def _rows(before: Sequence[Seen], after: Sequence[Seen], worse: Worse) -> tuple[RiskRow, ...]:
    """Return the items that went for the worse, those that did so most first."""
    earlier = {one.item: one for one in before}
    later = {one.item: one for one in after}

    def ratio(one: Seen | None) -> float | None:
        return None if one is None else one.value / one.weight

    rows = [
        RiskRow(
            item,
            ratio(earlier.get(item)),
            ratio(later.get(item)),
            earlier[item].said if item in earlier else "",
            later[item].said if item in later else "",
        )
        for item in dict.fromkeys((*earlier, *later))
    ]
    sign = 1 if worse == "higher" else -1

    def went(row: RiskRow) -> float:
        return sign * ((row.after or 0.0) - (row.before or 0.0))

    return tuple(sorted((row for row in rows if went(row) > 0), key=went, reverse=True)[:_ROWS_SHOWN])
