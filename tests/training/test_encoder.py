from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tunesmith.errors import TrainingError
from tunesmith.models.embedding import LocalEncoder
from tunesmith.training.encoder import (
    EncoderRun,
    EncoderSettings,
    Entries,
    Pair,
    step_seconds,
    tune_encoder,
)

SETTINGS = EncoderSettings(base="tiny", epochs=3, batch_size=8, learning_rate=2e-3, seed=1)
THINGS = ("path", "tree", "soup", "graph", "node", "edge", "cycle", "flow")
ASKING = ("how do I get a", "where is the", "a short", "find", "count each", "is there a")

# Each thing's questions belong to one entry; valid is one of each thing's, so that what is learned must show there.
PAIRS = tuple(Pair(f"{asking} {thing}", f"p.{thing}") for thing in THINGS for asking in ASKING)
VALID = PAIRS[2 :: len(ASKING)]


@pytest.fixture(scope="session")
def entries() -> Entries:
    """Return a random direction for each thing's entry, and for twelve more that nobody asks for."""
    ids = [f"p.{thing}" for thing in THINGS] + [f"p.other_{number}" for number in range(12)]
    vectors = torch.randn(len(ids), 32, generator=torch.Generator().manual_seed(0))
    return Entries({entry: row for row, entry in enumerate(ids)}, torch.nn.functional.normalize(vectors))


def untimed(run: EncoderRun) -> EncoderRun:
    """Return what a run did, without what a clock says."""
    return replace(run, epochs=tuple(replace(epoch, seconds=0.0) for epoch in run.epochs), seconds=0.0)


def test_tuning_brings_questions_to_their_entries(
    new_encoder: Callable[[], LocalEncoder], entries: Entries, tmp_path: Path
) -> None:
    """The loss falls with each stretch of epochs, and the questions come to hit their entries."""
    encoder = new_encoder()
    settings = SETTINGS.model_copy(update={"epochs": 12, "learning_rate": 5e-3})
    run = tune_encoder(encoder, PAIRS, entries, VALID, settings, work=tmp_path)
    losses = [epoch.loss for epoch in run.epochs]
    assert [epoch.epoch for epoch in run.epochs] == list(range(13))
    assert losses[0] == 0
    assert losses[1] > 1.5 * losses[5] > 2 * losses[12]
    before, after = run.epochs[0], run.epochs[-1]
    assert (before.hit_1 or 0) <= 0.25
    assert (after.hit_1 or 0) >= 0.75
    assert after.hit_5 == 1
    assert run.pairs == len(PAIRS)
    assert run.seconds == pytest.approx(sum(epoch.seconds for epoch in run.epochs))
    # What the run says of its hits is what searching will find.
    cosines = torch.from_numpy(encoder.embed([pair.question for pair in VALID])) @ entries.vectors_E_D.T
    right = torch.tensor([entries.row[pair.entry] for pair in VALID])
    assert float((cosines.argmax(1) == right).float().mean()) == after.hit_1
    assert not encoder.model.training


def test_hits_are_counted_by_rank(
    new_encoder: Callable[[], LocalEncoder], entries: Entries, tmp_path: Path
) -> None:
    """Before the first epoch: the share whose entry is nearest, and among the five nearest; of none, None."""
    encoder = new_encoder()
    still = SETTINGS.model_copy(update={"epochs": 0})
    many = tuple(Pair(pair.question, entry) for pair in VALID for entry in entries.row)
    [before] = tune_encoder(encoder, PAIRS, entries, many, still, work=tmp_path).epochs
    # Each of twenty entries is the right one once for every question: one in twenty is first, five among five.
    assert before.hit_1 == pytest.approx(1 / 20)
    assert before.hit_5 == pytest.approx(5 / 20)
    [before] = tune_encoder(encoder, PAIRS, entries, (), still, work=tmp_path).epochs
    assert (before.hit_1, before.hit_5) == (None, None)


