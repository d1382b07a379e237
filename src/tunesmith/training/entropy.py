"""The cross-entropy over a vocabulary, with its gradient by hand: one copy of the logits, and few passes over them.

Logits are the largest thing that a step makes: for 400 tokens and 49,152 words 40 MB in bfloat16, and twice that in
each of the float32 copies that a plain cross-entropy keeps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

# Values of a part of rows: in float32 4 MiB, which stay in a processor's cache; on a GPU what bounds memory alone.
PART, PART_ON_GPU = 2**20, 2**27

_compiled: dict[str, Callable[..., Any]] = {}


def compile_entropy(*, on: bool = True) -> None:
    """Compile what follows when it is next used; raises RuntimeError then, where there is no compiler."""
    _compiled.clear()
    if on:
        for function in (_log_sums, _shares):
            _compiled[function.__name__] = torch.compile(function, dynamic=True)


def can_compile() -> bool:
    """Tell whether this machine has what torch.compile needs: Triton on a GPU, else a C++ compiler."""
    from importlib.util import find_spec

    if torch.cuda.is_available():
        return find_spec("triton") is not None
    return any(shutil.which(name) for name in ("g++", "clang++"))


class CrossEntropy(torch.autograd.Function):
    """The cross-entropy of each row's label (float32); keeps the logits in their own type."""

    @staticmethod
    def forward(ctx: Any, logits_N_V: Tensor, label_N: Tensor) -> Tensor:  # noqa: D102
        if _compiled:
            sums_N: Tensor = _compiled["_log_sums"](logits_N_V)
        else:
            sums_N = torch.empty(len(logits_N_V), device=logits_N_V.device)
            for some in _parts(logits_N_V):
                sums_N[some] = _log_sums(logits_N_V[some])
        ctx.save_for_backward(logits_N_V, label_N, sums_N)
        return sums_N - _at(logits_N_V, label_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: D102
        logits_N_V, label_N, sums_N = ctx.saved_tensors
        if _compiled:
            out = _compiled["_shares"](logits_N_V, sums_N, grads[0])
        else:
            out = torch.empty_like(logits_N_V)
            for some in _parts(logits_N_V):
                # Exact within, and rounded once more: as the gradient is anyway.
                out[some] = torch.softmax(logits_N_V[some], -1).float().mul_(grads[0][some, None])
        rows = torch.arange(len(label_N), device=label_N.device)
        out[rows, label_N] = ((_at(logits_N_V, label_N) - sums_N).expm1_() * grads[0]).to(out.dtype)
        return out, None


def _log_sums(logits_N_V: Tensor) -> Tensor:
    return torch.logsumexp(logits_N_V.float(), -1)


def _shares(logits_N_V: Tensor, sums_N: Tensor, grad_N: Tensor) -> Tensor:
    return ((logits_N_V.float() - sums_N[:, None]).exp() * grad_N[:, None]).to(logits_N_V.dtype)


def _at(logits_N_V: Tensor, label_N: Tensor) -> Tensor:
    found: Tensor = logits_N_V.gather(1, label_N[:, None])[:, 0].float()
    return found


def _parts(matrix: Tensor) -> Iterator[slice]:
    """Yield slices of a matrix's rows, of PART values each."""
    rows, width = matrix.shape
    size = max(1, (PART_ON_GPU if matrix.is_cuda else PART) // width)
    for start in range(0, rows, size):
        yield slice(start, min(rows, start + size))
