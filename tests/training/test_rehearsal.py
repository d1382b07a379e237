from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.errors import TrainingError
from tunesmith.training.rehearsal import Job, rehearse
from tunesmith.training.render import Rendered
from tunesmith.training.settings import TrainSettings

SETTINGS = TrainSettings(base="tiny", batch_size=2, rank=4)


def row(length: int) -> Rendered:
    """Return a row of `length` ids, the last three of them labelled."""
    return Rendered(tuple(range(2, 2 + length)), (False,) * (length - 3) + (True,) * 3)


def test_a_rehearsal_takes_every_piece_of_a_run(chat_folder: Path, tmp_path: Path) -> None:
    """Each has its seconds; memory is that of a process with torch in it; shapes are counted over all parts."""
    rows = [row(length) for length in (10, 12, 30, 31, 60, 61)]
    found = rehearse(Job(str(chat_folder), SETTINGS.model_dump(), 1), rows, rows[:2], tmp_path)
    pieces = (found.start, found.step, found.validation, found.checkpoint, found.end)
    assert min(pieces) > 0
    assert found.peak_bytes > 50 * 2**20
    assert found.shapes == found.shapes_met == 3
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_a_rehearsal_that_fails_says_why(tmp_path: Path) -> None:
    """The words of the process that failed are those of the error."""
    job = Job(str(tmp_path / "nothing"), SETTINGS.model_dump(), 1)
    with pytest.raises(TrainingError, match=r"^the rehearsal of the training failed: \S+ holds no tokenizer"):
        rehearse(job, [row(9)], [row(9)], tmp_path)
