"""Attention on a processor as plain batched products: for training on short rows, and for reading in batches.

Measured on one core, 8 rows of 236 tokens, 9 heads over 3 of keys, bf16, forward and backward: 32 ms, SDPA
with a mask 67 ms (docs/log.md). Training keeps each layer's probabilities (2 bytes x rows x heads x tokens^2),
and reading makes them for a moment, which is why longer rows, and whatever else differs, go to SDPA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "tunesmith_short"
LONGEST = 320
LARGEST = 2**26  # attention weights of one layer in reading: with their softmax 256 MiB in bf16

# What a model hands over beside the tensors that changes nothing here; anything else means another attention.
_IMMATERIAL = frozenset({"position_ids", "use_cache", "sliding_window", "is_causal"})


def use_short_attention(model: PreTrainedModel) -> None:
    """Let a model with SDPA attention on a processor train and read with this module's; others stay as they are."""
    if model.config._attn_implementation != "sdpa" or model.device.type != "cpu":
        return
    from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
    from transformers.masking_utils import sdpa_mask

    # A model that keeps more than keys and values may ask by name which attention it has, and attend otherwise.
    layers: list[Any] = DynamicCache(config=model.config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return

    AttentionInterface.register(NAME, short_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def short_attention(  # noqa: PLR0917 - the signature is transformers'
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' attention functions do: (B, heads, T, D) in, (B, T, heads, D) out."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    known = dropout == 0.0 and query.shape[-1] == key.shape[-1] == value.shape[-1]
    known = known and all(each is None for name, each in others.items() if name not in _IMMATERIAL)
    given = others.get("is_causal")
    causal = getattr(module, "is_causal", True) if given is None else given
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if known and causal and attention_mask is None and _trains(query, key):
        out: Tensor = _causal(query, key, value, scale)
    elif known and _reads(query, key, attention_mask):
        out = _masked(query, key, value, attention_mask, scale)
    else:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return found
    return out.transpose(1, 2).contiguous(), None


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attend with a gradient; where autocast says in which type, in that one."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    with torch.autocast("cpu", enabled=False):
        out: Tensor = _Causal.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
    return out


def _trains(query: Tensor, key: Tensor) -> bool:
    # Without a mask it is plain causal attention over all tokens: windows and packing come with one.
    return query.requires_grad and 1 < query.shape[2] == key.shape[2] <= LONGEST


def _reads(query: Tensor, key: Tensor, mask: Tensor | None) -> bool:
    """Tell whether this is inference in which one mask, or none for a single token, holds for all heads."""
    rows, heads, tokens, _ = query.shape
    if (torch.is_grad_enabled() and query.requires_grad) or rows * heads * tokens * key.shape[2] > LARGEST:
        return False
    if mask is None:
        return tokens == 1
    return mask.dtype is torch.bool and mask.shape == (rows, 1, tokens, key.shape[2])


def _masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attend without a gradient; the query heads that share a key head are stacked into one product."""
    rows, heads, tokens, width = query.shape
    groups, seen = rows * key.shape[1], key.shape[2]
    q = (query * scale).reshape(groups, -1, width)
    k, v = key.reshape(groups, seen, width), value.reshape(groups, seen, width)
    scores = torch.bmm(q, k.transpose(1, 2))
    if mask is not None:
        # Not minus infinity: padding that may see nothing at all must not become NaN.
        lowest = torch.finfo(scores.dtype).min
        scores.view(rows, heads, tokens, seen).masked_fill_(~mask, lowest)
    return torch.bmm(torch.softmax(scores, -1), v).view(rows, heads, tokens, width)


class _Causal(torch.autograd.Function):
    """Softmax attention; the query heads that share a key head are stacked into one product.

    In two halves: the first half of the tokens never sees the second, so a quarter of the scores need not be computed.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        rows, heads, tokens, width = query.shape
        groups = rows * key.shape[1]
        k, v = key.reshape(groups, tokens, width), value.reshape(groups, tokens, width)
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        kept = []
        for start, end in _halves(tokens):
            q = (query[:, :, start:end] * scale).reshape(groups, -1, width)
            scores = torch.bmm(q, k[:, :end].transpose(1, 2))
            size = end - start
            future = torch.ones(size, size, dtype=torch.bool, device=query.device).triu(1)
            scores.view(-1, size, end)[:, :, start:].masked_fill_(future, float("-inf"))
            shares = torch.softmax(scores, -1)
            out[:, :, start:end] = torch.bmm(shares, v[:, :end]).view(rows, heads, size, width)
            kept += [q, shares]
        ctx.save_for_backward(k, v, *kept)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        k, v, *kept = ctx.saved_tensors
        rows, heads, tokens, width = grads[0].shape
        grad_q = torch.empty_like(grads[0], memory_format=torch.contiguous_format)
        grad_k, grad_v = torch.empty_like(k), torch.empty_like(v)
        # The second half first: it reaches all keys, and the first half adds to its own.
        for number, (start, end) in reversed(list(enumerate(_halves(tokens)))):
            q, shares = kept[2 * number : 2 * number + 2]
            grad = grads[0][:, :, start:end].reshape(q.shape)
            grad_shares = torch.bmm(grad, v[:, :end].transpose(1, 2))
            grad_scores = torch._softmax_backward_data(grad_shares, shares, -1, shares.dtype)
            of_q = torch.bmm(grad_scores, k[:, :end]).mul_(ctx.scale)
            grad_q[:, :, start:end] = of_q.view(rows, heads, end - start, width)
            for whole, factors in ((grad_v, (shares, grad)), (grad_k, (grad_scores, q))):
                found = torch.bmm(factors[0].transpose(1, 2), factors[1])
                if end == tokens:
                    whole.copy_(found)
                else:
                    whole[:, :end] += found
        of_keys = (rows, -1, tokens, width)
        return grad_q, grad_k.view(of_keys), grad_v.view(of_keys), None


def _halves(tokens: int) -> list[tuple[int, int]]:
    """Return where the parts begin and end in which the tokens ask; few tokens ask at once."""
    if tokens < 64:
        return [(0, tokens)]
    middle = tokens // 32 * 16
    return [(0, middle), (middle, tokens)]
