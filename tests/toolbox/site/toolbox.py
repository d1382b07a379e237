"""A dozen small tools: the package that the tests make an assistant for.

>>> import toolbox
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence


def slugify(text: str, separator: str = "-") -> str:
    """Turn a title into a short name that is safe in a URL.

    Parameters
    ----------
    text : str
        The title.
    separator : str
        What stands between words.

    Examples
    --------
    >>> slugify("Hello, World!")
    'hello-world'
    """
    return separator.join(re.findall(r"[a-z0-9]+", text.lower()))


def clamp(value: float, low: float, high: float) -> float:
    """Limit a number to an interval.

    Examples
    --------
    >>> clamp(12, 0, 10)
    10
    """
    return max(low, min(high, value))


def batched(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield consecutive slices of equal length.

    Examples
    --------
    >>> list(batched([1, 2, 3], 2))
    [[1, 2], [3]]
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]


def flatten(nested: Iterable[Iterable[int]]) -> list[int]:
    """Join the inner lists of a list into one.

    Examples
    --------
    >>> flatten([[1], [2, 3]])
    [1, 2, 3]
    """
    return [item for inner in nested for item in inner]


def running_mean(values: Sequence[float], window: int = 3) -> list[float]:
    """Smooth a series by averaging its neighbours.

    Parameters
    ----------
    values : sequence of float
        The series.
    window : int
        How many neighbours count.

    Examples
    --------
    >>> running_mean([1.0, 2.0, 3.0], window=3)
    [2.0]
    """
    return [sum(values[i : i + window]) / window for i in range(len(values) - window + 1)]


def rotate(items: Sequence[int], steps: int = 1) -> list[int]:
    """Shift a list to the left in a circle.

    Examples
    --------
    >>> rotate([1, 2, 3])
    [2, 3, 1]
    """
    return [*items[steps:], *items[:steps]]


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Measure the straight line between two points.

    Examples
    --------
    >>> distance((0, 0), (3, 4))
    5.0
    """
    return math.dist(first, second)


def parse_size(text: str) -> int:
    """Read a file size with a unit as a count of bytes.

    Examples
    --------
    >>> parse_size("2kB")
    2000
    """
    return int(text[:-2]) * {"kB": 1000, "MB": 1000_000}[text[-2:]]


def spoken_time(seconds: int) -> str:
    """Say a duration in hours and minutes.

    Examples
    --------
    >>> spoken_time(3660)
    '1 h 1 min'
    """
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def unique(items: Iterable[int]) -> list[int]:
    """Drop repeated elements and keep the order.

    Examples
    --------
    >>> unique([3, 1, 3])
    [3, 1]
    """
    return list(dict.fromkeys(items))


def histogram(values: Sequence[float], bins: int = 10) -> list[int]:
    """Count how many numbers fall into each of several bins.

    Examples
    --------
    >>> histogram([0.0, 1.0], bins=2)
    [1, 1]
    """
    low, high = min(values), max(values)
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low or 1) * bins))] += 1
    return counts


def wrap_lines(text: str, width: int = 80) -> str:
    """Break a long paragraph into lines.

    Examples
    --------
    >>> wrap_lines("a b", width=1)
    'a\\nb'
    """
    return textwrap.fill(text, width)
