"""Questions whose answers are known: the nearest of them as example turns, or their answers as classes.

Both read training examples alone, so that no test question stands in a prompt. What is not covered: an index for
millions of questions; each question is compared with all that are known.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tunesmith.errors import DatasetError
from tunesmith.models.base import ChatModel, Encoder, Sampling
from tunesmith.models.wrappers import question, with_turns
from tunesmith.records import Answer, Conversation, Message

if TYPE_CHECKING:
    import numpy as np
    from numpy import float32
    from numpy.typing import NDArray

_STRENGTH = 10.0  # scikit-learn's C: how far the regression may trust its examples (docs/log.md)
_STEPS = 300
_FOLDS = 3
# Inverse temperatures, from half as sure to eight times.
_SHARPNESS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A question, its answer, and the class that questions with the same answer share."""

    question: str
    answer: str
    label: str


@dataclass(frozen=True)
class Known:
    """Known answers and the encoder that says which questions are near; all are embedded once, when first needed.

    Raises DatasetError without any.
    """

    answers: tuple[KnownAnswer, ...]
    encoder: Encoder

    def __post_init__(self) -> None:
        if not self.answers:
            raise DatasetError(
                "no question is known, so none can be near",
                hint="Leave nearest_shots and classifier out, or write training questions: [generate] written.",
            )

    @cached_property
    def vectors_N_D(self) -> NDArray[float32]:
        """The questions' vectors, in their order."""
        return self.encoder.embed([one.question for one in self.answers])


def nearest_shots(model: ChatModel, known: Known, *, count: int = 3) -> ChatModel:
    """Return the model that sees, ahead of each conversation, the `count` known answers nearest to its question.

    They are turns of user and assistant, the nearest last, right before the question (kNN examples in context: Liu et
    al. 2022, arXiv:2101.06804); of equals the first are taken. The question is the last user message.
    """
    return _NearestShots(model, known, count)


