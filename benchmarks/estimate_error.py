"""How far the estimate of a training run is from the run: time and peak memory, three model sizes, two lengths.

    python benchmarks/estimate_error.py [--quick] [--json]

Models are Llamas of random weights, with SmolLM2's tokenizer: neither speed nor memory hangs on the values. Chats are
words of Tunesmith's own documentation, log-normal in length. For each pair one process calls `estimate_adapter`
and another calls `train`, one after the other; both see the same chats and settings. Compared are the seconds that
`train` took from its call to its return, and the most memory that its process held. An error is
|estimated - real| / real; `worst_time_error` and `worst_memory_error` are the largest of them.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardware import as_json, versions_of

from tunesmith.models.fetch import fetch
from tunesmith.records import Conversation, Message
from tunesmith.training.settings import TrainSettings

HERE = Path(__file__).resolve().parent
GB = 2**30
SHAPES: dict[str, dict[str, int]] = {
    "30M": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 12, "num_attention_heads": 6,
            "num_key_value_heads": 2},
    "135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3},
    "360M": {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
             "num_key_value_heads": 5},
}  # fmt: skip
# A word of the documentation with its space is about two of SmolLM2's tokens.
WORDS = {"200": 90, "800": 370}
BATCH, VALID = 4, 8


@dataclass(frozen=True, slots=True)
class Pair:
    """One size and one length, and how many steps are taken of it."""

    size: str
    length: str
    steps: int

    @property
    def name(self) -> str:
        """What its figures are called."""
        return f"{self.size}_{self.length}"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run takes, estimated or real: seconds, and bytes at its peak."""

    seconds: float
    memory_bytes: int


FULL = tuple(Pair(size, length, steps) for size in SHAPES for length, steps in (("200", 20), ("800", 8)))
QUICK = (Pair("30M", "200", 12), Pair("30M", "800", 6))


def write_model(size: str, folder: Path) -> None:
    """Write a Llama of a size with random weights, and SmolLM2's tokenizer beside it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.models.local import load_tokenizer
    from tunesmith.models.quiet import quiet

    tokenizer = load_tokenizer(fetch("smollm2", say=say))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPES[size],
    )
    with quiet():
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def chats(count: int, length: str, seed: int) -> Iterator[Conversation]:
    """Yield conversations of about so many tokens, two thirds of them the question's."""
    words = (HERE.parent / "docs" / "log.md").read_text(encoding="utf-8").split()
    chance = random.Random(seed)
    for _ in range(count):
        number = max(6, round(chance.lognormvariate(0, 0.25) * WORDS[length]))
        said = [chance.choice(words) for _ in range(number)]
        question, answer = said[: 2 * number // 3], said[2 * number // 3 :]
        yield (Message("user", " ".join(question)), Message("assistant", " ".join(answer)))


def settings_of(pair: Pair) -> TrainSettings:
    """Return the settings of a pair: no run stops early."""
    return TrainSettings(
        base=pair.size,
        batch_size=BATCH,
        examples=BATCH * pair.steps,
        max_length=2048,
        evaluate_every=max(3, pair.steps // 3),
        patience=pair.steps,
    )


def estimated(pair: Pair, model: Path) -> Cost:
    """Return what the estimate says."""
    from tunesmith.training.plan import estimate_adapter

    settings = settings_of(pair)
    row, _ = estimate_adapter(
        model, list(chats(BATCH * pair.steps, pair.length, 0)), list(chats(VALID, pair.length, 1)), settings
    )
    return Cost(row.seconds, row.memory_bytes)


def trained(pair: Pair, model: Path) -> Cost:
    """Train, and return what it took."""
    from tunesmith.models.local import load_model, load_tokenizer
    from tunesmith.training.train import train

    settings = settings_of(pair)
    loaded, tokenizer = load_model(model), load_tokenizer(model)
    with tempfile.TemporaryDirectory() as work:
        start = time.perf_counter()
        run = train(
            loaded,
            tokenizer,
            chats(BATCH * pair.steps, pair.length, 0),
            chats(VALID, pair.length, 1),
            settings,
            out=Path(work) / "out",
            work=Path(work) / "work",
        )
        return Cost(time.perf_counter() - start, run.peak_bytes)


def in_a_process(what: str, pair: Pair, model: Path) -> Cost:
    """Do one of the two in a process of its own."""
    job = json.dumps([what, asdict(pair), str(model)])
    done = subprocess.run(
        [sys.executable, __file__, "--job", job], stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return Cost(**json.loads(done.stdout))


def compare(pairs: tuple[Pair, ...]) -> dict[str, float]:
    """Estimate and train each pair and return the figures."""
    figures: dict[str, float] = {}
    errors: dict[str, list[float]] = {"time": [], "memory": []}
    for pair in pairs:
        with tempfile.TemporaryDirectory() as place:
            write_model(pair.size, Path(place))
            guess, real = (in_a_process(what, pair, Path(place)) for what in ("estimate", "train"))
        errors["time"].append(abs(guess.seconds - real.seconds) / real.seconds)
        errors["memory"].append(abs(guess.memory_bytes - real.memory_bytes) / real.memory_bytes)
        figures |= {
            f"{pair.name}_estimated_seconds": guess.seconds,
            f"{pair.name}_seconds": real.seconds,
            f"{pair.name}_estimated_gb": guess.memory_bytes / GB,
            f"{pair.name}_gb": real.memory_bytes / GB,
        }
        say(
            f"{pair.name}: {guess.seconds:.1f} s estimated, {real.seconds:.1f} s taken; "
            f"{guess.memory_bytes / GB:.2f} GB estimated, {real.memory_bytes / GB:.2f} GB taken"
        )
    return {f"worst_{what}_error": max(found) for what, found in errors.items()} | figures


def say(text: str) -> None:
    """Tell the person what goes on, beside the result."""
    print(text, file=sys.stderr, flush=True)


def perform(job: str) -> None:
    """Do one of the two, as `in_a_process` asks for it, and print what it takes."""
    what, pair, model = json.loads(job)
    do: Any = {"estimate": estimated, "train": trained}[what]
    print(json.dumps(asdict(do(Pair(**pair), Path(model)))))


def main() -> None:
    parser = argparse.ArgumentParser(description="The estimate of training against training.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="the smallest model alone: a look, not a result")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        perform(arguments.job)
        return
    figures = compare(QUICK if arguments.quick else FULL)
    result = as_json("estimate_error", figures, versions=versions_of(["tunesmith", "torch", "transformers"]))
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result["figures"].items():
        print(f"{key:32} {value:g}")


if __name__ == "__main__":
    main()
