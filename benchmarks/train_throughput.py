"""Training speed of Tunesmith's loop against TRL's SFTTrainer: same model, chats, adapter, batches, schedule.

    python benchmarks/train_throughput.py [--quick] [--json]

Each run is a process of its own; contenders take turns, so that a machine that slows down slows all of them.
TRL lives in its own environment under the cache folder, made here with the torch of constraints.txt. All
start from one untrained adapter file and follow one list of learning rates; the final loss is measured here,
by one function on rows that none has seen, from the adapter that each has saved.

`fraction_of_ceiling` = tokens/s x FLOPs per token / the machine's bf16 FLOP/s, where
    FLOPs per token = 4 N + 6 A + 4 V D share
N: weights of the frozen blocks (2 N forward, 2 N for the gradient of their inputs); A: the adapter's weights
(2 A forward, 4 A backward); V D: the output projection, counted for the share of tokens that carry a label.
Attention scores, norms and the optimiser are left out: a loop should spend little on them. The ceiling is the
product of (1500, 576) and (576, 1536) in bf16 (in float32 on a machine without bf16), measured between the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardware import as_json, versions_of

from tunesmith.collecting.collect import collect
from tunesmith.generating.derive import DerivedAnswer, derive_answers
from tunesmith.generating.prompts import system_prompt
from tunesmith.models.fetch import cache_dir, fetch
from tunesmith.records import Message
from tunesmith.training.render import Rendered

HERE = Path(__file__).resolve().parent
TRL_VERSION = "1.16.0"
CONTENDERS = ("ours", "trl_best", "trl_default")
RANK, ALPHA, BATCH, PEAK_RATE, CLIP, SEED = 16, 32.0, 8, 5e-4, 1.0, 0
TRAIN_ROWS, HELD_OUT_ROWS = 64, 32
PASSAGE_LETTERS = 290  # with question and answer about 190 tokens


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run: steps that warm up, steps that are timed, and how often each contender does so."""

    warmup: int
    timed: int
    repeats: int

    @property
    def steps(self) -> int:
        """All optimiser steps of one run."""
        return self.warmup + self.timed


@dataclass(frozen=True, slots=True)
class Run:
    """What one run showed: real tokens per second over the timed steps, peak memory (GB of 2**30), loss."""

    tokens_per_second: float
    peak_gb: float
    loss: float


FULL, QUICK = Plan(warmup=2, timed=12, repeats=3), Plan(warmup=1, timed=3, repeats=1)


def say(text: str) -> None:
    """Tell the person what goes on, beside the result."""
    print(text, file=sys.stderr, flush=True)


# --- the data ---


def make_rows(model: Path) -> list[Rendered]:
    """Return chats about networkx as ids and masks: a passage of documentation, a question, its answer."""
    from tunesmith.models.local import load_tokenizer
    from tunesmith.training.render import render

    collected = collect(["python:networkx"], base=Path())
    if collected.catalogue is None:
        raise SystemExit("networkx has no catalogue")
    texts = {document.id: document.text for document in collected.documents}
    documents = {entry.id: entry.document for entry in collected.catalogue.entries}
    answers = [
        answer
        for answer in derive_answers(collected.documents, collected.catalogue).answers
        if answer.predicate.infinitive and len(texts[documents[answer.entry]]) > PASSAGE_LETTERS
    ]
    random.Random(SEED).shuffle(answers)
    tokenizer = load_tokenizer(model)
    instruction = Message("system", system_prompt(collected.catalogue))
    return [
        render(tokenizer, (instruction, _question(answer, texts[documents[answer.entry]]), _reply(answer)))
        for answer in answers[: TRAIN_ROWS + HELD_OUT_ROWS]
    ]


def _question(answer: DerivedAnswer, text: str) -> Message:
    passage = text[:PASSAGE_LETTERS].rpartition("\n")[0].strip()
    return Message("user", f"{passage}\n\nHow do I {answer.predicate.infinitive}?")


def _reply(answer: DerivedAnswer) -> Message:
    return Message("assistant", answer.text)


