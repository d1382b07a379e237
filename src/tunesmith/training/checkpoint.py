"""Checkpoints of a training run: trained tensors, the optimiser's moments and a few figures, written whole or not.

Safetensors and JSON only, never pickle. A checkpoint is one folder that is renamed into place, so that a kill at
any moment leaves the last whole one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import TrainingError
from tunesmith.training.ranks import Alone, Ranks, sharded_like

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `load` found: the state that `save` was given, and further tensors by name."""

    state: dict[str, Any]
    extra: dict[str, Tensor]


def save(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    *,
    state: Mapping[str, Any],
    made_for: str,
    extra: Mapping[str, Tensor] | None = None,
    ranks: Ranks | None = None,
) -> None:
    """Write parameters, moments, `state` (plain JSON) and `extra` tensors to a folder, replacing an older one.

    `made_for` is a fingerprint of what the run was given, which `load` compares. Of several processes (`ranks`), all
    must call; the first writes, whole tensors, so that any number of processes can go on from them.
    """
    ranks = ranks or Alone()
    tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        moments = optimiser.state.get(parameter, {})
        tensors |= {f"{key}/{name}": moments[key] for key in _MOMENTS if key in moments}
    tensors |= {f"extra/{name}": tensor for name, tensor in (extra or {}).items()}
    whole = ranks.whole(tensors)
    ranks.from_first(lambda: _write(folder, whole, {"made_for": made_for, "state": dict(state)}))


def _write(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in tensors.items()}, fresh / "tensors.safetensors"
    )
    (fresh / "state.json").write_text(json.dumps(state), encoding="utf-8")
    # Two renames: a kill between them leaves `.old` whole, and `load` knows to look there.
    old = folder.with_name(folder.name + ".old")
    if folder.exists():
        # Only now: with no `folder`, `.old` is the last whole one until `fresh` stands in its place.
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
    fresh.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    *,
    made_for: str,
) -> Checkpoint | None:
    """Put a checkpoint's tensors back and return its state, or None if there is none.

    Raises TrainingError if the checkpoint was made for other parameters, or for another run than `made_for`.
    """
    import torch
    from safetensors.torch import load_file

    found = next((place for place in _places(folder) if (place / "state.json").is_file()), None)
    if found is None:
        return None
    tensors = load_file(found / "tensors.safetensors")
    shapes = {f"parameter/{name}": parameter.shape for name, parameter in parameters.items()}
    kept = json.loads((found / "state.json").read_text(encoding="utf-8"))
    fits = shapes == {name: tensor.shape for name, tensor in tensors.items() if name.startswith("parameter/")}
    if not fits or kept.get("made_for") != made_for:
        raise TrainingError(
            f"the checkpoint in {folder} was made for another model, other examples or other settings",
            hint=f"Delete {folder} and train again.",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(sharded_like(tensors[f"parameter/{name}"], parameter))
            moments = {key: tensors[f"{key}/{name}"] for key in _MOMENTS if f"{key}/{name}" in tensors}
            if moments:
                optimiser.state[parameter] = {
                    key: _placed(key, tensor, parameter, optimiser) for key, tensor in moments.items()
                }
    extra = {n.removeprefix("extra/"): tensor for n, tensor in tensors.items() if n.startswith("extra/")}
    return Checkpoint(kept["state"], extra)


def _placed(key: str, moment: Tensor, parameter: nn.Parameter, optimiser: torch.optim.Optimizer) -> Tensor:
    """Return a moment where AdamW keeps it: as its parameter, the count of steps here unless all is one kernel."""
    if key != "step":
        return sharded_like(moment, parameter)
    return moment.to(parameter.device) if optimiser.param_groups[0].get("fused") else moment


def _places(folder: Path) -> tuple[Path, Path]:
    # The second is there alone only if a kill came between the two renames of `save`.
    return folder, folder.with_name(folder.name + ".old")
