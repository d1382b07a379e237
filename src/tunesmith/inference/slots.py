"""Keys and values of many rows of different lengths, each in a slot of its own, in one block of memory per layer.

Rows are left-aligned: what row r has read stands at 0 to its length, and what lies behind is masked. So rows join and
leave without a copy of the others, and each reads at its own position.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Tokens by which the block grows: a product over a whole block is several times as fast as over a part (docs/log.md).
ROOM = 64
# Rows by which it grows, and how much of its length must be in use for it to stay.
_ROWS, _LONG = 8, 0.75

# Words of the model that a proof is made on.
_WORDS = 64

# One layer's keys and values of what a row has read, shape (heads, T, D) each.
Kept = list[tuple[Tensor, Tensor]]


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """One layer; `place` says where the tokens of the forward that runs are written."""

    keys: Tensor
    values: Tensor

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self.slots = slots

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write keys and values of new tokens, shape (rows, heads, T, D); returns the whole block."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._begin(key_states, value_states)
        row, place = self.slots.rows_R_1, self.slots.places_R_T
        # (R, T) picks from the first and third axes, so that heads stand last but one: (R, T, heads, D).
        self.keys[row, :, place] = key_states.transpose(1, 2)
        self.values[row, :, place] = value_states.transpose(1, 2)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return how many places there are: positions are always given, so nothing counts from here."""
        return self.slots.capacity

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many places there are, and where the first stands."""
        return self.slots.capacity, 0

    def arrange(self, rows: Sequence[int], capacity: int) -> None:
        """Keep these rows, in this order, -1 for a new one, with room for so many tokens each.

        Where the block is large enough, only rows that move forward are copied.
        """
        if not self.is_initialized:
            return
        fits = capacity == self.keys.shape[2] and len(rows) <= len(self._key_block)
        if fits and all(row >= to or row < 0 for to, row in enumerate(rows)):
            for to, row in enumerate(rows):
                for block in (self._key_block, self._value_block):
                    if row > to:
                        block[to].copy_(block[row])
                    elif row < 0:
                        # What another row left there may not be a number.
                        block[to].zero_()
        else:
            held = min(capacity, self.keys.shape[2])
            old_keys, old_values = self._key_block, self._value_block
            self._allocate(len(rows), capacity, old_keys, old_values)
            for to, row in enumerate(rows):
                if row >= 0:
                    self._key_block[to, :, :held] = old_keys[row, :, :held]
                    self._value_block[to, :, :held] = old_values[row, :, :held]
        self.keys, self.values = self._key_block[: len(rows)], self._value_block[: len(rows)]

    def put(self, row: int, keys: Tensor, values: Tensor) -> None:
        """Let a row begin with keys and values of shape (heads, T, D)."""
        if not self.is_initialized:
            self.lazy_initialization(keys[None], values[None])
            self._begin(keys[None], values[None])
        self.keys[row, :, : keys.shape[1]] = keys
        self.values[row, :, : values.shape[1]] = values

    def _begin(self, keys: Tensor, values: Tensor) -> None:
        rows = len(self.slots.lengths)
        self._allocate(rows, self.slots.capacity, keys, values)
        self.keys, self.values = self._key_block[:rows], self._value_block[:rows]

    def _allocate(self, rows: int, capacity: int, keys: Tensor, values: Tensor) -> None:
        # Zeros: what is masked counts nothing, but nothing times NaN is NaN. Spare rows are for those who join.
        spare = rows if rows < _ROWS else -(-rows // _ROWS) * _ROWS
        self._key_block = keys.new_zeros(spare, keys.shape[1], capacity, keys.shape[3])
        self._value_block = values.new_zeros(spare, values.shape[1], capacity, values.shape[3])


class Slots:
    """The rows that a model reads together."""

    def __init__(self, model: PreTrainedModel, rows: int = 0, kept: Sequence[Kept | None] = ()) -> None:
        """Make so many rows; each begins with what was `kept` of a beginning that was read before."""
        self.model = model
        self.lengths: list[int] = [0] * rows
        self.capacity = 0
        self._cache = DynamicCache(config=model.config)
        self._cache.layers = [_Layer(self) for _ in self._cache.layers]
        self.rows_R_1 = self.places_R_T = torch.zeros(0, 0, dtype=torch.long)
        for row, beginning in enumerate(kept):
            if beginning is not None:
                self._put(row, beginning)

    def read(self, tokens: Sequence[Sequence[int]], *, every: bool = False) -> Tensor:
        """Let each row read its new tokens (at least one); returns the logits after the last of each, shape (rows, V).

        `every` returns those after each token, one row behind the other.
        """
        width = max(map(len, tokens))
        self._make_room(max(length + width for length in self.lengths))
        device = self.model.device
        start_R_1 = torch.tensor(self.lengths, device=device)[:, None]
        self.places_R_T = start_R_1 + torch.arange(width, device=device)
        self.rows_R_1 = torch.arange(len(tokens), device=device)[:, None]
        ids_R_T = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens], device=device)
        seen_R_1_T_C = torch.arange(self.capacity, device=device) <= self.places_R_T[:, None, :, None]
        if every:
            picked = [row * width + t for row, some in enumerate(tokens) for t in range(len(some))]
        else:
            picked = [row * width + len(some) - 1 for row, some in enumerate(tokens)]
        with torch.inference_mode(), projecting(self.model, torch.tensor(picked, device=device)):
            logits_R_V: Tensor = self.model(
                input_ids=ids_R_T,
                attention_mask=seen_R_1_T_C,
                position_ids=self.places_R_T.clamp(max=self._most_position()),
                past_key_values=self._cache,
                use_cache=True,
            ).logits
        self.lengths = [length + len(some) for length, some in zip(self.lengths, tokens, strict=True)]
        # A copy, made outside inference mode, may be changed in place.
        return logits_R_V.reshape(len(picked), -1).to(torch.float32, copy=True)

    @torch.inference_mode()
    def keep(self, row: int, tokens: int | None = None) -> Kept:
        """Return a copy of what a row has read, or of its first tokens."""
        return [(keys.clone(), values.clone()) for keys, values in self._read(row, tokens)]

    @torch.inference_mode()
    def take(self, other: Slots, rows: Sequence[int]) -> None:
        """Add rows of another block behind the own ones."""
        first = len(self.lengths)
        self.lengths += [other.lengths[row] for row in rows]
        self._arrange([*range(first), *[-1] * len(rows)], max(self.lengths))
        for to, row in enumerate(rows, first):
            self._put(to, other._read(row))

    @torch.inference_mode()
    def leave(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; cheapest where none of them moves back."""
        self.lengths = [self.lengths[row] for row in rows]
        self._arrange(rows, max(self.lengths, default=0))

    def _read(self, row: int, tokens: int | None = None) -> Kept:
        """Return what a row has read, not copied."""
        stop = self.lengths[row] if tokens is None else tokens
        return [(layer.keys[row, :, :stop], layer.values[row, :, :stop]) for layer in self._cache.layers]

    @torch.inference_mode()
    def _put(self, row: int, kept: Kept) -> None:
        length = kept[0][0].shape[1]
        self.lengths[row] = length
        self._make_room(length)
        for layer, (keys, values) in zip(self._cache.layers, kept, strict=True):
            layer.put(row, keys, values)

    def _make_room(self, tokens: int) -> None:
        if tokens > self.capacity:
            self._arrange(range(len(self.lengths)), tokens)

    def _arrange(self, rows: Sequence[int], tokens: int) -> None:
        wanted = -(-max(tokens, 1) // ROOM) * ROOM
        # A block that is a little too long is not copied for that.
        if not _LONG * self.capacity <= wanted <= self.capacity:
            self.capacity = wanted
        for layer in self._cache.layers:
            layer.arrange(rows, self.capacity)

    def _most_position(self) -> int:
        """Return the last position that a model knows: padding may stand behind it, and is heard by nobody."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 2**30) - 1


class projecting:  # noqa: N801 - a context, used like a function
    """Let the model's output projection see these positions only, counted through rows and tokens."""

    def __init__(self, model: PreTrainedModel, picked: Tensor) -> None:
        self._model, self._picked = model, picked

    def __enter__(self) -> None:
        def select(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = given[0]
            return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._picked), *given[1:])

        self._handle = self._model.get_output_embeddings().register_forward_pre_hook(select)

    def __exit__(self, *error: object) -> None:
        self._handle.remove()


