from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tunesmith.errors import TrainingError
from tunesmith.training import checkpoint

Made = tuple[dict[str, nn.Parameter], torch.optim.AdamW]


def made(width: int = 3, seed: int = 0) -> Made:
    """Return two parameters and their optimiser."""
    torch.manual_seed(seed)
    parameters = {"a": nn.Parameter(torch.randn(width, 2)), "b": nn.Parameter(torch.randn(4))}
    return parameters, torch.optim.AdamW(parameters.values(), lr=0.1)


def step(of: Made) -> None:
    """Take a step on a fixed loss."""
    parameters, optimiser = of
    optimiser.zero_grad()
    torch.autograd.backward([((p - 1) ** 4).sum() for p in parameters.values()])
    optimiser.step()


def test_a_loaded_run_goes_on_as_the_saved_one(tmp_path: Path) -> None:
    """State and further tensors come back equal; the next steps are the same to the last bit."""
    saved = made()
    step(saved)
    step(saved)
    extra = {"best": torch.arange(6).view(2, 3).t()}
    state = {"done": 2, "loss": 0.1, "steps": [{"n": 1, "valid": None}]}
    checkpoint.save(tmp_path / "c", *saved, state=state, made_for="run", extra=extra)
    kept = {name: parameter.detach().clone() for name, parameter in saved[0].items()}
    loaded = made(seed=1)
    found = checkpoint.load(tmp_path / "c", *loaded, made_for="run")
    assert found is not None
    assert found.state == state
    assert found.extra.keys() == {"best"}
    assert torch.equal(found.extra["best"], extra["best"])
    assert all(torch.equal(parameter, kept[name]) for name, parameter in loaded[0].items())
    for _ in range(3):
        step(saved)
        step(loaded)
    assert all(torch.equal(parameter, saved[0][name]) for name, parameter in loaded[0].items())
    assert not any(torch.equal(parameter, kept[name]) for name, parameter in loaded[0].items())


def test_a_run_without_moments_or_checkpoint(tmp_path: Path) -> None:
    """Before the first step there are no moments to keep; where nothing was saved, nothing is found."""
    assert checkpoint.load(tmp_path / "c", *made(), made_for="run") is None
    checkpoint.save(tmp_path / "c", *made(), state={}, made_for="run")
    fresh = made(seed=1)
    assert checkpoint.load(tmp_path / "c", *fresh, made_for="run") == checkpoint.Checkpoint({}, {})
    assert not fresh[1].state
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("alone", [False, True], ids=["folder", "old alone"])
@pytest.mark.parametrize("operation", range(5))
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: int, alone: bool
) -> None:
    """Killed before any of the removals and renames, also after an earlier such kill, one of the two is found."""
    first, second = made(), made(seed=2)
    checkpoint.save(tmp_path / "c", *first, state={"run": 1}, made_for="run")
    if alone:
        (tmp_path / "c").rename(tmp_path / "c.old")
    left = iter([True] * operation)

    def killed(call: Callable[..., Any]) -> Callable[..., Any]:
        def maybe(*args: Any, **options: Any) -> Any:
            if not next(left, False):
                raise KeyboardInterrupt
            return call(*args, **options)

        return maybe

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed(shutil.rmtree))
        patch.setattr(Path, "replace", killed(Path.replace))
        with contextlib.suppress(KeyboardInterrupt):
            checkpoint.save(tmp_path / "c", *second, state={"run": 2}, made_for="run")
    loaded = made(seed=3)
    found = checkpoint.load(tmp_path / "c", *loaded, made_for="run")
    assert found is not None
    wanted = {1: first, 2: second}[found.state["run"]]
    assert all(torch.equal(parameter, wanted[0][name]) for name, parameter in loaded[0].items())
    # And the next save works, and leaves nothing beside it.
    checkpoint.save(tmp_path / "c", *second, state={"run": 3}, made_for="run")
    found = checkpoint.load(tmp_path / "c", *loaded, made_for="run")
    assert found is not None
    assert found.state == {"run": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("other", ["name", "shape", "run"])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, other: str) -> None:
    """Other names, other shapes (one row would be spread over three) or another run: nothing is loaded."""
    checkpoint.save(tmp_path / "c", *made(width=1 if other == "shape" else 3), state={}, made_for="run")
    parameters, optimiser = made(seed=1)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    if other == "name":
        parameters = {"a": parameters["a"], "c": parameters["b"]}
        before["c"] = before.pop("b")
    with pytest.raises(TrainingError, match="was made for another model, other examples or other settings"):
        checkpoint.load(tmp_path / "c", parameters, optimiser, made_for="other" if other == "run" else "run")
    assert all(torch.equal(parameter, before[name]) for name, parameter in parameters.items())
