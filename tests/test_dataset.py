"""A project's examples in other tools' forms: the same rows in each, and a statement of what they are made from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.conftest import Toolbox

from tunesmith.dataset import FORMS, DatasetForm
from tunesmith.errors import UsageError
from tunesmith.project import Project
from tunesmith.records import Example, read_jsonl
from tunesmith.training.formats import convert


@pytest.fixture(scope="module")
def project(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a copy of the finished project."""
    folder = tmp_path_factory.mktemp("dataset") / "project"
    shutil.copytree(toolbox.project.path, folder)
    return Project.open(folder)


def _train(project: Project) -> list[Example]:
    [folder] = project.store.root.glob("artifacts/curate-*")
    return list(read_jsonl(Example, folder / "train.jsonl"))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_holds_every_row(project: Project, tmp_path: Path, form: DatasetForm) -> None:
    """Questions and answers are found again in what was written."""
    made = project.dataset(form, tmp_path / "out")

    assert made.rows["train"] == len(_train(project))
    texts = _texts(made.folder, form)
    for example in _train(project):
        assert any(example.question in text and example.answer in text for text in texts)


def _texts(folder: Path, form: DatasetForm) -> list[str]:
    if form in ("parquet", "huggingface"):
        from pyarrow import parquet

        file = folder / ("train.parquet" if form == "parquet" else "data/train-00000-of-00001.parquet")
        rows = parquet.read_table(file).to_pylist()
        return ["\n".join(turn["content"] for turn in row["messages"]) for row in rows]
    if form == "llama-factory":
        rows = json.loads((folder / "train.json").read_text(encoding="utf-8"))
        return ["\n".join(turn["value"] for turn in row["conversations"]) for row in rows]
    back = folder / "back.jsonl"
    convert(folder / "train.jsonl", back, "openai")
    rows = [json.loads(line) for line in back.read_text(encoding="utf-8").splitlines()]
    return ["\n".join(turn["content"] for turn in row["messages"]) for row in rows]


def test_the_statement_says_what_it_is_made_from(project: Project, tmp_path: Path) -> None:
    """Sources with their licences, the sets, and counts that add up."""
    made = project.dataset("openai", tmp_path / "out")

    said = (made.folder / "DATA.md").read_text(encoding="utf-8")
    assert "| `python:toolbox` |" in said
    assert f"| train | {made.rows['train']:,} | to train on |" in said
    [line] = [line for line in said.splitlines() if line.startswith("| generate | ") and line.count("|") == 6]
    asked, kept, rejected, failed = (int(cell.replace(",", "")) for cell in line.split("|")[2:6])
    assert asked == kept + rejected + failed


def test_nothing_is_written_over(project: Project, tmp_path: Path) -> None:
    """A folder that is there is somebody's."""
    (tmp_path / "out").mkdir()

    with pytest.raises(UsageError, match="is there already"):
        project.dataset("openai", tmp_path / "out")
