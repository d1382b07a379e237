"""Classes: the label that an answer gives, how often it is the right one, and whether probabilities can be believed.

An answer in which no label can be read counts as wrong everywhere and is never dropped: it has a column of its own in
the confusion, and a share of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tunesmith.errors import DatasetError
from tunesmith.evaluating.statistics import (
    RESAMPLES,
    Estimate,
    clustered_interval,
    clustered_mean,
    wilson,
)

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

How = Literal["exact", "named", "none", "several"]

_MOST_BINS = 10
_FEWEST_IN_A_BIN = 10


@dataclass(frozen=True, slots=True)
class Reading:
    """The label that an answer gives, None if none can be read, and how it was found.

    `exact`: the answer is the label; `named`: it is the only one that the answer names. `none` and `several` say why
    there is no label.
    """

    label: str | None
    how: How


@dataclass(frozen=True, slots=True)
class Labelled:
    """One question's right label, and the one that was read from its answer.

    `probabilities` are those of all labels, where the contender tells them. `group` is what intervals cluster by.
    """

    example: str
    group: str
    truth: str
    reading: Reading
    probabilities: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One label: `support` questions have it, `predicted` answers give it.

    Precision is None where no answer gives the label, recall where no question has it: there is nothing to divide by.
    """

    label: str
    precision: float | None
    recall: float | None
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of like confidence, from `low` to `high`: their mean confidence, and the share that is right."""

    low: float
    high: float
    confidence: float
    right: Estimate


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether probabilities can be believed, over the `n` answers that have them; `without` have none.

    `error` is the expected calibration error over bins of equally many answers; `by_chance` what perfectly calibrated
    answers of the same confidences and number would show, since the error of a small set is never 0. `brier` is the
    squared distance of all labels' probabilities from the truth, summed over labels: 0 is perfect, 2 the worst.
    """

    error: float
    by_chance: float
    brier: float
    bins: tuple[Bin, ...]
    n: int
    without: int


@dataclass(frozen=True, slots=True)
class ClassReport:
    """All about one contender's labels on one set.

    `confusion` has a row for each true label and a column for each given one, the last for answers without a label, of
    which `unread` counts the reasons. Labels that no question has and no answer gives (`absent`) are no part of macro
    F1. `left_out` counts the questions whose right label is none of these, which are no part of anything here.
    """

    labels: tuple[str, ...]
    accuracy: Estimate
    macro_f1: Estimate
    no_label: Estimate
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    unread: Mapping[How, int] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    calibration: Calibration | None = None
    left_out: int = 0


