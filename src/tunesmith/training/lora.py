"""LoRA adapters: frozen linear layers with a trained low-rank update, saved in PEFT's file format.

LoRA: Hu et al. 2021 (arXiv:2106.09685). rsLoRA scales by alpha / sqrt(rank): Kalajdzievski 2023 (arXiv:2312.03732).
DoRA trains the length of each row of the weight beside its direction: Liu et al. 2024 (arXiv:2402.09353). QLoRA keeps
the frozen weights in 4 bits: Dettmers et al. 2023 (arXiv:2305.14314).
Our own layer instead of PEFT's: its forward and backward keep one copy of the input and do no casting
(docs/decisions/0003).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.errors import TrainingError
from tunesmith.models.quantised import dense, linear_layers

Method = Literal["lora", "rslora", "dora", "qlora", "full"]

_LAYER = re.compile(r"\.(?:layers|h|blocks|block)\.(\d+)\.")
_MAGNITUDE = "lora_magnitude_vector"


@dataclass(frozen=True, slots=True)
class LoraShape:
    """Rank, alpha, the method, and which linear layers of which blocks are adapted.

    `transposed` says that the model keeps its weights as (in, out), as GPT-2 does.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    layers: tuple[int, ...]
    method: Method = "lora"
    transposed: bool = False


class LoraLinear(nn.Module):
    """A frozen linear layer plus `scale * x A^T B^T`; A and B are float32, computed in the input's type.

    The frozen layer is nn.Linear, transformers' Conv1D (whose weight is (in, out)), or bitsandbytes' Linear4bit.
    """

    def __init__(
        self, base: nn.Module, *, rank: int, scale: float, generator: torch.Generator, dora: bool = False
    ) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        inward, outward = _sizes(base)
        self.transposed = not isinstance(base, nn.Linear)
        bound = 1 / math.sqrt(inward)
        start = torch.rand(rank, inward, generator=generator) * 2 * bound - bound
        device = base.weight.device
        self.lora_A = nn.Parameter(start.to(device))  # type: ignore[arg-type]
        self.lora_B = nn.Parameter(torch.zeros(outward, rank, device=device))  # type: ignore[arg-type]
        if dora:
            lengths = torch.linalg.vector_norm(self.dense_weight().float(), dim=1)
            self.lora_magnitude_vector = nn.Parameter(lengths.detach())

    def dense_weight(self) -> Tensor:
        """Return the frozen weight as (out, in), whatever the layer keeps it as."""
        weight, quantised = self._kept()
        return _dense(weight, quantised, torch.float32 if quantised is None else quantised.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        weight, quantised = self._kept()
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]
        if hasattr(self, _MAGNITUDE):
            return self._with_lengths(x, _dense(weight, quantised, x.dtype), bias)
        out: Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            x, weight, quantised, bias, self.lora_A, self.lora_B, self.scale
        )
        return out

    def _kept(self) -> tuple[Tensor, Any]:
        """Return the weight as (out, in), or packed in 4 bits together with how to unpack it."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return (weight.t() if self.transposed else weight), getattr(weight, "quant_state", None)

    def _with_lengths(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """DoRA: each row of the adapted weight gets a trained length; its present one counts as a constant."""
        with torch.no_grad():
            adapted = torch.addmm(weight.float(), self.lora_B, self.lora_A, alpha=self.scale)
            present = torch.linalg.vector_norm(adapted, dim=1)
        stretch = (self.lora_magnitude_vector / present).to(x.dtype)
        out: Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            x, weight, None, None, self.lora_A, self.lora_B, self.scale
        )
        out = out * stretch
        return out if bias is None else out + bias


class _Adapted(torch.autograd.Function):
    """Linear and LoRA as one function: it keeps the input and the thin product, nothing else."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd takes the operands one by one
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        quantised: Any,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
    ) -> Tensor:
        a, b = a.to(x.dtype), (b * scale).to(x.dtype)
        product = _opaque_product if torch.compiler.is_compiling() else _product
        out, thin = product(x, _dense(weight, quantised, x.dtype), bias, a, b)
        ctx.save_for_backward(x, thin, weight, a, b)
        ctx.quantised, ctx.scale = quantised, scale
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
            product = _opaque_sum if torch.compiler.is_compiling() else _sum
            grad_x = product(rows, _dense(weight, ctx.quantised, x.dtype), rows_thin, a).view_as(x)
        return grad_x, None, None, None, grad_a.float(), grad_b.float() * ctx.scale, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return x W^T + bias + (x A^T) B^T, and x A^T."""
    thin = functional.linear(x, a)
    out = functional.linear(x, weight, bias)
    out.view(-1, out.shape[-1]).addmm_(thin.view(-1, thin.shape[-1]), b.t())
    return out, thin


def _sum(rows: Tensor, weight: Tensor, thin: Tensor, a: Tensor) -> Tensor:
    """Return rows W + thin A."""
    return (rows @ weight).addmm_(thin, a)


# To torch.compile these are one operation each: looked into, it would copy the large product to add the thin one.
_opaque_product = torch.library.custom_op("tunesmith::product", _product, mutates_args=())
_opaque_sum = torch.library.custom_op("tunesmith::sum", _sum, mutates_args=())


@_opaque_product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(*x.shape[:-1], weight.shape[0]), x.new_empty(*x.shape[:-1], a.shape[0])


@_opaque_sum.register_fake
def _(rows: Tensor, weight: Tensor, thin: Tensor, a: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[1])


def _dense(weight: Tensor, quantised: Any, dtype: torch.dtype) -> Tensor:
    return weight if quantised is None else dense(weight, quantised, dtype)


def scale_of(alpha: float, rank: int, method: Method) -> float:
    """Return what the update is multiplied by: alpha / rank, in rsLoRA alpha / sqrt(rank)."""
    return alpha / (math.sqrt(rank) if method == "rslora" else rank)


def add_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: float,
    top_layers: int | None,
    seed: int,
    method: Method = "lora",
) -> LoraShape:
    """Freeze the model and put adapters on every linear layer of its top `top_layers` blocks (None: all).

    The output projection is left alone, as PEFT's "all-linear" does. Raises TrainingError if nothing matches.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    blocks = sorted({block for name, _ in linear_layers(model) if (block := _block(name)) is not None})
    adapted = blocks if top_layers is None else blocks[max(0, len(blocks) - top_layers) :]
    generator = torch.Generator().manual_seed(seed)
    targets: set[str] = set()
    transposed: set[bool] = set()
    for name, linear in list(linear_layers(model)):
        if _block(name) in adapted:
            parent, _, leaf = name.rpartition(".")
            layer = LoraLinear(
                linear,
                rank=rank,
                scale=scale_of(alpha, rank, method),
                generator=generator,
                dora=method == "dora",
            )
            setattr(model.get_submodule(parent), leaf, layer)
            targets.add(leaf)
            transposed.add(layer.transposed)
    if not targets:
        raise TrainingError(
            f"{type(model).__name__} has no linear layers inside numbered blocks to put an adapter on",
            hint='Use method = "full" in [train]: LoRA needs linear layers.',
        )
    return LoraShape(rank, alpha, tuple(sorted(targets)), tuple(adapted), method, transposed == {True})


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained parameters by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapter's tensors under the names that PEFT gives them."""
    return {_saved_name(n): p.detach().clone() for n, p in adapter_parameters(model).items()}


