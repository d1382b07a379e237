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
from collections.abc import Sequence
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
    "sharded-kept-full": {"settings": FULL, "sharded": True, "kept": True},
}


@dataclass(frozen=True, slots=True)
class Started:
    """Two processes, and the folder where what they say is kept."""

    processes: list[subprocess.Popen[bytes]]
    folder: Path

    def ended(self) -> tuple[int, int]:
        """Wait for both and return their exit codes; once one has ended, the other is not to take long."""
        try:
            first = self._first(seconds=300)
            codes = [process.wait(timeout=300 if first == 0 else 60) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
        return codes[0], codes[1]

    def said(self, rank: int) -> str:
        """Return what a process has said."""
        return (self.folder / f"said-{rank}").read_text(encoding="utf-8")

    def _first(self, seconds: float) -> int:
        """Wait until one has ended, and return its exit code."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            codes = [process.poll() for process in self.processes]
            if any(code is not None for code in codes):
                return next(code for code in codes if code is not None)
            time.sleep(0.1)
        raise TimeoutError


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

    def start(self, jobs: Sequence[dict[str, Any]]) -> Started:
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
        made = []
        for rank in range(2):
            with (self.folder / f"said-{rank}").open("w", encoding="utf-8") as said:
                environment = places | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                made.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT
                    )
                )
        return Started(made, self.folder)

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
    alone = f"{name.removeprefix('sharded-').removeprefix('kept-')}-alone"
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


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_a_run_goes_on_after_one_process_was_killed(runs: Bench, sharded: bool) -> None:
    """The other ends with an error at once; started again, the run ends as the unbroken one."""
    name = f"killed-{sharded}"
    job = runs.job(name, LORA, sharded=sharded)
    broken = runs.start([job | {"trouble": {"kind": "death", "rank": 1, "step": 4}}])
    assert broken.ended() == (0, -signal.SIGKILL)
    assert "another process of this run has ended" in runs.told(name, 0)["error"]
    kept = json.loads((runs.folder / name / "work" / "checkpoint" / "state.json").read_text(encoding="utf-8"))
    assert kept["state"]["done"] == 2
    assert not (runs.folder / name / "out").exists()
    assert runs.start([job]).ended() == (0, 0)
    unbroken = "sharded-lora" if sharded else "lora"
    assert runs.steps(name) == runs.steps(unbroken)
    ours, theirs = runs.weights(name), runs.weights(unbroken)
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


@pytest.mark.slow
def test_one_process_goes_on_from_what_two_left(runs: Bench) -> None:
    """A checkpoint holds whole weights, whoever wrote it: sharded over two, it is gone on from alone."""
    job = runs.job("moved", FULL, sharded=True)
    runs.start([job | {"trouble": {"kind": "death", "rank": 1, "step": 4}}]).ended()
    told = do({key: value for key, value in job.items() if key != "sharded"}, runs.base)
    assert [step["step"] for step in told["steps"]] == [1, 2, 3, 4, 5, 6]
    for step, other in zip(runs.steps("moved"), runs.steps("full-alone"), strict=True):
        assert step == pytest.approx(other, rel=1e-4)


@pytest.mark.slow
def test_an_error_of_one_process_ends_all_and_short_memory_of_one_halves_all_parts(runs: Bench) -> None:
    """The others say whose error it was, at once; where memory ran out on one, all go on, and learn the same."""
    long = runs.job("long", LORA | {"max_length": 16}, sharded=True)
    memory = runs.job("memory", LORA, sharded=False, trouble={"kind": "memory", "rank": 1, "step": 2})
    error = runs.job("error", LORA, trouble={"kind": "error", "rank": 1, "step": 3})
    mixed = runs.job("mixed", LORA, sharded=False, odd=1)
    both = runs.start([long, mixed, memory, error])
    assert both.ended() == (0, 1)
    assert "ValueError: a row is odd" in both.said(1)
    for rank in range(2):
        assert (
            "have loaded the model differently: torch.float32, torch.bfloat16"
            in runs.told("mixed", rank)["error"]
        )
    read = runs.told("long", 0)["error"]
    assert "7 of 7 examples are longer than 16 tokens" in read
    assert runs.told("long", 1)["error"] == f"process 0 of this run has failed: {read}"
    assert runs.told("error", 0)["error"] == "process 1 of this run has failed: a row is odd"
    for rank in range(2):
        assert [note.partition(" from")[0] for note in runs.told("memory", rank)["notes"]] == [
            "memory ran out: parts of 1024 tokens"
        ]
    for step, expected in zip(runs.steps("memory"), runs.steps("lora"), strict=True):
        assert step == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.integers(1, 2000), max_size=64), st.integers(1, 9))
def test_rows_are_dealt_once_and_evenly(sizes: list[int], hands: int) -> None:
    """Each row goes to one hand, in order; no two hands are further apart than the largest row."""
    dealt = ranks.deal(sizes, hands)
    assert sorted(row for mine in dealt for row in mine) == list(range(len(sizes)))
    assert all(mine == sorted(mine) for mine in dealt)
    held = [sum(sizes[row] for row in mine) for mine in dealt]
    assert max(held) - min(held) <= max(sizes, default=0)


def test_alone_there_is_nobody_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a launcher, or with one process, no connection is made."""
    for world in ({}, {"WORLD_SIZE": "1"}):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        for name, value in world.items():
            monkeypatch.setenv(name, value)
        assert isinstance(ranks.join(), ranks.Alone)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM is not driven by this loop"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed is not driven by this loop"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "accelerate's mixed_precision is not followed"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, "gradient_accumulation_steps is not followed"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "weights are sharded by FSDP2 alone"),
        (
            {
                "ACCELERATE_USE_FSDP": "true",
                "FSDP_VERSION": "2",
                "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
            },
            "every process loads the model itself",
        ),
    ],
)
def test_what_the_loop_would_not_follow_is_refused(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], why: str
) -> None:
    """Before any connection is made, with what to set instead."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=why) as caught:
        ranks.join()
    assert caught.value.hint


def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by srun alone, each would train the whole and write to the same folder."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(UsageError, match="srun has started 4 processes that do not know of each other"):
        ranks.join()


def test_gradients_travel_in_lists_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, each once; one that is larger goes alone; where there is none, it is zero."""
    monkeypatch.setattr(ranks, "BUCKET", 10)
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (4, 6, 3, 20, 1, 2)]
    for parameter in parameters[1:]:
        parameter.grad = torch.ones_like(parameter)
    buckets = list(ranks._buckets(parameters))
    assert [[len(gradient) for gradient in bucket] for bucket in buckets] == [[4, 6], [3], [20], [1, 2]]
    assert not buckets[0][0].any()
    assert parameters[0].grad is buckets[0][0]
