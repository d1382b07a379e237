"""Layers of Llama's shape with their LoRA, computed by hand: fewer passes over memory, and less kept for the gradient.

A layer as transformers runs it is some sixty small operations forward and twice as many backward, each a pass over
memory that is slower than the products between them. Here the layers that read the same input are one product, with the
thin products of their adapters inside it; norm, rotation and gate are one pass each (pieces.py); and what can be had
again cheaply is not kept. docs/decisions/0012 has the algebra, docs/log.md what it gives.

A layer is replaced only if it computes the same on random input, forward and backward: whatever a family does otherwise
(norms of queries, other gates, scaled residuals, layers without rotation) shows there, and the layer is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.training.lora import LoraLinear
from tunesmith.training.pieces import by_head, gated, gated_backward, normed, normed_backward, rotated

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def fuse(model: PreTrainedModel) -> int:
    """Replace the forward of each layer that has Llama's shape and its adapters; returns how many there are."""
    count = 0
    for layer in _layers(model):
        fused = _Layer(layer, model.config)
        if not _computes_the_same(layer, fused, model):
            continue
        layer.forward = fused.forward
        count += 1
    return count


def _layers(model: PreTrainedModel) -> Iterator[nn.Module]:
    """Yield the layers that have the parts that are fused here, each with its adapter, and no others."""
    for module in model.modules():
        parts = dict(module.named_children())
        if parts.keys() != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
            continue
        attention, mlp = dict(parts["self_attn"].named_children()), dict(parts["mlp"].named_children())
        adapted = [attention.get(f"{name}_proj") for name in "qkvo"]
        adapted += [mlp.get(f"{name}_proj") for name in ("gate", "up", "down")]
        if len(attention) == 4 and all(_is_plain(each) for each in adapted):
            norms = (parts["input_layernorm"], parts["post_attention_layernorm"])
            if all(hasattr(norm, "variance_epsilon") for norm in norms):
                yield module


def _is_plain(linear: nn.Module | None) -> bool:
    """Tell whether this is LoRA or rsLoRA over a weight that is kept as it is."""
    if not isinstance(linear, LoraLinear) or linear.transposed or hasattr(linear, "lora_magnitude_vector"):
        return False
    return not hasattr(linear.base.weight, "quant_state")


