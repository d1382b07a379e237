"""Keys and values of a batch in generation: read in slices of rows, joined, and grown in place."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tunesmith.models import attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROOM = 64  # tokens by which a full layer grows


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """A layer that keeps room behind its tokens, so that a new one is written in place.

    transformers' own copies all that came before, for every token. What attends gets the room too: it is masked,
    as that of a static cache is, and a product over one whole block of memory is several times as fast as over
    the part of it that is in use (docs/log.md). So the model must always be given an attention mask: without one,
    transformers takes all places for tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add keys and values of new tokens, shape (B, heads, T, D); returns those of all tokens and of the room."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, tokens = self._seen, key_states.shape[-2]
        size, _ = self.get_mask_sizes(tokens)
        if start == 0 and size == tokens:
            self.keys, self.values = key_states, value_states
        else:
            self.keys = _written(self.keys, key_states, start, size)
            self.values = _written(self.values, value_states, start, size)
        self._seen += tokens
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return how many tokens were read, the room left out."""
        return self._seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many tokens and places there will be after so many new tokens, and where the first stands."""
        whole = self._seen + query_length
        held = self.keys.shape[-2] if self._seen else 0
        # Prompts come at once and are joined: only what grows token by token needs room.
        grows = self._seen > 0 and query_length == 1
        return (whole + ROOM if grows else whole) if whole > held else held, 0

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens."""
        self._seen -= min(abs(tokens_to_remove), self._seen)

    def reset(self) -> None:
        """Forget everything."""
        self._seen = 0
        super().reset()


def _written(old: Tensor, new: Tensor, start: int, size: int) -> Tensor:
    """Return the keys or values with the new ones from `start` on, in the same memory if it has that size."""
    if start and old.shape[-2] == size:
        room = old
    else:
        rows, heads, _, width = new.shape
        # Zeros: what is masked counts nothing, but nothing times NaN is NaN.
        room = new.new_zeros(rows, heads, size, width)
        if start:
            room[..., :start, :] = old[..., :start, :]
    room[..., start : start + new.shape[-2], :] = new
    return room


def new_cache(model: PreTrainedModel) -> DynamicCache:
    """Return an empty cache: roomy where the model is known to mind the mask, and attends as products over it."""
    cache = DynamicCache(config=model.config)
    # transformers' own sign that a model takes a cache whose tensors are longer than what was read.
    if model._can_compile_fullgraph and model.config._attn_implementation == attention.NAME:
        cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def is_plain(cache: DynamicCache) -> bool:
    """Tell whether a cache holds nothing but keys and values of all tokens: no windows, no states."""
    return all(type(layer) in (RoomyLayer, DynamicLayer) for layer in cache.layers)


def takes_gaps(model: PreTrainedModel, cache: DynamicCache) -> bool:
    """Tell whether padding may stand between a common beginning and the rest, counted by nobody.

    Windows count places in the cache, and so does a model that is not told its positions (the ALiBi of MPT).
    """
    return is_plain(cache) and "position_ids" in inspect.signature(model.forward).parameters


def repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """Return a cache of so many rows that have all read what the one row of `cache` has."""
    fresh = copy.deepcopy(cache)
    if fresh.get_seq_length():
        fresh.batch_repeat_interleave(rows)
    return fresh


def joined(parts: Sequence[DynamicCache], *, beginning: int, tokens: int) -> DynamicCache:
    """Return the rows of all parts in one cache of so many tokens; the parts are plain, and are emptied.

    What a part lacks of `tokens` stands as padding, all zeros, behind the `beginning` that all have in common.
    """
    whole, *others = parts
    if not others and whole.get_seq_length() == tokens:
        return whole
    for number, layer in enumerate(whole.layers):
        layers = [part.layers[number] for part in parts]
        roomy = isinstance(layer, RoomyLayer)
        size = tokens + ROOM if roomy else tokens
        read = [one.get_seq_length() for one in layers]
        keys, values = (
            _stacked([getattr(one, name)[..., :count, :] for one, count in zip(layers, read, strict=True)],
                     beginning, tokens, size)
            for name in ("keys", "values")
        )  # fmt: skip
        for one in layers[1:]:
            one.reset()
        layer.keys, layer.values = keys, values
        if isinstance(layer, RoomyLayer):
            layer._seen = tokens
    return whole


def _stacked(parts: Sequence[Tensor], beginning: int, tokens: int, size: int) -> Tensor:
    """Return all rows, shape (B, heads, size, D): the beginning, padding, the rest up to `tokens`, then room."""
    _, heads, _, width = parts[0].shape
    whole = parts[0].new_empty(sum(map(len, parts)), heads, size, width)
    whole[..., tokens:, :] = 0
    first = 0
    for part in parts:
        rows = whole[first : first + len(part)]
        first += len(part)
        rest = part.shape[-2] - beginning
        rows[..., beginning : tokens - rest, :] = 0
        rows[..., :beginning, :] = part[..., :beginning, :]
        rows[..., tokens - rest : tokens, :] = part[..., beginning:, :]
    return whole