@pytest.mark.parametrize("top_layers", [None, 1, 2, 9])
def test_only_the_top_layers_learn(
    new_encoder: Callable[[], LocalEncoder], entries: Entries, tmp_path: Path, top_layers: int | None
) -> None:
    """Embeddings, pooler and the layers below are to the last bit what they were; the others have moved."""
    encoder, vectors = new_encoder(), entries.vectors_E_D.clone()
    settings = SETTINGS.model_copy(update={"top_layers": top_layers})
    tune_encoder(encoder, PAIRS, entries, VALID, settings, work=tmp_path)
    before = new_encoder().model.state_dict()
    below = ("encoder.layer.0.",) if top_layers == 1 else ()
    for name, tensor in encoder.model.state_dict().items():
        still = name.startswith(("embeddings.", "pooler.", *below))
        assert torch.equal(tensor, before[name]) == still, name
    assert torch.equal(entries.vectors_E_D, vectors)


class Stopped(Exception):
    """The run is killed."""


@pytest.mark.parametrize("places", [(1,), (12, 13), (3, 9, 18)])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    new_encoder: Callable[[], LocalEncoder], entries: Entries, tmp_path: Path, places: tuple[int, ...]
) -> None:
    """Stopped at any step, once or again, it begins at its epoch anew: same rows, same weights to the last bit."""
    unbroken = new_encoder()
    expected = tune_encoder(unbroken, PAIRS, entries, VALID, SETTINGS, work=tmp_path / "whole")
    for place in places:

        def progress(done: int, total: int, note: str = "", place: int = place) -> None:
            assert total == 18
            if done == place:
                raise Stopped

        with pytest.raises(Stopped):
            tune_encoder(
                new_encoder(), PAIRS, entries, VALID, SETTINGS, work=tmp_path / "r", on_progress=progress
            )
    torch.manual_seed(99)
    resumed, seen = new_encoder(), []
    run = tune_encoder(
        resumed,
        PAIRS,
        entries,
        VALID,
        SETTINGS,
        work=tmp_path / "r",
        on_progress=lambda done, total, note="": seen.append(done),
    )
    assert seen == list(range((places[-1] - 1) // 6 * 6 + 1, 19))
    assert untimed(run) == untimed(expected)
    theirs = unbroken.model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in resumed.model.state_dict().items())


def test_what_cannot_be_tuned_on_is_refused(
    new_encoder: Callable[[], LocalEncoder], entries: Entries, tmp_path: Path
) -> None:
    """No pairs, an entry without a vector in either set, a checkpoint of other settings."""
    encoder, stranger = new_encoder(), Pair("how?", "p.unknown")
    with pytest.raises(TrainingError, match="questions with known entries, and there are none"):
        tune_encoder(encoder, (), entries, VALID, SETTINGS, work=tmp_path)
    with pytest.raises(TrainingError, match=r"no vector for the entries p\.unknown"):
        tune_encoder(encoder, (*PAIRS, stranger), entries, VALID, SETTINGS, work=tmp_path)
    with pytest.raises(TrainingError, match=r"no vector for the entries p\.unknown"):
        tune_encoder(encoder, PAIRS, entries, (*VALID, stranger), SETTINGS, work=tmp_path)
    tune_encoder(encoder, PAIRS, entries, VALID, SETTINGS, work=tmp_path)
    other = SETTINGS.model_copy(update={"temperature": 0.1})
    with pytest.raises(TrainingError, match="other examples or other settings"):
        tune_encoder(encoder, PAIRS, entries, VALID, other, work=tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(
    new_encoder: Callable[[], LocalEncoder], entries: Entries, tmp_path: Path
) -> None:
    """A rate far too large is an error that says so, and leaves no checkpoint."""
    wild = SETTINGS.model_copy(update={"learning_rate": 1e37})
    with pytest.raises(TrainingError, match=r"the encoder's loss is nan at step \d"):
        tune_encoder(new_encoder(), PAIRS, entries, VALID, wild, work=tmp_path)
    assert not list(tmp_path.iterdir())


def test_measuring_a_step_changes_no_weight(
    new_encoder: Callable[[], LocalEncoder], entries: Entries
) -> None:
    """Seconds are positive, the encoder is as it was, and no pairs are refused."""
    encoder, before = new_encoder(), new_encoder().model.state_dict()
    assert step_seconds(encoder, PAIRS, entries, SETTINGS) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.model.state_dict().items())
    assert not encoder.model.training
    assert all(parameter.grad is None for parameter in encoder.model.parameters())
    with pytest.raises(TrainingError, match="there are none"):
        step_seconds(encoder, (), entries, SETTINGS)
