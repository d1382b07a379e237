"""Exported results, read by inspect_ai and lm-evaluation-harness themselves, in environments made for it; and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith.evaluating.exchange.files import read_results, write_results
from tunesmith.evaluating.exchange.results import Results
from tunesmith.records import Example, Score

pytestmark = pytest.mark.slow

MakeScores = Callable[..., tuple[Score, ...]]
MakeExample = Callable[..., Example]

INSPECT = """
import json, sys
from pathlib import Path
from inspect_ai.log import read_eval_log, write_eval_log
from inspect_ai.scorer import value_to_float

found = []
for file in sorted(Path("logs").glob("*.json")):
    log = read_eval_log(str(file))
    values = [value_to_float()(sample.scores["exact"].value) for sample in log.samples]
    found.append({
        "status": log.status,
        "model": log.eval.model,
        "task": log.eval.task,
        "mean": next(s for s in log.results.scores if s.name == "exact").metrics["mean"].value,
        "values": values,
        "said": [sample.output.completion for sample in log.samples],
        "inputs": [sample.input for sample in log.samples],
    })
    write_eval_log(log, f"again/{file.name}", format="json")
print(json.dumps(found))
"""
HARNESS = """
import json
from pathlib import Path
from lm_eval.utils import get_file_datetime, get_file_task_name, get_latest_filename, get_results_filenames
from lm_eval.utils import get_sample_results_filenames, make_table

found = []
for folder in sorted(Path("harness").iterdir()):
    names = [str(file) for file in folder.iterdir()]
    [summed] = get_results_filenames(names)
    [samples] = get_sample_results_filenames(names)
    told = json.loads(Path(summed).read_text())
    found.append({
        "task": get_file_task_name(Path(samples).name),
        "dates": [get_file_datetime(Path(samples).name), get_file_datetime(Path(summed).name)],
        "table": make_table(told),
    })
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with inspect_ai; lm_eval without what it needs, of which its helpers import little."""
    home = tmp_path_factory.mktemp("harnesses") / "environment"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    requirements = Path(__file__).with_name("harnesses.txt")
    for arguments in (("-r", str(requirements)), ("--no-deps", "lm_eval==0.4.13")):
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", *arguments], check=True)
    return home


def ask(home: Path, folder: Path, code: str) -> Any:
    """Run Python code that prints a JSON document last, and return that."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [home / "bin" / "python", "-c", code],
        cwd=folder,
        env=variables | {"INSPECT_DISPLAY": "none"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.strip().rpartition("\n")[2])


@pytest.fixture
def results(scores: MakeScores, example: MakeExample) -> Results:
    """Two contenders of which one is better."""
    questions = [replace(example(number, "center"), id=f"q{number}") for number in range(4)]
    return Results(
        name="my project",
        made="2026-11-01T12:00:04+00:00",
        scores=(*scores("base", "x.vh"), *scores("tuned+retrieval", "xxx.")),
        questions={one.id: one for one in questions},
        settings={"evaluate": {"max_tokens": 80}},
        versions={"torch": "2.13.0"},
    )


def test_inspect_reads_our_logs(environment: Path, results: Results, tmp_path: Path) -> None:
    """Its own reader finds the scores, answers and questions; what it writes again, we read as what it was."""
    write_results(results, tmp_path / "logs", "inspect")
    (tmp_path / "again").mkdir()
    base, tuned = ask(environment, tmp_path, INSPECT)
    assert (base["status"], base["model"], base["task"]) == ("success", "tunesmith/base", "my project-asked")
    assert (base["mean"], base["values"]) == (0.25, [1.0, 0.0, 0.0, 0.0])
    assert (tuned["mean"], tuned["values"]) == (0.75, [1.0, 1.0, 1.0, 0.0])
    assert tuned["said"] == ["x", "x", "x", "."]
    assert tuned["inputs"] == [example.question for example in results.questions.values()]
    again = read_results(tmp_path / "again")
    assert again.scores == results.scores
    assert again.questions == results.questions
    assert not again.unread


def test_the_harness_finds_our_files(environment: Path, results: Results, tmp_path: Path) -> None:
    """Its own helpers find task and date in their names, and make its table of our figures."""
    write_results(results, tmp_path / "harness", "lm-eval")
    for found in ask(environment, tmp_path, HARNESS):
        assert found["task"] == "asked"
        assert len({date.removesuffix(".json") for date in found["dates"]}) == 1
        assert "|exact" in found["table"].replace(" ", "")
