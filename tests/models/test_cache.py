"""The cache of generation: the same keys and values as transformers' own."""

from __future__ import annotations

import copy

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
)
from transformers.cache_utils import DynamicLayer

from tunesmith.models.attention import use_short_attention
from tunesmith.models.cache import ROOM, RoomyLayer, is_plain, joined, new_cache, repeated, takes_gaps

CONFIG = LlamaConfig(
    num_hidden_layers=2,
    hidden_size=8,
    intermediate_size=8,
    num_attention_heads=2,
    num_key_value_heads=2,
    vocab_size=12,
)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([1, 1, 1, 3, ROOM])),
        st.tuples(st.just("keep"), st.integers(1, 63)),
        st.tuples(st.just("reverse"), st.just(0)),
        st.tuples(st.just("crop"), st.integers(1, 2)),
        st.tuples(st.just("repeat"), st.integers(1, 2)),
    ),
    max_size=12,
)


def new_states(rows: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random keys and values."""
    return torch.randn(rows, 2, tokens, 4), torch.randn(rows, 2, tokens, 4)


@given(steps, st.integers(0, 3))
def test_a_roomy_layer_holds_what_transformers_own_holds(doings: list[tuple[str, int]], seed: int) -> None:
    """Tokens added, rows dropped and repeated, in any order: the same tensors come back."""
    torch.manual_seed(seed)
    ours, own, rows = RoomyLayer(), DynamicLayer(), 3
    for what, number in [("add", 5), *doings]:
        if what == "add":
            states = new_states(rows, number)
            ours.update(*states)
            own.update(*states)
        elif what == "keep":
            # The number's bits say which rows stay; at least one does.
            chosen = torch.tensor([row for row in range(rows) if number >> row & 1] or [rows - 1])
            rows = len(chosen)
            ours.batch_select_indices(chosen)
            own.batch_select_indices(chosen)
        elif what == "reverse":
            order = torch.arange(rows).flip(0)
            ours.reorder_cache(order)
            own.reorder_cache(order)
        elif what == "repeat" and rows * number <= 6:
            rows *= number
            ours.batch_repeat_interleave(number)
            own.batch_repeat_interleave(number)
        elif what == "crop" and number < ours.get_seq_length():
            # transformers' own forgets no rows of a layer that holds no token.
            ours.crop(-number)
            own.crop(-number)
        seen = ours.get_seq_length()
        assert seen == own.get_seq_length()
        assert torch.equal(ours.keys[..., :seen, :], own.keys)
        assert torch.equal(ours.values[..., :seen, :], own.values)


def test_one_token_more_is_written_in_place() -> None:
    """Until the room is used up, what came before is not copied; the room is zeros."""
    layer = RoomyLayer()
    layer.update(*new_states(2, 5))
    assert layer.keys.shape == (2, 2, 5, 4)
    places = []
    for token in range(ROOM + 3):
        size, offset = layer.get_mask_sizes(1)
        keys, values = layer.update(*new_states(2, 1))
        assert keys.shape == values.shape == (2, 2, size, 4)
        assert (offset, layer.get_seq_length()) == (0, 6 + token)
        assert not bool(keys[..., 6 + token :, :].any())
        places.append(keys.data_ptr())
    assert len(set(places[: ROOM + 1])) == 1
    assert len(set(places)) == 2


def test_rows_read_apart_are_those_read_together() -> None:
    """A beginning read once, repeated for two slices, joined: as if all rows had read everything at once.

    A slice whose longest row is shorter than the others' gets the padding that it was spared, behind the beginning.
    """
    torch.manual_seed(0)
    beginning, rest = new_states(1, 4), new_states(3, 3)
    for each in rest:
        each[2, :, :1] = 0
    whole, begun = DynamicCache(config=CONFIG), new_cache(reading(LlamaForCausalLM(copy.deepcopy(CONFIG))))
    for layer in range(2):
        whole.update(*(each.repeat(3, 1, 1, 1) for each in beginning), layer)
        whole.update(*rest, layer)
        begun.update(*beginning, layer)
    parts = []
    for chosen, spared in ((slice(0, 2), 0), (slice(2, 3), 1)):
        part = repeated(begun, len(rest[0][chosen]))
        for layer in range(2):
            part.update(*(each[chosen, :, spared:] for each in rest), layer)
        parts.append(part)
    cache = joined(parts, beginning=4, tokens=7)
    for mine, theirs in zip(cache.layers, whole.layers, strict=True):
        assert torch.equal(mine.keys[..., :7, :], theirs.keys)
        assert torch.equal(mine.values[..., :7, :], theirs.values)
        assert not mine.keys[..., 7:, :].any()
    more = new_states(3, 1)
    for layer in range(2):
        for one, other in zip(cache.update(*more, layer), whole.update(*more, layer), strict=True):
            assert torch.equal(one[..., :8, :], other)
    for layer, keys in zip(begun.layers, [beginning[0]] * 2, strict=True):
        assert torch.equal(layer.keys, keys)


def test_what_a_model_may_not_take_stays_transformers_own() -> None:
    """Windows stay, and so do all layers where another attention is at work, or a model builds masks of its own."""
    llama = LlamaForCausalLM(copy.deepcopy(CONFIG))
    assert not roomy(new_cache(llama))
    assert roomy(new_cache(reading(llama)))
    assert is_plain(new_cache(llama))
    assert is_plain(new_cache(reading(llama)))
    sliding = MistralConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=2, num_key_value_heads=2)
    sliding.sliding_window = 8
    assert not is_plain(new_cache(reading(MistralForCausalLM(sliding))))
    mpt = MptForCausalLM(MptConfig(d_model=8, n_heads=2, n_layers=1, vocab_size=12))
    assert not roomy(new_cache(mpt))
    assert takes_gaps(llama, new_cache(llama))
    assert not takes_gaps(mpt, new_cache(mpt))
    assert repeated(new_cache(llama), 3).get_seq_length() == 0


def reading(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model as LocalModel reads with it."""
    use_short_attention(model)
    return model


def roomy(cache: DynamicCache) -> bool:
    """Tell whether any layer has room."""
    return any(isinstance(layer, RoomyLayer) for layer in cache.layers)
