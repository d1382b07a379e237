"""A cross-encoder in this process: reads a question and a passage together and says how well they go together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.models.hub import runs_code
from tunesmith.models.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH = 32


class CrossEncoder:
    """A sequence classifier of pairs whose weights are in this process, in float32.

    Nogueira and Cho 2019, arXiv:1901.04085. `max_length` bounds the tokens of a pair, of which the longer text is cut
    at its end.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str, max_length: int = 512
    ) -> None:
        self._model, self._tokenizer, self.name = model, tokenizer, name
        config: Any = model.config
        longest = getattr(config, "max_position_embeddings", None) or max_length
        # RoBERTa's positions begin behind the padding's.
        self._max_length = min(max_length, longest - 2)

    @classmethod
    def load(cls, folder: Path, *, name: str) -> CrossEncoder:
        """Return the cross-encoder in a model folder; raises ModelError if it holds none.

        It has one output, which is the score, or two, of which the second speaks for the pair.
        """
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        trusted = runs_code(folder)
        try:
            with quiet():
                config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
                _check(config, name)
                tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)
                model = AutoModelForSequenceClassification.from_pretrained(
                    folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=trusted
                )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{folder} holds no cross-encoder that transformers can read: {error}"
            ) from error
        return cls(model.eval(), tokenizer, name=name)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return a score for each pair of a question and a passage, larger for a better one, in order."""
        import torch

        scores = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda index: sum(map(len, pairs[index])))
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                inputs = self._tokenizer(
                    [pairs[index][0] for index in batch],
                    [pairs[index][1] for index in batch],
                    padding=True,
                    truncation="longest_first",
                    max_length=self._max_length,
                    return_tensors="pt",
                ).to(self._model.device)
                logits_B_L = self._model(**inputs).logits.float()
                told_B = logits_B_L[:, 0] if logits_B_L.shape[1] == 1 else logits_B_L[:, 1] - logits_B_L[:, 0]
                for index, told in zip(batch, told_B.tolist(), strict=True):
                    scores[index] = told
        return scores


def _check(config: Any, name: str) -> None:
    kinds = config.architectures or ()
    # Another model would get a head of random numbers.
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ModelError(
            f"{name} is no cross-encoder but {', '.join(kinds) or 'something else'}",
            hint="Name one made for AutoModelForSequenceClassification, or leave [retrieve] reranker out.",
        )
    if config.num_labels not in (1, 2):
        raise ModelError(
            f"{name} tells {config.num_labels} classes apart, and a cross-encoder has one score",
            hint="Name a model with one output, or leave [retrieve] reranker out.",
        )
