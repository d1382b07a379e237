"""What training would cost, before it starts: tokens counted, speed and memory measured on one batch, price."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.models.embedding import LocalEncoder
from tunesmith.records import Conversation
from tunesmith.training.encoder import QUESTION_TOKENS, EncoderSettings, Entries, Pair, step_seconds
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import new_engine, peak_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# OpenAI's published price for training gpt-3.5-turbo (2023), in US dollars a token: $0.008 per 1,000.
HOSTED = ("gpt-3.5-turbo, hosted (2023 price)", 0.008 / 1000)


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
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Conversation],
    valid: Sequence[Conversation],
    settings: TrainSettings,
) -> tuple[PlanRow, ...]:
    """Count all tokens, take three real steps, of which the last is timed, and scale; the model is spoilt by the steps.

    Validation passes count as the forward third of a step. Raises TrainingError for rows that `train` would refuse.
    """
    from tunesmith.training import preflight
    from tunesmith.training.rows import rendered
    from tunesmith.training.tuning import check_loaded, prepare

    check_loaded(model, settings)
    found = {
        what: rendered(tokenizer, some, settings, check=preflight.RowChecks(tokenizer, what))[0]
        for what, some in (("training", examples), ("validation", valid))
    }
    preflight.check_sets(found["training"], found["validation"])
    engine = new_engine(model, tokenizer, prepare(model, settings), settings)

    def length(row: Any) -> int:
        return sum(len(text.ids) for text in engine.objective.texts(row))

    rows = sorted(found["training"], key=length)
    tokens = settings.epochs * sum(map(length, rows))
    valid_tokens = sum(map(length, found["validation"]))
    # Rows evenly spaced in length, so that they are as long on average as the data; the longest need most memory.
    size = min(settings.batch_size, len(rows))
    typical, longest = (
        max(engine.objective.parts(some, engine.layout), key=lambda part: part.batch.ids_B_T.numel())
        for some in ([rows[(2 * i + 1) * len(rows) // (2 * size)] for i in range(size)], rows[-size:])
    )
    # One part of a step stands for all. The first with a shape is slower: kernels are chosen, memory is found.
    for part in (longest, typical):
        engine.step_on([part], rate=1e-6)
    start = time.perf_counter()
    engine.step_on([typical], rate=1e-6)
    per_token = (time.perf_counter() - start) / typical.batch.tokens
    steps = settings.epochs * -(-len(rows) // settings.batch_size)
    evaluations = 1 + -(-steps // settings.evaluate_every)
    return (
        PlanRow(
            f"LoRA on {settings.base}, here",
            tokens,
            per_token * (tokens + evaluations * valid_tokens / 3),
            peak_bytes(),
            0.0,
        ),
        PlanRow(HOSTED[0], tokens, 0.0, 0, tokens * HOSTED[1]),
    )


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
