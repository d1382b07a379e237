"""An encoder that needs no weights, and the entries of a small package."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from tunesmith.catalogue import Entry, Parameter


@dataclass(frozen=True)
class HashingEncoder:
    """An Encoder that hashes each word to a random direction: texts are near that share words."""

    name: str = "hashing"
    dimensions: int = 256

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array of shape (texts, dimensions)."""
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> NDArray[np.float32]:
        total = np.full(self.dimensions, 1e-6)
        for word in re.findall(r"\w+", text.lower()):
            seed = zlib.crc32(f"{self.name}:{word}".encode())
            total += np.random.default_rng(seed).standard_normal(self.dimensions)
        return np.asarray(total / np.linalg.norm(total), dtype=np.float32)


@pytest.fixture(scope="session")
def encoder() -> HashingEncoder:
    """Return the hashing encoder."""
    return HashingEncoder()


@pytest.fixture(scope="session")
def entries() -> tuple[Entry, ...]:
    """Return four entries of the package shapes."""
    return (
        Entry(
            "shapes.area",
            "function",
            (Parameter("shape"), Parameter("unit", "keyword_only", default="'m'")),
            summary="Return the area of a shape.",
            description="The area counts holes out.",
        ),
        Entry("shapes.edges", "function", (Parameter("shape"),), summary="Iterate over the edges."),
        Entry(
            "shapes.Polygon", "class", (Parameter("corners"),), summary="A flat figure with straight sides."
        ),
        Entry("shapes.Polygon.add_corner", "method", (Parameter("x"), Parameter("more", "var_positional"))),
    )
