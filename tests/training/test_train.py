from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tunesmith.errors import TrainingError
from tunesmith.models.adapter import merge_adapter
from tunesmith.models.base import Sampling
from tunesmith.models.local import LocalModel
from tunesmith.progress import silent
from tunesmith.records import Conversation, Message
from tunesmith.training import loop
from tunesmith.training.engine import Engine
from tunesmith.training.render import render
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import StepMetrics, Trained, peak_bytes, train

SETTINGS = TrainSettings(
    base="tiny",
    epochs=3,
    batch_size=4,
    learning_rate=0.01,
    rank=4,
    alpha=8,
    evaluate_every=2,
    patience=9,
    seed=3,
)
# Long enough, and fast enough, that answers are learned by heart and another answer gets ever less likely.
LONG = SETTINGS.model_copy(
    update={"epochs": 12, "learning_rate": 0.03, "rank": 16, "alpha": 32, "patience": 99}
)


class Stopped(Exception):
    """The run is killed."""


def stop_at(step: int) -> Any:
    """Return a Progress that ends the run once `step` steps are done."""

    def progress(done: int, total: int, note: str = "") -> None:
        if done == step:
            raise Stopped

    return progress


class Bench:
    """A tokenizer, a maker of models and data, to run trainings that differ in little."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, new_model: Any, places: tuple[Conversation, ...], tmp: Path
    ) -> None:
        self.tokenizer = tokenizer
        self.new_model = new_model
        self.examples, self.valid = places[:8], places[8:]
        self.tmp = tmp

    def run(
        self, name: str, settings: TrainSettings = SETTINGS, *, on_progress: Any = silent, **model: Any
    ) -> Trained:
        """Train a fresh model in the work folder `name`, the adapter in its `out`."""
        self.model: LlamaForCausalLM = self.new_model(**model)
        return train(
            self.model,
            self.tokenizer,
            self.examples,
            self.valid,
            settings,
            out=self.tmp / name / "out",
            work=self.tmp / name,
            on_progress=on_progress,
        )

    def adapter(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors of the adapter that a run left."""
        return load_file(self.tmp / name / "out" / "adapter_model.safetensors")

    def merged(self, name: str) -> LlamaForCausalLM:
        """Return a fresh model with the adapter of a run merged into it."""
        model: LlamaForCausalLM = self.new_model()
        merge_adapter(model, self.tmp / name / "out")
        return model

    def loss(self, model: LlamaForCausalLM, rows: tuple[Conversation, ...]) -> float:
        """Return a model's mean loss on conversations."""
        batches = [loop.collate([render(self.tokenizer, row)], 0) for row in rows]
        with torch.no_grad():
            return float(torch.cat([loop.token_losses(model, batch) for batch in batches]).mean())


@pytest.fixture
def bench(
    chat_tokenizer: PreTrainedTokenizerFast,
    new_chat_model: Any,
    places: tuple[Conversation, ...],
    tmp_path: Path,
) -> Bench:
    """Return a bench with eight examples and two for validation."""
    return Bench(chat_tokenizer, new_chat_model, places, tmp_path)


