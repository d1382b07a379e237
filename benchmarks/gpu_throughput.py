"""Training speed on a GPU: Tunesmith's engine against a plain PEFT loop and TRL's SFTTrainer.

    python benchmarks/gpu_throughput.py [--shapes 135M,1B,7B] [--contenders ...] [--repeats 2] [--json]

Models have the shapes of SmolLM2-135M, Llama-3.2-1B and Llama-2-7B, and random weights: speed does not hang on them.
Rows are random tokens of lengths as chats have (log-normal, median 350, at most 2,048), a third of each labelled; all
contenders get the same rows, 32 in a step, LoRA of rank 16 on all linear layers, bf16, AdamW. Contenders take turns.

- ours: the engine, packed, its layers compiled; ours_eager: the same without compiling
- peft: PEFT's layers in a plain loop, micro-batches of 8 rows of like length, padded, SDPA, the loss on answers
- trl: TRL's SFTTrainer with the same micro-batches, bf16 and the loss on answers, no gradient checkpointing

`tokens_per_second` counts real tokens (no padding) over the timed steps. `utilisation` is FLOPs per token x tokens/s
over the FLOP/s of a large bf16 matrix product on this very card; `utilisation_datasheet` divides by 989 TFLOP/s (H100
and H200, dense bf16). FLOPs per token = 4 N + 6 A + 4 V D share, as in train_throughput.py: what attention and
recomputing take is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hardware import as_json, versions_of

from tunesmith.training import entropy, fit, lora
from tunesmith.training.engine import Engine
from tunesmith.training.loop import Layout
from tunesmith.training.objectives import Likelihood
from tunesmith.training.render import Rendered

RANK, ALPHA, BATCH, MICRO, RATE = 16, 32.0, 32, 8, 1e-4
WARMUP, TIMED = 3, 6
DATASHEET = 989e12
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
                 "num_key_value_heads": 2, "vocab_size": 512, "tie_word_embeddings": True},
    "135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
                 "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True},
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
               "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True},
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
               "num_key_value_heads": 32, "vocab_size": 32000, "tie_word_embeddings": False},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """What a run showed: real tokens per second, the peak of the card's memory (GiB), the last loss, first step (s)."""

    tokens_per_second: float
    peak_gb: float
    loss: float
    first_step_seconds: float


def device() -> str:
    """Return the card, or the processor for a trial of this script."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronise() -> None:
    """Wait until the card has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def make_model(shape: str) -> Any:
    """Return a model of a shape with random weights, in bf16 on the card."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(max_position_embeddings=4096, pad_token_id=0, **SHAPES[shape])
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device()):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.set_attn_implementation("sdpa")
    return model.eval()


def make_steps(vocabulary: int) -> list[list[Rendered]]:
    """Return the rows of all steps, those of a step sorted by length."""
    chance = random.Random(0)
    steps = []
    for _ in range(WARMUP + TIMED):
        lengths = sorted(max(48, min(2048, int(chance.lognormvariate(5.86, 0.7)))) for _ in range(BATCH))
        steps.append([
            Rendered(tuple(chance.randrange(1, vocabulary) for _ in range(length)),
                     tuple(i >= length * 2 // 3 for i in range(length)))
            for length in lengths
        ])  # fmt: skip
    return steps


def timed(steps: Sequence[Any], tokens: Sequence[int], step: Callable[[Any], float]) -> Run:
    """Take all steps and time those after the warm-up."""
    seconds, loss = [], 0.0
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    for rows in steps:
        synchronise()
        start = time.perf_counter()
        loss = step(rows)
        synchronise()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return Run(sum(tokens[WARMUP:]) / sum(seconds[WARMUP:]), peak, loss, seconds[0])


def run_ours(model: Any, steps: Sequence[Sequence[Rendered]], *, compiled: bool) -> Run:
    """Train with the engine as `train` sets it up."""
    from tunesmith.models.packed import use_packed_attention

    lora.add_lora(model, rank=RANK, alpha=ALPHA, top_layers=None, seed=0)
    packed = use_packed_attention(model)
    parameters = list(lora.adapter_parameters(model).values())
    engine = Engine(
        model, parameters, Likelihood(), Layout(0, device(), packed=packed), clip=1.0, say=print_aside
    )
    fit.fit_memory(engine, [row for rows in steps for row in rows])
    print_aside(f"parts of {engine.layout.limit} tokens, packed: {engine.layout.packed}")
    if compiled:
        fit.compile_layers(model)
    else:
        entropy.compile_entropy(on=False)
    return timed(
        steps, [sum(len(r.ids) for r in rows) for rows in steps], lambda rows: engine.step(rows, RATE)
    )


def run_peft(model: Any, steps: Sequence[Sequence[Rendered]]) -> Run:
    """Train with PEFT's layers in a plain loop."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)

    def step(rows: Sequence[Rendered]) -> float:
        counted = sum(row.labelled for row in rows)
        total = 0.0
        for start in range(0, len(rows), MICRO):
            ids, labels, mask = padded(rows[start : start + MICRO])
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            loss = (
                torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1).float(),
                    labels[:, 1:].flatten(),
                    ignore_index=-100,
                    reduction="sum",
                )
                / counted
            )
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return total

    return timed(steps, [sum(len(r.ids) for r in rows) for rows in steps], step)


