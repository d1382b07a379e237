"""LitGPT's LoRA checkpoints as adapters in PEFT's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from tunesmith.models.adapter import merge_adapter, read_adapter
from tunesmith.training.litgpt_to_peft import convert

RANK, HEADS, GROUPS, SIZE, WIDTH, INNER = 2, 4, 2, 8, 32, 48
QKV = (HEADS * SIZE, GROUPS * SIZE, GROUPS * SIZE)


def tensors() -> dict[str, Tensor]:
    """Return what LitGPT saves for the first block of the tiny chat model, all layers adapted."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "attn.qkv.lora_A": (3 * RANK, WIDTH),
        "attn.qkv.lora_B": (sum(QKV), RANK),
        "attn.proj.lora_A": (RANK, WIDTH),
        "attn.proj.lora_B": (WIDTH, RANK),
        "mlp.fc_1.lora_A": (RANK, WIDTH),
        "mlp.fc_1.lora_B": (INNER, RANK),
        "mlp.fc_2.lora_A": (RANK, WIDTH),
        "mlp.fc_2.lora_B": (INNER, RANK),
        "mlp.proj.lora_A": (RANK, INNER),
        "mlp.proj.lora_B": (WIDTH, RANK),
    }
    return {
        f"transformer.h.0.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()
    }


def write_checkpoint(folder: Path, state: dict[str, Tensor], **given: Any) -> Path:
    """Write the files of `out/final` that are read."""
    shape = {"n_head": HEADS, "n_query_groups": GROUPS, "head_size": SIZE}
    settings = {
        "checkpoint_dir": "checkpoints/tiny",
        "lora_r": RANK,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        **{f"lora_{part}": True for part in ("query", "key", "value")},
        **given,
    }
    (folder / "model_config.yaml").write_text(yaml.safe_dump(shape), encoding="utf-8")
    (folder / "hyperparameters.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    torch.save({"model": state}, folder / "lit_model.pth.lora")
    return folder


def test_the_adapter_updates_each_layer_as_litgpt_does(tmp_path: Path, new_chat_model: Any) -> None:
    """Merged, each projection has gained alpha / rank times its own rows of B times its own rows of A."""
    state = tensors()
    convert(write_checkpoint(tmp_path, state), tmp_path / "adapter")

    model, before = new_chat_model(), new_chat_model()
    assert len(merge_adapter(model, tmp_path / "adapter")) == 7

    a, b = (state[f"transformer.h.0.attn.qkv.lora_{which}"] for which in "AB")
    rows = torch.split(b, list(QKV))
    attention, was = model.model.layers[0].self_attn, before.model.layers[0].self_attn
    for number, name in enumerate(("q_proj", "k_proj", "v_proj")):
        update = 4.0 * rows[number] @ a[number * RANK : (number + 1) * RANK]
        gained = getattr(attention, name).weight - getattr(was, name).weight
        torch.testing.assert_close(gained, update, rtol=1e-4, atol=1e-3)
    down = model.model.layers[0].mlp.down_proj.weight - before.model.layers[0].mlp.down_proj.weight
    torch.testing.assert_close(
        down,
        4.0 * state["transformer.h.0.mlp.proj.lora_B"] @ state["transformer.h.0.mlp.proj.lora_A"],
        rtol=1e-4,
        atol=1e-3,
    )


def test_projections_that_litgpt_left_alone_are_left_out(tmp_path: Path) -> None:
    """With queries and values adapted, the two halves of A are theirs, and no key projection appears."""
    state = {
        "transformer.h.0.attn.qkv.lora_A": torch.arange(2 * RANK * WIDTH).reshape(2 * RANK, WIDTH).float(),
        "transformer.h.0.attn.qkv.lora_B": torch.ones(QKV[0] + QKV[2], RANK),
    }
    convert(write_checkpoint(tmp_path, state, lora_key=False), tmp_path / "adapter")

    found, _ = read_adapter(tmp_path / "adapter")
    prefix = "base_model.model.model.layers.0.self_attn"
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        f"{prefix}.q_proj.lora_A.weight": (RANK, WIDTH),
        f"{prefix}.q_proj.lora_B.weight": (QKV[0], RANK),
        f"{prefix}.v_proj.lora_A.weight": (RANK, WIDTH),
        f"{prefix}.v_proj.lora_B.weight": (QKV[2], RANK),
    }
    second_half = state["transformer.h.0.attn.qkv.lora_A"][RANK:]
    assert torch.equal(found[f"{prefix}.v_proj.lora_A.weight"], second_half)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["target_modules"] == ["q_proj", "v_proj"]


def test_a_layer_that_no_llama_has_is_refused(tmp_path: Path) -> None:
    """It is named, and no adapter is written without it."""
    state = {**tensors(), "transformer.h.0.mlp.fc.lora_A": torch.ones(RANK, WIDTH)}
    with pytest.raises(SystemExit, match=r"transformer\.h\.0\.mlp\.fc\.lora_A is not converted"):
        convert(write_checkpoint(tmp_path, state), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