def read_label(answer: str, labels: Sequence[str]) -> Reading:
    """Return the label that an answer in words gives: it itself, else the only one that it names.

    Case, white space, underscores and hyphens, and marks around the words do not count. Of labels that overlap the
    longest is named ("refund request", and not "refund"). A word that denies is not understood: "not spam" names spam.

    Raises DatasetError for labels that are none, empty or the same but for what does not count.
    """
    by_words = _by_words(labels)
    words = _words(answer)
    if words in by_words:
        return Reading(by_words[words], "exact")
    longest_first = sorted(by_words, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    named = {by_words[found] for found in re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", words)}
    if len(named) == 1:
        return Reading(named.pop(), "named")
    return Reading(None, "several" if named else "none")


def likeliest(probabilities: Mapping[str, float]) -> Reading:
    """Return the label of the largest probability, the first of equals by name, as a reading."""
    return Reading(min(probabilities, key=lambda label: (-probabilities[label], label)), "exact")


def classify(
    answers: Sequence[Labelled],
    labels: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ClassReport:
    """Sum up one contender's labels on one set; intervals are of a bootstrap clustered by group.

    Macro F1 is the mean over labels of the harmonic mean of precision and recall, which is 0 for a label that is never
    right. As for shares, an imagined answer that is right and one that is wrong, each shared out over all labels, are
    drawn with the others, so that a few right answers do not look like certainty.

    Raises DatasetError without answers, for a true or given label that is not among `labels`, and for probabilities
    that are not of these labels or do not sum to 1.
    """
    by_words = _by_words(labels)
    names = tuple(by_words.values())
    if not answers:
        raise DatasetError("labels of no answers cannot be summed up", hint="Ask at least one question.")
    for one in answers:
        _check(one, names)
    counts_L_P = _confusion(answers, names)
    classes = tuple(_class_score(name, place, counts_L_P) for place, name in enumerate(names))
    present = tuple(one.support + one.predicted > 0 for one in classes)
    groups = [one.group for one in answers]
    given = [one for one in answers if one.probabilities is not None]
    unread = [one.reading.how for one in answers if one.reading.label is None]
    return ClassReport(
        labels=names,
        accuracy=clustered_mean(
            [float(one.reading.label == one.truth) for one in answers], groups, resamples=resamples, seed=seed
        ),
        macro_f1=_macro_f1(answers, names, present, resamples, seed),
        no_label=clustered_mean(
            [float(one.reading.label is None) for one in answers], groups, resamples=resamples, seed=seed
        ),
        classes=classes,
        confusion=tuple(tuple(int(count) for count in row) for row in counts_L_P),
        unread={how: unread.count(how) for how in dict.fromkeys(unread)},
        absent=tuple(name for name, there in zip(names, present, strict=True) if not there),
        calibration=_calibration(given, len(answers) - len(given), seed) if given else None,
    )


# --- labels and words


def _words(text: str) -> str:
    """Return a text in lower case, its words one space apart, without marks around the whole."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = re.sub(r"[\s_\-‐-―]+", " ", plain)
    return re.sub(r"^[^\w+]+|[^\w+#%]+$", "", plain)


def _by_words(labels: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for label in labels:
        words = _words(label)
        if not words:
            raise DatasetError(f"{label!r} is no label that an answer could name", hint="Give it a word.")
        if words in found:
            raise DatasetError(
                f"the labels {found[words]!r} and {label!r} cannot be told apart in an answer",
                hint="Labels must differ by more than case, spaces and marks.",
            )
        found[words] = label
    if not found:
        raise DatasetError("there are no labels", hint="Name the labels that an answer may give.")
    return found


def _check(one: Labelled, names: tuple[str, ...]) -> None:
    for what, label in (("right label", one.truth), ("answer", one.reading.label)):
        if label is not None and label not in names:
            raise DatasetError(
                f"the {what} of {one.example} is {label!r}, which is none of {', '.join(names)}",
                hint="Name all labels, as they are written in the examples.",
            )
    if one.probabilities is None:
        return
    values = one.probabilities.values()
    whole = abs(sum(values) - 1) < 0.01 and all(0 <= value <= 1 for value in values)
    if set(one.probabilities) != set(names) or not whole:
        raise DatasetError(
            f"the probabilities of {one.example} are not those of all labels, or do not sum to 1: "
            f"{dict(one.probabilities)}",
            hint="Give one probability for each label.",
        )


# --- confusion and what follows from it


def _confusion(answers: Sequence[Labelled], names: tuple[str, ...]) -> NDArray[float64]:
    """Return how many questions of each label (rows) were given which (columns, the last for none)."""
    import numpy as np

    place = {name: index for index, name in enumerate(names)}
    counts_L_P = np.zeros((len(names), len(names) + 1))
    for one in answers:
        counts_L_P[place[one.truth], _column(one, place)] += 1
    return counts_L_P


def _column(one: Labelled, place: Mapping[str, int]) -> int:
    return len(place) if one.reading.label is None else place[one.reading.label]


def _class_score(label: str, place: int, counts_L_P: NDArray[float64]) -> ClassScore:
    right = int(counts_L_P[place, place])
    support, predicted = int(counts_L_P[place].sum()), int(counts_L_P[:, place].sum())
    return ClassScore(
        label=label,
        precision=right / predicted if predicted else None,
        recall=right / support if support else None,
        f1=2 * right / (support + predicted) if support + predicted else 0.0,
        support=support,
        predicted=predicted,
    )


def _macro_f1(
    answers: Sequence[Labelled], names: tuple[str, ...], present: tuple[bool, ...], resamples: int, seed: int
) -> Estimate:
    """Return the mean F1 of the labels that are present, its interval from each group's sums.

    The sums are, for each label, how many were right, had it, and were given it.
    """
    import numpy as np

    there = np.array(present)
    place = {name: index for index, name in enumerate(names)}
    rows = {name: index for index, name in enumerate(sorted({one.group for one in answers}))}
    sums_G_3_L = np.zeros((len(rows) + 2, 3, len(names)))
    for one in answers:
        truth, given = place[one.truth], _column(one, place)
        sums_G_3_L[rows[one.group], 1, truth] += 1
        if given < len(names):
            sums_G_3_L[rows[one.group], 2, given] += 1
            sums_G_3_L[rows[one.group], 0, truth] += given == truth
    share = 1 / there.sum()
    sums_G_3_L[-2, 1:, there] = share
    sums_G_3_L[-1, :, there] = share

    def mean_f1(sums_R_K: NDArray[float64]) -> NDArray[float64]:
        right, support, predicted = sums_R_K.reshape(-1, 3, len(names)).transpose(1, 0, 2)
        both = support + predicted
        f1_R_L = np.divide(2 * right, both, out=np.zeros_like(both), where=both > 0)
        return np.asarray(f1_R_L[:, there].mean(1))

    value = float(mean_f1(sums_G_3_L[:-2].sum(0).reshape(1, -1))[0])
    low, high = clustered_interval(
        sums_G_3_L.reshape(len(sums_G_3_L), -1), mean_f1, resamples=resamples, seed=seed
    )
    return Estimate(value, min(low, value), max(high, value), len(answers))


# --- calibration


def _calibration(given: Sequence[Labelled], without: int, seed: int) -> Calibration:
    """Return the calibration of the likeliest label's probability.

    Bins of equally many answers: K. Nguyen and B. O'Connor, Posterior calibration and exploratory analysis for
    natural language processing models, EMNLP 2015. The score: G. W. Brier, Verification of forecasts expressed in
    terms of probability, Monthly Weather Review 78 (1950).
    """
    import numpy as np

    pairs = []
    for one in given:
        assert one.probabilities is not None
        label = likeliest(one.probabilities).label or ""
        pairs.append((one.probabilities[label], label == one.truth))
    confidence_N = np.array([sure for sure, _ in pairs])
    right_N = np.array([right for _, right in pairs], dtype=float)
    order = np.argsort(confidence_N, kind="stable")
    confidence_N, right_N = confidence_N[order], right_N[order]
    starts = _bin_starts(confidence_N)
    sizes = np.diff([*starts, len(pairs)])
    chance = np.random.default_rng(seed).random((200, len(pairs))) < confidence_N
    return Calibration(
        error=_expected_error(confidence_N, right_N[None], starts)[0],
        by_chance=float(np.mean(_expected_error(confidence_N, chance.astype(float), starts))),
        brier=sum(_brier(one) for one in given) / len(given),
        bins=tuple(
            Bin(
                low=float(confidence_N[start]),
                high=float(confidence_N[start + size - 1]),
                confidence=float(confidence_N[start : start + size].mean()),
                right=wilson(int(right_N[start : start + size].sum()), int(size)),
            )
            for start, size in zip(starts, sizes, strict=True)
        ),
        n=len(given),
        without=without,
    )


def _bin_starts(sorted_N: NDArray[float64]) -> list[int]:
    """Return where bins of about equally many values begin; equal values stay together."""
    import numpy as np

    count = len(sorted_N)
    bins = max(1, min(_MOST_BINS, count // _FEWEST_IN_A_BIN))
    ideal = [round(number * count / bins) for number in range(bins)]
    # The first of those that are equal to the value at the border.
    return sorted({int(np.searchsorted(sorted_N, sorted_N[place], side="left")) for place in ideal} | {0})


def _expected_error(
    confidence_N: NDArray[float64], right_R_N: NDArray[float64], starts: Sequence[int]
) -> list[float]:
    """Return, for each row of outcomes, the bins' distances of confidence from right answers, weighed by size."""
    import numpy as np

    gaps_R_B = np.add.reduceat(right_R_N - confidence_N, starts, axis=1)
    return [float(value) for value in np.abs(gaps_R_B).sum(1) / len(confidence_N)]


def _brier(one: Labelled) -> float:
    assert one.probabilities is not None
    return sum((value - (label == one.truth)) ** 2 for label, value in one.probabilities.items())
