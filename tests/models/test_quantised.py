from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from tunesmith.models.quantised import is_quantised, linear_layers, quantise, round_to_four_bits


def gpt2() -> GPT2LMHeadModel:
    """Return a tiny GPT-2, whose layers keep their weights as (in, out)."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=32)).eval()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_in_four_bits_is_the_model_that_is_rounded_to_them(new_chat_model: Any, family: str) -> None:
    """Packed, or rounded and kept whole: the same logits, near those of the model and not the same."""
    model = gpt2() if family == "gpt2" else new_chat_model()
    packed, rounded = copy.deepcopy(model), copy.deepcopy(model)
    quantise(packed)
    round_to_four_bits(rounded)
    assert (is_quantised(model), is_quantised(packed), is_quantised(rounded)) == (False, True, False)
    ids = torch.tensor([[3, 5, 7, 11, 13]])
    with torch.no_grad():
        whole, small, large = (each(input_ids=ids).logits for each in (model, packed, rounded))
    torch.testing.assert_close(small, large, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(small, whole, rtol=1e-3)
    assert torch.nn.functional.cosine_similarity(small.flatten(), whole.flatten(), 0) > 0.9


def test_the_output_projection_and_the_embeddings_stay_whole(new_chat_model: Any) -> None:
    """Only the layers between are packed, each of them."""
    model: LlamaForCausalLM = new_chat_model()
    names = {name for name, _ in linear_layers(model)}
    assert len(names) == 2 * 7
    assert "lm_head" not in names
    quantise(model)
    assert model.lm_head.weight.dtype == torch.float32
    packed = {n for n, p in model.named_parameters() if p.dtype == torch.uint8}
    assert packed == {f"{name}.weight" for name in names}


def test_reading_does_not_change_what_is_packed(new_chat_model: Any) -> None:
    """Asked without a gradient, a weight stays the bytes that it was."""
    model = new_chat_model()
    quantise(model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        model(input_ids=torch.tensor([[3, 5, 7]]))
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