def make_batches(rows: Sequence[Rendered], steps: int) -> list[list[Rendered]]:
    """Return the batches of the first `steps` steps, in the order that Tunesmith's loop plans."""
    from tunesmith.training.loop import plan_batches

    lengths = [len(row.ids) for row in rows]
    order: list[list[int]] = []
    while len(order) < steps:
        order += plan_batches(lengths, BATCH, SEED, epoch=len(order) * BATCH // len(rows))
    return [[rows[number] for number in batch] for batch in order[:steps]]


# --- what is common to all contenders ---


def write_untrained_adapter(model_folder: Path, folder: Path) -> int:
    """Write the adapter that all contenders start from and return how many weights it has."""
    from tunesmith.models.local import load_model
    from tunesmith.training import lora

    model = load_model(model_folder)
    shape = lora.add_lora(model, rank=RANK, alpha=ALPHA, top_layers=None, seed=SEED)
    state = lora.adapter_state(model)
    lora.save_adapter(folder, state, shape, str(model_folder))
    return sum(tensor.numel() for tensor in state.values())


def held_out_loss(model_folder: Path, adapter: Path, rows: Sequence[Rendered]) -> float:
    """Return the mean loss per labelled token, in nats, with the adapter merged and all in float32."""
    import torch

    from tunesmith.models.local import load_model, load_tokenizer
    from tunesmith.training.loop import collate, token_losses

    pad = load_tokenizer(model_folder).pad_token_id
    model = load_model(model_folder, dtype=torch.float32, adapter=adapter)
    losses: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            losses += token_losses(model, collate(rows[start : start + BATCH], pad)).tolist()
    return statistics.fmean(losses)


def measure_ceiling() -> float:
    """Return the machine's FLOP/s on a product as large as the model's own, the best of 40.

    In bf16, or in float32 where bf16 is slower and so is not what trains.
    """
    import torch

    from tunesmith.models.local import fast_dtype

    left, right = torch.ones(1500, 576, dtype=fast_dtype()), torch.ones(576, 1536, dtype=fast_dtype())
    best = float("inf")
    for _ in range(40):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * 1500 * 576 * 1536 / best


def flops_per_token(model_folder: Path, adapter_weights: int, labelled_share: float) -> float:
    """Return the FLOPs of the products that one real token needs; the module's docstring has the formula."""
    from tunesmith.models.local import load_model

    model = load_model(model_folder)
    output = model.get_output_embeddings().weight
    embedding = model.get_input_embeddings().weight
    blocks = sum(
        weight.numel() for weight in model.parameters() if weight is not output and weight is not embedding
    )
    return 4.0 * blocks + 6.0 * adapter_weights + 4.0 * output.numel() * labelled_share


# --- the runs ---


def trl_python() -> Path:
    """Return the Python of TRL's own environment; makes it if it is not there whole."""
    home = cache_dir() / "benchmarks" / f"trl-{TRL_VERSION}"
    python, whole = home / "bin" / "python", home / "whole"
    if whole.is_file():
        return python
    say(f"making an environment for TRL {TRL_VERSION} in {home} (some minutes)")
    home.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True, stdout=sys.stderr)
    constraints = HERE.parent / "constraints.txt"
    install = ["-m", "pip", "install", "--quiet", "-c", constraints, f"trl=={TRL_VERSION}", "peft", "torch"]
    subprocess.run([python, *install], check=True, stdout=sys.stderr)
    whole.touch()
    return python


