"""Linear layers whose weights are laid out once as the processor's products read them.

A product with a plain weight lays it out anew for each call, which costs as much as the product itself while few rows
are read: 13.9 ms against 6.8 for all layers of SmolLM2-135M and one token, 18.2 against 10.6 for 16, with the same bits
in the result (two cores, bf16; docs/log.md). The laying out is oneDNN's, by the operators that PyTorch's own compiler
uses for it; where they are not there, layers stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Rows that a layout is made for: it is the same for few and for many.
_ROWS = 16


class PackedLinear(nn.Module):
    """What nn.Linear computes, from a weight that has only the layout for it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        # Who asks for its shape or type is told; who would read it fails, for it is not here.
        self.weight = torch.empty_like(linear.weight, device="meta")
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the weight, plus the bias."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y


def pack(model: PreTrainedModel) -> int:
    """Lay out the weights of a model that is only read from now on; returns how many layers were."""
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or not works():
        return 0
    packed = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.dtype is torch.bfloat16:
                setattr(module, name, PackedLinear(child))
                packed += 1
    return packed


def works() -> bool:
    """Tell whether the operators are there, on a processor that has bf16, and compute what a plain layer does."""
    plain: Any = nn.Linear(64, 32, dtype=torch.bfloat16)
    x = torch.randn(3, 64, dtype=torch.bfloat16)
    try:
        with torch.inference_mode():
            return bool(torch.allclose(PackedLinear(plain)(x), plain(x), atol=1e-2))
    except (AttributeError, RuntimeError):
        # Another version of PyTorch, or a processor without bf16.
        return False
