"""Be one process of a run: do the jobs of a file one after another, with a death or an error where one says so."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tunesmith.errors import TunesmithError
from tunesmith.models.local import load_model, load_tokenizer
from tunesmith.records import Message, Preference
from tunesmith.training.engine import Engine
from tunesmith.training.objectives import Likelihood
from tunesmith.training.ranks import join
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import train


def do(job: dict[str, Any], base: Path) -> dict[str, Any]:
    """Train as the job says, and return what the run did or the error that ended it."""
    if "sharded" in job:
        os.environ |= {
            "ACCELERATE_USE_FSDP": str(job["sharded"]).lower(),
            "FSDP_VERSION": "2",
            "FSDP_RESHARD_AFTER_FORWARD": str(not job.get("kept", False)).lower(),
        }
    rank = join().rank
    trouble = job.get("trouble", {})
    if trouble.get("rank") == rank:
        _TROUBLES[trouble["kind"]](trouble["step"])
    settings = TrainSettings(**job["settings"])
    folder = Path(job["folder"])
    rows = [_teaching(question, answer, settings) for question, answer in job["examples"]]
    try:
        run = train(
            load_model(base, dtype=torch.bfloat16 if job.get("odd") == rank else torch.float32),
            load_tokenizer(base),
            rows[:7],
            rows[7:],
            settings,
            out=folder / "out",
            work=folder / "work",
        )
    except TunesmithError as error:
        return {"error": str(error), "kind": type(error).__name__}
    return asdict(run)


def _teaching(question: str, answer: str, settings: TrainSettings) -> Any:
    asked, said = Message("user", question), Message("assistant", answer)
    if settings.objective == "preferences":
        return Preference((asked,), said, Message("assistant", "nowhere"))
    return (asked, said)


def _before(step: int, act: Callable[[], None]) -> None:
    honest, taken = Engine.step, []

    def with_trouble(engine: Engine, rows: Any, rate: float) -> float:
        taken.append(rate)
        # The first is the pre-flight's.
        if len(taken) - 1 == step:
            act()
        return honest(engine, rows, rate)

    setattr(Engine, "step", with_trouble)  # noqa: B010 - a plain assignment does not type


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at_loss(error: Exception) -> Callable[[], None]:
    def act() -> None:
        honest = Likelihood.loss

        def fail(objective: Any, model: Any, part: Any) -> Any:
            setattr(Likelihood, "loss", honest)  # noqa: B010
            raise error

        setattr(Likelihood, "loss", fail)  # noqa: B010

    return act


_TROUBLES: dict[str, Callable[[int], None]] = {
    "death": lambda step: _before(step, _die),
    "error": lambda step: _before(step, _at_loss(ValueError("a row is odd"))),
    "memory": lambda step: _before(step, _at_loss(torch.OutOfMemoryError("no memory"))),
}


if __name__ == "__main__":
    base, jobs = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    for number, one in enumerate(jobs):
        told = json.dumps(do(one, base))
        Path(one["folder"], f"told-{number}-{os.environ.get('RANK', '0')}.json").write_text(
            told, encoding="utf-8"
        )
