from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tunesmith.errors import TrainingError
from tunesmith.models.embedding import LocalEncoder
from tunesmith.records import Conversation, Message
from tunesmith.training.encoder import EncoderSettings, Entries, Pair
from tunesmith.training.plan import HOSTED, estimate_adapter, estimate_encoder
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import train

SETTINGS = TrainSettings(
    base="tiny", epochs=2, batch_size=3, rank=4, max_length=50, too_long="cut", evaluate_every=2
)


def test_the_plan_counts_the_tokens_that_training_reads(
    chat_tokenizer: PreTrainedTokenizerFast,
    new_chat_model: Any,
    places: tuple[Conversation, ...],
    tmp_path: Path,
) -> None:
    """Over all epochs and cut at max_length, to the token; time and memory are positive, the price is by token."""
    long = (*places[0], Message("user", "and " * 40), Message("assistant", "there"))
    examples = (*places[:6], long)
    here, hosted = estimate_adapter(new_chat_model(), chat_tokenizer, examples, places[8:], SETTINGS)
    run = train(
        new_chat_model(), chat_tokenizer, examples, places[8:], SETTINGS, out=tmp_path / "a", work=tmp_path
    )
    assert run.truncated == 1
    assert (here.way, here.tokens, here.price) == ("LoRA on tiny, here", run.tokens, 0.0)
    assert here.seconds > 0
    assert here.memory_bytes > 2**20
    assert (hosted.way, hosted.tokens) == (HOSTED[0], run.tokens)
    assert hosted.price == pytest.approx(run.tokens * 8e-6)


def test_twice_the_epochs_are_twice_the_tokens(
    chat_tokenizer: PreTrainedTokenizerFast, new_chat_model: Any, places: tuple[Conversation, ...]
) -> None:
    """Also where there are fewer examples than a batch holds."""
    tokens = [
        estimate_adapter(
            new_chat_model(),
            chat_tokenizer,
            places[:2],
            places[8:],
            SETTINGS.model_copy(update={"epochs": epochs, "batch_size": 16}),
        )[0].tokens
        for epochs in (1, 2)
    ]
    assert tokens[1] == 2 * tokens[0] > 0


def test_what_training_would_refuse_is_refused_now(
    chat_tokenizer: PreTrainedTokenizerFast, new_chat_model: Any, places: tuple[Conversation, ...]
) -> None:
    """No examples, or an answer beyond max_length: said before anything is trained."""
    with pytest.raises(TrainingError, match="there is no training example"):
        estimate_adapter(new_chat_model(), chat_tokenizer, (), places, SETTINGS)
    with pytest.raises(TrainingError, match="there is no validation example"):
        estimate_adapter(new_chat_model(), chat_tokenizer, places, (), SETTINGS)
    long = (Message("user", "where " * 40), places[0][1])
    with pytest.raises(TrainingError, match="example 1 has no labelled token left once it is cut"):
        estimate_adapter(new_chat_model(), chat_tokenizer, places, (long,), SETTINGS)


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
