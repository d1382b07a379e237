"""An encoder in this process: texts to vectors of length one, by the mean over a BERT-like model's tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import ModelError
from tunesmith.models.hub import runs_code
from tunesmith.models.quiet import quiet

if TYPE_CHECKING:
    import torch
    from numpy import float32
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH = 64


class LocalEncoder:
    """An Encoder whose weights are in this process, in float32.

    `max_length` bounds the tokens read of each text; the rest of a longer one does not count. Vectors do not
    depend on which texts share a batch beyond the rounding of the processor's arithmetic.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str, max_length: int = 128
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._name = name

    @classmethod
    def load(cls, folder: Path, *, name: str, max_length: int = 128) -> LocalEncoder:
        """Return the encoder in a model folder; raises ModelError if there is none or it pools otherwise."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        _check_pooling(folder)
        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=runs_code(folder))
                # Eager attention: texts are short, and on CPUs the fused kernel's backward takes a third of a step.
                model = AutoModel.from_pretrained(
                    folder,
                    dtype=torch.float32,
                    use_safetensors=True,
                    trust_remote_code=runs_code(folder),
                    attn_implementation="eager",
                )
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder} holds no encoder that transformers can read: {error}") from error
        model.eval()
        return cls(model, tokenizer, name=name, max_length=max_length)

    @property
    def name(self) -> str:
        """The encoder's address."""
        return self._name

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """Return an array of shape (texts, dimensions), in order; texts of like length go together."""
        import numpy as np
        import torch

        vectors_N_D = np.empty((len(texts), int(self.model.config.hidden_size)), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                for start in range(0, len(order), _BATCH):
                    batch = order[start : start + _BATCH]
                    vectors_N_D[batch] = self.vectors([texts[index] for index in batch]).cpu().numpy()
        finally:
            self.model.train(was_training)
        return vectors_N_D

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Return one batch's vectors, (texts, dimensions) in float32; gradients flow through."""
        import torch

        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(self.model.device)
        mask_B_T = inputs["attention_mask"]
        if mask_B_T.shape[1] == 0:
            # Tokenizers that put nothing around a text make nothing of an empty one.
            size = len(texts), int(self.model.config.hidden_size)
            return torch.zeros(size, dtype=torch.float32, device=self.model.device)
        hidden_B_T_D = self.model(input_ids=inputs["input_ids"], attention_mask=mask_B_T).last_hidden_state
        return mean_pool(hidden_B_T_D, mask_B_T)


def mean_pool(hidden_B_T_D: torch.Tensor, mask_B_T: torch.Tensor) -> torch.Tensor:
    """Return the mean of each text's tokens where the mask is 1, scaled to length one: (B, D) in float32.

    Reimers and Gurevych 2019, Sentence-BERT.
    """
    import torch.nn.functional as F  # noqa: N812 - the name everybody knows

    mask_B_T_1 = mask_B_T[:, :, None].float()
    mean_B_D = (hidden_B_T_D.float() * mask_B_T_1).sum(1) / mask_B_T_1.sum(1).clamp(min=1)
    return F.normalize(mean_B_D, dim=-1)


def _check_pooling(folder: Path) -> None:
    """Raise ModelError if a Sentence Transformers folder says that its vectors are not the tokens' mean."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return
    modes = json.loads(path.read_text(encoding="utf-8"))
    chosen = [mode for mode, on in modes.items() if mode.startswith("pooling_mode_") and on is True]
    if chosen not in ([], ["pooling_mode_mean_tokens"]) or modes.get("pooling_mode", "mean") != "mean":
        raise ModelError(
            f"the encoder in {folder} pools by {', '.join(chosen) or modes['pooling_mode']}; "
            "only the mean over tokens is understood",
            hint="Use minilm, or another encoder of Sentence Transformers with mean pooling.",
        )
