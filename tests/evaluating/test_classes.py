"""Labels read from words, and figures that are scikit-learn's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from tunesmith.errors import DatasetError
from tunesmith.evaluating.classes import Labelled, Reading, classify, likeliest, read_label

LABELS = ("refund", "refund request", "bug_report", "C++")


@pytest.mark.parametrize(
    ("answer", "label", "how"),
    [
        ("Refund", "refund", "exact"),
        ("  **Bug report**. ", "bug_report", "exact"),
        ("BUG-REPORT", "bug_report", "exact"),
        ("It is a refund request, I think.", "refund request", "named"),
        ("This is a refund.", "refund", "named"),
        ("the label: c++", "C++", "named"),
        ("refunds are fun", None, "none"),
        ("", None, "none"),
        ("Either a refund or a bug report", None, "several"),
        ("refund, yes: refund", "refund", "named"),
    ],
)
def test_a_label_is_read_from_words(answer: str, label: str | None, how: str) -> None:
    """An answer that is a label gives it; one that names a single label gives that; others give none, and why."""
    assert read_label(answer, LABELS) == Reading(label, how)  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [("a b", "A-b"), ("", "x"), ("...",), ()])
def test_labels_that_cannot_be_told_apart_are_refused(labels: Sequence[str]) -> None:
    """Labels need words, and different ones."""
    with pytest.raises(DatasetError):
        read_label("x", labels)


ROWS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["a", "b", "c", "d", None])), min_size=1, max_size=60
)


def _made(rows: Sequence[tuple[str, str | None]], cluster: int = 1) -> list[Labelled]:
    return [
        Labelled(
            str(number), str(number // cluster), truth, Reading(given, "exact" if given else "none"), None
        )
        for number, (truth, given) in enumerate(rows)
    ]


@given(ROWS)
@settings(max_examples=50, deadline=None)
def test_figures_are_scikit_learns(rows: list[tuple[str, str | None]]) -> None:
    """Accuracy, macro F1, each label's figures and the confusion; an answer without a label is a label of its own."""
    truth, given = [one for one, _ in rows], [other or "no label" for _, other in rows]
    report = classify(_made(rows), "abcd", resamples=50)
    assert report.accuracy.value == pytest.approx(accuracy_score(truth, given))
    present = [label for label in "abcd" if label in truth or label in given]
    assert report.absent == tuple(label for label in "abcd" if label not in present)
    expected = f1_score(truth, given, labels=present, average="macro", zero_division=0)
    assert report.macro_f1.value == pytest.approx(expected)
    table = confusion_matrix(truth, given, labels=[*"abcd", "no label"])
    assert report.confusion == tuple(tuple(row) for row in table[:4].tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, support = precision_recall_fscore_support(
            truth, given, labels=list("abcd"), zero_division=np.nan
        )
    for place, one in enumerate(report.classes):
        assert one.support == support[place]
        assert one.f1 == pytest.approx(0.0 if np.isnan(f1[place]) else f1[place])
        assert (one.precision is None) == bool(np.isnan(precision[place]))
        assert (one.recall is None) == bool(np.isnan(recall[place]))
        assert one.precision is None or one.precision == pytest.approx(precision[place])
        assert one.recall is None or one.recall == pytest.approx(recall[place])
    assert report.no_label.value == pytest.approx(given.count("no label") / len(rows))
    assert sum(report.unread.values()) == given.count("no label")
    for estimate in (report.accuracy, report.macro_f1, report.no_label):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_a_few_right_answers_are_no_certainty() -> None:
    """Five of five right leave room below for accuracy and macro F1."""
    report = classify(_made([("a", "a"), ("b", "b"), ("a", "a"), ("b", "b"), ("a", "a")]), "ab")
    assert report.macro_f1.value == report.accuracy.value == 1.0
    assert report.accuracy.low < 0.8
    assert report.macro_f1.low < 0.85


def test_intervals_hold_the_true_figures() -> None:
    """Of 200 simulated sets of 30 groups of two, about 95 % of the intervals hold the truth.

    Both questions of a group are right or wrong together: an interval that took them for independent would hold less.
    Two even labels, right in 80 %: accuracy and macro F1 are both 0.8 (the latter but for a small bias).
    """
    random = np.random.default_rng(11)
    held = {"accuracy": 0, "macro": 0}
    for _ in range(200):
        truth = np.repeat(random.random(30) < 0.5, 2)
        given = truth ^ np.repeat(random.random(30) < 0.2, 2)
        rows = [("ab"[int(one)], "ab"[int(other)]) for one, other in zip(truth, given, strict=True)]
        report = classify(_made(rows, cluster=2), "ab", resamples=400)
        held["accuracy"] += report.accuracy.low <= 0.8 <= report.accuracy.high
        held["macro"] += report.macro_f1.low <= 0.8 <= report.macro_f1.high
    assert 182 <= held["accuracy"] <= 199
    assert 180 <= held["macro"] <= 199


def _sure(number: int, confidence: float, *, right: bool) -> Labelled:
    shares = {"a": confidence, "b": 1 - confidence}
    return Labelled(str(number), str(number), "a" if right else "b", likeliest(shares), shares)


def test_calibration_counts_what_it_should() -> None:
    """Confidences of 0.9 that are right in 60 % have an error of 0.3, and scikit-learn's Brier score twice."""
    answers = [_sure(number, 0.9, right=number % 5 < 3) for number in range(50)]
    found = classify(answers, "ab", resamples=50).calibration
    assert found is not None
    assert found.error == pytest.approx(0.3)
    assert len(found.bins) == 1  # equal confidences stay together
    assert (found.bins[0].low, found.bins[0].high, found.bins[0].right.value) == (0.9, 0.9, 0.6)
    expected = brier_score_loss([one.truth == "a" for one in answers], [0.9] * 50)
    assert found.brier == pytest.approx(2 * expected)
    assert (found.n, found.without) == (50, 0)


def test_calibration_of_a_calibrated_answer_is_that_of_chance() -> None:
    """Answers that are right as often as they say have about the error that chance has, in bins of equal size."""
    random = np.random.default_rng(5)
    sure = random.uniform(0.5, 1, 400)
    answers = [
        _sure(number, float(one), right=bool(random.random() < one)) for number, one in enumerate(sure)
    ]
    found = classify(answers, "ab", resamples=50).calibration
    assert found is not None
    assert [one.right.n for one in found.bins] == [40] * 10
    assert found.error < 2 * found.by_chance
    assert 0.01 < found.by_chance < 0.08
    assert all(one.low <= one.confidence <= one.high for one in found.bins)


def test_answers_without_probabilities_are_counted() -> None:
    """Calibration is over those that have them, and says how many do not; with none, there is none."""
    rows = [_sure(number, 0.8, right=True) for number in range(3)]
    mixed = classify([*rows, *_made([("a", "b")])], "ab", resamples=50).calibration
    assert mixed is not None
    assert (mixed.n, mixed.without) == (3, 1)
    assert classify(_made([("a", "b")]), "ab", resamples=50).calibration is None


@pytest.mark.parametrize(
    "answer",
    [
        Labelled("1", "1", "z", Reading("a", "exact")),
        Labelled("1", "1", "a", Reading("z", "exact")),
        Labelled("1", "1", "a", Reading("a", "exact"), {"a": 1.0}),
        Labelled("1", "1", "a", Reading("a", "exact"), {"a": 0.9, "b": 0.9}),
    ],
)
def test_what_is_not_of_the_labels_is_refused(answer: Labelled) -> None:
    """A label that is none of the set, and probabilities that are not theirs, are errors and no silent zero."""
    with pytest.raises(DatasetError):
        classify([answer], "ab")


def test_no_answers_have_no_figures() -> None:
    """Nothing asked is an error."""
    with pytest.raises(DatasetError):
        classify([], "ab")
