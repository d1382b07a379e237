"""A project with something to call and documents beside: both kinds of questions, one index, two verdicts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.models.fake import FakeModel
from tunesmith.pipeline import plan
from tunesmith.project import Project
from tunesmith.workshops import kept

if TYPE_CHECKING:
    from tests.conftest import Record, Toolbox

HOUSES = ("mill", "barn", "shop", "tower", "cabin", "lodge", "manor", "chapel")


def _mixed(folder: Path, toolbox_folder: Path) -> Project:
    """Return the toolbox's project with documents, and questions in words about them, beside."""
    shutil.copytree(toolbox_folder, folder)
    (folder / "docs").mkdir()
    rows = []
    for number, house in enumerate(HOUSES):
        says = f"The roof of the {house} was laid in {1900 + number}."
        (folder / "docs" / f"{house}.md").write_text(f"# The {house}\n\n{says}\n", encoding="utf-8")
        rows.append({"question": f"When was the roof of the {house} laid?", "answer": says, "quote": says})
    (folder / "questions" / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:6]))
    asked = folder / "questions" / "asked.jsonl"
    asked.write_text(asked.read_text() + "".join(json.dumps(row) + "\n" for row in rows[6:]))
    toml = folder / "tunesmith.toml"
    text = toml.read_text(encoding="utf-8")
    for before, after in (
        ('sources = ["python:toolbox"]', 'sources = ["python:toolbox", "docs"]'),
        ('"questions/train.jsonl"', '"questions/train.jsonl", "questions/words.jsonl"'),
        (
            "[evaluate]",
            '[evaluate]\ncontenders = ["base", "few_shot", "retrieval", "tools", "tuned"]\ntimed = 1',
        ),
        ('checks = ["memorisation", "refusal"]', "checks = []"),
    ):
        assert before in text
        text = text.replace(before, after)
    toml.write_text(text, encoding="utf-8")
    return Project.open(folder)


def test_calls_and_words_are_measured_side_by_side(
    tmp_path: Path, toolbox: Toolbox, toolbox_folder: Path, record: Record
) -> None:
    """Each with contenders that can be asked for it; a passage that is found first calls nothing."""
    project = _mixed(tmp_path / "mixed", toolbox_folder)

    project.run(None, record)

    report = project.report().json
    base = report["contenders"]["base"]["asked"]
    assert base["exact"]["n"] == 10
    assert base["f1"]["n"] == 2
    assert "f1" not in report["contenders"]["tools"]["asked"]
    assert report["metric"] == "exact"
    assert report["words"]["metric"] == "f1"
    assert report["floors"]["first_hit"]["asked"].keys() >= {"exact", "f1"}
    assert "And the answers in words" in project.report().html.read_text(encoding="utf-8")
    assert any("tools" in said and "answers in words" in said for said in record.said)


def test_what_is_kept_hangs_on_what_the_answers_hang_on(toolbox: Toolbox) -> None:
    """Other shots, another encoder: other files of answers."""
    project = toolbox.project
    inputs = {
        one.stage.name: artifact
        for one in plan(project.config)
        if (artifact := project.store.find(one.stage.name, one.id)) is not None
    }
    config = project.config
    others = (
        replace(config, train=config.train.model_copy(update={"seed": 9})),
        replace(config, encoder=config.encoder.model_copy(update={"base": "minilm"})),
        replace(config, retrieve=config.retrieve.model_copy(update={"count": 9})),
    )
    files = {vars(kept(FakeModel({}), "few_shot", inputs, each))["_path"] for each in (config, *others)}
    assert len(files) == 4
