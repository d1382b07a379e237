from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM, PreTrainedTokenizerFast

from tunesmith.errors import TrainingError
from tunesmith.records import Conversation
from tunesmith.training.preflight import check, check_loss, check_rows
from tunesmith.training.render import Rendered, render


def rows_of(tokenizer: PreTrainedTokenizerFast, places: tuple[Conversation, ...]) -> list[Rendered]:
    """Return the rows that training would see."""
    return [render(tokenizer, conversation) for conversation in places]


def test_rows_and_a_model_without_fault_pass(
    chat_tokenizer: PreTrainedTokenizerFast, new_chat_model: Any, places: tuple[Conversation, ...]
) -> None:
    """Nothing is said, and the model is as it was."""
    model = new_chat_model()
    rows = rows_of(chat_tokenizer, places)
    check(model, chat_tokenizer, rows[:8], rows[8:])
    check(model.to(torch.bfloat16), chat_tokenizer, rows[:8], rows[8:])
    assert not any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda row: Rendered(row.ids, (False,) * len(row.ids)), "example 3 has no labelled token"),
        (
            lambda row: Rendered(row.ids, (*row.mask[:-1], False)),
            "example 3 has no labelled end of turn: the model would learn never to stop",
        ),
        (lambda row: Rendered(row.ids[:-1], row.mask[:-1]), "example 3 has no labelled end of turn"),
        # The first token of a row is never predicted, so its label teaches nothing.
        (lambda row: Rendered((1, 5), (True, False)), "example 3 has no labelled token"),
        (
            lambda row: Rendered((0, *row.ids), (False, *row.mask)),
            "example 3 begins with two BOS tokens",
        ),
    ],
)
def test_each_fault_in_a_row_is_named(
    chat_tokenizer: PreTrainedTokenizerFast, places: tuple[Conversation, ...], fault: Any, why: str
) -> None:
    """Planted in one row of many, in either set, it is found, with the row's number."""
    rows = rows_of(chat_tokenizer, places)
    rows[2] = fault(rows[2])
    with pytest.raises(TrainingError, match=f"^training {why}"):
        check_rows(chat_tokenizer, rows, "training")
    with pytest.raises(TrainingError, match=f"^validation {why}"):
        check_rows(chat_tokenizer, rows, "validation")


def test_no_rows_are_a_fault(
    chat_tokenizer: PreTrainedTokenizerFast, new_chat_model: Any, places: tuple[Conversation, ...]
) -> None:
    """Neither set may be empty."""
    rows = rows_of(chat_tokenizer, places)
    with pytest.raises(TrainingError, match="there is no training example"):
        check(new_chat_model(), chat_tokenizer, [], rows)
    with pytest.raises(TrainingError, match="there is no validation example"):
        check(new_chat_model(), chat_tokenizer, rows, [])


@pytest.mark.parametrize("width", [0.02, 0.5])
@pytest.mark.parametrize(("scaling", "passes"), [(1.0, True), (8.0, False), (0.9, False)])
def test_a_model_that_scales_its_logits_is_refused(
    chat_tokenizer: PreTrainedTokenizerFast,
    places: tuple[Conversation, ...],
    scaling: float,
    passes: bool,
    width: float,
) -> None:
    """Granite divides its logits after the output projection: found also where they are still small."""
    torch.manual_seed(0)
    config = GraniteConfig(
        vocab_size=len(chat_tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        logits_scaling=scaling,
        initializer_range=width,
        tie_word_embeddings=False,
    )
    model = GraniteForCausalLM(config).eval()
    rows = rows_of(chat_tokenizer, places)
    if passes:
        check_loss(model, rows)
        return
    with pytest.raises(TrainingError, match="GraniteForCausalLM has other logits than its output projection"):
        check(model, chat_tokenizer, rows, rows)
