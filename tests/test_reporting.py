"""The stage `report`: what it refuses."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from tunesmith import reporting
from tunesmith.artifacts import Artifact, FileDigest, Manifest
from tunesmith.config import Config
from tunesmith.errors import ConfigError
from tunesmith.evaluating.costs import ReportSettings
from tunesmith.records import Answer, Score, write_jsonl


def evaluated(folder: Path, *scores: Score) -> Artifact:
    """Return what `evaluate` left: scores, and neither floors nor ceilings."""
    files: dict[str, FileDigest] = {}
    for name, rows in {"scores.jsonl": scores, "floors.jsonl": (), "ceilings.jsonl": ()}.items():
        write_jsonl(folder / name, rows)
        content = folder.joinpath(name).read_bytes()
        files[name] = FileDigest(len(content), sha256(content).hexdigest())
    return Artifact(folder, "evaluate", "1", Manifest("evaluate", "1", 1, {}, (), "", "", 0.0, files))


def test_accuracy_of_answers_that_are_no_labels_is_refused(tmp_path: Path) -> None:
    """The error names the setting and what was measured by all."""
    first = Score("base", "asked", "1", "1", None, None, Answer("a"), measures={"f1": 0.5, "chrf": 0.5})
    second = Score("tuned", "asked", "1", "1", None, None, Answer("a"), measures={"f1": 0.5})
    config = Config(tmp_path / "tunesmith.toml", "x", ("docs",), report=ReportSettings(measure="accuracy"))
    with pytest.raises(
        ConfigError, match=r"\[report\] measure = 'accuracy': .* as they are no labels"
    ) as caught:
        reporting._words_part({"evaluate": evaluated(tmp_path, first, second)}, config)
    assert caught.value.hint == "Name one that they were measured by: f1."
