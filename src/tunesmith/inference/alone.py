"""The same for models that cannot read many rows in slots: one row at a time, in transformers' own cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from tunesmith.inference.slots import projecting

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Alone:
    """One row; what Slots does with one, as far as such a model can: nothing is kept, nothing joins."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.lengths = [0]
        self._cache = DynamicCache(config=model.config)

    def read(self, tokens: Sequence[Sequence[int]], *, every: bool = False) -> Tensor:
        """Let the row read its new tokens; returns the logits after the last, shape (1, V), or after each."""
        [new] = tokens
        ids_1_T = torch.tensor([list(new)], device=self.model.device)
        picked = range(len(new)) if every else [len(new) - 1]
        with (
            torch.inference_mode(),
            projecting(self.model, torch.tensor(list(picked), device=self.model.device)),
        ):
            logits: Tensor = self.model(input_ids=ids_1_T, past_key_values=self._cache, use_cache=True).logits
        self.lengths = [self.lengths[0] + len(new)]
        return logits.reshape(len(picked), -1).float().clone()
