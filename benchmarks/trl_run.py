"""One training run by TRL's SFTTrainer, as a job file describes it; runs in TRL's own environment.

It knows nothing of Tunesmith: ids, loss masks, batches, learning rates and untrained adapter come in the job.
`trl_default` leaves SFTConfig as it is, but for bf16=False: without a GPU TRL's own default is refused.
`trl_best`: bf16 weights and the loss on answers alone, found fastest in an earlier trial. That gradient
checkpointing is off, and that it gets the very batches of our loop, should help it; not yet measured.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

SETTINGS: dict[str, dict[str, Any]] = {
    "trl_default": {"bf16": False},
    "trl_best": {
        "bf16": False,
        "gradient_checkpointing": False,
        "completion_only_loss": True,
        "train_sampling_strategy": "sequential",
    },
}
WEIGHTS = {"trl_default": torch.float32, "trl_best": torch.bfloat16}


class Clock(TrainerCallback):
    """Notes when each optimiser step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def run(job: dict[str, Any], work: Path) -> dict[str, Any]:
    """Train as the job says, save the adapter, return seconds per step and peak memory."""
    contender = job["contender"]
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype=WEIGHTS[contender])
    model = PeftModel.from_pretrained(base, job["adapter"], is_trainable=True)
    rows = [row for batch in job["batches"] for row in batch]
    columns = {"input_ids": [row["ids"] for row in rows]}
    if contender == "trl_best":
        columns["completion_mask"] = [[int(counted) for counted in row["mask"]] for row in rows]
    settings = SFTConfig(
        output_dir=str(work / "trainer"),
        per_device_train_batch_size=len(job["batches"][0]),
        max_steps=len(job["batches"]),
        learning_rate=job["rates"][0],
        max_grad_norm=job["clip"],
        seed=job["seed"],
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **SETTINGS[contender],
    )
    clock = Clock()
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    trainer = SFTTrainer(
        model,
        args=settings,
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    # The job's learning rates, step by step, so that all contenders follow the same schedule.
    optimiser = trainer.create_optimizer()
    rates = [*job["rates"], 0.0]
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rates[step] / job["rates"][0]
    )
    trainer.train()
    trainer.model.save_pretrained(work / "adapter")
    return {
        "seconds": [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    work = Path(sys.argv[1])
    result = run(json.loads((work / "job.json").read_text()), work)
    (work / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
