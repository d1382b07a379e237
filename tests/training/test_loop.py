import math

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


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12))
def test_a_step_is_cut_into_parts_of_bounded_size(lengths: list[int]) -> None:
    """Every row is in one part; a part is small enough with its padding, or a single row."""
    parts = loop.in_parts([row(length, 1) for length in lengths], PAD)
    assert sorted(int(n) for part in parts for n in part.real_B_T.sum(1)) == sorted(lengths)
    assert all(part.ids_B_T.numel() <= loop.PART_TOKENS or len(part.ids_B_T) == 1 for part in parts)
    assert all(part.ids_B_T.shape[1] % loop.WIDTHS == 0 for part in parts)
    if (max(lengths) + loop.WIDTHS - 1) * len(lengths) <= loop.PART_TOKENS:
        assert len(parts) == 1


def test_parts_of_a_step_are_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut or not: the same loss, and the same weights after it."""
    found = []
    for most in (2048, 1):
        monkeypatch.setattr(loop, "PART_TOKENS", most)
        model, parts = llama(), loop.in_parts(ROWS, PAD)
        optimiser = torch.optim.SGD(model.parameters())
        loss = loop.train_step(model, optimiser, parts, rate=0.1, clip=1e9)
        found.append((len(parts), loss, {name: one.detach() for name, one in model.named_parameters()}))
    assert [count for count, _, _ in found] == [1, len(ROWS)]
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=1e-4, atol=1e-6)


def test_accumulated_parts_are_one_large_batch() -> None:
    """One step over four parts of one row moves the adapter as one step over a batch of four does."""
    results = []
    for parts in ([loop.collate(ROWS, PAD)], [loop.collate([each], PAD) for each in ROWS]):
        model = llama()
        optimiser = torch.optim.SGD(lora.adapter_parameters(model).values(), lr=0.0)
        loss = loop.train_step(model, optimiser, parts, rate=1.0, clip=1e9)
        results.append((torch.tensor(loss), lora.adapter_state(model)))
    torch.testing.assert_close(results[0], results[1])
    start = lora.adapter_state(llama())
    assert not any(torch.equal(results[0][1][name], start[name]) for name in start)


def test_a_step_is_clipped() -> None:
    """Plain gradient descent at rate 1 moves the adapter by at most the clipping norm."""
    model = llama()
    before = lora.adapter_state(model)
    optimiser = torch.optim.SGD(lora.adapter_parameters(model).values(), lr=0.0)
    loop.train_step(model, optimiser, [loop.collate(ROWS, PAD)], rate=1.0, clip=0.01)
    after = lora.adapter_state(model)
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    """The step returns what it saw and leaves adapter and gradients as they were."""
    model = llama()
    broken = model.get_input_embeddings().weight
    broken.data.fill_(math.inf)
    before = lora.adapter_state(model)
    optimiser = torch.optim.AdamW(lora.adapter_parameters(model).values())
    assert not math.isfinite(loop.train_step(model, optimiser, [loop.collate(ROWS, PAD)], rate=1.0, clip=1.0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in lora.adapter_state(model).items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_steps_learn() -> None:
    """The loss of the rows it trains on falls, and mean_loss sees the same as the last step."""
    model, batch = llama(), loop.collate(ROWS, PAD)
    optimiser = torch.optim.AdamW(lora.adapter_parameters(model).values(), weight_decay=0.0)
    losses = [loop.train_step(model, optimiser, [batch], rate=0.02, clip=1.0) for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]
    assert loop.mean_loss(model, [batch]) == pytest.approx(losses[-1], rel=0.02)


def test_mean_loss_weighs_tokens_not_batches() -> None:
    """Split in unequal batches or whole, the mean is over labelled tokens."""
    model = llama()
    parts = [loop.collate(ROWS[:1], PAD), loop.collate(ROWS[1:], PAD)]
    assert loop.mean_loss(model, parts) == pytest.approx(
        loop.mean_loss(model, [loop.collate(ROWS, PAD)]), rel=1e-5
    )


def test_the_learning_rate_rises_to_its_peak_and_ends_at_a_twentieth() -> None:
    """Linear warm-up, half a cosine, and 5 % of the peak once all steps are done."""
    rates = [loop.learning_rate(step, steps=10, peak=1.0, warmup=2) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.05 + 0.95 * 0.5)
    assert rates[10] == pytest.approx(0.05)
    assert rates[2:] == sorted(rates[2:], reverse=True)