class _Together:
    """Linear layers that read the same input, and their adapters, as one product.

    Their weights stand in one matrix, the adapters' A below them: x [W; A]^T is all outputs and all thin products. The
    layers' own weights become parts of that matrix, so that nothing is kept twice.
    """

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.layers = list(layers)
        bases: list[Any] = [layer.base for layer in layers]
        self.widths = [int(base.weight.shape[0]) for base in bases]
        self.width, self.rank = sum(self.widths), sum(layer.lora_A.shape[0] for layer in layers)
        self.weight: Tensor = bases[0].weight.new_empty(self.width + self.rank, bases[0].weight.shape[1])
        start = 0
        for base, width in zip(bases, self.widths, strict=True):
            part = self.weight[start : start + width]
            part.copy_(base.weight)
            base.weight = nn.Parameter(part, requires_grad=False)
            start += width
        self.bias: Tensor | None = None if bases[0].bias is None else torch.cat([b.bias for b in bases])

    def parameters(self) -> list[nn.Parameter]:
        """Return all A, then all B."""
        return [layer.lora_A for layer in self.layers] + [layer.lora_B for layer in self.layers]

    def set(self, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Take the adapters as they are now; returns the matrix, and B, scaled, as blocks on a diagonal."""
        half = len(parameters) // 2
        self.weight[self.width :] = torch.cat(list(parameters[:half]))
        blocks = [b.detach() * layer.scale for b, layer in zip(parameters[half:], self.layers, strict=True)]
        return self.weight, _diagonal(blocks).to(self.weight.dtype)

    def gradients(self, grad_a: Tensor, grad_b: Tensor) -> list[Tensor]:
        """Return the gradients of all A, then of all B, from that of A below one another and of B as blocks."""
        ranks = [layer.lora_A.shape[0] for layer in self.layers]
        found_a = [part.float() for part in torch.split(grad_a, ranks)]
        found_b, row, column = [], 0, 0
        for layer, width, rank in zip(self.layers, self.widths, ranks, strict=True):
            block = grad_b[row : row + width, column : column + rank]
            found_b.append(block.float() * layer.scale)
            row, column = row + width, column + rank
        return found_a + found_b


class _Layer:
    """The forward of one layer; `forward` stands in for the module's own."""

    def __init__(self, layer: nn.Module, config: Any) -> None:
        self.module, self.config = layer, config
        self.original = layer.forward
        attention: Any = layer.self_attn
        mlp: Any = layer.mlp
        self.attention = attention
        self.head_width = int(attention.head_dim)
        self.qkv = _Together([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = _Together([attention.o_proj])
        self.gate_up = _Together([mlp.gate_proj, mlp.up_proj])
        self.down = _Together([mlp.down_proj])

    def forward(self, hidden_states: Tensor, *others: Any, **given: Any) -> Tensor:
        """Compute the layer; with a cache of keys, or arguments by place, as the module itself does."""
        if others or given.get("past_key_values") is not None or given.get("position_embeddings") is None:
            found: Tensor = self.original(hidden_states, *others, **given)
            return found
        if getattr(self.module, "gradient_checkpointing", False) and self.module.training:
            from torch.utils.checkpoint import checkpoint

            again: Tensor = checkpoint(self._compute, hidden_states, given, use_reentrant=False)
            return again
        return self._compute(hidden_states, given)

    def _compute(self, x_B_T_D: Tensor, given: dict[str, Any]) -> Tensor:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        cos, sin = given["position_embeddings"]
        norm, second = self.module.input_layernorm, self.module.post_attention_layernorm
        query, key, value = _Enter.apply(  # type: ignore[no-untyped-call]
            x_B_T_D, norm, self.qkv, self.head_width, cos, sin, *self.qkv.parameters()
        )
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, None)
        named = {name: value for name, value in given.items() if name not in _OF_LAYERS}
        attended, _ = attend(
            self.attention,
            query,
            key,
            value,
            given.get("attention_mask"),
            dropout=0.0,
            scaling=self.attention.scaling,
            **named,
        )
        x_B_T_D = _Leave.apply(  # type: ignore[no-untyped-call]
            x_B_T_D, attended.reshape(*x_B_T_D.shape[:2], -1), self.out, *self.out.parameters()
        )
        found: Tensor = _Gated.apply(  # type: ignore[no-untyped-call]
            x_B_T_D, second, self.gate_up, self.down, *self.gate_up.parameters(), *self.down.parameters()
        )
        return found


# What a layer is given and its attention function is not.
_OF_LAYERS = frozenset({"attention_mask", "past_key_values", "position_embeddings", "use_cache"})


class _Enter(torch.autograd.Function):
    """Norm, queries, keys and values with their adapters, and the rotation of queries and keys."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Any, group: _Together, *others: Any) -> tuple[Tensor, ...]:
        head_width, cos, sin, *parameters = others
        rows = x.reshape(-1, x.shape[-1])
        entered, inverse = normed(rows, norm.weight, norm.variance_epsilon)
        weight, b = group.set(parameters)
        out, thin = _product(entered, weight, b, group)
        heads = by_head(out, group.widths, head_width, x.shape[:2])
        query, key = (rotated(each, cos, sin) for each in heads[:2])
        ctx.save_for_backward(rows, entered, inverse, thin, b, cos, sin)
        ctx.norm, ctx.group, ctx.shape = norm, group, x.shape
        return query, key, heads[2].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        rows, entered, inverse, thin, b, cos, sin = ctx.saved_tensors
        group: _Together = ctx.group
        grad = rows.new_empty(len(rows), group.width + group.rank)
        into = by_head(grad, group.widths, grads[0].shape[-1], ctx.shape[:2])
        for each, place in zip(grads[:2], into[:2], strict=True):
            place.copy_(rotated(each, cos, sin, back=True))
        into[2].copy_(grads[2])
        grad_normed, found_grads = _product_backward(grad, entered, thin, b, group)
        grad_x = normed_backward(grad_normed, rows, inverse, ctx.norm.weight, None)
        return (grad_x.view(ctx.shape), None, None, None, None, None, *found_grads)


class _Leave(torch.autograd.Function):
    """The output projection of attention with its adapter, added to what went in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, group: _Together, *parameters: Tensor) -> Tensor:
        weight, b = group.set(parameters)
        rows = h.reshape(-1, h.shape[-1])
        thin = rows @ weight[group.width :].t()
        out = torch.addmm(x.reshape(-1, x.shape[-1]), rows, weight[: group.width].t())
        out.addmm_(thin, b.t())
        if group.bias is not None:
            out += group.bias
        ctx.save_for_backward(rows, thin, b, weight[group.width :].clone())
        ctx.group, ctx.shape = group, h.shape
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        rows, thin, b, a = ctx.saved_tensors
        group: _Together = ctx.group
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        grad_thin = grad @ b
        grad_h = (grad @ group.weight[: group.width]).addmm_(grad_thin, a)
        found = group.gradients(grad_thin.t() @ rows, grad.t() @ thin)
        return (grads[0], grad_h.view(ctx.shape), None, *found)


class _Gated(torch.autograd.Function):
    """Norm, gate and up, their product through SiLU, and down, with their adapters, added to what went in."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Any, group: _Together, down: _Together, *parameters: Tensor
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        entered, inverse = normed(rows, norm.weight, norm.variance_epsilon)
        weight, b = group.set(parameters[:4])
        both, thin = _product(entered, weight, b, group)
        hidden = gated(both, group.widths[0])
        down_weight, down_b = down.set(parameters[4:])
        down_thin = hidden @ down_weight[down.width :].t()
        out = torch.addmm(rows, hidden, down_weight[: down.width].t())
        out.addmm_(down_thin, down_b.t())
        if down.bias is not None:
            out += down.bias
        down_a = down_weight[down.width :].clone()
        ctx.save_for_backward(rows, entered, inverse, both, thin, b, down_thin, down_b, down_a)
        ctx.norm, ctx.group, ctx.down, ctx.shape = norm, group, down, x.shape
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        rows, entered, inverse, both, thin, b, down_thin, down_b, down_a = ctx.saved_tensors
        group: _Together = ctx.group
        down: _Together = ctx.down
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        grad_down_thin = grad @ down_b
        grad_hidden = (grad @ down.weight[: down.width]).addmm_(grad_down_thin, down_a)
        grad_both, hidden = gated_backward(grad_hidden, both, group.widths[0])
        of_down = down.gradients(grad_down_thin.t() @ hidden, grad.t() @ down_thin)
        grad_normed, of_group = _product_backward(grad_both, entered, thin, b, group)
        grad_x = normed_backward(grad_normed, rows, inverse, ctx.norm.weight, grad)
        return (grad_x.view(ctx.shape), None, None, None, *of_group, *of_down)


def _diagonal(blocks: list[Tensor]) -> Tensor:
    """Return the blocks on the diagonal of a matrix of zeros."""
    if len(blocks) == 1:
        return blocks[0]
    rows, columns = sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks)
    out = blocks[0].new_zeros(rows, columns)
    row = column = 0
    for block in blocks:
        out[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return out


def _product(x: Tensor, weight: Tensor, b: Tensor, group: _Together) -> tuple[Tensor, Tensor]:
    """Return all outputs, with the thin products behind them in the same rows, and the latter alone."""
    out = x @ weight.t()
    thin = out[:, group.width :].contiguous()
    outputs = out[:, : group.width]
    outputs.addmm_(thin, b.t())
    if group.bias is not None:
        outputs += group.bias
    return out, thin


def _product_backward(
    grad: Tensor, x: Tensor, thin: Tensor, b: Tensor, group: _Together
) -> tuple[Tensor, list[Tensor]]:
    """Return the gradient of the input and of the adapters; `grad` has room for that of the thin products."""
    of_outputs = grad[:, : group.width]
    grad_thin = of_outputs @ b
    grad[:, group.width :] = grad_thin
    grad_b = of_outputs.t() @ thin
    grad_a = grad_thin.t() @ x
    return grad @ group.weight, group.gradients(grad_a, grad_b)


def _computes_the_same(layer: nn.Module, fused: _Layer, model: PreTrainedModel) -> bool:
    """Compare a layer with its fused form on random input: output, and gradients of the input and the adapters."""
    adapters = [p for p in layer.parameters() if p.requires_grad]
    kept = [p.detach().clone() for p in adapters]
    generator = torch.Generator().manual_seed(0)
    width = int(model.config.hidden_size)
    x = torch.randn(2, 8, width, generator=generator).to(model.device, model.dtype)
    angles = torch.rand(1, 8, fused.head_width // 2, generator=generator) * 6
    angles = torch.cat([angles, angles], -1).to(model.device)
    rotation = (angles.cos().to(model.dtype), angles.sin().to(model.dtype))
    with torch.no_grad():
        for parameter in adapters:
            # B begins at zero: with it half of the gradients would be zero too.
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    found = []
    try:
        for forward in (fused.original, fused.forward):
            given = x.clone().requires_grad_(True)
            out = forward(given, attention_mask=None, position_embeddings=rotation)
            out = out[0] if isinstance(out, tuple) else out
            wanted = torch.autograd.grad(out.float().square().sum(), [given, *adapters])
            found.append([out, *wanted])
    except (TypeError, RuntimeError, AttributeError):
        return False
    finally:
        with torch.no_grad():
            for parameter, value in zip(adapters, kept, strict=True):
                parameter.copy_(value)
    close = 1e-4 if model.dtype == torch.float32 else 0.05
    return all(
        float((a - b).detach().float().norm()) <= close * float(a.detach().float().norm())
        for a, b in zip(*found, strict=True)
    )
