"""Tasks of which it is known what must win, from the documents to the verdict, with the embedded models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.known import Task, absent_facts, chance_alone, house_format, write

from tunesmith.project import Project


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "advice"),
    [(house_format, "Fine-tune: the tuned model scores"), (chance_alone, "Use none of these yet")],
)
def test_the_verdict_names_the_right_one(task: Callable[[], Task], advice: str, tmp_path: Path) -> None:
    """A form that only examples show needs tuning, and no retrieval; against chance nothing helps."""
    report = _report(task, tmp_path)

    assert report["verdict"].startswith(advice), report["verdict"]
    assert report["set"] == "asked"


@pytest.mark.slow
def test_facts_that_training_never_shows_need_retrieval(tmp_path: Path) -> None:
    """Whoever wins retrieves: tuning alone stays far below plain retrieval."""
    report = _report(absent_facts, tmp_path)

    retrieves = "retrieval" in report["best"].split("+") or "retrieval is enough" in report["verdict"]
    assert retrieves, report["verdict"]
    tuned, first_hit = (
        report[part][name]["asked"]["exact_match"]
        for part, name in (("contenders", "tuned"), ("floors", "first_hit"))
    )
    assert tuned["high"] < first_hit["low"]


def _report(task: Callable[[], Task], folder: Path) -> Mapping[str, Any]:
    project = Project.open(write(task(), folder / "known"))
    project.run()
    return project.report().json
