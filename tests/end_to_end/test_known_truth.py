"""Tasks of which it is known what must win, from the documents to the verdict, with the embedded models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.end_to_end.known import Task, absent_facts, chance_alone, house_format, write

from tunesmith.project import Project


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "advice"),
    [
        (house_format, ("Fine-tune",)),
        (absent_facts, ("Do not fine-tune, retrieval is enough", "Tune the encoder, keep the model")),
        (chance_alone, ("Use none of these yet",)),
    ],
)
def test_the_verdict_names_the_right_one(
    task: Callable[[], Task], advice: tuple[str, ...], tmp_path: Path
) -> None:
    """A form that only examples show needs tuning, facts that training never shows retrieval, and chance neither."""
    project = Project.open(write(task(), tmp_path / "known"))

    project.run()

    report = project.report().json
    assert report["verdict"].startswith(advice), report["verdict"]
    assert report["set"] == "asked"
