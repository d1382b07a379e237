from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.errors import TrainingError
from tunesmith.models.adapter import merge_adapter
from tunesmith.training import lora


def llama() -> LlamaForCausalLM:
    """Return a tiny Llama, always the same."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def learned(model: LlamaForCausalLM) -> None:
    """Give the adapter weights as if something had been learned."""
    torch.manual_seed(1)
    for parameter in lora.adapter_parameters(model).values():
        parameter.data.normal_(std=0.2)


def test_an_untrained_adapter_changes_nothing() -> None:
    """B starts at zero, so the logits are the base model's."""
    ids = torch.randint(0, 60, (2, 9))
    model = llama()
    before = model(input_ids=ids).logits
    lora.add_lora(model, rank=4, alpha=8, top_layers=None, seed=0)
    torch.testing.assert_close(model(input_ids=ids).logits, before)


def test_adapters_go_on_all_linear_layers_of_the_top_blocks() -> None:
    """With top_layers=1 only the last block trains; the output projection never does."""
    model = llama()
    shape = lora.add_lora(model, rank=4, alpha=8, top_layers=1, seed=0)
    leaves = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert shape == lora.LoraShape(rank=4, alpha=8, targets=leaves, layers=(2,))
    assert len(lora.adapter_parameters(model)) == 2 * len(leaves)
    assert all(name.startswith("model.layers.2.") for name in lora.adapter_parameters(model))


def test_the_seed_decides_where_training_starts() -> None:
    """The same seed gives the same adapter, another seed another."""
    states = []
    for seed in (0, 0, 1):
        model = llama()
        lora.add_lora(model, rank=4, alpha=8, top_layers=None, seed=seed)
        states.append(torch.cat([tensor.flatten() for tensor in lora.adapter_state(model).values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_of_autograd(bias: bool) -> None:
    """Our backward agrees with autograd's of the same formula, for the input, A and B."""
    torch.manual_seed(0)
    base = nn.Linear(6, 5, bias=bias).double().requires_grad_(False)
    layer = lora.LoraLinear(base, rank=3, scale=2.0, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(layer.lora_B)
    x = torch.randn(2, 4, 6, dtype=torch.double, requires_grad=True)
    grad = torch.randn(2, 4, 5, dtype=torch.double)
    wanted = (x, layer.lora_A, layer.lora_B)
    ours = torch.autograd.grad(layer(x), wanted, grad)
    plain = functional.linear(x, base.weight, base.bias)
    plain = plain + 2.0 * (x @ layer.lora_A.double().t()) @ layer.lora_B.double().t()
    torch.testing.assert_close(ours, torch.autograd.grad(plain, wanted, grad))


# PEFT 0.21 still asks transformers for a property under its old name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_peft_loads_the_file_and_says_the_same(tmp_path: Path) -> None:
    """The saved adapter in PEFT's own layers, and merged by us, gives the logits of the trained model."""
    peft = pytest.importorskip("peft")
    ids = torch.randint(0, 60, (2, 9))
    model = llama()
    shape = lora.add_lora(model, rank=4, alpha=8, top_layers=2, seed=0)
    learned(model)
    lora.save_adapter(tmp_path, lora.adapter_state(model), shape, "tiny")
    expected = model(input_ids=ids).logits
    assert not torch.allclose(llama()(input_ids=ids).logits, expected)
    loaded = peft.PeftModel.from_pretrained(llama(), tmp_path)
    assert sum("lora_A" in name for name, _ in loaded.named_parameters()) == 14
    torch.testing.assert_close(loaded(input_ids=ids).logits, expected)
    merged = llama()
    assert len(merge_adapter(merged, tmp_path)) == 14
    torch.testing.assert_close(merged(input_ids=ids).logits, expected)


def test_a_state_can_be_put_back() -> None:
    """What adapter_state gave, load_adapter_state restores exactly."""
    model = llama()
    lora.add_lora(model, rank=4, alpha=8, top_layers=None, seed=0)
    learned(model)
    saved = lora.adapter_state(model)
    for parameter in lora.adapter_parameters(model).values():
        parameter.data.zero_()
    lora.load_adapter_state(model, saved)
    restored = lora.adapter_state(model)
    assert restored.keys() == saved.keys()
    assert all(torch.equal(restored[name], saved[name]) for name in saved)


def test_an_adapter_of_another_model_is_refused() -> None:
    """An adapter with other layers does not load in part."""
    model, other = llama(), llama()
    lora.add_lora(model, rank=4, alpha=8, top_layers=None, seed=0)
    lora.add_lora(other, rank=4, alpha=8, top_layers=1, seed=0)
    with pytest.raises(TrainingError, match="does not fit this model"):
        lora.load_adapter_state(model, lora.adapter_state(other))


def test_a_model_without_numbered_blocks_is_refused() -> None:
    """There is nothing to put an adapter on, and the error says what is needed."""
    with pytest.raises(TrainingError, match="no linear layers inside numbered blocks"):
        lora.add_lora(nn.Sequential(nn.Linear(2, 2)), rank=2, alpha=4, top_layers=None, seed=0)
