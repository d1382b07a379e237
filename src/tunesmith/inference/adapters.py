"""Several LoRA adapters beside one base model in memory: rows of one batch may each have another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.inference.packed import PackedLinear
from tunesmith.models.adapter import read_adapter
from tunesmith.models.digest import check_base, read_note

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


class CannotShare(ModelError):
    """An adapter that cannot stand beside others on one base: it is merged into a copy of its own."""


class _Adapted(nn.Module):
    """A linear layer with the low-rank updates of those adapters that reach it."""

    def __init__(self, inner: nn.Linear | PackedLinear, mixture: Mixture) -> None:
        super().__init__()
        self.inner, self._mixture = inner, mixture
        self.updates: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def weight(self) -> Tensor:
        """The base's weight, which some models look at."""
        return self.inner.weight

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        return self.inner.bias

    def forward(self, x: Tensor) -> Tensor:
        """Compute the base's output, and add each row's own update."""
        y: Tensor = self.inner(x)
        for name, rows in self._mixture.groups:
            update = self.updates.get(name)
            if update is None:
                continue
            down, up = update
            if rows is None:
                y = y + (x @ down.t()) @ up.t()
            else:
                y = y.index_add(0, rows, (x.index_select(0, rows) @ down.t()) @ up.t())
        return y


def _plain(module: Any) -> bool:
    """Tell whether a layer is linear and nothing more: quantised ones are nn.Linear by descent."""
    return type(module) in (nn.Linear, PackedLinear)


class Mixture:
    """The adapters of one base model, and which rows of the batch that is read have which."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.groups: list[tuple[str, Tensor | None]] = []
        self.names: set[str] = set()

    def add(self, name: str, folder: Path, base: Path) -> None:
        """Load an adapter beside the others.

        Raises CannotShare for one that is not plain LoRA on linear layers, or that learned beside weights in 4 bits,
        and ModelError for one of another base.
        """
        check_base(folder, base)
        note = read_note(folder)
        if note is not None and note.quantised is not None:
            raise CannotShare(f"the adapter in {folder} learned beside weights in 4 bits")
        state, scale = read_adapter(folder)
        if any(not key.endswith((_DOWN, _UP)) for key in state):
            raise CannotShare(f"the adapter in {folder} is DoRA")
        layers = {key.removeprefix(_PREFIX).removesuffix(_DOWN): key for key in state if key.endswith(_DOWN)}
        inner = {layer: self._linear(layer, folder) for layer in layers}
        for layer, key in layers.items():
            down, up = state[key], state[key.removesuffix(_DOWN) + _UP] * scale
            if (up.shape[0], down.shape[1]) != tuple(inner[layer].weight.shape):
                raise ModelError(
                    f"the adapter in {folder} was made for another model: layer {layer} differs in shape"
                )
        for layer, key in layers.items():
            adapted = self._adapted(layer)
            down, up = state[key], state[key.removesuffix(_DOWN) + _UP] * scale
            dtype, device = adapted.inner.weight.dtype, self._model.device
            adapted.updates[name] = (down.to(device, dtype), up.to(device, dtype))
        self.names.add(name)

    def remove(self, name: str) -> None:
        """Forget an adapter."""
        self.names.discard(name)
        for module in self._model.modules():
            if isinstance(module, _Adapted):
                module.updates.pop(name, None)

    def use(self, rows: Sequence[str | None]) -> None:
        """Say which adapter each row of the next batch has (None: the base alone)."""
        named = [name for name in dict.fromkeys(rows) if name is not None]
        if len(named) == 1 and None not in rows:
            self.groups = [(named[0], None)]
            return
        device = self._model.device
        self.groups = [
            (name, torch.tensor([i for i, each in enumerate(rows) if each == name], device=device))
            for name in named
        ]

    def _linear(self, layer: str, folder: Path) -> nn.Linear | PackedLinear:
        try:
            module: Any = self._model.get_submodule(layer)
        except AttributeError as error:
            raise ModelError(
                f"the adapter in {folder} was made for another model: no layer {layer}"
            ) from error
        if isinstance(module, _Adapted):
            return module.inner
        if not _plain(module) or module is self._model.get_output_embeddings():
            raise CannotShare(f"the adapter in {folder} reaches {layer}, a {type(module).__name__}")
        found: nn.Linear | PackedLinear = module
        return found

    def _adapted(self, layer: str) -> _Adapted:
        module = self._model.get_submodule(layer)
        if isinstance(module, _Adapted):
            return module
        assert isinstance(module, nn.Linear | PackedLinear)
        parent, _, child = layer.rpartition(".")
        adapted = _Adapted(module, self)
        setattr(self._model.get_submodule(parent) if parent else self._model, child, adapted)
        return adapted
