"""What training would cost, before it starts: tokens counted, speed and memory measured on some real parts, price."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tunesmith.models.embedding import LocalEncoder
from tunesmith.models.local import device, load_tokenizer
from tunesmith.training.encoder import QUESTION_TOKENS, EncoderSettings, Entries, Pair, step_seconds
from tunesmith.training.rehearsal import Job, Rehearsed, rehearse
from tunesmith.training.rows import Teaching, lengths_of
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import objective_of, peak_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# OpenAI's published price for training gpt-3.5-turbo (2023), in US dollars a token: $0.008 per 1,000.
HOSTED = ("gpt-3.5-turbo, hosted (2023 price)", 0.008 / 1000)

# On a processor a step's memory grows with each new shape of its parts, by such a share: freed blocks of other sizes
# do not fit, and oneDNN keeps something for each (docs/log.md). Beyond 60 steps it was not followed.
GROWTH, LARGEST_GROWTH = 0.01, 0.35

_NAMES = {"lora": "LoRA", "rslora": "rsLoRA", "dora": "DoRA", "qlora": "QLoRA", "full": "full fine-tuning"}
_LEARNING = {"answers": "", "text": ", from texts", "preferences": ", from preferences"}


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One way of training: tokens over all epochs, seconds and bytes here, US dollars there."""

    way: str
    tokens: int
    seconds: float
    memory_bytes: int
    price: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The ways side by side, and what the figures rest on."""

    rows: tuple[PlanRow, ...]
    notes: tuple[str, ...]


def estimate_adapter(
    folder: Path,
    examples: Iterable[Teaching],
    valid: Iterable[Teaching],
    settings: TrainSettings,
) -> tuple[PlanRow, ...]:
    """Count all tokens, rehearse some parts of the run in a process of its own, and scale.

    `folder` is the base model's. The seconds are those of `train` from its call to its return, if it does not stop
    early; the memory is the most that a process holds which does nothing else. Raises TrainingError for rows that
    `train` would refuse.
    """
    import torch

    tokenizer = load_tokenizer(folder)
    start = time.perf_counter()
    with TemporaryDirectory(prefix="tunesmith-") as place:
        work = Path(place)
        rows, valid_rows = _rows(tokenizer, examples, valid, settings, work)
        rendering = time.perf_counter() - start
        job = Job(str(folder.resolve()), settings.model_dump(), torch.get_num_threads())
        found = rehearse(job, rows, valid_rows, work)
    tokens = settings.epochs * int(sum(lengths_of(rows, objective_of(settings))))
    way = f"{_NAMES[settings.method]} on {settings.base}{_LEARNING[settings.objective]}, here"
    return (
        PlanRow(way, tokens, rendering + run_seconds(found, len(rows), settings), run_bytes(found), 0.0),
        PlanRow(HOSTED[0], tokens, 0.0, 0, tokens * HOSTED[1]),
    )


def _rows(
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Teaching],
    valid: Iterable[Teaching],
    settings: TrainSettings,
    work: Path,
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the rows of both sets as `train` renders and checks them."""
    from tunesmith.training import preflight
    from tunesmith.training.canaries import planted
    from tunesmith.training.rows import rendered

    sets = (
        ("training", "rows", chain(islice(examples, settings.examples), planted(settings))),
        ("validation", "valid", valid),
    )
    found, found_valid = (
        rendered(tokenizer, some, settings, check=preflight.RowChecks(tokenizer, what), store=work / name)[0]
        for what, name, some in sets
    )
    preflight.check_sets(found, found_valid)
    return found, found_valid


def run_seconds(found: Rehearsed, rows: int, settings: TrainSettings) -> float:
    """Return how long `train` takes for so many rows, from what its pieces take."""
    steps = settings.epochs * -(-rows // settings.batch_size)
    looks = -(-steps // settings.evaluate_every)
    return (
        found.start
        + steps * found.step
        + (1 + looks) * found.validation
        + looks * found.checkpoint
        + found.end
    )


def run_bytes(found: Rehearsed) -> int:
    """Return the peak of the whole run: what was rehearsed, and by how much it grows with shapes not rehearsed."""
    if device() == "cuda":
        return found.peak_bytes
    growth = min(LARGEST_GROWTH, GROWTH * (found.shapes - found.shapes_met))
    return found.peak_bytes + round(growth * max(0, found.peak_bytes - found.kept_bytes))


def estimate_encoder(
    encoder: LocalEncoder, pairs: Sequence[Pair], entries: Entries, settings: EncoderSettings
) -> PlanRow:
    """Count the questions' tokens, take two real steps and scale; the encoder is left as it was.

    Not counted: the entries' tokens, which each batch reads beside its questions; the seconds hold them.
    """
    seconds = step_seconds(encoder, pairs, entries, settings)
    questions = encoder.tokenizer(
        [pair.question for pair in pairs], truncation=True, max_length=QUESTION_TOKENS
    )
    tokens = sum(len(ids) for ids in questions["input_ids"])
    steps = settings.epochs * -(-len(pairs) // settings.batch_size)
    return PlanRow(
        f"encoder {settings.base}, here", settings.epochs * tokens, steps * seconds, peak_bytes(), 0.0
    )
