import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tunesmith.models import attention
from tunesmith.models.attention import LONGEST, NAME, short_attention, use_short_attention


def llama(implementation: str = "sdpa") -> LlamaForCausalLM:
    """Return a tiny Llama in which two query heads share each key head."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=60,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
        )
    )
    model.set_attn_implementation(implementation)
    return model


def gradients(model: LlamaForCausalLM, ids_B_T: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return every parameter's gradient of a loss over all tokens."""
    model.zero_grad()
    model(input_ids=ids_B_T, labels=ids_B_T, use_cache=False).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_short_rows_give_the_same_outputs_and_gradients_as_sdpa() -> None:
    """The model's logits and all gradients agree with SDPA's to float32's rounding."""
    ids = torch.randint(0, 60, (3, 17))
    model = llama()
    logits, expected = model(input_ids=ids).logits, gradients(model, ids)
    use_short_attention(model)
    assert model.config._attn_implementation == NAME
    torch.testing.assert_close(model(input_ids=ids).logits, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients(model, ids), expected, rtol=1e-3, atol=1e-6)


def test_long_rows_are_left_to_sdpa() -> None:
    """Beyond the limit the result is SDPA's to the last bit."""
    model, other = llama(), llama()
    use_short_attention(other)
    long = torch.randint(0, 60, (1, LONGEST + 1))
    assert torch.equal(model(input_ids=long).logits, other(input_ids=long).logits)


def test_padded_rows_are_read_as_sdpa_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a mask, without gradients: the same logits where tokens are real, and numbers where they are not."""
    model, other = llama(), llama()
    use_short_attention(other)
    ids, mask = torch.randint(0, 60, (2, 6)), torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).logits
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", None)
            ours = other(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(ours[mask.bool()], expected[mask.bool()], rtol=1e-4, atol=1e-5)
        assert bool(ours.isfinite().all())
        # What would take too much memory is SDPA's to the last bit.
        monkeypatch.setattr(attention, "LARGEST", 2 * 4 * 6 * 6 - 1)
        assert torch.equal(other(input_ids=ids, attention_mask=mask).logits, expected)


def test_generation_is_the_same_after_training_has_used_it() -> None:
    """A cache, one token at a time: greedy answers do not change."""
    model = llama()
    ids = torch.randint(3, 60, (1, 5))
    settings = {
        "max_new_tokens": 8,
        "do_sample": False,
        "pad_token_id": 0,
        "attention_mask": torch.ones_like(ids),
    }
    expected = model.generate(ids, **settings)
    use_short_attention(model)
    assert torch.equal(model.generate(ids, **settings), expected)


def test_masks_with_gradients_and_other_widths_are_left_to_sdpa() -> None:
    """A mask in training, and values that are narrower than keys (DeepSeek's), give SDPA's result to the last bit."""
    model, other = llama(), llama()
    use_short_attention(other)
    ids, mask = torch.randint(0, 60, (2, 6)), torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    assert torch.equal(
        model(input_ids=ids, attention_mask=mask).logits, other(input_ids=ids, attention_mask=mask).logits
    )
    module = model.model.layers[0].self_attn
    query, key, value = torch.randn(2, 4, 1, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 6)
    out, _ = short_attention(module, query, key, value, None)
    assert out.shape == (2, 1, 4, 6)


def test_one_token_behind_a_cache_is_read_without_sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a mask over what was read or without one, in either type: SDPA's result to the type's rounding."""
    module = llama().model.layers[0].self_attn
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        query, key, value = (
            torch.randn(2, heads, n, 8, dtype=dtype) for heads, n in ((4, 1), (2, 5), (2, 5))
        )
        mask = torch.tensor([[True, True, False, True, True], [True] * 5])[:, None, None]
        for each in (None, mask):
            with torch.inference_mode():
                expected, _ = sdpa_attention_forward(module, query, key, value, each)
                with monkeypatch.context() as patch:
                    patch.setattr(torch.nn.functional, "scaled_dot_product_attention", None)
                    ours, _ = short_attention(module, query, key, value, each)
            torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def test_a_model_with_another_attention_keeps_it() -> None:
    """Only SDPA is replaced: eager was somebody's choice."""
    model = llama("eager")
    use_short_attention(model)
    assert model.config._attn_implementation == "eager"