@dataclass(frozen=True, slots=True)
class _NearestShots:
    """A ChatModel that looks for like examples before it answers."""

    model: ChatModel
    known: Known
    count: int

    @property
    def name(self) -> str:
        """The model's name, and that it sees near examples."""
        return f"{self.model.name}+nearest_shots"

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return the model's answers to the conversations with their examples."""
        return self.model.reply(self._shown(conversations), sampling) if conversations else []

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the model's answer to the conversation with its examples."""
        [shown] = self._shown([conversation])
        yield from self.model.stream(shown, sampling)

    def _shown(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        import numpy as np

        questions_Q_D = self.known.encoder.embed([question(one) for one in conversations])
        cosines_Q_N = questions_Q_D @ self.known.vectors_N_D.T
        # Stable, so that of equals the first are taken; turned round, the nearest stands next to the question.
        nearest_Q_K = np.argsort(-cosines_Q_N, axis=1, kind="stable")[:, : self.count][:, ::-1]
        return [
            with_turns(one, tuple(message for row in rows for message in self._turns(row)))
            for one, rows in zip(conversations, nearest_Q_K, strict=True)
        ]

    def _turns(self, row: int) -> Conversation:
        near = self.known.answers[row]
        return Message("user", near.question), Message("assistant", near.answer)


@dataclass(frozen=True, slots=True)
class Classed:
    """The likeliest class of a question and its answer, and every class's probability, in the order of `labels`."""

    label: str
    answer: str
    probabilities_C: tuple[float, ...]


class EmbeddingClassifier:
    """A ChatModel that gives the answer of the class that a logistic regression finds likeliest for the question.

    A class is what known answers share a label; its answer is its first. The regression reads the encoder's vectors
    (as SetFit's head does: Tunstall et al. 2022, arXiv:2209.11055). Its probabilities are made sharper or softer by one
    temperature (Guo et al. 2017, arXiv:1706.04599), under which known questions are likeliest to a regression that has
    not seen them, in three folds; a class of one question is in all of them, and where no class has two, nothing is
    changed. `Answer.confidence` is the class's probability.

    No language model is asked: system message, sampling and earlier turns do not count.
    """

    def __init__(
        self, known: Known, *, name: str = "classifier", clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._known = known
        self._name = name
        self._clock = clock
        first = {one.label: one.answer for one in reversed(known.answers)}
        self.labels = tuple(sorted(first))
        self._answers = tuple(first[label] for label in self.labels)

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return the likeliest class's answer for each conversation; what is learned first is in no answer's time."""
        if not conversations:
            return []
        self._fitted  # noqa: B018 - learned before the clock runs
        start = self._clock()
        found = self.classify([question(one) for one in conversations])
        seconds = (self._clock() - start) / len(conversations)
        return [Answer(one.answer, seconds=seconds, confidence=max(one.probabilities_C)) for one in found]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the whole answer, which is there at once."""
        [answer] = self.reply([conversation], sampling)
        yield answer.text

    def classify(self, questions: Sequence[str]) -> list[Classed]:
        """Return for each question its likeliest class; of equals, the first by label."""
        if not questions:
            return []
        weights, sharpness = self._fitted
        shares_Q_C = _softmax(weights.logits(self._known.encoder.embed(questions)) * sharpness)
        return [
            Classed(self.labels[best], self._answers[best], tuple(map(float, row)))
            for best, row in zip(shares_Q_C.argmax(axis=1), shares_Q_C, strict=True)
        ]

    @cached_property
    def _fitted(self) -> tuple[_Weights, float]:
        """The regression over all known questions, and by how much its logits are sharpened."""
        import numpy as np

        place = {label: row for row, label in enumerate(self.labels)}
        classes_N = np.array([place[one.label] for one in self._known.answers])
        vectors_N_D = self._known.vectors_N_D
        return _fit(vectors_N_D, classes_N, len(self.labels)), _sharpness(
            vectors_N_D, classes_N, len(self.labels)
        )


@dataclass(frozen=True, slots=True)
class _Weights:
    """What a regression learned: for each class a vector and a bias."""

    weights_C_D: NDArray[np.float64]
    biases_C: NDArray[np.float64]

    def logits(self, vectors_N_D: NDArray[float32]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = vectors_N_D @ self.weights_C_D.T + self.biases_C
        return found


def _fit(vectors_N_D: NDArray[float32], classes_N: NDArray[np.intp], count: int) -> _Weights:
    """Learn the classes; those below `count` of which there is no vector are never likeliest."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    weights_C_D, biases_C = np.zeros((count, vectors_N_D.shape[1])), np.full(count, -np.inf)
    present = np.unique(classes_N)
    if len(present) == 1:
        biases_C[present] = 0.0
        return _Weights(weights_C_D, biases_C)
    with warnings.catch_warnings():
        # Many classes of few questions look to scikit-learn like numbers to be predicted.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        model = LogisticRegression(C=_STRENGTH, max_iter=_STEPS).fit(vectors_N_D, classes_N)
    # Of two classes scikit-learn keeps one vector, which speaks for the second.
    halves = (-model.coef_ / 2, model.coef_ / 2), (-model.intercept_ / 2, model.intercept_ / 2)
    several = len(present) > 2
    weights_C_D[present] = model.coef_ if several else np.concatenate(halves[0])
    biases_C[present] = model.intercept_ if several else np.concatenate(halves[1])
    return _Weights(weights_C_D, biases_C)


def _sharpness(vectors_N_D: NDArray[float32], classes_N: NDArray[np.intp], count: int) -> float:
    """Return the inverse temperature under which questions are likeliest to a regression that has not seen them."""
    import numpy as np

    sizes_C = np.bincount(classes_N, minlength=count)
    # The number of each question within its class, so that each fold has its part of every class.
    order_N = np.argsort(classes_N, kind="stable")
    number_N = np.empty(len(classes_N), dtype=np.intp)
    number_N[order_N] = np.arange(len(classes_N)) - np.repeat(np.cumsum(sizes_C) - sizes_C, sizes_C)
    losses = np.zeros(len(_SHARPNESS))
    for fold in range(_FOLDS):
        held_N = (number_N % _FOLDS == fold) & (sizes_C[classes_N] > 1)
        if not held_N.any():
            continue
        weights = _fit(vectors_N_D[~held_N], classes_N[~held_N], count)
        logits_N_C, own_N = weights.logits(vectors_N_D[held_N]), classes_N[held_N]
        places = np.arange(len(own_N)), own_N
        losses += [-np.log(_softmax(logits_N_C * sharp)[places] + 1e-30).sum() for sharp in _SHARPNESS]
    return _SHARPNESS[int(losses.argmin())] if losses.any() else 1.0


def _softmax(logits_N_C: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    powers = np.exp(logits_N_C - logits_N_C.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
