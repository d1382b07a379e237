from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tunesmith.errors import TrainingError
from tunesmith.models.embedding import LocalEncoder
from tunesmith.records import Conversation, Message, Preference
from tunesmith.training.encoder import EncoderSettings, Entries, Pair
from tunesmith.training.plan import (
    GROWTH,
    HOSTED,
    LARGEST_GROWTH,
    estimate_adapter,
    estimate_encoder,
    run_bytes,
    run_seconds,
)
from tunesmith.training.rehearsal import Rehearsed
from tunesmith.training.rows import Teaching
from tunesmith.training.settings import Method, Objective, TrainSettings
from tunesmith.training.train import train

SETTINGS = TrainSettings(
    base="tiny", epochs=2, batch_size=3, rank=4, max_length=50, too_long="cut", evaluate_every=2
)


def test_the_plan_counts_the_tokens_that_training_reads(
    chat_folder: Path,
    chat_tokenizer: PreTrainedTokenizerFast,
    new_chat_model: Any,
    places: tuple[Conversation, ...],
    tmp_path: Path,
) -> None:
    """Over all epochs and cut at max_length, to the token; time and memory are positive, the price is by token."""
    long = (*places[0], Message("user", "and " * 40), Message("assistant", "there"))
    examples = (*places[:6], long)
    here, hosted = estimate_adapter(chat_folder, examples, places[8:], SETTINGS)
    run = train(
        new_chat_model(), chat_tokenizer, examples, places[8:], SETTINGS, out=tmp_path / "a", work=tmp_path
    )
    assert run.truncated == 1
    assert (here.way, here.tokens, here.price) == ("LoRA on tiny, here", run.tokens, 0.0)
    assert here.seconds > 0
    assert here.memory_bytes > 2**20
    assert (hosted.way, hosted.tokens) == (HOSTED[0], run.tokens)
    assert hosted.price == pytest.approx(run.tokens * 8e-6)


@pytest.mark.parametrize(
    ("method", "objective", "way"),
    [
        ("dora", "answers", "DoRA on tiny, here"),
        ("full", "text", "full fine-tuning on tiny, from texts, here"),
        ("qlora", "preferences", "QLoRA on tiny, from preferences, here"),
    ],
)
def test_each_way_of_training_is_estimated(
    chat_folder: Path, places: tuple[Conversation, ...], method: Method, objective: Objective, way: str
) -> None:
    """Under its name, with its own kind of examples; all steps are taken though a batch holds more than there are."""
    examples: dict[str, tuple[Teaching, ...]] = {
        "answers": places,
        "text": tuple(question.content for question, _ in places),
        "preferences": tuple(
            Preference((question,), answer, Message("assistant", "no")) for question, answer in places
        ),
    }
    some = examples[objective]
    settings = TrainSettings(base="tiny", method=method, objective=objective, batch_size=16)
    row, _ = estimate_adapter(chat_folder, some[:6], some[6:], settings)
    assert row.way == way
    assert row.tokens > 0
    assert row.seconds > 0
    assert row.memory_bytes > 2**20


def test_what_training_would_refuse_is_refused_now(
    chat_folder: Path, places: tuple[Conversation, ...]
) -> None:
    """No examples, or an answer beyond max_length: said before anything is trained."""
    with pytest.raises(TrainingError, match="there is no training example"):
        estimate_adapter(chat_folder, (), places, SETTINGS)
    with pytest.raises(TrainingError, match="there is no validation example"):
        estimate_adapter(chat_folder, places, (), SETTINGS)
    long = (Message("user", "where " * 40), places[0][1])
    with pytest.raises(TrainingError, match="example 1 has no labelled token left once it is cut"):
        estimate_adapter(chat_folder, places, (long,), SETTINGS)


def test_a_runs_time_is_that_of_all_its_pieces() -> None:
    """Seven rows in threes, twice, are six steps with three looks, each with a checkpoint, and one look before."""
    found = Rehearsed(
        start=1000,
        step=1,
        validation=10,
        checkpoint=100,
        end=10_000,
        peak_bytes=0,
        kept_bytes=0,
        shapes=1,
        shapes_met=1,
    )
    assert run_seconds(found, 7, SETTINGS) == 1000 + 6 + 4 * 10 + 3 * 100 + 10_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU memory does not grow with shapes")
def test_memory_grows_with_shapes_that_were_not_rehearsed() -> None:
    """By a share of what a step works with for each, and not without bounds."""
    met = Rehearsed(
        start=0,
        step=0,
        validation=0,
        checkpoint=0,
        end=0,
        peak_bytes=3000,
        kept_bytes=1000,
        shapes=5,
        shapes_met=5,
    )
    assert run_bytes(met) == 3000
    assert run_bytes(replace(met, shapes=15)) == 3000 + round(10 * GROWTH * 2000)
    assert run_bytes(replace(met, shapes=10_000)) == 3000 + round(LARGEST_GROWTH * 2000)


def test_the_encoders_plan_counts_questions(
    new_encoder: Callable[[], LocalEncoder],
) -> None:
    """Two enclosing tokens and one a word, cut where tuning cuts, over all epochs; the encoder is as it was."""
    encoder = new_encoder()
    entries = Entries({"p.path": 0, "p.tree": 1}, torch.eye(32)[:2])
    pairs = [Pair("find the path", "p.path"), Pair("a tree", "p.tree"), Pair("find " * 60, "p.tree")]
    settings = EncoderSettings(base="tiny", epochs=4, batch_size=2)
    row = estimate_encoder(encoder, pairs, entries, settings)
    assert (row.way, row.tokens, row.price) == ("encoder tiny, here", 4 * (5 + 4 + 48), 0.0)
    assert row.seconds > 0
    assert row.memory_bytes > 2**20
    before = new_encoder().model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.model.state_dict().items())
    with pytest.raises(TrainingError, match="there are none"):
        estimate_encoder(encoder, [], entries, settings)
