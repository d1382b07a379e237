"""How a stage tells how far it is, and which of several processes that train together speaks."""

from __future__ import annotations

import os
from typing import Protocol


class Progress(Protocol):
    """Called as work goes on; the command line draws a bar, a notebook or a test passes `silent`."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report `done` of `total` units; `note` holds figures worth seeing, such as the loss."""
        ...


def silent(done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def leads() -> bool:
    """Tell whether this process is the one that speaks and writes among those that train together, as torchrun says."""
    return os.environ.get("RANK", "0") == "0"
