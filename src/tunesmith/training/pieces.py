"""The small operations between a layer's products: norm, rotation, gate, and the loss over a vocabulary.

Each exists twice. Plain, in PyTorch's operations over pieces of rows that stay in a processor's cache. Compiled by
torch.compile, one pass over memory each: on a GPU always, on a processor where `fit` finds that it pays.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Values of a part of rows: in float32 4 MiB, which stay in a processor's cache; on a GPU what bounds memory alone.
PART, PART_ON_GPU = 2**20, 2**27

_compiled: dict[str, Callable[..., Any]] = {}


def compile_pieces(*, on: bool = True) -> None:
    """Compile what follows when it is next used; raises RuntimeError then, where there is no compiler."""
    _compiled.clear()
    if on:
        for name, function in _WHOLE.items():
            _compiled[name] = torch.compile(function, dynamic=True)


def are_compiled() -> bool:
    """Tell whether the pieces are compiled."""
    return bool(_compiled)


def can_compile() -> bool:
    """Tell whether this machine has what torch.compile needs: Triton on a GPU, else a C++ compiler."""
    from importlib.util import find_spec

    if torch.cuda.is_available():
        return find_spec("triton") is not None
    return any(shutil.which(name) for name in ("g++", "clang++"))


def normed(rows: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the rows over their root mean square, times the weight, and one over the former (float32)."""
    if "normed" in _compiled:
        found: tuple[Tensor, Tensor] = _compiled["normed"](rows, weight, epsilon)
        return found
    out = torch.empty_like(rows)
    inverse = torch.empty(len(rows), 1, device=rows.device)
    for some in _parts(rows):
        exact = rows[some].float()
        inverse[some] = (exact.square().mean(-1, keepdim=True) + epsilon).rsqrt_()
        torch.mul((exact * inverse[some]).to(rows.dtype), weight, out=out[some])
    return out, inverse


def normed_backward(
    grad: Tensor, rows: Tensor, inverse: Tensor, weight: Tensor, more: Tensor | None
) -> Tensor:
    """Return `more` plus the gradient of the rows: inverse (g - n mean(g n)), n the rows normed, g = grad x weight."""
    if "normed_backward" in _compiled:
        found: Tensor = _compiled["normed_backward"](grad, rows, inverse, weight, more)
        return found
    out = torch.empty_like(rows)
    for some in _parts(rows):
        exact = rows[some].float() * inverse[some]
        into = (grad[some] * weight).float()
        along = (into * exact).mean(-1, keepdim=True)
        into.addcmul_(exact, along, value=-1).mul_(inverse[some])
        out[some] = into if more is None else into.add_(more[some])
    return out


def gated(both: Tensor, width: int) -> Tensor:
    """Return silu(gate) x up; gate and up are the first columns of `both`, `width` each."""
    if "gated" in _compiled:
        found: Tensor = _compiled["gated"](both, width)
        return found
    out = both.new_empty(len(both), width)
    for some in _parts(both):
        torch.mul(functional.silu(both[some, :width]), both[some, width : 2 * width], out=out[some])
    return out


