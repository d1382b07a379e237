"""Turn LitGPT's LoRA checkpoint into an adapter in PEFT's format; runs in LitGPT's own environment.

It is copied into the folder that is handed over, since LitGPT's checkpoints are pickled, which Tunesmith does not read:

    python to_peft.py out/final adapter
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

_NAME = re.compile(r"transformer\.h\.(?P<block>\d+)\.(?P<layer>[\w.]+)\.(?P<which>lora_[AB])")
_LAYERS = {
    "attn.proj": "self_attn.o_proj",
    "mlp.fc_1": "mlp.gate_proj",
    "mlp.fc_2": "mlp.up_proj",
    "mlp.proj": "mlp.down_proj",
}


def convert(checkpoint: Path, adapter: Path) -> None:
    """Write the adapter of a folder that `litgpt finetune_lora` left, which must be of a Llama-like model."""
    shape = yaml.safe_load((checkpoint / "model_config.yaml").read_text(encoding="utf-8"))
    given = yaml.safe_load((checkpoint / "hyperparameters.yaml").read_text(encoding="utf-8"))
    saved = torch.load(checkpoint / "lit_model.pth.lora", map_location="cpu", weights_only=True)
    state = dict(_renamed(saved.get("model", saved), shape, given))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(given["checkpoint_dir"]),
        "r": given["lora_r"],
        "lora_alpha": given["lora_alpha"],
        "lora_dropout": given["lora_dropout"],
        "target_modules": sorted({name.split(".")[-3] for name in state}),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    adapter.mkdir(parents=True, exist_ok=True)
    save_file(state, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _renamed(
    state: Mapping[str, torch.Tensor], shape: Mapping[str, Any], given: Mapping[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each tensor by PEFT's name; those of queries, keys and values lie in one and are taken apart."""
    for name, tensor in state.items():
        found = _NAME.fullmatch(name)
        if found is not None and found["layer"] == "attn.qkv":
            parts = _taken_apart(tensor, found["which"], shape, given)
        elif found is not None and found["layer"] in _LAYERS:
            parts = {_LAYERS[found["layer"]]: tensor}
        else:
            raise SystemExit(f"{name} is not converted: only the linear layers of Llama-like models are")
        for layer, part in parts.items():
            # A copy each: safetensors refuses tensors that share their memory.
            yield (
                f"base_model.model.model.layers.{found['block']}.{layer}.{found['which']}.weight",
                part.clone(),
            )


def _taken_apart(
    tensor: torch.Tensor, which: str, shape: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    heads = {"query": shape["n_head"], "key": shape["n_query_groups"], "value": shape["n_query_groups"]}
    adapted = [part for part in heads if given[f"lora_{part}"]]
    rows = [given["lora_r"] if which == "lora_A" else heads[part] * shape["head_size"] for part in adapted]
    layers = [f"self_attn.{part[0]}_proj" for part in adapted]
    return dict(zip(layers, torch.split(tensor, rows), strict=True))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