def fits(model: PreTrainedModel) -> bool:
    """Tell whether a model can read so: proved on two rows that read as they would alone.

    The proof is on a model of the same code with two layers, in float32: a real model's rounding in bf16 moves its
    logits as far as a wrong mask would. Not those with windows of attention, or that are not told positions (ALiBi):
    they count places in the cache.
    """
    import inspect

    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return False
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    short, long = ([(7 * n + k) % _WORDS for n in range(count)] for count, k in ((3, 1), (6, 2)))
    try:
        small = _small(model)
        both = Slots(small, 2)
        both.read([short[:2], long[:4]])
        together = both.read([short[2:], long[4:]])
        with torch.inference_mode():
            alone = [small(input_ids=torch.tensor([row])).logits[0, -1] for row in (short, long)]
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError):
        # Another kind of model, or a forward that knows no such mask or cache.
        return False
    spread = max(float(row.std()) for row in alone)
    return all(float((a - b).abs().max()) <= 4e-3 * spread for a, b in zip(together, alone, strict=True))


def _small(model: PreTrainedModel) -> PreTrainedModel:
    """Return a random model of the same code and widths, with two layers and few words."""
    config: Any = copy.deepcopy(model.config)
    config.quantization_config = None
    text: Any = config.get_text_config()
    text.num_hidden_layers = 2
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:2]
    text.vocab_size = _WORDS
    text.pad_token_id = None
    config.dtype = torch.float32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small: PreTrainedModel = type(model)(config).float().eval()
    return small
