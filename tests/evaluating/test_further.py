"""Labels, code and grades as measures of answers in words."""

from __future__ import annotations

import pytest

from tunesmith.evaluating.further import class_report, labels_of, with_code, with_grades, with_labels
from tunesmith.models.fake import FakeModel
from tunesmith.records import Answer, Example, Score


def example(number: int, answer: str) -> Example:
    """Return an example with an answer on record."""
    return Example(str(number), f"question {number}", answer, "written:f:1")


def score(number: int, text: str, confidence: float | None = None) -> Score:
    """Return an answer in words that was measured by nothing yet."""
    return Score("tuned", "asked", str(number), str(number), None, None, Answer(text, confidence=confidence))


def by_id(*examples: Example) -> dict[str, Example]:
    """Return the examples by id."""
    return {one.id: one for one in examples}


def test_labels_are_few_short_answers_that_come_again() -> None:
    """Free answers, long ones, and those that come once, are no labels."""
    assert labels_of([example(n, ("bug", "feature")[n % 2]) for n in range(8)]) == ("bug", "feature")
    assert labels_of([example(n, "bug") for n in range(8)]) == ()
    assert labels_of([example(n, f"answer {n}") for n in range(8)]) == ()
    assert labels_of([example(n, ("Yes", "No", "yes")[n % 3]) for n in range(9)]) == ("No", "Yes")
    assert labels_of([example(n, "+-"[n % 2]) for n in range(8)]) == ()
    long = "an answer of more than five words"
    assert labels_of([example(n, (long, "bug")[n % 2]) for n in range(8)]) == ()


def test_the_label_that_an_answer_gives_counts() -> None:
    """However it is put; none is an answer too, and a wrong one."""
    examples = by_id(example(1, "bug"), example(2, "bug"), example(3, "bug"))
    answers = [score(1, "This is a Bug."), score(2, "feature"), score(3, "no idea")]
    found = with_labels(answers, examples, ("bug", "feature"))
    assert [one.measures for one in found] == [
        {"accuracy": 1.0, "no_label": 0.0},
        {"accuracy": 0.0, "no_label": 0.0},
        {"accuracy": 0.0, "no_label": 1.0},
    ]
    report = class_report(answers, examples, ("bug", "feature"))
    assert report is not None
    assert report.accuracy.value == pytest.approx(1 / 3)
    assert report.calibration is None


def test_a_label_on_record_is_read_like_an_answers() -> None:
    """Its case does not count; a question with another answer has no label, and is no part of the classes."""
    examples = by_id(example(1, "Bug"), example(2, "who knows"))
    [marked] = with_labels([score(1, "bug")], examples, ("bug", "feature"))
    assert marked.measures["accuracy"] == 1.0
    assert class_report([score(2, "bug")], examples, ("bug", "feature")) is None


def test_questions_with_a_label_that_training_did_not_have_are_counted() -> None:
    """They are no part of the classes, and accuracy has them as wrong: the report says how many."""
    examples = by_id(example(1, "bug"), example(2, "who knows"), example(3, "feature"))
    answers = [score(1, "bug"), score(2, "bug"), score(3, "feature")]
    report = class_report(answers, examples, ("bug", "feature"))
    assert report is not None
    assert (report.accuracy.value, report.accuracy.n, report.left_out) == (1.0, 2, 1)
    marked = with_labels(answers, examples, ("bug", "feature"))
    assert [one.measures["accuracy"] for one in marked] == [1.0, 0.0, 1.0]


def test_a_confident_contender_is_calibrated() -> None:
    """The others' labels share what is left of the probability."""
    examples = by_id(*(example(n, "bug") for n in range(10)))
    answers = [score(n, "bug" if n < 9 else "feature", 0.9) for n in range(10)]
    report = class_report(answers, examples, ("bug", "feature", "other"))
    assert report is not None
    assert report.calibration is not None
    assert report.calibration.error == pytest.approx(0.0, abs=1e-9)


def test_code_is_measured_where_the_answer_on_record_holds_some() -> None:
    """Whether it parses, and whether its names exist; words alone have no such measure."""
    block = "Sort it.\n\n```python\nsorted([2, 1])\n```"
    shell = "Run it.\n\n```bash\nmake demo\n```"
    examples = by_id(example(1, block), example(2, block), example(3, "five"), example(4, shell))
    answers = [
        score(1, "```python\nimport json\njson.dumps([1])\n```"),
        score(2, "```python\nimport json\njson.dump_all([1]\n```"),
        score(3, "five"),
        score(4, shell),
    ]
    assert [one.measures for one in with_code(answers, examples, None)] == [
        {"parses": 1.0, "resolves": 1.0},
        {"parses": 0.0, "resolves": 0.0},
        {},
        {},
    ]


def test_a_grader_that_cannot_be_read_is_an_error_and_no_point() -> None:
    """Errors are measured beside."""
    examples = by_id(example(1, "five"), example(2, "five"), example(3, "five"))
    answers = [score(1, "5"), score(2, "six"), score(3, "seven")]
    said = {"<answer>\n5\n": '{"grade": "right"}', "<answer>\nsix\n": '{"grade": "wrong"}'}
    judge = FakeModel(
        lambda asked: next(
            (reply for piece, reply in said.items() if piece in asked[-1].content), "well, well"
        )
    )
    found = with_grades(answers, examples, judge)
    assert [one.measures for one in found] == [
        {"judged": 1.0, "judge_error": 0.0},
        {"judged": 0.0, "judge_error": 0.0},
        {"judged": 0.0, "judge_error": 1.0},
    ]
    assert with_grades([], examples, judge) == []
