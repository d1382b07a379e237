"""A text classifier in this process: the probability of each of its labels, over texts of any length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.models.hub import runs_code
from tunesmith.models.quiet import quiet

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH = 16
_WINDOW = 512
# Tokens that two windows share, so that what stands at a border is read whole once.
_SHARED = 64


class LocalClassifier:
    """A model with labels, whose weights are in this process, in float32.

    A text longer than the model reads is read in windows; each label has the largest of their probabilities.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
        self._model, self._tokenizer, self.name = model, tokenizer, name
        config: Any = model.config
        self.labels: tuple[str, ...] = tuple(config.id2label[number] for number in range(config.num_labels))
        # Labels that exclude each other share one probability; the others each have their own.
        self._exclusive = config.problem_type != "multi_label_classification" and config.num_labels > 1
        longest = getattr(config, "max_position_embeddings", None) or _WINDOW
        self._window = max(8, min(_WINDOW, tokenizer.model_max_length, longest - 2))

    @classmethod
    def load(cls, folder: Path, *, name: str) -> LocalClassifier:
        """Return the classifier in a model folder; raises ModelError if it holds none."""
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        trusted = runs_code(folder)
        try:
            with quiet():
                config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
                kinds = config.architectures or ()
                # Another model would get a head of random numbers.
                if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
                    found = ", ".join(kinds) or "something else"
                    raise ModelError(f"{name} is no text classifier but {found}")
                tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)
                model = AutoModelForSequenceClassification.from_pretrained(
                    folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=trusted
                )
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder} holds no classifier that transformers can read: {error}") from error
        return cls(model.eval(), tokenizer, name=name)

    def scores(self, texts: Sequence[str]) -> NDArray[float32]:
        """Return the probability of each label for each text, shape (texts, labels)."""
        import numpy as np
        import torch

        scores_N_L = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        windows = [(number, window) for number, text in enumerate(texts) for window in self._windows(text)]
        windows.sort(key=lambda each: len(each[1]))
        with torch.inference_mode():
            for start in range(0, len(windows), _BATCH):
                batch = windows[start : start + _BATCH]
                inputs = self._tokenizer.pad(
                    {"input_ids": [list(ids) for _, ids in batch]}, return_tensors="pt"
                )
                logits_B_L = self._model(**inputs).logits.float()
                told_B_L = logits_B_L.softmax(-1) if self._exclusive else logits_B_L.sigmoid()
                for (number, _), told_L in zip(batch, told_B_L.numpy(), strict=True):
                    scores_N_L[number] = np.maximum(scores_N_L[number], told_L)
        return scores_N_L

    def _windows(self, text: str) -> list[tuple[int, ...]]:
        """Return the ids of each window of a text, with the model's own tokens around it."""
        found: Any = self._tokenizer(
            text,
            truncation=True,
            max_length=self._window,
            stride=min(_SHARED, self._window // 4),
            return_overflowing_tokens=True,
        )["input_ids"]
        return [tuple(ids) for ids in (found if found and isinstance(found[0], list) else [found])]
