"""How sure a figure is: Wilson intervals, paired differences clustered by entry, what a test can detect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

from tunesmith.errors import DatasetError
from tunesmith.records import Score

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

Metric = str  # "exact", "valid" and "hallucinated" of calls, "f1" and others of answers in words

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share or a mean between 0 and 1, its confidence interval, and the number of questions behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Paired:
    """How far `a` is above `b` on the same questions (a share, so 0.1 is ten points), with its interval.

    `p_value` is the exact McNemar test's, for measures that are more than right or wrong the sign test's, of which it
    is the case; they take the questions for independent, the interval does not.
    """

    a: str
    b: str
    set: str
    metric: Metric
    difference: float
    low: float
    high: float
    n: int
    p_value: float

    @property
    def clear(self) -> bool:
        """The interval leaves out zero: `a` is above or below `b` beyond noise."""
        return self.low > 0 or self.high < 0

    def above_among(self, rivals: int) -> bool:
        """Tell whether `a` is clearly above `b` though it was picked as the best of so many; 1: as the interval says.

        The lower end is moved out from 97.5 % to 1 - 0.025 / rivals of the normal distribution, Bonferroni's bound:
        the best of four equals is above a fifth more often than one of them is.
        """
        wider = _quantile(_level_among(rivals)) / _quantile(0.95)
        return self.difference - wider * (self.difference - self.low) > 0

    def flipped(self) -> Paired:
        """Return the same comparison seen from the other side."""
        return Paired(
            a=self.b,
            b=self.a,
            set=self.set,
            metric=self.metric,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            n=self.n,
            p_value=self.p_value,
        )


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Return the share of successes with Wilson's score interval.

    Takes the questions for independent; several questions about one entry make the truth somewhat wider.
    Raises DatasetError where there is no question, or more successes than questions.
    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if not 0 <= successes <= n or n == 0:
        raise DatasetError(
            f"a share of {successes} in {n} questions has no meaning",
            hint="Give the test set at least one question.",
        )
    z = _quantile(level)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    # At the ends the formula is exact, but its floating-point value is off by 1e-17 or so.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(value=share, low=low, high=high, n=n)


def mean_estimate(
    scores: Sequence[Score],
    metric: Metric,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return the mean of a metric over the answers that have it: Wilson's interval where each is right or wrong.

    Else the percentile interval of a cluster bootstrap, two imagined groups of one question drawn with the others, one
    with the value 0 and one with 1, as in `paired_difference`. Raises DatasetError if no answer has the metric.
    """
    values = [(one.group, value) for one in scores if (value := one.value(metric)) is not None]
    if not values:
        raise DatasetError(
            f"no answer was measured by {metric}", hint="Take a metric that the evaluation computed."
        )
    if all(value in (0, 1) for _, value in values):
        return wilson(sum(value == 1 for _, value in values), len(values), level)
    groups = [name for name, _ in values]
    means = [value for _, value in values]
    return clustered_mean(means, groups, level=level, resamples=resamples, seed=seed)


