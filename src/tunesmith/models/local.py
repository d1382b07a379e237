"""A causal language model in this process: load a folder, render its chat template, generate in batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tunesmith.errors import ModelError
from tunesmith.models.base import Functions, Sampling
from tunesmith.models.digest import check_base, read_note
from tunesmith.models.hub import runs_code
from tunesmith.models.metering import use
from tunesmith.models.quantised import quantise, round_to_four_bits
from tunesmith.models.quiet import quiet
from tunesmith.models.said import Said, Spoken, repeats
from tunesmith.models.template import chat_text, ensure_template, knows_functions, use_template
from tunesmith.records import Answer, Conversation, Message

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase


# Shorter common beginnings (in tokens) are not worth a pass of their own.
_SHORTEST_PREFIX = 16
# Tokens that are read at a time (docs/log.md).
_READ_TOKENS = 2048
# Finished rows are dropped from a batch once no more than this share of it goes on.
_CROWDED = 7 / 8


class Constraint(Protocol):
    """Says at each step which tokens may come next in one answer."""

    def allow(self, logits_V: torch.Tensor) -> None:
        """Set the logits of forbidden tokens to minus infinity, in place."""
        ...

    def advance(self, token: int) -> None:
        """Take note of the token that was picked."""
        ...

    def finished(self) -> bool:
        """Tell whether the answer is complete."""
        ...


@cache
def device() -> str:
    """Return where models are put: on a GPU if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def fast_dtype() -> torch.dtype:
    """Return bfloat16 where this machine multiplies matrices faster in it, else float32; measured, not assumed."""
    import torch

    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    types = torch.float32, torch.bfloat16
    pairs = {
        dtype: (torch.ones(512, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)) for dtype in types
    }
    seconds = dict.fromkeys(types, math.inf)
    # In turns, and the fastest of many: a machine that is busy for a moment must not change the answer from one run to
    # the next.
    for _ in range(24):
        for dtype, (a, b) in pairs.items():
            seconds[dtype] = min(seconds[dtype], _seconds(lambda a=a, b=b: a @ b))  # type: ignore[misc]
    return torch.bfloat16 if seconds[torch.bfloat16] < 0.8 * seconds[torch.float32] else torch.float32


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def load_tokenizer(folder: Path, *, adapter: Path | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a model folder, with the chat template of an adapter, its own, or the plain one.

    Raises ModelError if there is none, or if nothing would end its answers.
    """
    from transformers import AutoTokenizer

    try:
        # Said in words: left out, transformers asks at the terminal whether to run a folder's code.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=runs_code(folder))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no tokenizer that transformers can read: {error}") from error
    if adapter is not None:
        use_template(tokenizer, adapter)
    ensure_template(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    adapter: Path | None = None,
    four_bit: bool = False,
    place: str | None = None,
) -> PreTrainedModel:
    """Return the model in a folder, in `dtype` (None: the faster one here), with an adapter merged into it.

    It is put at `place`, "cpu" or "cuda" (None: on a GPU if there is one).

    `four_bit` keeps the weights of its linear layers in bitsandbytes' NF4, for QLoRA. An adapter that learned beside
    such weights is merged into what they come to: beside others it would say something else.
    Raises ModelError if the folder holds none, or another one than the adapter was trained on.
    """
    from transformers import AutoModelForCausalLM

    from tunesmith.models.adapter import merge_adapter

    where = place or device()
    if adapter is not None:
        check_base(adapter, folder)
        note = read_note(adapter)
        four_bit = note is not None and note.quantised == "nf4"
    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype or fast_dtype(),
                trust_remote_code=runs_code(folder),
                use_safetensors=True,
                device_map=None if where == "cpu" else where,
            )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} holds no causal language model that transformers can read: {error}"
        ) from error
    if four_bit:
        (quantise if adapter is None else round_to_four_bits)(model)
    if adapter is not None:
        merge_adapter(model, adapter)
    model.eval()
    return model


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    conversation: Conversation,
    functions: Sequence[Mapping[str, Any]] = (),
) -> tuple[int, ...]:
    """Return the ids of a conversation up to where the assistant speaks, as its own chat template renders it."""
    text = chat_text(tokenizer, conversation, prompt=True, functions=functions)
    parts = stretches(tokenizer, text, answer_starts(tokenizer, conversation, text))
    return tuple(token for part in parts for token in part)


def answer_starts(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, text: str
) -> tuple[int, ...]:
    """Return at which character of the conversation's `text` each of the assistant's turns begins.

    A turn is left out if nothing stands before it, or if the template rewrote what stands before it.
    """
    turns = [i for i, message in enumerate(conversation) if message.role == "assistant" and i > 0]
    befores = [chat_text(tokenizer, conversation[:turn], prompt=True) for turn in turns]
    return tuple(len(before) for before in befores if text.startswith(before))


def stretches(
    tokenizer: PreTrainedTokenizerBase, text: str, starts: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Return the ids of a text in stretches: up to the first of `starts`, and from each to the next.

    No token reaches over a border, as none does when the assistant goes on from a prompt. A stretch is read together
    with what stands before it unless that changes the tokens before it, as an answer's first line break would.
    """
    found: list[tuple[int, ...]] = []
    before: tuple[int, ...] = ()
    for start, stop in pairwise((0, *starts, len(text))):
        whole = text_ids(tokenizer, text[:stop])
        joins = whole[: len(before)] == before
        found.append(whole[len(before) :] if joins else _continued(tokenizer, text[start:stop]))
        before = (*before, *found[-1])
    return tuple(found)


def _continued(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Return the ids of a text that stands behind others: SentencePiece's would put a space before one alone."""
    eos = tokenizer.eos_token_id
    if eos is None or tokenizer.added_tokens_decoder[eos].rstrip:
        return text_ids(tokenizer, text)
    first, *ids = text_ids(tokenizer, tokenizer.eos_token + text)
    return tuple(ids) if first == eos else text_ids(tokenizer, text)


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Return a text's ids and nothing around them: a chat template has written what belongs there."""
    ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tuple(ids)


@dataclass
class _Row:
    """One answer in the making."""

    index: int
    prompt: tuple[int, ...]
    constraint: Constraint | None
    generator: torch.Generator | None
    tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0
    reading: float = 0.0
    end: int | None = None
    done: bool = False
    stopped: bool = False

    @property
    def text(self) -> tuple[int, ...]:
        """All that is to be read before the next token."""
        return (*self.prompt, *self.tokens)

    def spoken(self) -> Spoken:
        """Return the answer, which is done, as what was said."""
        end = () if self.end is None else (self.end,)
        return Spoken((*self.tokens, *end), self.reading, self.seconds)


class LocalModel:
    """A chat model whose weights are in this process.

    `batch_size` bounds how many conversations are generated at once; `constraints`, if given, makes for each
    conversation a Constraint on what may be said, and `functions` tells which functions its chat template shows the
    model. Answers do not depend on which others share their batch beyond the rounding of the
    processor's arithmetic. `said`, if given, keeps what was said greedily, for this model and all that are made of it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        batch_size: int = 48,
        constraints: Callable[[Conversation], Constraint] | None = None,
        functions: Functions | None = None,
        said: Said | None = None,
    ) -> None:
        from tunesmith.models.attention import use_short_attention

        use_short_attention(model)
        self.model = model
        self.tokenizer = tokenizer
        self._name = name
        self._batch_size = batch_size
        self._constraints = constraints
        self._functions = functions
        self._said = said
        self._ends = end_ids(tokenizer, model)
        self._around = around_words(tokenizer)

    @property
    def name(self) -> str:
        """The model's address."""
        return self._name

    def constrained(self, constraints: Callable[[Conversation], Constraint], name: str) -> LocalModel:
        """Return the same model, weights shared, that can only say what its constraints allow."""
        return LocalModel(
            self.model,
            self.tokenizer,
            name=name,
            batch_size=self._batch_size,
            constraints=constraints,
            functions=self._functions,
            said=self._said,
        )

    @cached_property
    def knows_functions(self) -> bool:
        """Whether its chat template has a way of its own to tell of functions."""
        return knows_functions(self.tokenizer)

    def calling(self, functions: Functions) -> LocalModel:
        """Return the same model, weights and constraints shared, whose template shows each conversation's functions."""
        return LocalModel(
            self.model,
            self.tokenizer,
            name=self._name,
            batch_size=self._batch_size,
            constraints=self._constraints,
            functions=functions,
            said=self._said,
        )

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return one answer for each conversation, in order; those of like length are generated together."""
        rows = [self._row(index, conversation, sampling) for index, conversation in enumerate(conversations)]
        said = self._said if repeats(sampling) else None
        if said is not None:
            rows = [self._following(row, said, conversations[row.index], sampling) for row in rows]
        by_length = sorted((row for row in rows if not row.done), key=lambda row: len(row.text))
        for start in range(0, len(by_length), self._batch_size):
            for _ in self._generate(by_length[start : start + self._batch_size], sampling):
                pass
        if said is not None and self._constraints is None:
            for row in by_length:
                said.keep(row.prompt, sampling, row.spoken())
        use(sum(len(row.prompt) for row in rows), sum(len(row.tokens) for row in rows))
        return [self._answer(row, sampling) for row in rows]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the answer as it is generated, cut at character boundaries."""
        row = self._row(0, conversation, sampling)
        try:
            yield from self._pieces(row, sampling)
        finally:
            use(len(row.prompt), len(row.tokens))

    def _pieces(self, row: _Row, sampling: Sampling) -> Iterator[str]:
        said = ""
        for _ in self._generate([row], sampling):
            text = self._text(row, sampling)
            # A character whose bytes have not all come ends the text as a replacement mark; it can wait, and so can
            # what the template may write after the words.
            waits = text.endswith(("�", self._around[1] or "�"))
            if not waits and len(text) > len(said):
                yield text[len(said) :]
                said = text
        rest = self._text(row, sampling)[len(said) :]
        if rest:
            yield rest

    def _row(self, index: int, conversation: Conversation, sampling: Sampling) -> _Row:
        import torch

        functions = () if self._functions is None else self._functions(conversation)
        prompt = prompt_ids(self.tokenizer, conversation, functions)
        limit = context_length(self.model)
        if limit is not None and len(prompt) + sampling.max_tokens > limit:
            raise ModelError(
                f"the conversation has {len(prompt)} tokens and {sampling.max_tokens} are asked for, "
                f"but {self.name} reads at most {limit}",
                hint="Shorten the conversation, retrieve fewer passages, or lower max_tokens.",
            )
        generator = None
        if sampling.temperature > 0:
            generator = torch.Generator().manual_seed(sampling.seed * 1_000_003 + index)
        constraint = None if self._constraints is None else self._constraints(conversation)
        return _Row(index, prompt, constraint, generator, done=sampling.max_tokens < 1)

    def _following(self, row: _Row, said: Said, conversation: Conversation, sampling: Sampling) -> _Row:
        """Return the row saying what was said to its prompt before, as far as its constraint allows."""
        spoken = said.find(row.prompt, sampling)
        if spoken is None:
            return row
        self._follow(row, spoken, sampling)
        limit = context_length(self.model)
        # Who goes on beside one that has said nothing yet is padded to more than it will say.
        crowded = limit is not None and len(row.text) + sampling.max_tokens > limit
        return row if row.done or not crowded else self._row(row.index, conversation, sampling)

    def _follow(self, row: _Row, spoken: Spoken, sampling: Sampling) -> None:
        start = time.perf_counter()
        followed = 0
        for token in spoken.tokens:
            if row.done or (row.constraint is not None and not self._allows(row.constraint, token)):
                break
            self._take(row, token, sampling)
            followed += 1
        # Who goes on alone reads the prompt itself.
        row.reading = spoken.reading if row.done else 0.0
        row.seconds = row.reading + spoken.taken(followed) + time.perf_counter() - start

    def _allows(self, constraint: Constraint, token: int) -> bool:
        import torch

        logits_V = torch.zeros(self.model.get_output_embeddings().weight.shape[0])
        constraint.allow(logits_V)
        return bool(logits_V[token] == 0)

    def _generate(self, rows: list[_Row], sampling: Sampling) -> Iterator[None]:
        """Generate for all rows at once, dropping finished ones from the batch; yields after each step."""
        import torch

        start = time.perf_counter()
        cache, mask_B_T, logits_B_V = self._read(rows)
        active = list(rows)
        while True:
            picked = self._pick(active, logits_B_V, sampling)
            going = [row for row in active if not row.done]
            for row, token in zip(active, picked, strict=True):
                if not row.done:
                    self._take(row, token, sampling)
            for row in going:
                row.seconds += (time.perf_counter() - start) / len(going)
                row.reading = row.reading or row.seconds
            yield
            start = time.perf_counter()
            keep = [i for i, row in enumerate(active) if not row.done]
            if not keep:
                return
            # Dropping rows copies what all others have read: a few finished ones may as well go on unheard.
            if len(keep) <= len(active) * _CROWDED:
                chosen = torch.tensor(keep, device=self.model.device)
                cache.batch_select_indices(chosen)
                mask_B_T = mask_B_T[chosen]
                active = [active[i] for i in keep]
                picked = [picked[i] for i in keep]
            tokens_B_1 = torch.tensor(picked, device=self.model.device)[:, None]
            mask_B_T = torch.cat([mask_B_T, mask_B_T.new_ones(len(active), 1)], dim=1)
            logits_B_V = self._forward(tokens_B_1, mask_B_T, cache)

    def _read(self, rows: Sequence[_Row]) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
        """Read all prompts; returns their cache, their mask (B, T) and the logits after each (B, V).

        What all prompts begin with is read once, the rest in slices of rows: a slice's tensors stay where the
        processor has them at hand, which those of a whole batch do not, and its rows are padded to its own longest.
        """
        import torch

        from tunesmith.models.cache import is_plain, joined, new_cache, repeated, takes_gaps

        device = self.model.device
        beginning = new_cache(self.model)
        shared = _common_beginning(rows) if takes_gaps(self.model, beginning) else 0
        if shared:
            ids_1_T = torch.tensor([rows[0].text[:shared]], device=device)
            self._forward(ids_1_T, torch.ones_like(ids_1_T), beginning)
        rests = [row.text[shared:] for row in rows]
        lengths = [len(rest) for rest in rests]
        width, pad = max(lengths), int(self.tokenizer.pad_token_id or 0)
        in_slices = device.type == "cpu" and is_plain(beginning)
        parts, logits = [], []
        for chosen in _slices(lengths) if in_slices else [slice(0, len(rows))]:
            longest = max(lengths[chosen])
            gaps = [[0] * (longest - length) for length in lengths[chosen]]
            padded = [[pad] * len(gap) + list(rest) for gap, rest in zip(gaps, rests[chosen], strict=True)]
            seen = [[1] * shared + gap + [1] * (longest - len(gap)) for gap in gaps]
            parts.append(repeated(beginning, len(padded)))
            tokens_B_T, mask_B_S = (torch.tensor(one, device=device) for one in (padded, seen))
            logits.append(self._forward(tokens_B_T, mask_B_S, parts[-1]))
        whole = joined(parts, beginning=shared, tokens=shared + width)
        mask = [[1] * shared + [0] * (width - length) + [1] * length for length in lengths]
        return whole, torch.tensor(mask, device=device), torch.cat(logits)

    def _forward(self, tokens_B_T: torch.Tensor, mask_B_S: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Read tokens behind what the cache holds; returns the logits after the last one, shape (B, V)."""
        import torch

        # Rows that are done go on unheard for a while, which must not ask for positions that are not there.
        most = context_length(self.model)
        positions_B_S = (mask_B_S.cumsum(-1) - 1).clamp(min=0, max=None if most is None else most - 1)
        positions_B_T = positions_B_S[:, -tokens_B_T.shape[1] :]
        with torch.inference_mode():
            logits_B_V: torch.Tensor = self.model(
                input_ids=tokens_B_T,
                attention_mask=mask_B_S,
                position_ids=positions_B_T,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        # A clone made outside inference mode may be changed in place by constraints.
        return logits_B_V.clone()

    def _pick(self, rows: Sequence[_Row], logits_B_V: torch.Tensor, sampling: Sampling) -> list[int]:
        import torch

        for row, logits_V in zip(rows, logits_B_V, strict=True):
            if row.constraint is not None and not row.done:
                row.constraint.allow(logits_V)
        if sampling.temperature == 0:
            return [int(token) for token in logits_B_V.argmax(-1)]
        picked = []
        for row, logits_V in zip(rows, logits_B_V, strict=True):
            if row.done:
                picked.append(0)
                continue
            probabilities = torch.softmax(logits_V.float() / sampling.temperature, -1).cpu()
            picked.append(int(torch.multinomial(probabilities, 1, generator=row.generator)))
        return picked

    def _take(self, row: _Row, token: int, sampling: Sampling) -> None:
        if token in self._ends:
            row.done, row.stopped, row.end = True, True, token
            return
        row.tokens.append(token)
        if row.constraint is not None:
            row.constraint.advance(token)
            row.done = row.stopped = row.constraint.finished()
        if sampling.stop and not row.done:
            # A token may be a single byte, so a stop string has at most as many tokens as bytes.
            longest = max(len(stop.encode()) for stop in sampling.stop)
            tail = str(self.tokenizer.decode(row.tokens[-(longest + 4) :]))
            row.done = row.stopped = any(stop in tail for stop in sampling.stop)
        # Its length ends an answer that nothing else does.
        row.done = row.done or len(row.tokens) >= sampling.max_tokens

    def _text(self, row: _Row, sampling: Sampling) -> str:
        before, after = self._around
        text = str(self.tokenizer.decode(row.tokens, skip_special_tokens=True))
        text = "" if before.startswith(text) else text.removeprefix(before)
        if row.end is not None:
            text = text.removesuffix(after)
        ends = [found + len(stop) for stop in sampling.stop if (found := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text

    def _answer(self, row: _Row, sampling: Sampling) -> Answer:
        return Answer(
            text=self._text(row, sampling),
            prompt_tokens=len(row.prompt),
            completion_tokens=len(row.tokens),
            seconds=row.seconds,
            finish="stop" if row.stopped else "length",
        )


def _common_beginning(rows: Sequence[_Row]) -> int:
    """Return how many tokens all prompts begin with, so that each has one of its own left; 0 if it does not pay."""
    texts = [row.text for row in rows]
    shortest, first = min(map(len, texts)) - 1, texts[0]
    shared = next((i for i in range(shortest) if any(text[i] != first[i] for text in texts)), shortest)
    return shared if len(rows) > 1 and shared >= _SHORTEST_PREFIX else 0


def _slices(lengths: Sequence[int]) -> Iterator[slice]:
    """Yield which prompts are read together: neighbours that are not too many tokens, padded to their longest."""
    first, longest = 0, 0
    for number, length in enumerate(lengths):
        if number > first and (number + 1 - first) * max(longest, length) > _READ_TOKENS:
            yield slice(first, number)
            first, longest = number, 0
        longest = max(longest, length)
    yield slice(first, len(lengths))


def end_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> frozenset[int]:
    """Return the ids that end a turn, from the generation config, the tokenizer and the chat template."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = set(configured if isinstance(configured, list) else [configured])
    return frozenset(int(i) for i in ids if i is not None) | end_of_turn_ids(tokenizer)


def context_length(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model reads; MPT has a name of its own for it."""
    names = ("max_position_embeddings", "max_seq_len")
    return next((limit for name in names if (limit := getattr(model.config, name, None)) is not None), None)


def end_of_turn_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids that may end an assistant's turn: the tokenizer's eos and the template's own end marker.

    The marker is the first special token that the template writes after the assistant's words.
    """
    marker = _end_marker(tokenizer, _probe(tokenizer)[1])
    return frozenset(token for token in (marker, tokenizer.eos_token_id) if token is not None)


def around_words(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return what the template writes between prompt and answer, and between answer and end of turn.

    A model learns it with the answer (Llama 2's has a space on both sides), and it is no part of what is said.
    """
    before, after = _probe(tokenizer)
    marker = _end_marker(tokenizer, after)
    return before, "" if marker is None else after.partition(str(tokenizer.decode([marker])))[0]


def _probe(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return what the template writes between a prompt and the assistant's words, and after them."""
    words, asked = "answered", Message("user", "asked")
    text = chat_text(tokenizer, (asked, Message("assistant", words)))
    before, found, after = text.rpartition(words)
    prompt = chat_text(tokenizer, (asked,), prompt=True)
    return before.removeprefix(prompt) if before.startswith(prompt) else "", after if found else ""


def _end_marker(tokenizer: PreTrainedTokenizerBase, after: str) -> int | None:
    return next((token for token in text_ids(tokenizer, after) if _is_special(tokenizer, token)), None)


def _is_special(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    # Not all_special_ids: it lacks markers, such as Phi's <|end|>, that no attribute of the tokenizer names.
    return bool(tokenizer.decode([token])) and not tokenizer.decode([token], skip_special_tokens=True)
