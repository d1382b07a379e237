from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.training.test_loop import PAD, ROWS
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tunesmith.models.attention import use_short_attention
from tunesmith.training import lora, pieces
from tunesmith.training.engine import Engine
from tunesmith.training.fused import fuse
from tunesmith.training.loop import Layout
from tunesmith.training.objectives import Likelihood

SHAPE: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def adapted(model: Any, *, method: lora.Method = "lora", top_layers: int | None = None) -> Any:
    """Return a model with an adapter that is not zero."""
    model.set_attn_implementation("sdpa")
    lora.add_lora(model, rank=4, alpha=8, top_layers=top_layers, seed=0, method=method)
    torch.manual_seed(1)
    for parameter in lora.adapter_parameters(model).values():
        parameter.data.normal_(std=0.1)
    use_short_attention(model)
    return model.eval()


def llama(**others: Any) -> Any:
    """Return a tiny Llama, always the same."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, **others))


def gradient(model: Any) -> tuple[float, list[torch.Tensor]]:
    """Return the loss of a few rows and the adapter's gradients."""
    engine = Engine(
        model, list(lora.adapter_parameters(model).values()), Likelihood(), Layout(PAD, limit=30), clip=1.0
    )
    loss = engine.gradient(ROWS)
    return loss, [parameter.grad for parameter in engine.parameters if parameter.grad is not None]


def qwen2() -> Any:
    """Return a tiny Qwen 2, whose queries, keys and values have biases."""
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    return model


@pytest.mark.parametrize("make", [llama, qwen2])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_fused_layers_have_the_loss_and_the_gradients_of_the_model(make: Any, compiled: bool) -> None:
    """All layers are replaced, plain or compiled; in float32 the difference is rounding alone."""
    plain = adapted(make())
    fused = copy.deepcopy(plain)
    assert fuse(fused) == 2
    pieces.compile_pieces(on=compiled)
    try:
        (loss, grads), (fused_loss, fused_grads) = gradient(plain), gradient(fused)
    finally:
        pieces.compile_pieces(on=False)
    assert fused_loss == pytest.approx(loss, rel=1e-6)
    assert len(grads) == len(fused_grads) == 28
    torch.testing.assert_close(fused_grads, grads, rtol=1e-3, atol=1e-6)


def test_fusing_keeps_the_weights_and_the_adapter_by_name() -> None:
    """What is saved is what it was; the adapter is still the one that was tried with random values."""
    plain = adapted(llama())
    fused = copy.deepcopy(plain)
    fuse(fused)
    before, after = plain.state_dict(), fused.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_only_layers_with_their_adapters_are_fused() -> None:
    """With top_layers=1 the other layer has nothing to learn and stays as it is."""
    model = adapted(llama(), top_layers=1)
    assert fuse(model) == 1


@pytest.mark.parametrize("method", ["dora"])
def test_other_adapters_are_left_alone(method: lora.Method) -> None:
    """DoRA's layers are no plain sums of two products."""
    assert fuse(adapted(llama(), method=method)) == 0


def test_a_family_that_does_more_is_left_alone() -> None:
    """Granite multiplies what a layer adds: its layers look alike, and compute something else."""
    torch.manual_seed(0)
    config = GraniteConfig(**SHAPE, residual_multiplier=0.5, attention_multiplier=0.25)
    assert fuse(adapted(GraniteForCausalLM(config))) == 0


def test_a_fused_layer_that_would_err_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault in the norm's gradient shows in the comparison, and the layers stay as they are."""
    from tunesmith.training import fused as module

    honest = pieces.normed_backward
    monkeypatch.setattr(module, "normed_backward", lambda *given: honest(*given) * 1.01)
    assert fuse(adapted(llama())) == 0


def test_a_cache_of_keys_is_served_by_the_layer_itself() -> None:
    """Generating with a fused model gives what the model gave."""
    plain = adapted(llama())
    fused = copy.deepcopy(plain)
    fuse(fused)
    ids = torch.tensor([[3, 5, 7, 11]])
    given = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    assert torch.equal(plain.generate(ids, **given), fused.generate(ids, **given))


def test_layers_that_compute_again_have_the_same_gradient() -> None:
    """Gradient checkpointing of fused layers keeps less and changes nothing."""
    from tunesmith.training.fit import _recompute

    plain = adapted(llama())
    fused = copy.deepcopy(plain)
    fuse(fused)
    _recompute(fused)
    (loss, grads), (again_loss, again_grads) = gradient(plain), gradient(fused)
    assert again_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(again_grads, grads, rtol=1e-3, atol=1e-6)
