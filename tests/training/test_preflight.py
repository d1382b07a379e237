"""Each check of the contract, with the fault planted that it is there for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from tunesmith.errors import TrainingError
from tunesmith.records import Conversation, Message
from tunesmith.training import loop, preflight
from tunesmith.training.engine import Engine
from tunesmith.training.objectives import Likelihood
from tunesmith.training.preflight import (
    RowChecks,
    check_model,
    check_sets,
    check_settings,
    labelled_stretches,
)
from tunesmith.training.render import Rendered, render
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import new_engine
from tunesmith.training.tuning import prepare

SETTINGS = TrainSettings(rank=4, alpha=8)


def words_of(conversation: Conversation) -> tuple[str, ...]:
    """Return what the assistant says."""
    return tuple(message.content for message in conversation if message.role == "assistant")


def check_rows(
    tokenizer: PreTrainedTokenizerFast, conversations: list[Conversation], rows: list[Rendered]
) -> None:
    """Check rows as training does."""
    check = RowChecks(tokenizer, "training")
    for number, (conversation, row) in enumerate(zip(conversations, rows, strict=True), 1):
        check(number, conversation[:-1], words_of(conversation), row)


def rows_of(tokenizer: PreTrainedTokenizerFast, places: tuple[Conversation, ...]) -> list[Rendered]:
    """Return the rows that training would see."""
    return [render(tokenizer, conversation) for conversation in places]


@pytest.fixture
def engine(chat_tokenizer: PreTrainedTokenizerFast, new_chat_model: Any) -> Engine:
    """Return an engine as training makes it, for a fresh tiny model."""
    model = new_chat_model()
    return new_engine(model, chat_tokenizer, prepare(model, SETTINGS), SETTINGS)


def test_what_is_without_fault_passes(
    chat_tokenizer: PreTrainedTokenizerFast, engine: Engine, places: tuple[Conversation, ...]
) -> None:
    """Nothing is said, and model and optimiser are as they were."""
    several = (*places[0], Message("user", "and then?"), Message("assistant", "it is short"))
    conversations = [*places, several]
    rows = [render(chat_tokenizer, each) for each in conversations]
    check_rows(chat_tokenizer, conversations, rows)
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    check_model(engine, rows)
    assert all(torch.equal(value, before[name]) for name, value in engine.model.state_dict().items())
    assert not engine.optimiser.state
    assert not any(parameter.grad is not None for parameter in engine.model.parameters())


def test_labelled_stretches_are_found() -> None:
    """Each run of labels, with its beginning and its end."""
    mask = (False, True, True, False, True)
    assert labelled_stretches(Rendered((1, 2, 3, 4, 5), mask)) == [(1, 3), (4, 5)]
    assert labelled_stretches(Rendered((1,), (False,))) == []


def swapped(row: Rendered) -> Rendered:
    """Return the row with its last word's token replaced."""
    return Rendered((*row.ids[:-2], row.ids[-3], row.ids[-1]), row.mask)