def gated_backward(grad: Tensor, both: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the gradient of `both`, its further columns undefined, and what `gated` returned."""
    if "gated_backward" in _compiled:
        found: tuple[Tensor, Tensor] = _compiled["gated_backward"](grad, both, width)
        return found
    out, hidden = torch.empty_like(both), torch.empty_like(grad)
    for some in _parts(both):
        gate, up = both[some, :width], both[some, width : 2 * width]
        opened = functional.silu(gate)
        torch.mul(opened, up, out=hidden[some])
        torch.mul(grad[some], opened, out=out[some, width : 2 * width])
        torch.ops.aten.silu_backward.grad_input(grad[some] * up, gate, grad_input=out[some, :width])
    return out, hidden


def rotated(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    """Return (B, heads, T, D) rotated by its position, or back; Su et al. 2021 (arXiv:2104.09864)."""
    if "rotated" in _compiled:
        found: Tensor = _compiled["rotated"](x, cos, sin, -1.0 if back else 1.0)
        return found
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    half = x.shape[-1] // 2
    cos, sin = cos[:, None, :, :half], sin[:, None, :, :half]
    first, second = x[..., :half], x[..., half:]
    sign = 1 if back else -1
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=sign)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin, value=-sign)
    return out


class CrossEntropy(torch.autograd.Function):
    """The cross-entropy of each row's label (float32): keeps the logits in their own type, and no second copy."""

    @staticmethod
    def forward(ctx: Any, logits_N_V: Tensor, label_N: Tensor) -> Tensor:  # noqa: D102
        if "log_sums" in _compiled:
            sums_N: Tensor = _compiled["log_sums"](logits_N_V)
        else:
            sums_N = torch.empty(len(logits_N_V), device=logits_N_V.device)
            for some in _parts(logits_N_V):
                sums_N[some] = torch.logsumexp(logits_N_V[some].float(), -1)
        ctx.save_for_backward(logits_N_V, label_N, sums_N)
        return sums_N - _at(logits_N_V, label_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: D102
        logits_N_V, label_N, sums_N = ctx.saved_tensors
        if "shares" in _compiled:
            out = _compiled["shares"](logits_N_V, sums_N, grads[0])
        else:
            # In the logits' own type: one pass, exact within, rounded as the gradient is anyway.
            out = torch.softmax(logits_N_V, -1).mul_(grads[0][:, None].to(logits_N_V.dtype))
        rows = torch.arange(len(label_N), device=label_N.device)
        out[rows, label_N] = ((_at(logits_N_V, label_N) - sums_N).expm1_() * grads[0]).to(out.dtype)
        return out, None


def _at(logits_N_V: Tensor, label_N: Tensor) -> Tensor:
    found: Tensor = logits_N_V.gather(1, label_N[:, None])[:, 0].float()
    return found


def _parts(matrix: Tensor) -> Iterator[slice]:
    """Yield slices of a matrix's rows, of PART values each."""
    rows, width = matrix.shape
    size = max(1, (PART_ON_GPU if matrix.is_cuda else PART) // width)
    for start in range(0, rows, size):
        yield slice(start, min(rows, start + size))


def _whole_normed(rows: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    exact = rows.float()
    inverse = (exact.square().mean(-1, keepdim=True) + epsilon).rsqrt()
    return (exact * inverse).to(rows.dtype) * weight, inverse


def _whole_normed_backward(
    grad: Tensor, rows: Tensor, inverse: Tensor, weight: Tensor, more: Tensor | None
) -> Tensor:
    exact = rows.float() * inverse
    into = (grad * weight).float()
    into = (into - exact * (into * exact).mean(-1, keepdim=True)) * inverse
    return (into if more is None else into + more.float()).to(rows.dtype)


def _whole_gated(both: Tensor, width: int) -> Tensor:
    gate, up = both[:, :width].float(), both[:, width : 2 * width].float()
    return ((gate * torch.sigmoid(gate)).to(both.dtype).float() * up).to(both.dtype)


def _whole_gated_backward(grad: Tensor, both: Tensor, width: int) -> tuple[Tensor, Tensor]:
    gate, up, exact = both[:, :width].float(), both[:, width : 2 * width].float(), grad.float()
    share = torch.sigmoid(gate)
    opened = gate * share
    of_gate = exact * up * (share * (1 + gate * (1 - share)))
    rest = both[:, 2 * width :]
    out = torch.cat([of_gate.to(both.dtype), (exact * opened).to(both.dtype), rest], 1)
    return out, (opened.to(both.dtype).float() * up).to(both.dtype)


def _whole_rotated(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    half = x.shape[-1] // 2
    first, second = x[..., :half].float(), x[..., half:].float()
    near, far = cos[:, None, :, :half].float(), sin[:, None, :, :half].float() * sign
    return torch.cat([first * near - second * far, second * near + first * far], -1).to(x.dtype)


def _whole_log_sums(logits_N_V: Tensor) -> Tensor:
    return torch.logsumexp(logits_N_V.float(), -1)


def _whole_shares(logits_N_V: Tensor, sums_N: Tensor, grad_N: Tensor) -> Tensor:
    return ((logits_N_V.float() - sums_N[:, None]).exp() * grad_N[:, None]).to(logits_N_V.dtype)


_WHOLE: dict[str, Callable[..., Any]] = {
    "log_sums": _whole_log_sums,
    "shares": _whole_shares,
    "normed": _whole_normed,
    "normed_backward": _whole_normed_backward,
    "gated": _whole_gated,
    "gated_backward": _whole_gated_backward,
    "rotated": _whole_rotated,
}


def by_head(out: Tensor, widths: Sequence[int], head_width: int, shape: Sequence[int]) -> list[Tensor]:
    """Return the columns of queries, keys and values as (B, heads, T, D), views of `out`."""
    parts, start = [], 0
    for width in widths:
        part = out[:, start : start + width].view(*shape, -1, head_width)
        parts.append(part.transpose(1, 2))
        start += width
    return parts
