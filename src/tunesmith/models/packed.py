"""Attention of texts that stand behind one another in one row, on a GPU: each sees itself and nothing else.

PyTorch's own FlashAttention kernel for texts of different lengths (torch.nn.attention.varlen, from torch 2.10):
nothing to install, no padding, no mask in memory. Dao 2023, "FlashAttention-2" (arXiv:2307.08691).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "tunesmith_packed"
# What attention is given beside the tensors and may act on, or that changes nothing here; anything else is another one.
_KNOWN = frozenset({
    "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "sliding_window",
    "position_ids", "use_cache", "is_causal", "output_attentions", "output_hidden_states",
})  # fmt: skip


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Let a model on a GPU attend within the bounds of packed texts; False, and left as it is, where that cannot be.

    It takes a model that hands its attention what it is given, 16-bit arithmetic, and scores that are not capped.
    """
    capped = getattr(model.config, "attn_logit_softcapping", None) is not None
    fits = model.device.type == "cuda" and model.dtype in (torch.bfloat16, torch.float16) and not capped
    known_to = all(getattr(model, name, False) for name in ("_supports_attention_backend", "_supports_sdpa"))
    if not fits or not known_to or torch.cuda.get_device_capability(model.device) < (8, 0):
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import flash_attention_mask

    known = inspect.signature(varlen_attn).parameters
    if "window_size" not in known and getattr(model.config, "sliding_window", None) is not None:
        return False
    AttentionInterface.register(NAME, _attention(varlen_attn, frozenset(known)))
    AttentionMaskInterface.register(NAME, flash_attention_mask)
    model.set_attn_implementation(NAME)
    return True


def _attention(varlen_attn: Any, known: frozenset[str]) -> Any:
    """Return the attention function; what PyTorch's takes has grown from version to version."""

    def attention(  # noqa: PLR0917 - the signature is transformers'
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        odd = [name for name, value in others.items() if value is not None and name not in _KNOWN]
        if odd:
            raise RuntimeError(f"packed attention does not know {odd[0]}")
        bounds = others.get("cu_seq_lens_q")
        if bounds is None:
            return _padded(module, query, key, value, attention_mask, dropout, scaling, others)
        heads, key_heads, width = query.shape[1], key.shape[1], query.shape[-1]
        if scaling is not None and "scale" not in known:
            query = query * (scaling * width**0.5)
        if heads != key_heads and "enable_gqa" not in known:
            key, value = (each.repeat_interleave(heads // key_heads, 1) for each in (key, value))
        given: dict[str, Any] = {}
        if "scale" in known:
            given["scale"] = scaling
        if "enable_gqa" in known:
            given["enable_gqa"] = heads != key_heads
        if "window_size" in known:
            window = others.get("sliding_window")
            given["window_size"] = (-1 if window is None else window - 1, 0)
        else:
            given["is_causal"] = True
        longest = others["max_length_q"]
        out = varlen_attn(
            *(each[0].transpose(0, 1) for each in (query, key, value)),
            bounds,
            bounds,
            longest,
            longest,
            **given,
        )
        return out[None], None

    return attention


def _padded(  # noqa: PLR0917 - what `attention` was given
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    others: dict[str, Any],
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    found: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, mask, dropout=dropout, scaling=scaling, **others
    )
    return found