FAULTS: dict[str, tuple[Callable[[Rendered], Rendered], str]] = {
    "(a) nothing labelled": (
        lambda row: Rendered(row.ids, (False,) * len(row.ids)),
        "training example 3 has no labelled token: nothing would be learned",
    ),
    # The first token of a row is never predicted, so its label teaches nothing.
    "(a) only the first token labelled": (
        lambda row: Rendered((1, 5), (True, False)),
        "training example 3 has no labelled token",
    ),
    "(b) the end of turn masked": (
        lambda row: Rendered(row.ids, (*row.mask[:-1], False)),
        "training example 3 has no labelled end of turn: the model would learn never to stop",
    ),
    "(b) the end of turn cut off": (
        lambda row: Rendered(row.ids[:-1], row.mask[:-1]),
        "training example 3 has no labelled end of turn",
    ),
    "(c) the prompt's end labelled too": (
        lambda row: Rendered(row.ids, tuple(i >= row.mask.index(True) - 3 for i in range(len(row.ids)))),
        "training example 3 would teach other words than the assistant's",
    ),
    "(c) a word left out of the mask": (
        lambda row: Rendered(row.ids, tuple(i > row.mask.index(True) for i in range(len(row.ids)))),
        "training example 3 would teach other words than the assistant's",
    ),
    "(c) a hole in the mask": (
        lambda row: Rendered(row.ids, tuple(m and i != len(row.ids) - 3 for i, m in enumerate(row.mask))),
        "training example 3 has 1 turns of the assistant and 2 labelled stretches",
    ),
    "(c) another word": (swapped, "training example 3 would teach other words than the assistant's"),
    "(d) a doubled BOS": (
        lambda row: Rendered((0, *row.ids), (False, *row.mask)),
        "training example 3 begins with two BOS tokens",
    ),
    "(d) a prompt that serving renders otherwise": (
        lambda row: Rendered((*row.ids[:2], 9, *row.ids[2:]), (*row.mask[:2], False, *row.mask[2:])),
        "training example 3 has another prompt in training than in serving",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_in_a_row_is_named(
    chat_tokenizer: PreTrainedTokenizerFast, places: tuple[Conversation, ...], fault: str
) -> None:
    """Planted in one row of many, it is found, with the row's number."""
    rows = rows_of(chat_tokenizer, places)
    plant, why = FAULTS[fault]
    rows[2] = plant(rows[2])
    with pytest.raises(TrainingError, match=f"^{why}"):
        check_rows(chat_tokenizer, list(places), rows)


def test_a_turn_that_the_mask_leaves_out_is_found(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """(b) Two turns, of which only the last is labelled."""
    conversation = (
        Message("user", "where?"),
        Message("assistant", "there"),
        Message("user", "when?"),
        Message("assistant", "then"),
    )
    row = render(chat_tokenizer, conversation)
    start, end = labelled_stretches(row)[0]
    broken = Rendered(row.ids, tuple(m and not start <= i < end for i, m in enumerate(row.mask)))
    with pytest.raises(TrainingError, match="has 2 turns of the assistant and 1 labelled stretches"):
        check_rows(chat_tokenizer, [conversation], [broken])


def test_no_rows_are_a_fault() -> None:
    """Neither set may be empty."""
    with pytest.raises(TrainingError, match="there is no training example"):
        check_sets([], [1])
    with pytest.raises(TrainingError, match="there is no validation example"):
        check_sets([1], [])


def test_a_loss_that_is_not_the_models_is_refused(
    engine: Engine,
    chat_tokenizer: PreTrainedTokenizerFast,
    places: tuple[Conversation, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loss that looks one token too far is found."""
    honest = loop.token_losses
    monkeypatch.setattr(
        loop,
        "token_losses",
        lambda model, batch: honest(model, replace(batch, label_N=batch.label_N.roll(-1))),
    )
    with pytest.raises(TrainingError, match="LlamaForCausalLM computes another loss than ours"):
        check_model(engine, rows_of(chat_tokenizer, places))


@pytest.mark.parametrize("scaling", [8.0, 0.9])
def test_a_model_that_scales_its_logits_is_trained_as_it_is(
    chat_tokenizer: PreTrainedTokenizerFast, places: tuple[Conversation, ...], scaling: float
) -> None:
    """Granite divides its logits after the output projection: its own loss is the one that is trained on."""
    torch.manual_seed(0)
    config = GraniteConfig(
        vocab_size=len(chat_tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        logits_scaling=scaling,
        initializer_range=0.5,
        tie_word_embeddings=False,
    )
    model = GraniteForCausalLM(config).eval()
    rows = rows_of(chat_tokenizer, places)
    check_model(new_engine(model, chat_tokenizer, prepare(model, SETTINGS), SETTINGS), rows)


class Blind(loop.Layout):
    """Packs, also where it should pad, and does not say where a text begins."""

    def batch(self, texts: Any) -> loop.Batch:
        """Return the texts as one row that looks like one text."""
        return replace(loop.pack(texts, self.pad, self.device, multiple=16), bounds=None)


def test_attention_that_sees_its_neighbours_is_refused(
    engine: Engine, chat_tokenizer: PreTrainedTokenizerFast, places: tuple[Conversation, ...]
) -> None:
    """(e) Texts behind one another, for attention that does not know their bounds, contaminate each other."""
    engine.layout = Blind(engine.layout.pad)
    with pytest.raises(TrainingError, match=r"loss moves by .* nats when its neighbours in the batch change"):
        check_model(engine, rows_of(chat_tokenizer, places))


@pytest.mark.parametrize("fault", ["contaminated", "no kernel"])
def test_texts_that_cannot_be_packed_are_padded(
    engine: Engine,
    chat_tokenizer: PreTrainedTokenizerFast,
    places: tuple[Conversation, ...],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """(e) Where packing contaminates, or this GPU lacks the kernel, the layout changes, and it is said."""

    def pack(texts: Any, pad: int, device: Any, *, multiple: int) -> loop.Batch:
        if fault == "no kernel":
            raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
        return replace(honest(texts, pad, device, multiple=multiple), bounds=None)

    honest = loop.pack
    monkeypatch.setattr(loop, "pack", pack)
    said: list[str] = []
    engine.say, engine.layout = said.append, replace(engine.layout, packed=True)
    check_model(engine, rows_of(chat_tokenizer, places))
    assert not engine.layout.packed
    assert [text.partition(":")[0] for text in said] == ["texts are padded side by side"]


def test_a_loss_that_hangs_on_how_a_batch_is_cut_is_refused(
    engine: Engine, chat_tokenizer: PreTrainedTokenizerFast, places: tuple[Conversation, ...]
) -> None:
    """(f) A mean over parts, instead of over tokens: the old fault of gradient accumulation."""

    class MeanOfMeans(Likelihood):
        """Weighs each part alike, however many tokens it has."""

        def parts(self, rows: Any, layout: loop.Layout) -> list[Any]:
            """Return the parts, each as if it counted one token."""
            return [replace(part, counts=1) for part in super().parts(rows, layout)]

        def loss(self, model: Any, part: Any) -> Any:
            """Return the part's mean."""
            return loop.token_losses(model, part.batch).mean()

    engine.objective = MeanOfMeans()
    uneven = [*places[:2], (places[0][0], Message("assistant", "it is " * 9))]
    with pytest.raises(TrainingError, match="a batch has another loss or gradient than its rows one by one"):
        check_model(engine, rows_of(chat_tokenizer, tuple(uneven)))


@pytest.mark.parametrize("what", ["weight", "buffer"])
def test_a_step_that_changes_the_base_is_refused(
    engine: Engine,
    chat_tokenizer: PreTrainedTokenizerFast,
    places: tuple[Conversation, ...],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """(g) A frozen weight or a buffer that moves with a step is named."""
    model = cast("LlamaForCausalLM", engine.model)
    model.model.register_buffer("seen", torch.zeros(2))
    moving = model.model.norm.weight if what == "weight" else model.model.seen
    honest = engine.step

    def step(rows: Any, rate: float) -> float:
        moving.data += 1e-3
        return honest(rows, rate)

    monkeypatch.setattr(engine, "step", step)
    name = "model.norm.weight" if what == "weight" else "model.seen"
    with pytest.raises(TrainingError, match=f"changed weights that should stay: {name}"):
        check_model(engine, rows_of(chat_tokenizer, places))


def test_a_step_that_changes_nothing_is_refused(
    engine: Engine, chat_tokenizer: PreTrainedTokenizerFast, places: tuple[Conversation, ...]
) -> None:
    """(g) An optimiser that was given other weights than those that the gradient reaches."""
    engine.optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(TrainingError, match="a training step changed nothing"):
        check_model(engine, rows_of(chat_tokenizer, places))


def test_a_setting_that_was_given_and_not_read_is_refused() -> None:
    """(h) Named once it is clear that nothing looks at it; what was left at its default is nobody's lie."""
    settings = TrainSettings(rank=8, patience=7)
    assert settings.rank == 8
    with pytest.raises(TrainingError, match=r"nothing has read patience of \[train\]"):
        check_settings(settings)
    assert settings.patience == 7
    check_settings(settings)
    assert preflight.SERVED > 0
