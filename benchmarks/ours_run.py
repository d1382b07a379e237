"""One training run by Tunesmith's loop, as a job file describes it: the counterpart of trl_run.py."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from tunesmith.models.adapter import WEIGHTS
from tunesmith.models.local import load_model, load_tokenizer
from tunesmith.training import lora
from tunesmith.training.render import Rendered
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import new_engine
from tunesmith.training.tuning import AdapterTuning


def run(job: dict[str, Any], work: Path) -> dict[str, Any]:
    """Train as the job says, with the engine as `train` sets it up; return seconds per step and peak memory."""
    model, tokenizer = load_model(Path(job["model"])), load_tokenizer(Path(job["model"]))
    settings = TrainSettings(rank=job["rank"], alpha=job["alpha"], seed=job["seed"], clip=job["clip"])
    tuning = AdapterTuning(model, settings)
    lora.load_adapter_state(model, load_file(Path(job["adapter"]) / WEIGHTS))
    engine = new_engine(model, tokenizer, tuning, settings)
    seconds = []
    for batch, rate in zip(job["batches"], job["rates"], strict=True):
        start = time.perf_counter()
        engine.step([Rendered(tuple(row["ids"]), tuple(row["mask"])) for row in batch], rate)
        seconds.append(time.perf_counter() - start)
    lora.save_adapter(work / "adapter", tuning.state(), tuning.shape, job["model"])
    return {"seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main() -> None:
    work = Path(sys.argv[1])
    result = run(json.loads((work / "job.json").read_text()), work)
    (work / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
