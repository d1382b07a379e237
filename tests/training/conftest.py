"""Conversations about places, for a tiny chat model to learn, and a tiny encoder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tunesmith.models.embedding import LocalEncoder
from tunesmith.records import Conversation, Message


def chat(question: str, answer: str) -> Conversation:
    """Return one question and its answer."""
    return (Message("user", question), Message("assistant", answer))


@pytest.fixture(scope="session")
def places() -> tuple[Conversation, ...]:
    """Return ten short conversations of different lengths."""
    places = ("path", "the user", "this", "system", "found by", "a short", "is", "it", "function", "xyz")
    return tuple(
        chat(f"where is {place}?", place[::-1] * (1 + number % 3)) for number, place in enumerate(places)
    )


@pytest.fixture(scope="session")
def new_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], LocalEncoder]:
    """Return the maker of a tiny BERT, always the same, with dropout and two dozen words."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    questions = (
        "how do i get a path tree soup graph",
        "where is the short node edge cycle flow",
        "find count each there",
    )
    words = [word for question in questions for word in question.split()]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    path = tmp_path_factory.mktemp("bert") / "vocab.txt"
    path.write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=str(path))
    torch.set_num_threads(1)

    def make() -> LocalEncoder:
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
        return LocalEncoder(BertModel(config).eval(), tokenizer, name="tiny")

    return make