def untimed(run: Trained) -> Trained:
    """Return what a run did, without what a clock or the memory says."""
    steps = tuple(replace(step, seconds=0.0) for step in run.steps)
    return replace(run, steps=steps, seconds=0.0, valid_seconds=0.0, peak_bytes=0)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(bench: Bench, dropout: float) -> None:
    """Stopped once or again, before or after a checkpoint: same steps, same adapter to the last bit."""
    unbroken = bench.run("unbroken", attention_dropout=dropout)
    assert len(unbroken.steps) == 6
    for place in ([1], [2], [3], [4, 5], [2, 3, 6]):
        name = "-".join(map(str, place))
        for step in place:
            with pytest.raises(Stopped):
                bench.run(name, on_progress=stop_at(step), attention_dropout=dropout)
        seen: list[int] = []
        resumed = bench.run(
            name,
            on_progress=lambda done, total, note="", seen=seen: seen.append(done),
            attention_dropout=dropout,
        )
        # It begins after the last evaluation, not at the first step.
        assert seen == list(range(place[-1] // 2 * 2 + 1, 7))
        assert untimed(resumed) == untimed(unbroken)
        ours, theirs = bench.adapter(name), bench.adapter("unbroken")
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_what_a_run_says_of_itself(bench: Bench) -> None:
    """Tokens, rates and losses of each step are those of its rows, and step_metrics.csv holds all of them."""
    before = b"x" * 2**30
    del before
    earlier = peak_bytes()
    run = bench.run("r")
    # Where the system lets a process forget its peak, as Linux does, what it held before is not the run's.
    forgets = os.access("/proc/self/clear_refs", os.W_OK)
    assert 2**20 < run.peak_bytes < (earlier - 2**28 if forgets else 2**50)
    rows = [render(bench.tokenizer, example) for example in bench.examples]
    assert run.tokens == 3 * sum(len(row.ids) for row in rows)
    assert run.labelled_tokens == 3 * sum(row.labelled for row in rows)
    assert (run.truncated, run.stopped_early, run.dtype) == (0, False, "float32")
    assert [step.step for step in run.steps] == [1, 2, 3, 4, 5, 6]
    assert [step.valid_loss is None for step in run.steps] == [True, False] * 3
    rates = [loop.learning_rate(step, steps=6, peak=0.01, warmup=1) for step in range(6)]
    assert [step.learning_rate for step in run.steps] == rates
    losses = {step.valid_loss: step.step for step in run.steps if step.valid_loss is not None}
    assert (run.best_valid_loss, run.best_step) == (min(losses), losses[min(losses)])
    assert run.first_valid_loss == pytest.approx(bench.loss(bench.new_model(), bench.valid), rel=1e-5)
    assert run.best_valid_loss < run.first_valid_loss
    assert all(0 <= (step.train_accuracy or 0) <= 1 for step in run.steps)
    assert [step.valid_accuracy is None for step in run.steps] == [True, False] * 3
    assert run.seconds == pytest.approx(sum(step.seconds for step in run.steps))
    assert run.valid_seconds > 0
    with (bench.tmp / "r" / "out" / "step_metrics.csv").open(encoding="utf-8") as file:
        kept = [
            StepMetrics(
                int(line["step"]),
                float(line["train_loss"]),
                float(line["learning_rate"]),
                int(line["tokens"]),
                float(line["seconds"]),
                *(
                    float(line[name]) if line[name] else None
                    for name in ("valid_loss", "train_accuracy", "valid_accuracy")
                ),
            )
            for line in csv.DictReader(file)
        ]
    assert tuple(kept) == run.steps


def test_the_best_adapter_is_kept_not_the_last(bench: Bench) -> None:
    """Where validation gets worse again, the saved adapter is that of the best step."""
    bench.valid = tuple((one[0], Message("assistant", "the function")) for one in bench.examples[:3])
    run = bench.run("r", LONG)
    assert 0 < run.best_step < len(run.steps)
    assert run.best_valid_loss < (run.steps[-1].valid_loss or 0) - 0.01
    assert bench.loss(bench.merged("r"), bench.valid) == pytest.approx(run.best_valid_loss, rel=1e-4)
    assert bench.loss(bench.model, bench.valid) == pytest.approx(run.steps[-1].valid_loss, rel=1e-4)


def test_without_validation_the_last_is_kept_and_no_best_is_told(bench: Bench) -> None:
    """Nothing says which step was the best, and the notes do not pretend to know."""
    notes: list[str] = []
    run = train(
        bench.new_model(),
        bench.tokenizer,
        bench.examples,
        None,
        SETTINGS,
        out=bench.tmp / "out",
        work=bench.tmp / "work",
        on_progress=lambda done, total, note="": notes.append(note),
    )
    assert (run.best_step, run.steps[-1].valid_loss) == (len(run.steps), None)
    assert any("loss" in note for note in notes)
    assert not any("best" in note or "inf" in note for note in notes)


def test_training_ends_when_patience_does(bench: Bench) -> None:
    """After two evaluations in a row without a better loss; asked again, it is over and says the same."""
    bench.valid = tuple((one[0], Message("assistant", "the function")) for one in bench.examples[:3])
    whole = bench.run("whole", LONG)
    hasty = LONG.model_copy(update={"patience": 2})
    run = bench.run("r", hasty)
    best, worse = whole.first_valid_loss, 0
    for step in whole.steps:
        if step.valid_loss is not None:
            best, worse = min(best, step.valid_loss), 0 if step.valid_loss < best else worse + 1
        if worse == 2:
            break
    assert run.stopped_early
    assert not whole.stopped_early
    assert untimed(run).steps == untimed(whole).steps[: step.step]
    assert len(run.steps) < len(whole.steps)
    rows = [render(bench.tokenizer, example) for example in bench.examples]
    assert run.tokens == sum(step.tokens for step in run.steps) < 12 * sum(len(row.ids) for row in rows)
    assert run.labelled_tokens < whole.labelled_tokens
    assert untimed(bench.run("r", hasty)) == untimed(run)


def test_a_step_changes_the_adapter_and_nothing_else(bench: Bench) -> None:
    """After one step the base's weights are what they were, and all of the adapter's B have moved."""
    before = {name: tensor.clone() for name, tensor in bench.new_model().state_dict().items()}
    run = bench.run("r", SETTINGS.model_copy(update={"epochs": 1, "batch_size": 8}))
    assert len(run.steps) == 1
    after = {name.replace(".base.", "."): tensor for name, tensor in bench.model.state_dict().items()}
    adapter = {name for name in after if "lora_" in name}
    assert after.keys() - adapter == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert len(adapter) == 2 * 7 * 2
    assert all(after[name].abs().sum() > 0 for name in adapter if name.endswith("lora_B"))


# PEFT 0.21 still asks transformers for a property under its old name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_peft_loads_what_was_trained(bench: Bench) -> None:
    """The trained model, PEFT with the saved folder, and the folder merged by us have the same logits."""
    peft = pytest.importorskip("peft")
    run = bench.run("r", SETTINGS.model_copy(update={"top_layers": 1}))
    assert run.best_step == len(run.steps)
    ids = torch.tensor([render(bench.tokenizer, bench.examples[0]).ids])
    expected = bench.model(input_ids=ids).logits
    assert not torch.allclose(bench.new_model()(input_ids=ids).logits, expected, atol=0.01)
    torch.testing.assert_close(bench.merged("r")(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    loaded = peft.PeftModel.from_pretrained(bench.new_model(), bench.tmp / "r" / "out")
    torch.testing.assert_close(loaded(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    config = json.loads((bench.tmp / "r" / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"], config["layers_to_transform"]) == (4, 8, [1])
    assert config["base_model_name_or_path"] == "tiny"


def test_eight_examples_are_learned_by_heart_and_said(bench: Bench) -> None:
    """A tuned model, its adapter merged, answers each question as it was taught, and stops."""
    bench.valid = bench.examples
    settings = SETTINGS.model_copy(
        update={"epochs": 60, "batch_size": 8, "rank": 16, "alpha": 32, "evaluate_every": 30}
    )
    run = bench.run("r", settings)
    assert run.best_valid_loss < 0.05
    model = LocalModel(bench.merged("r"), bench.tokenizer, name="tuned")
    answers = model.reply([example[:1] for example in bench.examples], Sampling(max_tokens=40))
    assert [answer.text for answer in answers] == [example[1].content for example in bench.examples]
    assert {answer.finish for answer in answers} == {"stop"}


@pytest.mark.parametrize(
    ("every", "why"),
    [
        (1, "the validation loss is nan after 1 steps"),
        (99, r"the loss or its gradient is not finite at step 2 \(rows .*\); nothing of that step was kept"),
    ],
)
def test_a_loss_that_is_not_finite_ends_the_run(bench: Bench, every: int, why: str) -> None:
    """With a rate far too large there is an error that says so, no adapter, and no checkpoint of broken weights."""
    settings = SETTINGS.model_copy(update={"learning_rate": 1e37, "evaluate_every": every, "clip": 1e9})
    with pytest.raises(TrainingError, match=why) as caught:
        bench.run("r", settings)
    assert caught.value.hint == "Lower learning_rate in [train]."
    assert not (bench.tmp / "r" / "out").exists()
    assert not (bench.tmp / "r" / "checkpoint").exists()


def test_a_broken_base_is_refused_before_the_first_step(bench: Bench) -> None:
    """A base model whose loss is nan is not trained on."""
    model = bench.new_model()
    model.model.norm.weight.data.fill_(math.nan)
    bench.new_model = lambda: model
    with pytest.raises(TrainingError, match="loss of LlamaForCausalLM is nan before any training"):
        bench.run("r")


@pytest.mark.parametrize("other", ["settings", "examples"])
def test_a_checkpoint_of_another_run_is_refused(bench: Bench, other: str) -> None:
    """A work folder is not mistaken for this run's when its settings or examples are others."""
    with pytest.raises(Stopped):
        bench.run("r", on_progress=stop_at(2))
    settings = SETTINGS
    if other == "settings":
        settings = SETTINGS.model_copy(update={"learning_rate": 0.02})
    else:
        bench.examples = bench.examples[:-1]
    with pytest.raises(TrainingError, match="other examples or other settings"):
        bench.run("r", settings)


def test_a_loss_that_explodes_ends_the_run_at_its_last_checkpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps far above the first: the error names step and rows, the checkpoint before stays."""
    honest, taken = Engine.step, []

    def step(engine: Engine, rows: Any, rate: float) -> float:
        taken.append(honest(engine, rows, rate))
        return taken[-1] * (20 if len(taken) > 5 else 1)

    monkeypatch.setattr(Engine, "step", step)
    why = r"exploded: it began at [\d.]+ and is [\d.]+ at step 7 \(rows [\d, ]+\); the checkpoint of step 6 is kept"
    with pytest.raises(TrainingError, match=why):
        bench.run("r", LONG)
    assert (bench.tmp / "r" / "checkpoint" / "state.json").is_file()
    assert not (bench.tmp / "r" / "out").exists()


def test_rows_that_are_too_long_are_refused_cut_or_left_out(bench: Bench) -> None:
    """Refused with their numbers; cut and counted where a label stays; left out and counted; all of it said."""
    first, *rest = bench.examples
    bench.examples = (*rest, (*first, Message("user", "and " * 40), Message("assistant", "there")))
    lengths = [len(render(bench.tokenizer, one).ids) for one in bench.examples]
    short = SETTINGS.model_copy(update={"max_length": 50})
    with pytest.raises(
        TrainingError, match=rf"1 of 8 examples are longer than 50 tokens \(the longest {lengths[-1]}\): 8\n"
    ):
        bench.run("refused", short)
    run = bench.run("cut", short.model_copy(update={"too_long": "cut"}))
    assert (run.truncated, run.dropped) == (1, 0)
    assert run.tokens == 3 * sum(min(50, length) for length in lengths)
    assert run.notes == ("1 of 8 examples were cut at 50 tokens",)
    run = bench.run("drop", short.model_copy(update={"too_long": "drop"}))
    assert (run.truncated, run.dropped) == (0, 1)
    assert run.tokens == 3 * sum(lengths[:-1])
    assert run.notes == ("1 of 8 examples are longer than 50 tokens and were left out",)
    bench.examples = (*rest, (Message("user", "and " * 40), first[1]))
    with pytest.raises(
        TrainingError, match="example 8 has no labelled token left once it is cut at 50 tokens"
    ):
        bench.run("other", short.model_copy(update={"too_long": "cut"}))


def test_a_setting_that_nothing_reads_is_refused(bench: Bench) -> None:
    """What was given and has no effect on this run is named before the first step."""
    settings = TrainSettings.model_validate(SETTINGS.model_dump(exclude_unset=True) | {"doubt": 0.5})
    with pytest.raises(TrainingError, match=r"nothing has read doubt of \[train\]"):
        bench.run("r", settings)


def test_the_seed_is_read(bench: Bench) -> None:
    """Another seed gives another adapter."""
    for seed in (3, 4):
        bench.run(str(seed), SETTINGS.model_copy(update={"seed": seed, "epochs": 1}))
    first, second = bench.adapter("3"), bench.adapter("4")
    assert not any(torch.equal(first[key], second[key]) for key in first)


def test_a_whole_model_in_bfloat16_is_trained(bench: Bench) -> None:
    """Kept in float32 and computed in bfloat16: the pre-flight allows what that rounds, and no more."""
    honest = bench.new_model
    bench.new_model = lambda **given: honest(**given).to(torch.bfloat16)
    settings = TrainSettings(
        base="tiny", method="full", epochs=2, batch_size=8, learning_rate=1e-3, evaluate_every=1
    )
    run = bench.run("r", settings)
    assert (run.dtype, run.method) == ("bfloat16", "full")
    assert run.best_valid_loss < run.first_valid_loss
    assert (
        load_file(bench.tmp / "r" / "out" / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16
    )


def test_memory_that_does_not_hold_the_model_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not a part of a step that is too large, the way out is another method or model."""

    def moments(engine: Engine, loss: float, rate: float) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Engine, "apply", moments)
    with pytest.raises(TrainingError, match="not enough memory for this model and this way of training it"):
        bench.run("r")
