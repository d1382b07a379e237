"""How likely a local model finds an answer: its tokens' log probabilities after a prompt, alone or in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.models.local import around_words, context_length, prompt_ids, stretches, text_ids
from tunesmith.models.shelf import Say, silent
from tunesmith.models.template import chat_text
from tunesmith.records import Conversation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# Tokens that are read at a time: what is said of each over the whole vocabulary takes 200 kB.
_READ_TOKENS = 1024
# What rows begin with in common is read once if it is this long.
_SHORTEST_PREFIX = 16
# Tokens of keys and values that a slice may hold, those that are repeated for each of its rows counted too.
_HELD_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class Told:
    """What a model thinks of a text's tokens: each one's log probability in nats, and whether it was the likeliest."""

    logprobs: tuple[float, ...]
    likeliest: tuple[bool, ...]

    @property
    def total(self) -> float:
        """The log probability of the whole, in nats."""
        return sum(self.logprobs)


@dataclass(frozen=True, slots=True)
class _Line:
    """The tokens before a text, and its own."""

    before: tuple[int, ...]
    said: tuple[int, ...]

    @property
    def fed(self) -> tuple[int, ...]:
        """All that is read: what the last token is followed by is nobody's question."""
        return (*self.before, *self.said[:-1])


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

    def told(self, prompts: Sequence[Conversation | str], answers: Sequence[str]) -> list[Told]:
        """Return what the model thinks of each answer's tokens after its prompt, a conversation or a plain text.

        A conversation whose last turn is the assistant's is gone on with.
        Rows are read in batches. What they begin with in common is read once, and so is a row that differs from
        another in its last token alone, so that all secrets of a space cost little more than one. A plain text begins
        with the token that begins texts, or where there is none the one that ends them. Of a row that is longer than
        the model reads the beginning is left out.
        """
        # Thousands of answers may share a prompt, which is rendered once.
        rendered = {prompt: self._rendered(prompt) for prompt in set(prompts) if not isinstance(prompt, str)}
        lines = [
            self._line(prompt, answer, "" if isinstance(prompt, str) else rendered[prompt])
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        by_fed: dict[tuple[int, ...], list[int]] = {}
        for number, line in enumerate(lines):
            by_fed.setdefault(line.fed, []).append(number)
        found: list[Told] = [Told((), ())] * len(lines)
        for rows in _slices(sorted(by_fed, key=len)):
            for number, told in self._slice(rows, lines, by_fed):
                found[number] = told
        return found

    def _rendered(self, prompt: Conversation) -> str:
        begun = prompt[-1].content if prompt[-1].role == "assistant" else ""
        asked = prompt[:-1] if begun else prompt
        return chat_text(self.tokenizer, asked, prompt=True) + around_words(self.tokenizer)[0] + begun

    def _line(self, prompt: Conversation | str, answer: str, text: str) -> _Line:
        if isinstance(prompt, str):
            start = self.tokenizer.bos_token_id
            start = self.tokenizer.eos_token_id if start is None else start
            parts = stretches(self.tokenizer, prompt + answer, (len(prompt),) if prompt else ())
            before, said = (int(start), *(parts[0] if prompt else ())), parts[-1]
        else:
            before, said = stretches(self.tokenizer, text + answer, (len(text),))
        limit = context_length(self.model)
        said = said if limit is None else said[:limit]
        room = None if limit is None else max(1, limit - len(said) + 1)
        return _Line(before if room is None else before[-room:], said)

    def _slice(
        self,
        rows: Sequence[tuple[int, ...]],
        lines: Sequence[_Line],
        by_fed: dict[tuple[int, ...], list[int]],
    ) -> Iterator[tuple[int, Told]]:
        """Yield what is said of the lines that these rows feed."""
        import torch

        shortest = min(len(lines[number].before) for row in rows for number in by_fed[row])
        logits_B_T_V, shared = self._read(rows, shortest - 1)
        for logits_T_V, row in zip(logits_B_T_V, rows, strict=True):
            for number in by_fed[row]:
                line = lines[number]
                if not line.said:
                    continue
                first = len(line.before) - 1 - shared
                own_T_V = logits_T_V[first : first + len(line.said)].float()
                said_T = torch.tensor(line.said, device=own_T_V.device)
                chosen_T = own_T_V.gather(1, said_T[:, None])[:, 0]
                logprobs = (chosen_T - own_T_V.logsumexp(-1)).tolist()
                likeliest = (own_T_V.argmax(-1) == said_T).tolist()
                yield number, Told(tuple(logprobs), tuple(likeliest))

    def _read(self, rows: Sequence[tuple[int, ...]], most: int) -> tuple[torch.Tensor, int]:
        """Return the logits (B, T, V) after what all rows begin with, and how many tokens, at most `most`, that is."""
        import torch

        from tunesmith.models.cache import is_plain, new_cache, repeated

        device = self.model.device
        cache = new_cache(self.model)
        shared = _common(rows, most) if is_plain(cache) else 0
        with torch.inference_mode():
            if shared:
                ids_1_T = torch.tensor([rows[0][:shared]], device=device)
                self.model(
                    input_ids=ids_1_T,
                    attention_mask=torch.ones_like(ids_1_T),
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
            rests = [row[shared:] for row in rows]
            width = max(map(len, rests))
            ids_B_T = torch.tensor([[*rest, *[0] * (width - len(rest))] for rest in rests], device=device)
            # Padding stands behind all that is read: what comes later changes nothing before it.
            mask_B_S = torch.tensor(
                [[1] * len(row) + [0] * (width + shared - len(row)) for row in rows], device=device
            )
            logits_B_T_V: torch.Tensor = self.model(
                input_ids=ids_B_T,
                attention_mask=mask_B_S,
                past_key_values=repeated(cache, len(rows)) if shared else None,
                use_cache=bool(shared),
            ).logits
        return logits_B_T_V, shared


def _slices(rows: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Yield rows of like length, so many that neither what is read nor what is held becomes too much."""
    start = 0
    while start < len(rows):
        stop = start + 1
        while stop < len(rows):
            count, width = stop + 1 - start, len(rows[stop])
            shared = _common((rows[start], rows[stop]), width - 1)
            if count * (width - shared) > _READ_TOKENS or count * width > _HELD_TOKENS:
                break
            stop += 1
        yield list(rows[start:stop])
        start = stop


def _common(rows: Sequence[tuple[int, ...]], most: int) -> int:
    """Return how many tokens, at most `most`, all rows begin with; 0 if that is too few to be worth it."""
    first, last = min(rows), max(rows)  # of sorted rows the first and the last differ earliest
    shared = next((i for i in range(min(most, len(first))) if first[i] != last[i]), min(most, len(first)))
    return shared if len(rows) > 1 and shared >= _SHORTEST_PREFIX else 0
