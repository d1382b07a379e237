from __future__ import annotations

from typing import Any

import pytest
import torch

from tunesmith.models import packed

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="packed attention runs on a GPU")


def test_on_a_processor_a_model_is_left_as_it_is(new_chat_model: Any) -> None:
    """There is no kernel for it there, and attention stays what it was."""
    model = new_chat_model()
    assert not packed.use_packed_attention(model)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "known", [frozenset({"scale", "window_size", "enable_gqa"}), frozenset({"is_causal"})]
)
def test_what_the_kernel_is_given(known: frozenset[str]) -> None:
    """Bounds and lengths; scale, heads that share keys and windows as this version of PyTorch takes them."""
    seen: dict[str, Any] = {}

    def kernel(query: Any, key: Any, value: Any, *bounds: Any, **given: Any) -> Any:
        seen.update(given, query=query, key=key, bounds=bounds)
        return torch.zeros_like(query)

    attend = packed._attention(kernel, known)
    query, key = torch.ones(1, 4, 6, 8), torch.ones(1, 2, 6, 8)
    bounds = torch.tensor([0, 2, 6], dtype=torch.int32)
    out, _ = attend(
        torch.nn.Module(),
        query,
        key,
        key,
        None,
        scaling=0.5,
        cu_seq_lens_q=bounds,
        max_length_q=64,
        sliding_window=3,
    )
    assert out.shape == (1, 6, 4, 8)
    assert seen["bounds"][0] is bounds
    assert seen["bounds"][2:] == (64, 64)
    if "scale" in known:
        assert (seen["scale"], seen["enable_gqa"], seen["window_size"]) == (0.5, True, (2, 0))
        assert seen["key"].shape == (6, 2, 8)
    else:
        # An older kernel scales by the width alone, and wants as many heads of keys: both are done for it.
        assert seen["is_causal"] is True
        assert seen["key"].shape == (6, 4, 8)
        torch.testing.assert_close(seen["query"], torch.full((6, 4, 8), 0.5 * 8**0.5))


def test_without_bounds_it_is_plain_attention() -> None:
    """A padded batch goes to SDPA, causal."""
    attend = packed._attention(None, frozenset())
    module = torch.nn.Module()
    module.is_causal = True  # type: ignore[assignment]
    query = torch.randn(1, 2, 5, 8)
    out, _ = attend(module, query, query, query, None, scaling=8**-0.5)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
    torch.testing.assert_close(out, wanted.transpose(1, 2))


@needs_gpu
def test_packed_texts_do_not_see_each_other() -> None:  # pragma: no cover - where there is a GPU
    """On a GPU each text of a packed row has the losses that it has alone."""
    from tests.training.test_loop import PAD, ROWS, llama

    from tunesmith.training.loop import Layout, token_losses

    model = llama().to("cuda", torch.bfloat16)
    assert packed.use_packed_attention(model)
    with torch.no_grad():
        together = token_losses(model, Layout(PAD, "cuda", packed=True).batch(ROWS))
        alone = torch.cat([token_losses(model, Layout(PAD, "cuda").batch([row])) for row in ROWS])
    torch.testing.assert_close(together, alone, rtol=0.05, atol=0.05)
