import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.training import loop, lora
from tunesmith.training.render import Rendered

PAD = 0


def llama() -> LlamaForCausalLM:
    """Return a tiny Llama, always the same, with an adapter that is not zero."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("sdpa")
    lora.add_lora(model, rank=4, alpha=8, top_layers=None, seed=0)
    for parameter in lora.adapter_parameters(model).values():
        parameter.data.normal_(std=0.1)
    return model


def row(length: int, labels: int) -> Rendered:
    """Return a row of `length` ids whose last `labels` are counted."""
    ids = torch.randint(1, 60, (length,), generator=torch.Generator().manual_seed(length))
    return Rendered(tuple(ids.tolist()), (False,) * (length - labels) + (True,) * labels)


ROWS = [row(5, 2), row(9, 4), row(7, 1), row(6, 6)]


def test_collate_pads_on_the_right() -> None:
    """Ids, what is real and what is labelled, side by side; the padding is neither."""
    batch = loop.collate([Rendered((5, 6), (False, True)), Rendered((7, 8, 9), (False, False, True))], PAD)
    assert batch.ids_B_T.tolist() == [[5, 6, PAD], [7, 8, 9]]
    assert batch.real_B_T.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.labelled_B_T.tolist() == [[False, True, False], [False, False, True]]
    assert batch.tokens == 5


@given(
    lengths=st.lists(st.integers(1, 500), max_size=400),
    size=st.integers(1, 17),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
)
def test_batches_hold_every_row_once(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    """A plan is a permutation of the rows in batches of at most `size`, and the same when asked again."""
    batches = loop.plan_batches(lengths, size, seed, epoch)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert loop.plan_batches(lengths, size, seed, epoch) == batches


def test_a_plan_takes_eight_bytes_a_row_at_most() -> None:
    """An epoch is planned in arrays, from lengths in an array or in a list, the same."""
    lengths = [1 + number * 7919 % 97 for number in range(1000)]
    planned = loop.plan_epoch(lengths, 8, seed=0, epoch=1)
    assert planned == loop.plan_epoch(np.array(lengths), 8, seed=0, epoch=1)
    assert planned.rows.itemsize * len(planned.rows) + planned.places.itemsize * len(planned.places) <= 8000
    assert loop.plan_batches(lengths, 8, 0, 1) == [planned.batch(number) for number in range(125)]


def test_another_epoch_has_another_order_and_batches_of_like_length() -> None:
    """Rows come in new company each epoch; within a batch lengths differ far less than in all."""
    lengths = list(range(1, 129))
    first, second = (loop.plan_batches(lengths, 8, 0, epoch) for epoch in (0, 1))
    assert first != second
    assert max(max(batch) - min(batch) for batch in first) == 7


def test_token_losses_are_the_models_own() -> None:
    """Their mean is the loss that transformers computes from labels with prompts and padding masked out."""
    model, batch = llama(), loop.collate(ROWS, PAD)
    labels = batch.ids_B_T.masked_fill(~batch.labelled_B_T, -100)
    whole = model(input_ids=batch.ids_B_T, attention_mask=batch.real_B_T, labels=labels).loss
    losses = loop.token_losses(model, batch)
    assert losses.shape == (sum(row.labelled for row in ROWS),)
    torch.testing.assert_close(losses.mean(), whole)


def test_a_rows_losses_do_not_depend_on_its_company() -> None:
    """Alone or padded beside longer rows: the same losses, in the rows' order."""
    model = llama()
    together = loop.token_losses(model, loop.collate(ROWS, PAD))
    alone = torch.cat([loop.token_losses(model, loop.collate([each], PAD)) for each in ROWS])
    torch.testing.assert_close(together, alone)


def test_packed_texts_keep_their_bounds() -> None:
    """Behind one another: positions begin anew, no first token is labelled, and what fills up is nobody's."""
    rows = [Rendered((5, 6), (True, True)), Rendered((7, 8, 9), (False, False, True))]
    batch = loop.pack(rows, PAD, multiple=8)
    assert batch.ids_B_T.tolist() == [[5, 6, 7, 8, 9, PAD, PAD, PAD]]
    assert batch.position_B_T is not None
    assert batch.position_B_T.tolist() == [[0, 1, 0, 1, 2, 0, 1, 2]]
    assert batch.labelled_B_T.tolist() == [[False, True, False, False, True, False, False, False]]
    assert (batch.text_N.tolist(), batch.label_N.tolist(), batch.before_N.tolist()) == (
        [0, 1],
        [6, 9],
        [0, 3],
    )
    assert batch.bounds is not None
    assert batch.bounds.tolist() == [0, 2, 5] + [8] * (loop.BOUNDS - 3)
    assert (batch.tokens, batch.labels) == (5, 2)
    assert batch.longest >= 3


@given(
    st.lists(st.lists(st.integers(1, 900), min_size=1, max_size=2), min_size=1, max_size=12), st.booleans()
)
def test_groups_hold_everything_once_and_fit(lengths: list[list[int]], packed: bool) -> None:
    """What belongs together stays together; a group fits into the limit, or is a single one."""
    layout = loop.Layout(PAD, limit=1000, packed=packed)
    groups = layout.groups([tuple(row(length, 1) for length in each) for each in lengths])
    assert sorted(number for group in groups for number in group) == list(range(len(lengths)))
    for group in groups:
        batch = layout.batch([row(length, 1) for number in group for length in lengths[number]])
        assert len(group) == 1 or batch.ids_B_T.numel() <= 1000


def test_the_sum_of_each_text_is_that_of_its_tokens() -> None:
    """Text after text, in the order given, whatever stands beside them."""
    model, batch = llama(), loop.collate(ROWS, PAD)
    alone = torch.stack([loop.token_losses(model, loop.collate([each], PAD)).sum() for each in ROWS])
    torch.testing.assert_close(loop.text_losses(model, batch, len(ROWS)), alone)


def test_a_schedule_is_a_plan_for_each_epoch() -> None:
    """Each epoch has every row, at rates that rise and fall over all of them."""
    schedule = loop.Schedule([3, 5, 4, 9, 2], epochs=2, batch_size=2, seed=1, peak=1.0, warmup_share=0.2)
    assert schedule.steps == 6
    batches = [schedule.batch(step) for step in range(6)]
    assert batches == loop.plan_batches([3, 5, 4, 9, 2], 2, 1, 0) + loop.plan_batches(
        [3, 5, 4, 9, 2], 2, 1, 1
    )
    assert [schedule.rate(step) for step in range(6)] == [
        loop.learning_rate(step, steps=6, peak=1.0, warmup=1) for step in range(6)
    ]
    assert schedule.batch(1) == batches[1]


def test_the_learning_rate_rises_to_its_peak_and_ends_at_a_twentieth() -> None:
    """Linear warm-up, half a cosine, and 5 % of the peak once all steps are done."""
    rates = [loop.learning_rate(step, steps=10, peak=1.0, warmup=2) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.05 + 0.95 * 0.5)
    assert rates[10] == pytest.approx(0.05)
    assert rates[2:] == sorted(rates[2:], reverse=True)
