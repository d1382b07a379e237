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
_DOWN, _UP, _LENGTH = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


# What PEFT can write into an adapter's configuration that `alpha / r * B A` on every layer does not express.
_NOT_PLAIN = ("rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias")


def read_adapter(folder: Path) -> tuple[dict[str, Tensor], float]:
    """Return an adapter's tensors by PEFT's names and its scale (alpha / rank).

    Raises ModelError if the folder holds none, or one that is more than plain LoRA on linear layers.
    """
    from safetensors.torch import load_file

    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder} holds no adapter: {CONFIG} and {WEIGHTS} are needed")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    state = load_file(folder / WEIGHTS)
    odd = [name for name in _NOT_PLAIN if config.get(name)]
    odd += [f"bias={bias}" for bias in [config.get("bias", "none")] if bias != "none"]
    # DoRA is read by its tensors: a configuration that promises them and has none is damaged.
    odd += ["use_dora"] if config.get("use_dora") and not any(n.endswith(_LENGTH) for n in state) else []
    odd += [] if config.get("peft_type") == "LORA" else [f"peft_type={config.get('peft_type')}"]
    odd += [
        name
        for name in sorted(state)
        if not name.endswith((_DOWN, _UP, _LENGTH)) or _other(name) not in state
    ]
    if odd or not state:
        raise ModelError(
            f"the adapter in {folder} is not a plain LoRA adapter: {', '.join(odd[:3]) or 'it has no tensors'}",
            hint="Merge it with PEFT's merge_and_unload and use the merged folder.",
        )
    rank = config["r"]
    return state, config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)


def merge_adapter(model: PreTrainedModel, folder: Path) -> tuple[str, ...]:
    """Add an adapter's update to the model's weights, summed in float32; returns the layers' names.

    Raises ModelError, and merges nothing, if the adapter names a layer that the model does not have or whose shape
    differs.
    """
    import torch

    state, scale = read_adapter(folder)
    names = sorted(name for name in state if name.endswith(_DOWN))
    layers = {name: name.removeprefix("base_model.model.").removesuffix(_DOWN) for name in names}
    weights = {
        name: _weight(model, layer, folder, (state[_other(name)].shape[0], state[name].shape[1]))
        for name, layer in layers.items()
    }
    with torch.no_grad():
        for name, weight in weights.items():
            update = scale * (state[_other(name)].float() @ state[name].float())
            adapted = weight.float() + update.to(weight.device)
            length = state.get(name.removesuffix(_DOWN) + _LENGTH)
            if length is not None:
                present = torch.linalg.vector_norm(adapted, dim=1, keepdim=True)
                adapted *= length.float().to(weight.device)[:, None] / present
            weight.copy_(adapted.to(weight.dtype))
    return tuple(layers.values())


def _weight(model: PreTrainedModel, layer: str, folder: Path, shape: tuple[int, int]) -> Tensor:
    """Return a layer's weight as (out, in), of the shape that the adapter was made for."""
    import torch
    from transformers.pytorch_utils import Conv1D

    try:
        module = model.get_submodule(layer)
        weight = module.weight.t() if isinstance(module, Conv1D) else module.weight
    except AttributeError as error:
        raise ModelError(f"the adapter in {folder} was made for another model: no layer {layer}") from error
    if not isinstance(weight, torch.Tensor) or weight.shape != shape:
        raise ModelError(
            f"the adapter in {folder} was made for another model: layer {layer} differs in shape"
        )
    return weight


def _other(name: str) -> str:
    """Return the name of the tensor that goes with a tensor: B for A, A for B and for DoRA's lengths."""
    if name.endswith(_LENGTH):
        return name.removesuffix(_LENGTH) + _DOWN
    return name.removesuffix(_DOWN) + _UP if name.endswith(_DOWN) else name.removesuffix(_UP) + _DOWN
