"""LoRA adapters: frozen linear layers with a trained low-rank update, saved in PEFT's file format.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv:2106.09685). Our own layer instead of
PEFT's: its forward and backward keep one copy of the input and do no casting (docs/decisions/0003).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.errors import TrainingError

_LAYER = re.compile(r"\.(?:layers|h|blocks|block)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class LoraShape:
    """Rank, scale (alpha / rank multiplies the update) and which linear layers are adapted."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    layers: tuple[int, ...]


class LoraLinear(nn.Module):
    """A frozen linear layer plus `scale * x A^T B^T`; A and B are float32, computed in the input's type."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        bound = 1 / math.sqrt(base.in_features)
        start = torch.rand(rank, base.in_features, generator=generator) * 2 * bound - bound
        self.lora_A = nn.Parameter(start)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        out: Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            x, self.base.weight, self.base.bias, self.lora_A, self.lora_B, self.scale
        )
        return out


class _Adapted(torch.autograd.Function):
    """Linear and LoRA as one function: it keeps the input and the thin product, nothing else."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd takes the operands one by one
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        a, b = a.to(x.dtype), (b * scale).to(x.dtype)
        thin = functional.linear(x, a)
        out = functional.linear(x, weight, bias)
        rows_out = out.view(-1, out.shape[-1])
        rows_out.addmm_(thin.view(-1, thin.shape[-1]), b.t())
        ctx.save_for_backward(x, thin, weight, a, b)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, thin, weight, a, b = ctx.saved_tensors
        rows = grads[0].reshape(-1, grads[0].shape[-1])
        rows_thin = rows @ b
        grad_a = rows_thin.t() @ x.reshape(-1, x.shape[-1])
        grad_b = rows.t() @ thin.reshape(-1, thin.shape[-1])
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (rows @ weight).addmm_(rows_thin, a).view_as(x)
        return grad_x, None, None, grad_a.float(), grad_b.float() * ctx.scale, None


def add_lora(model: nn.Module, *, rank: int, alpha: float, top_layers: int | None, seed: int) -> LoraShape:
    """Freeze the model and put adapters on every linear layer of its top `top_layers` blocks (None: all).

    The output projection is left alone, as PEFT's "all-linear" does. Raises TrainingError if nothing matches.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    blocks = sorted({block for name, _ in _linears(model) if (block := _block(name)) is not None})
    adapted = blocks if top_layers is None else blocks[max(0, len(blocks) - top_layers) :]
    generator = torch.Generator().manual_seed(seed)
    targets: set[str] = set()
    for name, linear in list(_linears(model)):
        if _block(name) in adapted:
            parent, _, leaf = name.rpartition(".")
            layer = LoraLinear(linear, rank=rank, alpha=alpha, generator=generator)
            setattr(model.get_submodule(parent), leaf, layer)
            targets.add(leaf)
    if not targets:
        raise TrainingError(
            f"{type(model).__name__} has no linear layers inside numbered blocks to put an adapter on",
            hint="LoRA needs torch.nn.Linear layers; this model family is not supported yet.",
        )
    return LoraShape(rank=rank, alpha=alpha, targets=tuple(sorted(targets)), layers=tuple(adapted))


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained parameters by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapter's tensors under the names that PEFT gives them."""
    state: dict[str, Tensor] = {}
    for name, parameter in adapter_parameters(model).items():
        path, _, which = name.rpartition(".")
        state[f"base_model.model.{path}.{which}.weight"] = parameter.detach().clone()
    return state


def load_adapter_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put tensors from `adapter_state` back; raises TrainingError unless names and shapes agree exactly."""
    own = adapter_parameters(model)
    names = {f"base_model.model.{n.rpartition('.')[0]}.{n.rpartition('.')[2]}.weight": n for n in own}
    if names.keys() != state.keys():
        odd = sorted(names.keys() ^ state.keys())[:3]
        raise TrainingError(
            f"the adapter does not fit this model: {len(odd)} or more layers differ, such as {odd}"
        )
    with torch.no_grad():
        for saved, name in names.items():
            own[name].copy_(state[saved])


def save_adapter(folder: Path, state: dict[str, Tensor], shape: LoraShape, base: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json as PEFT does, so that others can load them."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(shape.targets),
        "layers_to_transform": list(shape.layers),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    save_file(
        {name: tensor.contiguous() for name, tensor in state.items()}, folder / "adapter_model.safetensors"
    )
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    output = getattr(model, "get_output_embeddings", lambda: None)()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not output:
            yield name, module


def _block(name: str) -> int | None:
    found = _LAYER.search(f".{name}.")
    return None if found is None else int(found.group(1))
