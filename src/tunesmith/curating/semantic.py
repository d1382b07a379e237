"""Texts that mean the same in other words: the nearest of each by their embeddings, with FAISS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tunesmith.curating.near import Pair
from tunesmith.models.base import Encoder
from tunesmith.progress import Progress, silent

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_BATCH: Final = 256
_NEIGHBOURS: Final = 8
# More are searched in cells, of which a few are looked into: pairs on a border can be missed.
_ALL_COMPARED: Final = 50_000


def semantic_duplicates(
    texts: Sequence[str], encoder: Encoder, threshold: float, *, on_progress: Progress = silent
) -> tuple[Pair, ...]:
    """Return each text whose embedding has a cosine of at least `threshold` to an earlier one's, with that one.

    What counts as the same is the encoder's matter: with MiniLM, 0.95 is a paraphrase of a sentence or the same
    question about another number, and below 0.9 questions about different things meet. Look at the pairs.
    """
    if len(texts) < 2:
        return ()
    vectors_T_D = _embedded(texts, encoder, on_progress)
    index, gone = _index(vectors_T_D), set[int]()
    pairs: list[Pair] = []
    for start in range(0, len(texts), _BATCH):
        cosines, numbers = index.search(vectors_T_D[start : start + _BATCH], _NEIGHBOURS)
        for row, (near, others) in enumerate(zip(cosines, numbers, strict=True)):
            number = start + row
            like = [
                Pair(number, int(other), float(cosine))
                for cosine, other in zip(near, others, strict=True)
                if cosine >= threshold and 0 <= other < number and int(other) not in gone
            ]
            if like:
                gone.add(number)
                pairs.append(like[0])
    return tuple(pairs)


def _embedded(texts: Sequence[str], encoder: Encoder, on_progress: Progress) -> NDArray[float32]:
    parts = []
    for start in range(0, len(texts), _BATCH):
        stop = min(start + _BATCH, len(texts))
        parts.append(encoder.embed([texts[number] for number in range(start, stop)]))
        on_progress(stop, len(texts), "embedded")
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)


def _index(vectors_T_D: NDArray[float32]) -> Any:
    import faiss

    count, width = vectors_T_D.shape
    flat = faiss.IndexFlatIP(width)
    if count <= _ALL_COMPARED:
        flat.add(vectors_T_D)
        return flat
    cells = int(4 * count**0.5)
    index = faiss.IndexIVFFlat(flat, width, cells, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors_T_D[:: max(1, count // (cells * 64))])
    index.add(vectors_T_D)
    index.nprobe = 16
    return index
