"""Gates that take a small model and no teacher: is the quote about the question, does the piece lead to the answer.

Both thresholds were set on the tuned half of benchmarks/filter_quality.py's pairs, which are about software in English;
with other models, or material of another kind, they say less.

- Relevance: the cosine of the question's embedding to the nearest of the quotes. A true and well quoted statement may
  answer another question.
- Support: the mean log probability that a small language model gives the answer when it has the piece and the question
  before it. A claim that is not in the piece comes as a surprise, however plausible it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tunesmith.generating.rounds import Checking, Outcome
from tunesmith.models.base import Encoder
from tunesmith.models.likelihood import Likelihood
from tunesmith.progress import Progress, silent
from tunesmith.records import Conversation, Message

#: With MiniLM; a pair needs more.
RELEVANCE: Final = 0.35
#: With SmolLM2-135M, in nats a token.
SUPPORT: Final = -2.8


def relevance(rows: Sequence[Checking], encoder: Encoder, threshold: float = RELEVANCE) -> list[Outcome]:
    """Return for each pair whether its quotes are about its question; silence quotes nothing, and passes."""
    texts: list[str] = []
    places: list[tuple[int, int]] = []
    for row in rows:
        start = len(texts)
        texts += [row.pair.turns[-1].question, row.pair.turns[-1].answer, *row.pair.quotes]
        places.append((start, len(texts)))
    if not texts:
        return []
    vectors_T_D = encoder.embed(texts)
    outcomes = []
    for row, (start, end) in zip(rows, places, strict=True):
        near = float((vectors_T_D[start + 2 : end] @ vectors_T_D[start]).max()) if end > start + 2 else 1.0
        passes = near > threshold or row.pair.style in ("not in the material", "multi-turn")
        far = f"what it quotes is far from the question (cosine {near:.2f})"
        outcomes.append(Outcome("accepted") if passes else Outcome("rejected", far))
    return outcomes


def support(
    rows: Sequence[Checking], model: Likelihood, threshold: float = SUPPORT, on_progress: Progress = silent
) -> list[Outcome]:
    """Return for each pair whether its answer is likely after its piece and question; silence passes."""
    outcomes = []
    for number, row in enumerate(rows, 1):
        [mean] = model.means([_asked(row)], [row.pair.turns[-1].answer])
        passes = mean > threshold or row.pair.style == "not in the material"
        odd = f"the piece does not lead to it ({mean:.2f} nats a token)"
        outcomes.append(Outcome("accepted") if passes else Outcome("rejected", odd))
        on_progress(number, len(rows), "weighed")
    return outcomes


def _asked(row: Checking) -> Conversation:
    asked = f"{row.source}\n\nAnswer from the text alone.\n\nQuestion: {row.pair.turns[-1].question}"
    before = [
        message
        for turn in row.pair.turns[:-1]
        for message in (Message("user", turn.question), Message("assistant", turn.answer))
    ]
    return (*before, Message("user", asked))