def padded(rows: Sequence[Rendered]) -> tuple[Any, Any, Any]:
    """Return ids, labels and mask of a padded micro-batch."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        labels[i, : len(row.ids)] = torch.tensor(row.ids).masked_fill(~torch.tensor(row.mask), -100)
        mask[i, : len(row.ids)] = 1
    return ids.to(device()), labels.to(device()), mask.to(device())


def run_trl(model: Any, steps: Sequence[Sequence[Rendered]]) -> Run:
    """Train with TRL's SFTTrainer, on the same rows in the same micro-batches."""
    import tempfile

    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        """Notes when each optimiser step ends."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronise()
            self.ends.append(time.perf_counter())

    rows = [row for step in steps for row in step]
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=MICRO,
            gradient_accumulation_steps=BATCH // MICRO,
            max_steps=len(steps),
            learning_rate=RATE,
            bf16=True,
            gradient_checkpointing=False,
            completion_only_loss=True,
            max_length=2048,
            train_sampling_strategy="sequential",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=1,
        )
        clock = Clock()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        trainer = SFTTrainer(
            model,
            args=settings,
            train_dataset=Dataset.from_dict({
                "input_ids": [list(row.ids) for row in rows],
                "completion_mask": [[int(label) for label in row.mask] for row in rows],
            }),
            processing_class=_tokenizer(PreTrainedTokenizerFast),
            peft_config=LoraConfig(
                r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[clock],
        )  # fmt: skip
        # What it prints belongs beside the result.
        with contextlib.redirect_stdout(sys.stderr):
            trainer.train()
    seconds = [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)]
    tokens = sum(len(row.ids) for step in steps[WARMUP:] for row in step)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return Run(tokens / sum(seconds[WARMUP:]), peak, losses[-1] if losses else 0.0, seconds[0])


def _tokenizer(kind: Any) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    core = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return kind(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")


RUNS: dict[str, Callable[[Any, Any], Run]] = {
    "ours": lambda model, steps: run_ours(model, steps, compiled=True),
    "ours_eager": lambda model, steps: run_ours(model, steps, compiled=False),
    "peft": run_peft,
    "trl": run_trl,
}


def measure_ceiling() -> float:
    """Return the card's FLOP/s in a large bf16 product of random numbers, the median of 20."""
    if not torch.cuda.is_available():
        return float("nan")
    side = 8192
    left, right = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(23):
        synchronise()
        start = time.perf_counter()
        left @ right
        synchronise()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(seconds[3:])


def flops_per_token(shape: str, steps: Sequence[Sequence[Rendered]]) -> float:
    """Return the FLOPs of the products that one real token needs."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape]))
    layers = [
        m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "lm_head" not in name
    ]
    blocks = sum(layer.weight.numel() for layer in layers)
    adapter = sum(RANK * (layer.in_features + layer.out_features) for layer in layers)
    rows = [row for step in steps for row in step]
    share = sum(row.labelled for row in rows) / sum(len(row.ids) for row in rows)
    return 4.0 * blocks + 6.0 * adapter + 4.0 * model.lm_head.weight.numel() * share


def print_aside(text: str) -> None:
    """Tell the person what goes on, beside the result."""
    print(f"[{time.perf_counter():.0f} s] {text}", file=sys.stderr, flush=True)


def compare(shape: str, contenders: Sequence[str], repeats: int) -> dict[str, float]:
    """Run the contenders in turns on one shape and return the figures."""
    steps = make_steps(SHAPES[shape]["vocab_size"])
    flops, ceiling = flops_per_token(shape, steps), measure_ceiling()
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        turn = repeat % len(contenders)
        for name in [*contenders[turn:], *contenders[:turn]]:
            torch._dynamo.reset()
            run = _run(name, shape, steps)
            if run is not None:
                runs[name].append(run)
                share = run.tokens_per_second * flops / ceiling
                print_aside(
                    f"{shape} {name}: {run.tokens_per_second:,.0f} tokens/s, {share:.1%} of the ceiling, "
                    f"{run.peak_gb:.1f} GB, loss {run.loss:.4f}, first step {run.first_step_seconds:.1f} s"
                )
    figures = {f"{shape}_ceiling_tflops": ceiling / 1e12, f"{shape}_flops_per_token": flops}
    for name, found in runs.items():
        if not found:
            continue
        speeds = [run.tokens_per_second for run in found]
        speed = statistics.median(speeds)
        figures |= {
            f"{shape}_{name}_tokens_per_second": speed,
            f"{shape}_{name}_spread": (max(speeds) - min(speeds)) / speed,
            f"{shape}_{name}_utilisation": speed * flops / ceiling,
            f"{shape}_{name}_utilisation_datasheet": speed * flops / DATASHEET,
            f"{shape}_{name}_peak_gb": max(run.peak_gb for run in found),
            f"{shape}_{name}_loss": statistics.median(run.loss for run in found),
            f"{shape}_{name}_first_step_seconds": max(run.first_step_seconds for run in found),
        }
    return figures


def _run(name: str, shape: str, steps: Sequence[Sequence[Rendered]]) -> Run | None:
    """Run one contender; None, and said why, where it has no room on this card."""
    try:
        return RUNS[name](make_model(shape), steps)
    except torch.OutOfMemoryError as error:
        print_aside(f"{shape} {name}: {str(error)[:90]}")
        return None
    finally:
        if torch.cuda.is_available():
            import gc

            gc.collect()
            torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description="Tunesmith's training engine against PEFT and TRL on a GPU.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--shapes", default="135M,1B,7B")
    parser.add_argument("--contenders", default="ours,ours_eager,peft,trl")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for shape in arguments.shapes.split(","):
        figures |= compare(shape, arguments.contenders.split(","), arguments.repeats)
    used = ["torch", "transformers", "peft", *(["trl"] if "trl" in arguments.contenders else [])]
    result = as_json("gpu_throughput", figures, versions=versions_of(used))
    if torch.cuda.is_available():
        result["hardware"]["gpu"] = torch.cuda.get_device_name()
    print(json.dumps(result) if arguments.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
