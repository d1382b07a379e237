"""One model, many requests: a thread reads prompts in slices and takes a step for all rows that speak, again and again.

Continuous batching as in Yu et al. 2022 (Orca): requests join and leave between steps.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tunesmith.errors import ModelError
from tunesmith.inference.adapters import Mixture
from tunesmith.inference.alone import Alone
from tunesmith.inference.compute import computed
from tunesmith.inference.packed import pack
from tunesmith.inference.prefixes import Prefixes, shared
from tunesmith.inference.requests import (
    ContextOverflow,
    EngineBusy,
    Finish,
    Generation,
    Piece,
    Request,
    Result,
    TokenLogprob,
)
from tunesmith.inference.sampling import Sampler, logprob_of
from tunesmith.inference.slots import Slots, fits
from tunesmith.inference.text import Speech

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Tokens of prompts that are read between two steps of those who speak: so they stall for a moment at most.
_SLICE = 512
# Prompts that share so much more than what is kept wait for the first of them to have read it.
_WORTH_WAITING = 64
# A prompt is kept if it has so many tokens more than what is kept of it.
_WORTH_KEEPING = 48
# Forced tokens that are read at once.
_FORCED = 16
# Tokens that an answer is expected to have at most, when it is decided who else fits beside it.
_EXPECTED = 1024


@dataclass(slots=True)
class _Row:
    """One answer in the making."""

    generation: Generation
    most: int
    sampler: Sampler
    speech: Speech
    cached: int = 0
    tokens: list[int] = field(default_factory=list)
    # What is picked or forced and not read yet.
    pending: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    untold: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None
    ended: bool = False

    @property
    def request(self) -> Request:
        """What was asked."""
        return self.generation.request


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine is doing: rows that speak, requests that wait, tokens read and said since it began."""

    rows: int
    waiting: int
    read: int
    said: int


