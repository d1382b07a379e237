"""What is trained, and how it is kept: an adapter beside the frozen model, or the model's own weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tunesmith.errors import MissingExtra, TrainingError
from tunesmith.models.digest import note_base
from tunesmith.models.quantised import is_quantised
from tunesmith.models.quiet import quiet
from tunesmith.models.template import save_template
from tunesmith.training import lora
from tunesmith.training.ranks import sharded_like
from tunesmith.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Tuning(Protocol):
    """The trained parameters of a model, by their names in it, and their way to disk and back."""

    parameters: dict[str, nn.Parameter]

    @property
    def computed_in(self) -> torch.dtype | None:
        """Return the arithmetic of the products where it is not that of the weights."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the trained tensors by the names that `save` writes."""
        ...

    def save(self, folder: Path, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase) -> None:
        """Write tensors that `state` returned, so that others can load them, with what renders their prompts."""
        ...


def prepare(model: PreTrainedModel, settings: TrainSettings) -> Tuning:
    """Freeze what stays and return what is trained; the model is changed in place."""
    if settings.method == "full":
        return FullTuning(model, settings)
    return AdapterTuning(model, settings)


class AdapterTuning:
    """Adapters on the linear layers, in PEFT's file format."""

    def __init__(self, model: PreTrainedModel, settings: TrainSettings) -> None:
        self._model, self._base = model, settings.base
        self.shape = lora.add_lora(
            model,
            rank=settings.rank,
            alpha=settings.alpha,
            top_layers=settings.top_layers,
            seed=settings.seed,
            method=settings.method,
        )
        self.parameters = lora.adapter_parameters(model)
        self.computed_in = None

    def state(self) -> dict[str, Tensor]:
        """Return the adapter's tensors by PEFT's names."""
        return lora.adapter_state(self._model)

    def save(self, folder: Path, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase) -> None:
        """Write an adapter's two files and the chat template that it was trained with."""
        lora.save_adapter(folder, state, self.shape, self._base)
        save_template(tokenizer, folder)
        # A model that was made in code has no folder, and nothing to compare later.
        base = Path(self._model.name_or_path)
        if (base / "config.json").is_file():
            note_base(folder, base, self._base, quantised="nf4" if self.shape.method == "qlora" else None)


class FullTuning:
    """All weights, trained in float32 and saved as the model came."""

    def __init__(self, model: PreTrainedModel, settings: TrainSettings) -> None:
        import torch

        self._base = settings.base
        self._model, self._dtype = model, model.dtype
        model.float()
        model.requires_grad_(True)
        self.parameters = dict(model.named_parameters())
        self.computed_in = None if self._dtype == torch.float32 else self._dtype

    def state(self) -> dict[str, Tensor]:
        """Return all weights as the model came, each once."""
        return {name: value.detach().to(self._dtype, copy=True) for name, value in self.parameters.items()}

    def save(self, folder: Path, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase) -> None:
        """Write a whole model and its tokenizer: `state` goes into the model, which keeps it."""
        import torch

        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(sharded_like(state[name], value))
        names = {id(value): name for name, value in self.parameters.items()}
        self._model.to(self._dtype)
        # Of a sharded model a part stands here: `state` is written, tied weights under each of their names.
        whole = {
            name: state[names[id(value)]] if id(value) in names else value
            for name, value in self._model.state_dict(keep_vars=True).items()
        }
        with quiet():
            self._model.save_pretrained(folder, state_dict=whole)
        tokenizer.save_pretrained(folder)


def require(settings: TrainSettings) -> None:
    """Check, before a model is loaded, that what a method needs is installed."""
    if settings.method != "qlora":
        return
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise MissingExtra("bitsandbytes", "qlora", "QLoRA")


def check_loaded(model: PreTrainedModel, settings: TrainSettings) -> None:
    """Check that a model is in 4 bits exactly when the method wants it."""
    four_bits = is_quantised(model)
    if four_bits == (settings.method == "qlora"):
        return
    has, wants = ("is", "needs it whole") if four_bits else ("is not", "needs it so")
    raise TrainingError(
        f"the model {has} loaded in 4 bits, and method = {settings.method!r} {wants}",
        hint="Load it with load_model(folder, four_bit=...) as the method wants it.",
    )