def run_once(contender: str, job: dict[str, Any], work: Path) -> dict[str, Any]:
    """Run a contender in a process of its own and return what it wrote; its own words go to stderr."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "job.json").write_text(json.dumps(job | {"contender": contender}), encoding="utf-8")
    ours = contender == "ours"
    python = Path(sys.executable) if ours else trl_python()
    script = HERE / ("ours_run.py" if ours else "trl_run.py")
    # Each finds its packages in its own environment: what leads here to Tunesmith must not leak into TRL's.
    environment = dict(os.environ) if ours else {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([python, script, work], check=True, stdout=sys.stderr, env=environment)
    found: dict[str, Any] = json.loads((work / "result.json").read_text(encoding="utf-8"))
    return found


def compare(plan: Plan, work: Path) -> dict[str, float]:
    """Run everything and return the figures."""
    model = fetch("smollm2", say=say)
    trl_python()
    rows = make_rows(model)
    batches, held_out = make_batches(rows[:TRAIN_ROWS], plan.steps), rows[TRAIN_ROWS:]
    adapter_weights = write_untrained_adapter(model, work / "untrained")
    job = _job(model, work / "untrained", batches, plan)
    timed = batches[plan.warmup :]
    tokens = sum(len(row.ids) for batch in timed for row in batch)
    labelled = sum(row.labelled for batch in timed for row in batch)
    runs: dict[str, list[Run]] = {name: [] for name in CONTENDERS}
    ceilings: list[float] = []
    for repeat in range(plan.repeats):
        ceilings.append(measure_ceiling())
        # Another order each time: who runs first on a cool machine should not always be the same.
        for name in CONTENDERS[repeat % 3 :] + CONTENDERS[: repeat % 3]:
            found = run_once(name, job, work / name)
            seconds = sum(found["seconds"][plan.warmup :])
            run = Run(
                tokens / seconds, found["peak_gb"], held_out_loss(model, work / name / "adapter", held_out)
            )
            runs[name].append(run)
            say(
                f"{repeat + 1}/{plan.repeats} {name}: {run.tokens_per_second:.0f} tokens/s, "
                f"{run.peak_gb:.2f} GB, loss {run.loss:.4f}"
            )
    flops = flops_per_token(model, adapter_weights, labelled / tokens)
    return _figures(runs, ceilings, flops)


def _job(model: Path, adapter: Path, batches: Sequence[Sequence[Rendered]], plan: Plan) -> dict[str, Any]:
    from tunesmith.training.loop import learning_rate

    rates = [
        learning_rate(i, steps=plan.steps, peak=PEAK_RATE, warmup=plan.warmup) for i in range(plan.steps)
    ]
    return {
        "model": str(model),
        "adapter": str(adapter),
        "batches": [[asdict(row) for row in batch] for batch in batches],
        "rates": rates,
        "rank": RANK,
        "alpha": ALPHA,
        "clip": CLIP,
        "seed": SEED,
    }


def _figures(runs: dict[str, list[Run]], ceilings: list[float], flops: float) -> dict[str, float]:
    speed = {name: statistics.median(run.tokens_per_second for run in runs[name]) for name in CONTENDERS}
    loss = {name: statistics.median(run.loss for run in runs[name]) for name in CONTENDERS}
    ceiling = statistics.median(ceilings)
    figures = {
        "ratio_vs_trl_best": speed["ours"] / speed["trl_best"],
        "ratio_vs_trl_default": speed["ours"] / speed["trl_default"],
        "fraction_of_ceiling": speed["ours"] * flops / ceiling,
        "peak_gb": max(run.peak_gb for run in runs["ours"]),
        "loss_difference": abs(loss["ours"] - loss["trl_best"]) / loss["trl_best"],
        "ceiling_gflops": ceiling / 1e9,
        "flops_per_token": flops,
    }
    for name in CONTENDERS:
        speeds = [run.tokens_per_second for run in runs[name]]
        figures[f"{name}_tokens_per_second"] = speed[name]
        figures[f"{name}_spread"] = (max(speeds) - min(speeds)) / speed[name]
        figures[f"{name}_peak_gb"] = max(run.peak_gb for run in runs[name])
        figures[f"{name}_loss"] = loss[name]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Tunesmith's training loop against TRL's SFTTrainer.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="one repeat of four steps: a look, not a result")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as work:
        figures = compare(plan, Path(work))
    versions = versions_of(["tunesmith", "torch", "transformers", "networkx"]) | {"trl": TRL_VERSION}
    result = as_json("train_throughput", figures, versions=versions)
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result["figures"].items():
        print(f"{key:32} {value:g}")


if __name__ == "__main__":
    main()
