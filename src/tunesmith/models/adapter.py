"""Read LoRA adapters in PEFT's file format and merge them into a model's own weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def read_adapter(folder: Path) -> tuple[dict[str, Tensor], float]:
    """Return an adapter's tensors by PEFT's names and its scale (alpha / rank)."""
    from safetensors.torch import load_file

    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder} holds no adapter: {CONFIG} and {WEIGHTS} are needed")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("bias", "none") != "none":
        raise ModelError(
            f"the adapter in {folder} is not a plain LoRA adapter",
            hint="Merge it with PEFT's merge_and_unload and use the merged folder.",
        )
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    return load_file(folder / WEIGHTS), scale


def merge_adapter(model: PreTrainedModel, folder: Path) -> tuple[str, ...]:
    """Add an adapter's update to the model's weights, summed in float32; returns the layers' names.

    Raises ModelError if the adapter names a layer that the model does not have or whose shape differs.
    """
    import torch

    state, scale = read_adapter(folder)
    merged = []
    with torch.no_grad():
        for name in sorted(name for name in state if name.endswith(".lora_A.weight")):
            path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            down, up = state[name].float(), state[name.replace(".lora_A.", ".lora_B.")].float()
            try:
                weight = model.get_submodule(path).weight
            except AttributeError as error:
                raise ModelError(
                    f"the adapter in {folder} was made for another model: no layer {path}"
                ) from error
            if not isinstance(weight, torch.Tensor) or weight.shape != (up.shape[0], down.shape[1]):
                raise ModelError(
                    f"the adapter in {folder} was made for another model: layer {path} differs in shape"
                )
            weight.copy_((weight.float() + scale * (up @ down).to(weight.device)).to(weight.dtype))
            merged.append(path)
    return tuple(merged)
