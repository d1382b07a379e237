import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.training.attention import LONGEST, NAME, use_short_attention


def llama(attention: str = "sdpa") -> LlamaForCausalLM:
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
    model.set_attn_implementation(attention)
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


def test_long_and_masked_rows_are_left_to_sdpa() -> None:
    """Beyond the limit, or with a mask, the result is SDPA's to the last bit."""
    model, other = llama(), llama()
    use_short_attention(other)
    long = torch.randint(0, 60, (1, LONGEST + 1))
    short, mask = torch.randint(0, 60, (2, 6)), torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    assert torch.equal(model(input_ids=long).logits, other(input_ids=long).logits)
    ours = other(input_ids=short, attention_mask=mask).logits
    assert torch.equal(model(input_ids=short, attention_mask=mask).logits, ours)


def test_generation_is_the_same_after_training_has_used_it() -> None:
    """A cache, one token at a time, goes through SDPA: greedy answers do not change."""
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


def test_a_model_with_another_attention_keeps_it() -> None:
    """Only SDPA is replaced: eager was somebody's choice."""
    model = llama("eager")
    use_short_attention(model)
    assert model.config._attn_implementation == "eager"
