"""The benchmark on APIBench's TorchHub: it runs from end to end, and judges calls by what is loaded."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "apibench.py"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write a dataset of the same form: twelve calls, one of them no Python, and five rows for each."""
    folder = tmp_path / "data"
    folder.mkdir()
    calls = [_listed(f"a/nets{number % 2}", f"net{number}") for number in range(11)]
    calls.append(
        _listed("szq/MEAL", "meal_s", call="repo_or_dir='szq/MEAL', 'meal', model='meal_s', pretrained=True")
    )
    rows = [
        {
            "code": f"{{'Instruction': Which model number {at} sees {row} cats?, 'Output': {{'domain': 'x'}}",
            "api_call": one["api_call"],
        }
        for at, one in enumerate(calls)
        for row in range(5)
    ]
    for name, lines in (("torchhub_api.jsonl", calls), ("torchhub_train.json", rows)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def _listed(repo: str, model: str, call: str = "") -> dict[str, str]:
    return {
        "domain": "Classification" if model[-1] in "012345" else "Segmentation",
        "functionality": "Nets",
        "api_name": "torch.hub.load" if model == "net0" else model.upper(),
        "api_call": f"torch.hub.load({call or f'repo_or_dir={repo!r}, model={model!r}, pretrained=True'})",
        "description": f"{model} sees cats in pictures.",
    }


@pytest.fixture
def torchhub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the benchmark's module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("torchhub")


@pytest.mark.slow
def test_a_quick_run_has_every_key_and_goes_on_where_it_was(
    data: Path, tmp_path: Path, toolbox_folder: Path
) -> None:
    """Every contender, floor and ceiling of both splits is scored; constrained contenders hallucinate nothing."""
    models = toolbox_folder / "models"
    command = [sys.executable, SCRIPT, "--quick", "--json", "--data", data, "--work", tmp_path / "work"]
    command += ["--model", f"path:{models / 'chat'}", "--encoder", f"path:{models / 'encoder'}"]
    figures = _run(command)
    for split in ("", "by_call."):
        for name in (
            "tuned",
            "base",
            "few_shot",
            "tuned+retrieval",
            "ceiling.oracle",
            "floor.tuned_first_hit",
        ):
            assert 0 <= figures[f"{split}{name}.exact"] <= figures[f"{split}{name}.acceptable"] <= 1
            assert f"{split}{name}.published" in figures
        for name in ("tuned+constrained", "tuned+tuned_retrieval+constrained", "ceiling.oracle"):
            assert (figures[f"{split}{name}.hallucinated"], figures[f"{split}{name}.valid"]) == (0, 1)
            assert figures[f"{split}{name}.published_hallucinated"] == 0
        assert figures[f"{split}floor.nearest.valid"] == 1
    assert figures["by_call.floor.nearest.exact"] == 0  # no call that is asked for stands in training
    assert figures["floor.constant.published"] > 0
    asked = (tmp_path / "work" / "by_row" / "answers-tuned.jsonl").read_bytes()
    assert _run(command) == figures
    assert (tmp_path / "work" / "by_row" / "answers-tuned.jsonl").read_bytes() == asked


def _run(command: list[Any]) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr[-2000:]
    figures: dict[str, float] = json.loads(ran.stdout)["figures"]
    return figures


def test_without_the_data_the_benchmark_says_where_to_name_it(tmp_path: Path) -> None:
    """The data is no part of the repository."""
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--data", tmp_path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "name its folder with --data" in ran.stderr


@pytest.mark.parametrize(
    ("code", "entry"),
    [
        ("import torch\n\nmodel = torch.hub.load('a/nets1', 'net1', pretrained=True)", "net1"),
        ("from torch import hub as h\nh.load(model='net1', repo_or_dir='a/nets1')", "net1"),
        ("import torch\ntorch.hub.load('a/nets1:v0.10.0', 'net1').eval()", "net1"),
        ("import torch\ntorch.hub.load('a/nets0', 'net1')", None),  # that repository does not have it
        ("import torch\ntorch.hub.load('a/nets1', 'net12')", None),
        ("import torch\nname = 'net1'\ntorch.hub.load('a/nets1', name)", None),
        ("import torch\ntorch.hub.load('szq/MEAL', 'meal', 'meal_s', pretrained=True)", "meal_s"),
    ],
)
def test_an_answer_means_the_entry_whose_repository_and_name_it_loads(
    torchhub: Any, data: Path, code: str, entry: str | None
) -> None:
    """Resolved through the answer's imports; a version behind the repository does not matter."""
    hub = torchhub.read_hub(data)
    assert torchhub.hear(f"Here:\n\n```python\n{code}\n```", hub).entry == entry


def test_every_right_answer_means_its_own_entry(torchhub: Any, data: Path) -> None:
    """Also the one whose published call is no Python; a question is read out of a dict that lost its quotes."""
    hub = torchhub.read_hub(data)
    assert [torchhub.hear(one.answer, hub).entry for one in hub.listed] == [one.id for one in hub.listed]
    examples = torchhub.read_examples(data, hub)
    assert (len(examples), examples[7].question) == (60, "Which model number 1 sees 2 cats?")
    assert torchhub.hear("Try `torch.load('net1')`.", hub) == torchhub.Heard(
        None, None, "no call of torch.hub.load that parses"
    )
