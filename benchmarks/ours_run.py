"""One training run by Tunesmith's loop, as a job file describes it: the counterpart of trl_run.py."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tunesmith.models.adapter import WEIGHTS
from tunesmith.models.local import load_model, load_tokenizer
from tunesmith.training import loop, lora
from tunesmith.training.render import Rendered


def run(job: dict[str, Any], work: Path) -> dict[str, Any]:
    """Train as the job says, save the adapter, return seconds per step and peak memory."""
    model = load_model(Path(job["model"]))
    pad = load_tokenizer(Path(job["model"])).pad_token_id
    shape = lora.add_lora(model, rank=job["rank"], alpha=job["alpha"], top_layers=None, seed=job["seed"])
    lora.load_adapter_state(model, load_file(Path(job["adapter"]) / WEIGHTS))
    model.train()
    optimiser = torch.optim.AdamW(lora.adapter_parameters(model).values(), weight_decay=0.0)
    seconds = []
    for batch, rate in zip(job["batches"], job["rates"], strict=True):
        start = time.perf_counter()
        rows = [Rendered(tuple(row["ids"]), tuple(row["mask"])) for row in batch]
        loop.train_step(model, optimiser, loop.in_parts(rows, pad), rate=rate, clip=job["clip"])
        seconds.append(time.perf_counter() - start)
    lora.save_adapter(work / "adapter", lora.adapter_state(model), shape, job["model"])
    return {"seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main() -> None:
    work = Path(sys.argv[1])
    result = run(json.loads((work / "job.json").read_text()), work)
    (work / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
