"""How a stage tells how far it is: a callable with what is done, what there is, and a note."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on; the command line draws a bar, a notebook or a test passes `silent`."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report `done` of `total` units; `note` holds figures worth seeing, such as the loss."""
        ...


def silent(done: int, total: int, note: str = "") -> None:
    """Report nothing."""