class Engine:
    """Answers requests from a model, which it owns from then on.

    `most_rows` speak at once, and more wait, at most `most_waiting`; `cache_bytes` bound what is kept of prompts for
    later ones, and `room_bytes` the keys and values of the rows (a single row may have more).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        most_rows: int = 32,
        most_waiting: int = 512,
        cache_bytes: int = 2**29,
        room_bytes: int = 2**31,
    ) -> None:
        from tunesmith.models.attention import use_short_attention
        from tunesmith.models.local import around_words, context_length, end_ids

        use_short_attention(model)
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.mixture = Mixture(model)
        self.context = context_length(model)
        self.ends = end_ids(tokenizer, model)
        self.batches = fits(model)
        pack(model)
        self._around = around_words(tokenizer)
        self._most_rows = most_rows if self.batches else 1
        self._most_waiting = most_waiting
        self._room = max(1, room_bytes // _bytes_per_token(model))
        self._prefixes = Prefixes(cache_bytes if self.batches else 0)
        self._waiting: deque[_Row] = deque()
        self._reading: _Reading | None = None
        self._rows: list[_Row] = []
        self._slots: Slots | Alone | None = None
        self._calls: deque[Callable[[], None]] = deque()
        self._read_tokens = self._said_tokens = 0
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._live, name=f"engine {name}", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Generation:
        """Have a request answered.

        Raises ContextOverflow for what the model cannot read, EngineBusy where too many wait, and ModelError for an
        adapter that is not there.
        """
        prompt, limit = len(request.prompt), self.context
        if prompt == 0:
            raise ModelError("an empty prompt cannot be answered", hint="Say at least one word.")
        wanted = request.max_tokens
        if limit is not None and prompt + (wanted if wanted is not None else 1) > limit:
            raise ContextOverflow(self.name, limit, prompt, wanted if wanted is not None else 1)
        most = wanted if wanted is not None else (limit - prompt if limit is not None else 2**20)
        generation = Generation(request)
        row = _Row(generation, most, Sampler(request), Speech(self.tokenizer, self._around, request.stop))
        with self._news:
            if self._closed:
                raise ModelError(f"{self.name} is no longer served")
            if request.adapter is not None and request.adapter not in self.mixture.names:
                raise ModelError(f"{self.name} has no adapter {request.adapter!r}")
            if len(self._waiting) >= self._most_waiting:
                raise EngineBusy(f"{len(self._waiting)} requests wait for {self.name} already")
            self._waiting.append(row)
            self._news.notify()
        return generation

    def add_adapter(self, name: str, folder: Path, base: Path) -> None:
        """Load an adapter between two steps; raises what Mixture.add raises."""
        self._call(lambda: self.mixture.add(name, folder, base))

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter between two steps; rows that speak with it end as cancelled."""

        def remove() -> None:
            self.mixture.remove(name)
            self._prefixes.forget(name)
            for row in self._everybody():
                if row.request.adapter == name:
                    row.generation.cancel()

        self._call(remove)

    @property
    def load(self) -> Load:
        """What the engine is doing."""
        reading = 0 if self._reading is None else len(self._reading.rows)
        return Load(len(self._rows) + reading, len(self._waiting), self._read_tokens, self._said_tokens)

    @property
    def closed(self) -> bool:
        """Whether it answers no longer."""
        return self._closed

    def close(self) -> None:
        """Cancel what runs and end the thread."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _call(self, call: Callable[[], None]) -> None:
        """Have something done in the engine's thread, and wait for it."""
        done, failed = threading.Event(), list[BaseException]()

        def doing() -> None:
            try:
                call()
            except ModelError as error:
                failed.append(error)
            finally:
                done.set()

        with self._news:
            if self._closed:
                raise ModelError(f"{self.name} is no longer served")
            self._calls.append(doing)
            self._news.notify()
        done.wait()
        if failed:
            raise failed[0]

    # --- the engine's thread

    def _run(self) -> None:
        while True:
            with self._news:
                while not (self._closed or self._calls or self._waiting or self._rows or self._reading):
                    self._news.wait()
                closed, calls = self._closed, list(self._calls)
                self._calls.clear()
            for call in calls:
                computed(call)
            if closed:
                self._cancel_all()
                return
            try:
                computed(self._turn)
            except (RuntimeError, ValueError, IndexError, MemoryError, ModelError) as error:
                self._fail_all(error)

    def _live(self) -> None:
        """Run until closed; where something unforeseen ends the thread, nobody is left waiting for it."""
        try:
            self._run()
        finally:
            with self._news:
                self._closed = True
                calls = list(self._calls)
            for call in calls:
                call()
            self._fail_all(ModelError(f"{self.name} has ended"))
            while self._waiting:
                self._waiting.popleft().generation.fail(ModelError(f"{self.name} has ended"))

    def _turn(self) -> None:
        """Let newcomers in and read a slice of their prompts; then take a step for all who speak."""
        self._drop_cancelled()
        if self._reading is None:
            self._admit()
        if self._reading is not None:
            self._read_on(self._reading)
        if self._rows:
            self._step()

    def _admit(self) -> None:
        """Choose who begins to be read: as many as there is room for, who share nothing that is not yet read."""
        chosen: list[_Row] = []
        longest = max((_room_of(row) for row in self._rows), default=0)
        with self._news:
            later: list[_Row] = []
            while self._waiting and len(self._rows) + len(chosen) < self._most_rows:
                row = self._waiting.popleft()
                most = max(longest, _room_of(row))
                count = len(self._rows) + len(chosen) + 1
                if count > 1 and count * most > self._room:
                    later.append(row)
                    break
                if self._would_gain(row, chosen):
                    later.append(row)
                    continue
                longest = most
                chosen.append(row)
            self._waiting.extendleft(reversed(later))
        if chosen:
            self._reading = self._begin(chosen)

    def _would_gain(self, row: _Row, chosen: Sequence[_Row]) -> bool:
        """Tell whether a row does well to wait until one of the chosen has read what both begin with."""
        if not self.batches:
            return False
        prompt, adapter = row.request.prompt, row.request.adapter
        common = max(
            (shared(prompt, other.request.prompt) for other in chosen if other.request.adapter == adapter),
            default=0,
        )
        return common >= _WORTH_WAITING and common - self._prefixes.covers(adapter, prompt) >= _WORTH_WAITING

    def _begin(self, rows: list[_Row]) -> _Reading:
        if not self.batches:
            return _Reading(rows, Alone(self.model), [0])
        kept = [
            None
            if row.request.prompt_logprobs
            else self._prefixes.find(row.request.adapter, row.request.prompt)
            for row in rows
        ]
        for row, found in zip(rows, kept, strict=True):
            row.cached = 0 if found is None else found[0][0].shape[1]
        return _Reading(rows, Slots(self.model, len(rows), kept), [row.cached for row in rows])

    def _read_on(self, reading: _Reading) -> None:
        """Read the next slice of each prompt; who has read all of it speaks from now on."""
        width = max(1, _SLICE // len(reading.rows)) if self._rows else 2 * _SLICE
        slices = [
            list(row.request.prompt[place : place + width])
            for row, place in zip(reading.rows, reading.places, strict=True)
        ]
        self.mixture.use([row.request.adapter for row in reading.rows])
        every = any(row.request.prompt_logprobs for row in reading.rows)
        logits_N_V = reading.slots.read(slices, every=every)
        self._read_tokens += sum(map(len, slices))
        ends = torch.tensor(list(map(len, slices))).cumsum(0) if every else torch.arange(1, len(slices) + 1)
        done: list[int] = []
        picks: dict[int, Tensor] = {}
        for number, (row, some) in enumerate(zip(reading.rows, slices, strict=True)):
            if row.request.prompt_logprobs:
                start = int(ends[number]) - len(some)
                self._note_prompt(row, reading.places[number], logits_N_V[start : int(ends[number])])
            reading.places[number] += len(some)
            if reading.places[number] == len(row.request.prompt):
                done.append(number)
                picks[number] = logits_N_V[int(ends[number]) - 1]
        if done:
            self._join(reading, done, picks)

    def _note_prompt(self, row: _Row, place: int, logits_T_V: Tensor) -> None:
        prompt = row.request.prompt
        for offset, logits_V in enumerate(logits_T_V):
            if place + offset + 1 < len(prompt):
                token = prompt[place + offset + 1]
                row.prompt_logprobs.append(logprob_of(logits_V, token, row.request.logprobs or 0))

    def _join(self, reading: _Reading, done: list[int], picks: dict[int, Tensor]) -> None:
        """Let rows that have read their prompts speak."""
        speaking = []
        for number in done:
            row = reading.rows[number]
            length = len(row.request.prompt)
            # What differs by a few tokens from what is kept is read again sooner than copied.
            if isinstance(reading.slots, Slots) and (not row.cached or length - row.cached >= _WORTH_KEEPING):
                self._prefixes.add(
                    row.request.adapter, row.request.prompt, reading.slots.keep(number, length)
                )
            self._take(row, picks[number])
            if row.finish is None:
                speaking.append(number)
        if isinstance(reading.slots, Alone):
            self._slots = reading.slots
        elif speaking:
            if not isinstance(self._slots, Slots):
                self._slots = Slots(self.model)
            self._slots.take(reading.slots, speaking)
        self._rows += [reading.rows[number] for number in speaking]
        left = [number for number in range(len(reading.rows)) if number not in done]
        if not left:
            self._reading = None
            return
        assert isinstance(reading.slots, Slots)
        reading.slots.leave(left)
        reading.rows = [reading.rows[number] for number in left]
        reading.places = [reading.places[number] for number in left]

    def _step(self) -> None:
        """Read what each row said last, and let it say the next token."""
        assert self._slots is not None
        self.mixture.use([row.request.adapter for row in self._rows])
        tokens = [row.pending[:_FORCED] for row in self._rows]
        logits_R_V = self._slots.read(tokens)
        for row, some, logits_V in zip(self._rows, tokens, logits_R_V, strict=True):
            del row.pending[: len(some)]
            if not row.pending:
                self._take(row, logits_V)
        self._leave([number for number, row in enumerate(self._rows) if row.finish is None])

    def _take(self, row: _Row, logits_V: Tensor) -> None:
        """Let a row say its next token, and what its grammar then forces."""
        row.sampler.shape(logits_V)
        self._say(row, row.sampler.pick(logits_V), logits_V)
        grammar = row.request.grammar
        if grammar is None or row.finish is not None:
            self._tell(row)
            return
        for token in grammar.forced():
            if row.finish is None:
                self._say(row, token, None)
        self._tell(row)

    def _say(self, row: _Row, token: int, logits_V: Tensor | None) -> None:
        request = row.request
        if token in self.ends:
            row.finish, row.ended = "stop", True
            return
        self._said_tokens += 1
        row.tokens.append(token)
        row.pending.append(token)
        row.sampler.counts[token] += 1
        if request.logprobs is not None:
            # A forced token is certain.
            found = (
                TokenLogprob(token, 0.0)
                if logits_V is None
                else logprob_of(logits_V, token, request.logprobs)
            )
            row.logprobs.append(found)
            row.untold.append(found)
        row.speech.hear(token)
        if request.grammar is not None:
            request.grammar.advance(token)
            if request.grammar.finished():
                row.finish = "stop"
        if row.speech.stopped:
            row.finish = "stop"
        if row.finish is None and len(row.tokens) >= row.most:
            row.finish = "length"

    def _tell(self, row: _Row) -> None:
        """Give what is certain; at the end, the whole."""
        if row.finish is not None:
            row.speech.end(ended=row.ended)
        text = row.speech.ready(final=row.finish is not None)
        if text or row.untold:
            row.generation.say(Piece(text, tuple(row.untold)))
            row.untold.clear()
        if row.finish is not None:
            row.generation.finish(self._result(row, row.finish))

    def _result(self, row: _Row, finish: Finish) -> Result:
        return Result(
            text=row.speech.text,
            tokens=tuple(row.tokens),
            finish=finish,
            prompt_tokens=len(row.request.prompt),
            cached_tokens=row.cached,
            logprobs=tuple(row.logprobs),
            prompt_logprobs=tuple(row.prompt_logprobs),
        )

    def _leave(self, stay: list[int]) -> None:
        if len(stay) == len(self._rows):
            return
        stay = _filled(stay)
        self._rows = [self._rows[number] for number in stay]
        if not stay:
            self._slots = None
        elif isinstance(self._slots, Slots):
            self._slots.leave(stay)

    def _drop_cancelled(self) -> None:
        with self._news:
            gone = [row for row in self._waiting if row.generation.cancelled]
            for row in gone:
                self._waiting.remove(row)
        reading = self._reading
        if reading is not None and any(row.generation.cancelled for row in reading.rows):
            left = [number for number, row in enumerate(reading.rows) if not row.generation.cancelled]
            gone += [row for row in reading.rows if row.generation.cancelled]
            if left and isinstance(reading.slots, Slots):
                reading.slots.leave(left)
                reading.rows = [reading.rows[number] for number in left]
                reading.places = [reading.places[number] for number in left]
            else:
                self._reading = None
        gone += [row for row in self._rows if row.generation.cancelled]
        self._leave([number for number, row in enumerate(self._rows) if not row.generation.cancelled])
        for row in gone:
            row.finish = "cancelled"
            self._tell(row)

    def _everybody(self) -> list[_Row]:
        reading = [] if self._reading is None else self._reading.rows
        return [*self._waiting, *reading, *self._rows]

    def _cancel_all(self) -> None:
        for row in self._everybody():
            row.generation.cancel()
        self._drop_cancelled()

    def _fail_all(self, error: BaseException) -> None:
        """Tell all whose rows were in the model; what waits is not touched."""
        reading = [] if self._reading is None else self._reading.rows
        failed = error if isinstance(error, ModelError) else ModelError(f"{self.name} failed: {error}")
        for row in [*reading, *self._rows]:
            if not row.generation.done:
                row.generation.fail(failed)
        self._reading, self._rows, self._slots = None, [], None


@dataclass(slots=True)
class _Reading:
    """Rows whose prompts are being read, and how far each is."""

    rows: list[_Row]
    slots: Slots | Alone
    places: list[int]


def _room_of(row: _Row) -> int:
    """Return how many tokens a row is expected to have in the end: few say as much as they may."""
    return len(row.request.prompt) + max(len(row.tokens), min(row.most, _EXPECTED))


def _filled(stay: Sequence[int]) -> list[int]:
    """Return an order of the rows that stay in which the last fill the gaps, so that few move."""
    kept = [number for number in stay if number < len(stay)]
    movers = iter(stay[len(kept) :])
    places = set(kept)
    return [number if number in places else next(movers) for number in range(len(stay))]


def _bytes_per_token(model: PreTrainedModel) -> int:
    """Return about how many bytes the keys and values of a token take, at most."""
    config: Any = model.config.get_text_config()
    hidden = int(getattr(config, "hidden_size", 0) or getattr(config, "n_embd", 0) or 4096)
    layers = int(getattr(config, "num_hidden_layers", 0) or getattr(config, "n_layer", 0) or 32)
    heads = int(getattr(config, "num_attention_heads", 0) or 1)
    shared_heads = int(getattr(config, "num_key_value_heads", 0) or heads)
    return int(2 * layers * hidden * shared_heads // heads * model.dtype.itemsize)
