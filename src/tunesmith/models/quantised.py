"""Keep a model's linear layers in 4 bits, as QLoRA does: bitsandbytes' NF4, the scales quantised as well.

Dettmers et al. 2023, "QLoRA" (arXiv:2305.14314). Layer by layer and by hand, because transformers' loader leaves out
layers of a class of their own without a word (Falcon's), and cannot load GPT-2's so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tunesmith.errors import MissingExtra

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the linear layers with their names, but for the output projection; GPT-2's Conv1D is one too."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    output = getattr(model, "get_output_embeddings", lambda: None)()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not output:
            yield name, module


def quantise(model: PreTrainedModel) -> None:
    """Replace each linear layer by one whose weight is kept in 4 bits."""
    layer_type = _bitsandbytes().nn.Linear4bit
    for name, layer in list(linear_layers(model)):
        weight = _as_out_in(layer)
        outward, inward = weight.shape
        packed = layer_type(inward, outward, bias=layer.bias is not None, compute_dtype=weight.dtype)
        packed.weight = _packed(weight)
        packed.bias = layer.bias
        # Else bitsandbytes repacks a weight when it first reads it, in place, with rounded scales: another model.
        packed.support_avx512bf16_for_cpu = False
        model.set_submodule(name, packed.to(weight.device).requires_grad_(False))


def is_quantised(model: nn.Module) -> bool:
    """Tell whether linear layers are kept in 4 bits."""
    return any(hasattr(getattr(layer, "weight", None), "quant_state") for _, layer in linear_layers(model))


def round_to_four_bits(model: PreTrainedModel) -> None:
    """Give each linear layer the weight that it has in 4 bits, kept as it was: what a QLoRA adapter learned beside."""
    import torch

    with torch.no_grad():
        for _, layer in linear_layers(model):
            weight = _as_out_in(layer)
            packed = _packed(weight).to(weight.device)
            weight.copy_(dense(packed, packed.quant_state, weight.dtype))


def dense(weight: Tensor, quantised: Any, dtype: torch.dtype) -> Tensor:
    """Return a weight that is kept in 4 bits as (out, in)."""
    found: Tensor = _bitsandbytes().functional.dequantize_4bit(weight, quantised)
    return found.to(dtype)


def _packed(weight: Tensor) -> Any:
    """Return the weight as a parameter that is quantised when it is put on its device."""
    parameter = _bitsandbytes().nn.Params4bit
    made = parameter(
        weight.detach().contiguous(), requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    return made.to(weight.device)


def _as_out_in(layer: nn.Module) -> Tensor:
    from torch import nn

    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight if isinstance(layer, nn.Linear) else weight.t()


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingExtra("bitsandbytes", "qlora", "a model in 4 bits") from error
    return bitsandbytes
