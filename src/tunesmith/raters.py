"""How far two raters agree beyond chance: Cohen's kappa, and how sure it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Kappa:
    """Cohen's kappa of two raters over `n` items with its 95 % interval; `same` were rated alike.

    All three are None where chance alone would always agree, the interval also where every resample would.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    same: int


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return Cohen's kappa of two raters, None where chance alone would always agree.

    J. Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20 (1960).
    """
    count = len(pairs)
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    # In whole numbers, so that a certain agreement is recognised as one.
    observed = sum(one == other for one, other in pairs) * count
    expected = sum(first[verdict] * second[verdict] for verdict in first)
    return None if expected == count**2 else (observed - expected) / (count**2 - expected)


def kappa_interval(pairs: Sequence[tuple[str, str]], groups: Sequence[str] = (), *, seed: int = 0) -> Kappa:
    """Return kappa with the percentile interval of a bootstrap over items, or over `groups` of them.

    A pair of raters that agrees on everything has an interval of no width: the bootstrap cannot see what did not
    happen, and few items should not be read as certainty.
    """
    import numpy as np

    same = sum(one == other for one, other in pairs)
    value = kappa(pairs)
    if value is None:
        return Kappa(None, None, None, len(pairs), same)
    labels = sorted({label for pair in pairs for label in pair})
    place = {label: index for index, label in enumerate(labels)}
    names = list(groups) if groups else [str(number) for number in range(len(pairs))]
    rows = {name: index for index, name in enumerate(dict.fromkeys(names))}
    tables_G_C_C = np.zeros((len(rows), len(labels), len(labels)))
    for (one, other), name in zip(pairs, names, strict=True):
        tables_G_C_C[rows[name], place[one], place[other]] += 1
    draws = np.random.default_rng(seed).multinomial(
        len(rows), np.full(len(rows), 1 / len(rows)), size=_RESAMPLES
    )
    tables_R_C_C = np.tensordot(draws, tables_G_C_C, axes=1)
    totals_R = tables_R_C_C.sum((1, 2))
    observed_R = np.trace(tables_R_C_C, axis1=1, axis2=2) * totals_R
    expected_R = (tables_R_C_C.sum(1) * tables_R_C_C.sum(2)).sum(1)
    # A resample in which both give one label only has no kappa.
    defined = expected_R < totals_R**2
    if not defined.any():
        return Kappa(value, None, None, len(pairs), same)
    kappas = (observed_R[defined] - expected_R[defined]) / (totals_R[defined] ** 2 - expected_R[defined])
    low, high = np.quantile(kappas, [0.025, 0.975])
    return Kappa(value, min(float(low), value), max(float(high), value), len(pairs), same)