def paired_difference(
    a: Sequence[Score],
    b: Sequence[Score],
    metric: Metric,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Return how far contender `a` is above contender `b` on the same questions of one set.

    The interval is the percentile interval of a cluster bootstrap: whole groups are drawn with replacement,
    since questions about one entry are right or wrong together (C. A. Field and A. H. Welsh, Bootstrapping
    clustered data, JRSS B 69, 2007). Two imagined groups of one question, one won by each side, are drawn
    with them, so that five questions without a difference do not look like certainty (D. G. Bonett and R. M.
    Price, Adjusted Wald confidence interval for a difference of binomial proportions based on paired data,
    JEBS 37, 2012). Of a measure with more values than right and wrong these two differ by the standard deviation of
    the others. Equal questions and seed give equal intervals, in whatever order the scores come.

    Raises DatasetError if the questions differ, repeat, or are none, or an answer lacks the metric.
    """
    import numpy as np

    first, second = _by_example(a), _by_example(b)
    _check_same_questions(first, second)
    differences = {key: _value(first[key], metric) - _value(second[key], metric) for key in first}
    wins, losses = (sum(sign * each > 0 for each in differences.values()) for sign in (1, -1))
    gains, sizes = _group_sums(first, differences)
    weights = _draws(len(gains), resamples, seed)
    means = (weights @ gains) / (weights @ sizes)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    difference = sum(differences.values()) / len(first)
    return Paired(
        a=a[0].contender,
        b=b[0].contender,
        set=a[0].set,
        metric=metric,
        difference=difference,
        low=min(float(low), difference),
        high=max(float(high), difference),
        n=len(first),
        p_value=mcnemar(wins, losses),
    )


def clustered_interval(
    sums_G_K: NDArray[float64],
    statistic: Callable[[NDArray[float64]], NDArray[float64]],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic under a cluster bootstrap: groups are drawn, as above.

    `sums_G_K` holds K sums for each of G groups; `statistic` takes those of R resamples, shape (R, K), and gives R
    values. Imagined groups are the caller's, who knows what a question lost or won would add.
    """
    import numpy as np

    values_R = statistic(_draws(len(sums_G_K), resamples, seed) @ sums_G_K)
    low, high = np.quantile(values_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clustered_mean(
    values: Sequence[float],
    groups: Sequence[str],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return the mean of values that lie within `bounds`, one for each question, with a clustered interval.

    Two imagined groups of one question, one at either bound, are drawn with the others, as in `paired_difference`.
    Raises DatasetError where there is no value.
    """
    import numpy as np

    if not values:
        raise DatasetError("a mean of no values has no meaning", hint="Give the test set a question.")
    names = sorted(set(groups))
    place = {name: index for index, name in enumerate(names)}
    sums_G_2 = np.zeros((len(names) + 2, 2))
    for value, group in zip(values, groups, strict=True):
        sums_G_2[place[group]] += value, 1
    sums_G_2[-2:] = (bounds[0], 1), (bounds[1], 1)
    low, high = clustered_interval(
        sums_G_2, lambda sums: sums[:, 0] / sums[:, 1], level=level, resamples=resamples, seed=seed
    )
    mean = sum(values) / len(values)
    return Estimate(mean, min(low, mean), max(high, mean), len(values))


def mcnemar(wins: int, losses: int) -> float:
    """Return the two-sided exact McNemar p-value for questions that only one, or only the other, got right.

    Q. McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12
    (1947).
    """
    from scipy.stats import binomtest

    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses).pvalue)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values that may each be held against one level, however many there are, in their order.

    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = highest
    return tuple(adjusted)


def detectable_difference(paired: Paired, *, rivals: int = 1, power: float = 0.8) -> float:
    """Return the smallest true difference that `above_among` so many rivals would show with the given power.

    The standard error is read off the paired interval, so it already holds the clusters and the pairing.
    """
    standard_error = (paired.high - paired.low) / (2 * _quantile(0.95))
    return min(1.0, (_quantile(_level_among(rivals)) + NormalDist().inv_cdf(power)) * standard_error)


def _level_among(rivals: int) -> float:
    """Return the level of one comparison of so many, by Bonferroni's bound."""
    return 1 - 0.05 / rivals


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _by_example(scores: Sequence[Score]) -> dict[str, Score]:
    by_example = {score.example: score for score in scores}
    columns = {(score.contender, score.set) for score in scores}
    if len(by_example) != len(scores) or len(columns) > 1:
        raise DatasetError(
            "a paired comparison needs one contender's answers to one set, each question once; "
            f"got {len(scores)} answers to {len(by_example)} questions from {sorted(columns)}",
            hint="Pick the scores by contender and set first.",
        )
    return by_example


def _check_same_questions(first: dict[str, Score], second: dict[str, Score]) -> None:
    if not first or not second:
        raise DatasetError("a paired comparison of no questions", hint="Evaluate both contenders first.")
    left, right = next(iter(first.values())), next(iter(second.values()))
    apart = sorted(first.keys() ^ second.keys())
    if apart or left.set != right.set:
        raise DatasetError(
            f"{left.contender} on {left.set} and {right.contender} on {right.set} were not asked the same"
            + (f": {len(apart)} questions were asked of one only, {apart[0]} first" if apart else ""),
            hint="Ask both the same questions; a comparison of different questions is not a paired one.",
        )


def _value(score: Score, metric: Metric) -> float:
    value = score.value(metric)
    if value is None:
        raise DatasetError(
            f"{score.contender} on {score.set}: the answer to {score.example} was not measured by {metric}",
            hint="Compare by a metric that every answer has.",
        )
    return value


def _group_sums(
    scores: dict[str, Score], differences: dict[str, float]
) -> tuple[NDArray[float64], NDArray[float64]]:
    """Return each group's summed differences and number of questions, the two imagined groups last."""
    import numpy as np

    names = sorted({score.group for score in scores.values()})
    place = {name: index for index, name in enumerate(names)}
    gains, sizes = np.zeros(len(names) + 2), np.zeros(len(names) + 2)
    for key, score in scores.items():
        gains[place[score.group]] += differences[key]
        sizes[place[score.group]] += 1
    all_or_nothing = all(each in (-1, 0, 1) for each in differences.values())
    apart = 1.0 if all_or_nothing else float(np.std(list(differences.values())))
    gains[-2:], sizes[-2:] = (apart, -apart), 1
    return gains, sizes


@lru_cache(maxsize=8)
def _draws(groups: int, resamples: int, seed: int) -> NDArray[int64]:
    """Return how often each group is drawn, as (resamples, groups); the same for all pairs of one set."""
    import numpy as np

    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