def load_adapter_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put tensors from `adapter_state` back; raises TrainingError unless names and shapes agree exactly."""
    own = adapter_parameters(model)
    names = {_saved_name(name): name for name in own}
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
        "use_rslora": shape.method == "rslora",
        "use_dora": shape.method == "dora",
        "target_modules": list(shape.targets),
        "layers_to_transform": list(shape.layers),
        "bias": "none",
        "fan_in_fan_out": shape.transposed,
        "inference_mode": True,
    }
    save_file(
        {name: tensor.contiguous() for name, tensor in state.items()}, folder / "adapter_model.safetensors"
    )
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _saved_name(name: str) -> str:
    # PEFT saves DoRA's lengths without the ".weight" that A and B have.
    path, _, which = name.rpartition(".")
    return f"base_model.model.{path}.{which}" + ("" if which == _MAGNITUDE else ".weight")


def _sizes(linear: nn.Module) -> tuple[int, int]:
    """Return how many values a linear layer takes and how many it gives."""
    if isinstance(linear, nn.Linear):
        return linear.in_features, linear.out_features
    inward, outward = linear.weight.shape  # type: ignore[misc]
    return int(inward), int(outward)


def _block(name: str) -> int | None:
    found = _LAYER.search(f".{name}.")
    return None if found is None else int(found.group(1))
