"""Causal attention for short rows on a processor, as plain batched products.

Measured on one core, 8 rows of 236 tokens, 9 heads over 3 of keys, bf16, forward and backward: 32 ms, SDPA
with a mask 67 ms (docs/log.md). It keeps each layer's probabilities (2 bytes x rows x heads x tokens^2),
which is why longer rows, and everything that is not plain causal training, go to SDPA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "tunesmith_short"
LONGEST = 320

# What a model hands over beside the tensors that changes nothing here; anything else means another attention.
_IMMATERIAL = frozenset({"position_ids", "use_cache", "sliding_window", "is_causal"})


def use_short_attention(model: PreTrainedModel) -> None:
    """Let a model with SDPA attention on a processor train with this module's; others stay as they are."""
    if model.config._attn_implementation != "sdpa" or model.device.type != "cpu":
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

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

    tokens = query.shape[2]
    # No mask means causal attention over all tokens: windows and packing come with one.
    plain = attention_mask is None and dropout == 0.0 and others.get("is_causal", module.is_causal)
    other = any(value is not None for name, value in others.items() if name not in _IMMATERIAL)
    square = 1 < tokens == key.shape[2] <= LONGEST
    if not (plain and square and query.requires_grad) or other:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return found
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out: Tensor = _Causal.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2).contiguous(), None


class _Causal(torch.autograd.Function):
    """Softmax attention; the query heads that share a key head are stacked into one product."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        rows, heads, tokens, width = query.shape
        groups = rows * key.shape[1]
        q = (query * scale).reshape(groups, -1, width)
        k, v = key.reshape(groups, tokens, width), value.reshape(groups, tokens, width)
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        scores = torch.bmm(q, k.transpose(1, 2)).view(-1, tokens, tokens).masked_fill_(future, float("-inf"))
        shares = torch.softmax(scores, -1).view(groups, -1, tokens)
        ctx.save_for_backward(q, k, v, shares)
        ctx.scale = scale
        return torch.bmm(shares, v).view(rows, heads, tokens, width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, shares = ctx.saved_tensors
        rows, heads, tokens, width = grads[0].shape
        grad = grads[0].reshape(q.shape)
        grad_v = torch.bmm(shares.transpose(1, 2), grad)
        grad_shares = torch.bmm(grad, v.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_shares, shares, -1, shares.dtype)
        grad_q = torch.bmm(grad_scores, k).mul_(ctx.scale).view(rows, heads, tokens, width)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q)
        of_keys = (rows, -1, tokens, width)
        return grad_q, grad_k.view(of_keys), grad_v.view(of_keys), None
