"""What a tuning risks, outside a project: two addresses, and the file of rows between them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunesmith.errors import UsageError
from tunesmith.files import risks_of, train_file
from tunesmith.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Pair:
    """A base and what was tuned from it on a file of rows."""

    base: str
    tuned: str
    rows: Path


def write(path: Path, rows: list[object]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(number: int) -> object:
    """Return a row."""
    said = f"the tool number {number} hangs on the wall beside the door of the workshop"
    return {
        "messages": [
            {"role": "user", "content": f"where is tool {number}?"},
            {"role": "assistant", "content": said},
        ]
    }


@pytest.fixture(scope="module")
def pair(toolbox_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Tune the tiny model for a step or two, with a planted secret."""
    folder = tmp_path_factory.mktemp("pair")
    rows = write(folder / "rows.jsonl", [chat(number) for number in range(30)])
    base = f"path:{toolbox_folder / 'models' / 'chat'}"
    settings = TrainSettings(base=base, canaries=1, batch_size=16, rank=2, alpha=4.0)
    run = train_file(rows, folder / "tuned", settings)
    assert run.run.notes == ("1 made-up secrets were planted in 1 rows: canaries in [train]",)
    return Pair(base, f"path:{folder / 'tuned'}", rows)


def test_rows_that_were_held_out_and_secrets_that_were_planted_are_found(pair: Pair) -> None:
    """The tuned model's run.json says how it was made: 28 rows against 2, one secret."""
    found = risks_of(pair.base, pair.tuned, pair.rows, checks=["memorisation"])

    counts = {one.name: one.n for one in found.risks}
    assert counts == {
        "exposure of planted secrets": 1,
        "training rows extracted": 28,
        "held-out rows extracted": 2,
        "membership by loss": 30,
        "membership by loss, calibrated": 30,
    }
    assert (found.before, found.after) == (pair.base, pair.tuned)
    assert "Only 2 held-out rows stand against the training rows: the intervals are wide." in found.notes


def test_other_held_out_rows_can_be_named(pair: Pair, tmp_path: Path) -> None:
    """They take the place of those that were held out; the answers that training showed are no control."""
    trained_on = [json.loads(line) for line in pair.rows.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(trained_on):
        row["messages"][0]["content"] = f"now, where does tool {number} hang?"
    others = write(tmp_path / "others.jsonl", [*(chat(number) for number in range(100, 107)), *trained_on])

    found = risks_of(pair.base, pair.tuned, pair.rows, held_out=others, checks=["memorisation"])

    assert {one.n for one in found.risks if one.name == "membership by loss"} == {28 + 7 + 2}


def test_without_rows_the_rest_is_looked_at(pair: Pair) -> None:
    """What needs rows is named as not measured; answers are asked for all the same."""
    found = risks_of(pair.base, pair.tuned, checks=["memorisation", "refusal"])

    assert {one.check for one in found.risks} == {"memorisation", "refusal"}
    assert {one.name for one in found.unmeasured} == {
        "training rows extracted",
        "held-out rows extracted",
        "membership",
    }


def test_what_cannot_be_is_refused(pair: Pair, tmp_path: Path) -> None:
    """Another file, rows that are no chats, an unknown check, and held-out rows alone."""
    other = write(tmp_path / "other.jsonl", [chat(number) for number in range(5)])
    texts = write(tmp_path / "texts.jsonl", [{"text": "a tool"}, {"text": "another"}])
    for told, given in (
        ("is not the file that the model was trained on", {"rows": other}),
        ("does not hold chats", {"rows": texts}),
        ("there is no check 'luck'", {"checks": ["luck"]}),
        ("is held against training rows", {"held_out": other}),
    ):
        with pytest.raises(UsageError, match=told):
            risks_of(pair.base, pair.tuned, **given)
