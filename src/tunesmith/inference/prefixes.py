"""What was read before, kept for prompts that begin the same: the longest common beginning is not read again."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy import int32
    from numpy.typing import NDArray

    from tunesmith.inference.slots import Kept

# A shorter beginning is read again as fast as it is found and copied.
SHORTEST = 16


class Prefixes:
    """Keys and values of whole prompts; beyond `most_bytes` those that were not used for longest are forgotten."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._entries: OrderedDict[tuple[str | None, tuple[int, ...]], Kept] = OrderedDict()

    def find(self, adapter: str | None, prompt: tuple[int, ...]) -> Kept | None:
        """Return what was kept of the longest beginning that a prompt shares, at least one token left to read."""
        best: tuple[str | None, tuple[int, ...]] | None = None
        length = SHORTEST - 1
        for key in self._entries:
            if key[0] == adapter and (common := shared(key[1], prompt[:-1])) > length:
                best, length = key, common
        if best is None:
            return None
        self._entries.move_to_end(best)
        return [(keys[:, :length], values[:, :length]) for keys, values in self._entries[best]]

    def covers(self, adapter: str | None, prompt: tuple[int, ...]) -> int:
        """Return how many tokens of a prompt need not be read."""
        return max(
            (
                common
                for key in self._entries
                if key[0] == adapter
                for common in [shared(key[1], prompt[:-1])]
            ),
            default=0,
        )

    def add(self, adapter: str | None, prompt: tuple[int, ...], kept: Kept) -> None:
        """Keep what was read of a prompt, in the place of what is a beginning of it."""
        if len(prompt) < SHORTEST or (adapter, prompt) in self._entries:
            return
        size = _bytes(kept)
        if size > self._most:
            return
        for key in [key for key in self._entries if key[0] == adapter and prompt[: len(key[1])] == key[1]]:
            self._bytes -= _bytes(self._entries.pop(key))
        self._entries[adapter, prompt] = kept
        self._bytes += size
        while self._bytes > self._most:
            _, old = self._entries.popitem(last=False)
            self._bytes -= _bytes(old)

    def forget(self, adapter: str | None) -> None:
        """Forget what was read with an adapter."""
        for key in [key for key in self._entries if key[0] == adapter]:
            self._bytes -= _bytes(self._entries.pop(key))


def shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how many tokens two prompts begin with in common."""
    most = min(len(one), len(other))
    if most == 0:
        return 0
    differ = int((_as_array(one)[:most] != _as_array(other)[:most]).argmax())
    # Where nothing differs, argmax is 0 too.
    return most if one[differ] == other[differ] else differ


@lru_cache(maxsize=4096)
def _as_array(prompt: tuple[int, ...]) -> NDArray[int32]:
    return np.array(prompt, dtype=np.int32)


def _bytes(kept: Kept) -> int:
    return sum(tensor.numel() * tensor.element_size() for pair in kept for tensor in pair)
