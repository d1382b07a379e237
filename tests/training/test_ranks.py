"""Runs of two processes on one machine, over gloo, beside the same run in one."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.training.worker import do

from tunesmith.errors import UsageError
from tunesmith.records import Conversation
from tunesmith.training import ranks

ROOT = Path(__file__).parents[2]
# Seven examples in batches of three: the last batch has one row, and one process nothing to do.
LORA: dict[str, Any] = {
    "base": "tiny",
    "epochs": 2,
    "batch_size": 3,
    "learning_rate": 0.01,
    "rank": 4,
    "alpha": 8,
    "evaluate_every": 2,
    "patience": 9,
}
FULL = {name: value for name, value in LORA.items() if name not in ("rank", "alpha")} | {
    "method": "full",
    "learning_rate": 1e-3,
}
RUNS: dict[str, dict[str, Any]] = {
    "lora": {"settings": LORA, "sharded": False},
    "preferences": {"settings": LORA | {"objective": "preferences"}, "sharded": False},
    "full": {"settings": FULL, "sharded": False},
    "sharded-lora": {"settings": LORA, "sharded": True},
    "sharded-preferences": {"settings": LORA | {"objective": "preferences"}, "sharded": True},
    "sharded-full": {"settings": FULL, "sharded": True},
}


@dataclass(frozen=True, slots=True)
class Bench:
    """A base model, examples, and a folder for runs."""

    base: Path
    examples: list[tuple[str, str]]
    folder: Path

    def job(self, name: str, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Return a job in a folder of its own."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return {"folder": str(folder), "examples": self.examples, "settings": settings, **more}

    def start(self, jobs: Sequence[dict[str, Any]]) -> list[subprocess.Popen[str]]:
        """Start two processes that know of each other and do the jobs."""
        file = self.folder / "jobs.json"
        file.write_text(json.dumps(jobs), encoding="utf-8")
        command = [sys.executable, "-m", "tests.training.worker", str(self.base), str(file)]
        places = _environment() | {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
        }
        return [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=places | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]

    def told(self, name: str, rank: int) -> dict[str, Any]:
        """Return what a process said of the last job in a folder."""
        [file] = (self.folder / name).glob(f"told-*-{rank}.json")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def steps(self, name: str) -> list[dict[str, float]]:
        """Return the steps of a run without their times."""
        with (self.folder / name / "out" / "step_metrics.csv").open(encoding="utf-8") as file:
            return [
                {key: float(value) for key, value in line.items() if value and key != "seconds"}
                for line in csv.DictReader(file)
            ]

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """Return what a run has left."""
        [file] = (self.folder / name / "out").glob("*.safetensors")
        return load_file(file)


def _environment() -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT))),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


def _ended(processes: Sequence[subprocess.Popen[str]], seconds: float = 240) -> list[str]:
    """Wait for processes and return what they said; none of them outlives the test."""
    try:
        return [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def bench(
    chat_folder: Path, places: tuple[Conversation, ...], tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    """Return a bench with seven examples and three for validation."""
    examples = [(one[0].content, one[1].content) for one in places]
    return Bench(chat_folder, examples, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def runs(bench: Bench) -> Bench:
    """Do all runs in two processes, started by torchrun, and in one."""
    jobs = [bench.job(name, **run) for name, run in RUNS.items()]
    file = bench.folder / "all.json"
    file.write_text(json.dumps(jobs), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*launch, "-m", "tests.training.worker", str(bench.base), str(file)],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name, run in RUNS.items():
        if not run["sharded"]:
            do(bench.job(f"{name}-alone", run["settings"]), bench.base)
    return bench


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_does(runs: Bench, name: str) -> None:
    """Same losses at each step and each look at the validation, same weights at the end; both say the same of it."""
    alone = f"{name.removeprefix('sharded-')}-alone"
    found, expected = runs.steps(name), runs.steps(alone)
    assert len(found) == 6
    assert [step.keys() for step in found] == [step.keys() for step in expected]
    for step, other in zip(found, expected, strict=True):
        assert step == pytest.approx(other, rel=1e-4)
    assert expected[-1]["valid_loss"] < 0.99 * expected[1]["valid_loss"]
    ours, theirs = runs.weights(name), runs.weights(alone)
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[key], rtol=2e-3, atol=2e-4)
    first, second = ({**runs.told(name, rank), "peak_bytes": 0} for rank in range(2))
    for told in (first, second):
        told["steps"] = [step | {"seconds": 0.0} for step in told["steps"]]
        del told["seconds"], told["valid_seconds"]
    assert first == second
