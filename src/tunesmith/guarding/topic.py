"""Off-topic questions: those that are far from everything in a corpus, by the cosine of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tunesmith.errors import UsageError
from tunesmith.guarding.rails import Context, Find, Found
from tunesmith.models.base import Encoder

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_FEWEST: Final = 20
# Of the corpus's own texts, so many would be taken for off-topic if they were not in it.
_STRANGERS: Final = 0.01
_ROWS: Final = 1024  # at once


def off_topic(corpus: Sequence[str], encoder: Encoder, least: float | None = None) -> Find:
    """Return what finds texts whose nearest text of the corpus has a cosine below `least`.

    Without one it is the cosine that 99 in 100 of the corpus's texts have to their nearest other one. Raises UsageError
    for a corpus of fewer than 20 different texts.
    """
    texts = list(dict.fromkeys(text.strip() for text in corpus if text.strip()))
    if len(texts) < _FEWEST:
        raise UsageError(
            f"a corpus of {len(texts)} texts does not show what is on topic; {_FEWEST} are needed",
            hint="Name a file with questions as users ask them, one a line.",
        )
    corpus_K_D = encoder.embed(texts)
    bound = _usual(corpus_K_D) if least is None else least

    def find(text: str, _: Context) -> Found | None:
        nearest = float((corpus_K_D @ encoder.embed([text])[0]).max())
        return (
            None
            if nearest >= bound
            else Found(f"it is off topic: cosine {nearest:.2f}, at least {bound:.2f} is wanted")
        )

    return find


def _usual(corpus_K_D: NDArray[float32]) -> float:
    """Return the cosine to the nearest other text that all but the farthest texts of a corpus reach."""
    import numpy as np

    nearest = []
    for first in range(0, len(corpus_K_D), _ROWS):
        cosines_R_K = corpus_K_D[first : first + _ROWS] @ corpus_K_D.T
        rows = np.arange(len(cosines_R_K))
        cosines_R_K[rows, first + rows] = -1
        nearest.append(cosines_R_K.max(axis=1))
    return float(np.quantile(np.concatenate(nearest), _STRANGERS))
