"""Whole weights of a tuned model: base and adapter summed in float32, rounded once, written as safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.errors import ModelError
from tunesmith.models.address import Place
from tunesmith.models.local import end_of_turn_ids, load_model
from tunesmith.models.quiet import quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_DTYPES: Final = ("float32", "bfloat16", "float16")


def load_whole(place: Place) -> PreTrainedModel:
    """Return the model in float32, its adapter merged; raises ModelError for a base whose weights are quantised.

    A sum with weights of 4 or 8 bits would be rounded to their few values, and lose what was learned.
    """
    import torch

    method = _config(place.folder).get("quantization_config")
    if method is not None:
        raise ModelError(
            f"the weights in {place.folder} are quantised ({method.get('quant_method', 'unknown')}): "
            "nothing is merged into them or exported from them",
            hint="Name the bf16 or fp32 model that they were made from; an adapter fits it as well.",
        )
    return load_model(place.folder, dtype=torch.float32, adapter=place.adapter, place="cpu")


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the type in which a model folder says that its weights are stored (float32 if it does not)."""
    import torch

    config = _config(folder)
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    if name not in _DTYPES:
        raise ModelError(
            f"the weights in {folder} are of type {name}: only {', '.join(_DTYPES)} are exported",
            hint="Load the model in bfloat16 and write it anew with save_pretrained.",
        )
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def round_weights(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Round a float32 model's weights to the values that `dtype` has, and leave them float32.

    Raises ModelError, naming the tensor, if a weight is too large for the type.
    """
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(weight.to(dtype))
            require_finite(name, bool(weight.isfinite().all()), str(dtype).removeprefix("torch."))


def require_finite(name: str, finite: bool, precision: str) -> None:
    """Raise ModelError, naming the tensor, unless all its values are numbers in the precision."""
    if not finite:
        raise ModelError(
            f"the tensor {name} has values that {precision} cannot hold, or that are no numbers",
            hint="If training went well, export the merged weights (--to merged), in the base's own precision.",
        )


def write_merged(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: torch.dtype
) -> None:
    """Write a model, whose weights `round_weights` rounded, in `dtype`, with tokenizer and chat template.

    The generation config names every token that ends a turn, so that transformers stops where Tunesmith does.
    """
    ends = sorted(end_of_turn_ids(tokenizer))
    with quiet():
        model.generation_config.eos_token_id = ends
        # Not model.to(dtype): that would round the rotary frequencies too, which stay float32. Tied tensors stay one.
        tensors = model.state_dict()
        cast = {tensor.data_ptr(): tensor.to(dtype) for tensor in tensors.values()}
        state = {name: cast[tensor.data_ptr()] for name, tensor in tensors.items()}
        model.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
    config = _config(folder) | {"dtype": str(dtype).removeprefix("torch.")}
    folder.joinpath("config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(folder.joinpath("config.json").read_text(encoding="utf-8"))
    return config
