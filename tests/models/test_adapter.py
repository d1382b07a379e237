"""Adapters in PEFT's format: read, merged, and refused where they are another model's or more than plain LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith.errors import ModelError
from tunesmith.models.adapter import merge_adapter, read_adapter

LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
SHAPES = ((32, 32), (32, 48))  # out, in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an adapter of rank 2 on two layers of the tiny chat model."""
    torch.manual_seed(0)
    state = {}
    for layer, (wide, narrow) in zip(LAYERS, SHAPES, strict=True):
        state[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(2, narrow)
        state[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(wide, 2)
    save_file(state, tmp_path / "adapter_model.safetensors")
    configure(
        tmp_path, r=2, lora_alpha=6, peft_type="LORA", task_type="CAUSAL_LM", target_modules=list(LAYERS)
    )
    return tmp_path


def configure(folder: Path, **values: Any) -> None:
    """Write or change the adapter's configuration."""
    path = folder / "adapter_config.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(before | values), encoding="utf-8")


def rename(folder: Path, old: str, new: str) -> None:
    """Give a tensor of the adapter another name."""
    state = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name.replace(old, new): tensor for name, tensor in state.items()},
        folder / "adapter_model.safetensors",
    )


@pytest.mark.parametrize(("rslora", "scale"), [(False, 3.0), (True, 6 / 2**0.5)])
def test_merging_adds_the_scaled_product(
    folder: Path, new_chat_model: Any, rslora: bool, scale: float
) -> None:
    """Each layer's weight gains scale * B A, the others nothing; the layers are named."""
    configure(folder, use_rslora=rslora)
    state, found = read_adapter(folder)
    assert found == pytest.approx(scale)
    model, before = new_chat_model(), new_chat_model().state_dict()
    assert merge_adapter(model, folder) == LAYERS
    for layer in LAYERS:
        name = f"base_model.model.{layer}."
        update = state[f"{name}lora_B.weight"] @ state[f"{name}lora_A.weight"]
        before[f"{layer}.weight"] = before[f"{layer}.weight"] + scale * update
    torch.testing.assert_close(dict(model.state_dict()), dict(before))


# PEFT 0.21 still asks transformers for a property under its old name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
@pytest.mark.parametrize("rslora", [False, True])
def test_the_merged_model_says_what_peft_says(folder: Path, new_chat_model: Any, rslora: bool) -> None:
    """Logits agree with PEFT's layers on the same folder."""
    peft = pytest.importorskip("peft")
    configure(folder, use_rslora=rslora)
    ids = torch.randint(2, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    merged = new_chat_model()
    merge_adapter(merged, folder)
    theirs = peft.PeftModel.from_pretrained(new_chat_model(), folder)
    logits = merged(input_ids=ids).logits
    torch.testing.assert_close(logits, theirs(input_ids=ids).logits, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(logits, new_chat_model()(input_ids=ids).logits, atol=0.1)


def test_an_update_is_summed_before_it_is_rounded(folder: Path, new_chat_model: Any) -> None:
    """In bfloat16 the merged weight is the rounded float32 sum, not a sum of rounded parts."""
    exact, rounded = new_chat_model().to(torch.bfloat16).float(), new_chat_model().to(torch.bfloat16)
    merge_adapter(exact, folder)
    merge_adapter(rounded, folder)
    for layer in LAYERS:
        expected = exact.get_submodule(layer).weight.to(torch.bfloat16)
        assert torch.equal(rounded.get_submodule(layer).weight, expected)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("layers.1.mlp.down_proj", "layers.7.mlp.down_proj", r"no layer model\.layers\.7\.mlp\.down_proj"),
        (
            "layers.1.mlp.down_proj",
            "layers.1.mlp.up_proj",
            r"layer model\.layers\.1\.mlp\.up_proj differs in shape",
        ),
        ("layers.1.mlp.down_proj", "layers.1.mlp", r"no layer model\.layers\.1\.mlp"),
    ],
)
def test_another_models_adapter_is_refused_whole(
    folder: Path, new_chat_model: Any, old: str, new: str, why: str
) -> None:
    """A layer that is missing or of another shape is named, and no layer at all is merged."""
    rename(folder, old, new)
    model = new_chat_model()
    with pytest.raises(ModelError, match=f"was made for another model: {why}"):
        merge_adapter(model, folder)
    before = new_chat_model().state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"peft_type": "IA3"}, "peft_type=IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias=all"),
        ({"rank_pattern": {"q_proj": 1}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 1}}, "alpha_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_more_than_plain_lora_is_refused(folder: Path, values: dict[str, Any], why: str) -> None:
    """What merging would leave out without a word is named instead."""
    configure(folder, **values)
    with pytest.raises(ModelError, match=f"not a plain LoRA adapter: {why}\n"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [(".lora_A.", ".lora_embedding_A."), (".lora_B.weight", ".lora_B.bias"), ("lora_B", "lora_C")],
)
def test_tensors_without_their_counterpart_are_refused(folder: Path, old: str, new: str) -> None:
    """An adapter that holds anything but pairs of A and B would be merged in part."""
    rename(folder, old, new)
    with pytest.raises(ModelError, match="not a plain LoRA adapter: base_model"):
        read_adapter(folder)


def test_a_folder_without_an_adapter_is_named(folder: Path, tmp_path: Path) -> None:
    """Either file missing, or no tensors in it."""
    with pytest.raises(ModelError, match="holds no adapter"):
        read_adapter(tmp_path / "nowhere")
    save_file({}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="it has no tensors"):
        read_adapter(folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"adapter_config\.json and adapter_model\.safetensors are needed"):
        read_adapter(folder)
