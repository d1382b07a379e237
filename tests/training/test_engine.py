import math
from typing import Any

import pytest
import torch
from tests.training.test_loop import PAD, ROWS, llama

from tunesmith.errors import TrainingError
from tunesmith.training import lora
from tunesmith.training.engine import Engine, out_of_memory
from tunesmith.training.loop import Layout
from tunesmith.training.objectives import Dpo, Likelihood, with_margins
from tunesmith.training.render import Pair


def engine(*, limit: int = 2048, clip: float = 1e9, plain: bool = False) -> Engine:
    """Return an engine over the tiny Llama's adapter, with plain gradient descent if asked."""
    model = llama()
    made = Engine(
        model,
        list(lora.adapter_parameters(model).values()),
        Likelihood(),
        Layout(PAD, limit=limit),
        clip=clip,
    )
    if plain:
        made.optimiser = torch.optim.SGD(made.parameters)  # type: ignore[assignment]
    return made


def test_parts_of_a_step_are_the_step() -> None:
    """One batch of four rows or four of one: the same loss, and the same adapter after the step."""
    found = []
    for limit in (2048, 1):
        made = engine(limit=limit, plain=True)
        count = len(made.objective.parts(ROWS, made.layout))
        found.append((count, torch.tensor(made.step(ROWS, 1.0)), lora.adapter_state(made.model)))
    assert [count for count, _, _ in found] == [1, len(ROWS)]
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=1e-4, atol=1e-6)
    start = lora.adapter_state(llama())
    assert not any(torch.equal(found[0][2][name], start[name]) for name in start)


def test_a_step_is_clipped() -> None:
    """Plain gradient descent at rate 1 moves the adapter by at most the clipping norm."""
    made = engine(clip=0.01, plain=True)
    before = lora.adapter_state(made.model)
    made.step(ROWS, 1.0)
    after = lora.adapter_state(made.model)
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    """The step returns what it saw and leaves adapter and gradients as they were."""
    made = engine()
    made.model.get_input_embeddings().weight.data.fill_(math.inf)
    before = lora.adapter_state(made.model)
    assert not math.isfinite(made.step(ROWS, 1.0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in lora.adapter_state(made.model).items())
    assert all(parameter.grad is None for parameter in made.model.parameters())


def test_steps_learn() -> None:
    """The loss of the rows it trains on falls, and mean_loss sees the same as the last step."""
    made = engine()
    losses = [made.step(ROWS, 0.02) for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]
    assert made.mean_loss(ROWS) == pytest.approx(losses[-1], rel=0.02)


def test_mean_loss_weighs_tokens_not_parts() -> None:
    """In one part or in several, the mean is over labelled tokens."""
    assert engine(limit=8).mean_loss(ROWS) == pytest.approx(engine().mean_loss(ROWS), rel=1e-5)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_where_memory_runs_out_parts_are_halved(error: BaseException) -> None:
    """The same step again in smaller parts: same loss, same adapter, and it is said."""
    whole = engine(plain=True)
    expected = whole.step(ROWS, 1.0)
    said: list[str] = []
    made = engine(plain=True, limit=256)
    made.say = said.append
    loss_of = made.objective.loss

    class Greedy(Likelihood):
        """Wants more memory than there is for more than one row."""

        def loss(self, model: Any, part: Any) -> Any:
            """Return the loss, unless the part is large."""
            if part.batch.ids_B_T.numel() > 100 and made.layout.limit > 64:
                raise error
            return loss_of(model, part)

    made.objective = Greedy()
    rows = [*ROWS, *ROWS, *ROWS]
    assert made.step(rows, 1.0) == pytest.approx(expected, rel=1e-4)
    assert made.layout.limit == 64
    assert [text.partition(" from")[0] for text in said] == [
        f"memory ran out: parts of {size} tokens" for size in (128, 64)
    ]
    torch.testing.assert_close(
        lora.adapter_state(made.model), lora.adapter_state(whole.model), rtol=1e-4, atol=1e-5
    )


def test_memory_that_does_not_hold_one_row_ends_the_run() -> None:
    """With a way out; and an error of another kind is not taken for it."""
    made = engine()

    class Never(Likelihood):
        """Wants more memory than there is."""

        def loss(self, model: Any, part: Any) -> Any:
            """Fail."""
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    made.objective = Never()
    with pytest.raises(TrainingError, match="not enough memory for a single example"):
        made.step(ROWS, 1.0)
    assert not out_of_memory(RuntimeError("shapes do not fit"))


def test_preferences_begin_at_the_log_of_two_and_move_apart() -> None:
    """Untrained, every margin is the reference's; trained, the chosen gets likelier against the rejected."""
    made = engine()
    made.objective = Dpo(beta=0.5)
    pairs = with_margins(made.model, [Pair(ROWS[0], ROWS[2]), Pair(ROWS[3], ROWS[1])], made.layout)
    assert made.mean_loss(pairs) == pytest.approx(math.log(2), rel=1e-5)
    for _ in range(20):
        made.step(pairs, 0.02)
    assert made.mean_loss(pairs) < 0.3
    grown = with_margins(made.model, pairs, made.layout)
    assert all(after.margin > before.margin + 1 for after, before in zip(grown, pairs, strict=True))
