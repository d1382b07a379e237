"""How likely a local model finds an answer: the mean of its tokens' log probabilities after a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.models.local import prompt_ids, text_ids
from tunesmith.models.shelf import Say, silent
from tunesmith.records import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Weights and a tokenizer that are asked how likely an answer is; nothing is generated."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, address: str, *, say: Say = silent) -> Likelihood:
        """Return the model at a local address; raises AddressError and ModelError as `load_chat` does."""
        from tunesmith.models.address import model_folder
        from tunesmith.models.local import load_model, load_tokenizer

        folder: Path = model_folder(address, say=say)
        return cls(load_model(folder).eval(), load_tokenizer(folder))

    def means(
        self, prompts: Sequence[Conversation], answers: Sequence[str], longest: int = 2048
    ) -> list[float]:
        """Return for each answer the mean log probability of its tokens after its prompt, in nats.

        Of a prompt that would be longer than `longest` tokens with its answer the beginning is left out.
        """
        return [self._mean(prompt, answer, longest) for prompt, answer in zip(prompts, answers, strict=True)]

    def _mean(self, prompt: Conversation, answer: str, longest: int) -> float:
        import torch

        said = list(text_ids(self.tokenizer, answer))
        if not said:
            return 0.0
        before = list(prompt_ids(self.tokenizer, prompt))[-max(1, longest - len(said)) :]
        ids_1_T = torch.tensor([before + said], device=self.model.device)
        with torch.inference_mode():
            # Only where the answer is: the vocabulary is the larger part of a small model's work.
            hidden = self.model.base_model(ids_1_T).last_hidden_state[0, len(before) - 1 : -1]
            logits_T_V = self.model.get_output_embeddings()(hidden).float()
            chosen = logits_T_V.gather(1, ids_1_T[0, len(before) :, None])[:, 0]
            found = (chosen - logits_T_V.logsumexp(-1)).mean()
        return float(found)
