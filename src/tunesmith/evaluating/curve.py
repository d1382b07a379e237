"""A learning curve: what the tuned contender scores after training on a part of the data, and with other seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from pydantic import BaseModel, ConfigDict, field_validator

from tunesmith.evaluating.statistics import Estimate, Metric, Paired, detectable_difference


class CurveSettings(BaseModel):
    """Which shares of the training examples are trained on anew, and with which seeds; none: no curve.

    Each share and each seed is a training of its own. The whole of the data with the first seed is the training that
    the project makes anyway.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fractions: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()

    @field_validator("fractions")
    @classmethod
    def _shares(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        for one in fractions:
            if not 0 < one < 1:
                raise ValueError(
                    f"{one} is no share of the data: between 0 and 1; the whole is always measured"
                )
        return tuple(sorted(set(fractions)))

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(seeds))


@dataclass(frozen=True, slots=True)
class Point:
    """One training: on how many examples, with which seed, and what its contender scored on the main set.

    `gain` is how far the training on all examples is above it, on the same questions; None for that one itself.
    """

    examples: int
    fraction: float
    seed: int
    score: Estimate
    gain: Paired | None


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one contender on one set, from few examples to all, the other seeds last."""

    contender: str
    set: str
    metric: Metric
    points: tuple[Point, ...]

    @property
    def seeds(self) -> tuple[Point, ...]:
        """The trainings on all examples, one a seed."""
        return tuple(point for point in self.points if point.fraction == 1)

    @property
    def spread(self) -> tuple[float, float] | None:
        """The mean over the seeds and their standard deviation; None for fewer than two."""
        values = [point.score.value for point in self.seeds]
        return (fmean(values), stdev(values)) if len(values) > 1 else None


def told(curve: Curve) -> Iterator[str]:
    """Say what the curve means: whether more examples would help, and how much of a difference is the seed's."""
    whole = next(point for point in curve.points if point.gain is None)
    parts = sorted((point for point in curve.points if point.fraction < 1), key=lambda point: point.examples)
    if parts:
        last = parts[-1]
        yield _more_data(whole, last)
    if curve.spread is not None:
        mean, deviation = curve.spread
        yield (
            f"Trained with {len(curve.seeds)} seeds, {curve.contender} scores {100 * mean:.1f} on average, with a "
            f"standard deviation of {100 * deviation:.1f} points: a difference as small as that can be the seed's."
        )


def _more_data(whole: Point, last: Point) -> str:
    gain = last.gain
    if gain is None:
        return ""
    grown = f"From {last.examples:,} to {whole.examples:,} examples the score went from {100 * last.score.value:.1f}"
    interval = f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
    said = (
        f"{grown} to {100 * whole.score.value:.1f} ({100 * gain.difference:+.1f} points, interval {interval})"
    )
    if gain.low > 0:
        return f"{said}: it still rises, so more examples of this kind are likely to help."
    smallest = 100 * detectable_difference(gain)
    return (
        f"{said}: no clear rise, so more of the same examples are unlikely to change the verdict much; a rise under "
        f"{smallest:.1f} points could hide in the noise."
    )


def by_size(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points from few examples to all, of one size by seed."""
    return tuple(sorted(points, key=lambda point: (point.fraction, point.seed)))
