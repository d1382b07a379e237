"""What one kind of origin gave: requested = examples + rejections + failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tunesmith.records import Example, Rejection


@dataclass(frozen=True, slots=True)
class Part:
    """Examples of one origin, those asked for that are not among them and why, and what a person should read."""

    examples: tuple[Example, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    failed: int = 0
    notes: tuple[str, ...] = ()


def joined(parts: Iterable[Part]) -> Part:
    """Return several parts as one."""
    every = tuple(parts)
    return Part(
        tuple(example for part in every for example in part.examples),
        tuple(rejection for part in every for rejection in part.rejections),
        sum(part.failed for part in every),
        tuple(note for part in every for note in part.notes),
    )
