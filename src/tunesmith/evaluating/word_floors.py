"""What answers in words score without a language model: constant, copied and quoted answers, and what was found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.errors import DatasetError
from tunesmith.evaluating.floors import Sets, nearest_by_words
from tunesmith.evaluating.scores import score_words
from tunesmith.evaluating.texts import measure
from tunesmith.models.base import Encoder
from tunesmith.records import Answer, Example, Passage, Score, fingerprint

_CANDIDATES, _HELD_AGAINST = 40, 120  # training answers: enough to find one in the middle of them
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+(?=\s|$)|\n|$)|[^\n]+")


@dataclass(frozen=True, slots=True)
class WordFloors:
    """Makes floors: from these training examples, measured with this encoder, the constant chosen by `metric`."""

    train: Sequence[Example]
    encoder: Encoder | None
    metric: str

    def constant(self, sets: Sets) -> tuple[Score, ...]:
        """Score the training answer that is nearest to the others by the metric, given to every question."""
        text = self._middle()
        return self._scores("constant", sets, lambda examples: [text] * len(examples))

    def majority(self, sets: Sets) -> tuple[Score, ...]:
        """Score the most frequent training answer; nothing where none stands twice, or it is the constant one."""
        [(text, times)] = Counter(example.answer for example in self._need()).most_common(1)
        if times < 2 or text == self._middle():
            return ()
        return self._scores("majority", sets, lambda examples: [text] * len(examples))

    def nearest(self, sets: Sets) -> tuple[Score, ...]:
        """Score the answer of the training question that shares most words, by BM25."""
        train = self._need()
        find = nearest_by_words([example.question for example in train])
        return self._scores(
            "nearest",
            sets,
            lambda examples: [train[row].answer for row in find([example.question for example in examples])],
        )

    def quoted(self, name: str, hits: Mapping[str, Sequence[Passage]], sets: Sets) -> tuple[Score, ...]:
        """Score the sentence of the first passage found that is nearest to the question in the encoder's space.

        `hits` has the passages by example id; without an encoder it is the passage's first sentence, without a passage
        nothing.
        """

        def say(examples: Sequence[Example]) -> list[str]:
            return [
                self._sentence(example.question, hits[example.id][0].text) if hits.get(example.id) else ""
                for example in examples
            ]

        return self._scores(name, sets, say)

    def _sentence(self, question: str, text: str) -> str:
        sentences = [found.strip() for found in _SENTENCE.findall(text) if found.strip()]
        if self.encoder is None or len(sentences) < 2:
            return sentences[0] if sentences else ""
        vectors = self.encoder.embed([question, *sentences])
        nearest = int((vectors[1:] @ vectors[0]).argmax())
        return str(sentences[nearest])

    def _middle(self) -> str:
        # By a digest of the id, so that the sample is nobody's choice and the same each time.
        ordered = sorted(self._need(), key=lambda example: fingerprint(example.id))
        answers = list(dict.fromkeys(example.answer for example in ordered))[:_CANDIDATES]
        others = [example.answer for example in ordered[:_HELD_AGAINST]]
        pairs = [(answer, other) for answer in answers for other in others]
        encoder = self.encoder if self.metric == "similarity" else None
        measured = measure([answer for answer, _ in pairs], [other for _, other in pairs], encoder)
        sums = dict.fromkeys(answers, 0.0)
        for (answer, _), values in zip(pairs, measured, strict=True):
            sums[answer] += values[self.metric]
        return max(answers, key=lambda answer: sums[answer])

    def _need(self) -> Sequence[Example]:
        if not self.train:
            raise DatasetError(
                "floors are made from the training examples, and there are none about documents",
                hint="Curate a training set first: `tunesmith run curate`.",
            )
        return self.train

    def _scores(
        self, name: str, sets: Sets, say: Callable[[Sequence[Example]], list[str]]
    ) -> tuple[Score, ...]:
        return tuple(
            score
            for set_name, examples in sets.items()
            for score in score_words(
                name,
                set_name,
                [(example, Answer(text=text)) for example, text in zip(examples, say(examples), strict=True)],
                self.encoder,
            )
        )


def found(
    name: str,
    hits: Mapping[str, Sequence[Passage]],
    sets: Sets,
    right_of: Callable[[Example], Sequence[str]],
) -> tuple[Score, ...]:
    """Score as `found` whether a right passage is among the hits; questions of which none is known are left out."""
    return tuple(
        Score(
            contender=name,
            set=set_name,
            example=example.id,
            group=example.group,
            verdict=None,
            called=None,
            answer=Answer(text="", retrieved=tuple(hit.id for hit in hits[example.id])),
            measures={"found": float(any(hit.id in right for hit in hits[example.id]))},
        )
        for set_name, examples in sets.items()
        for example in examples
        if (right := right_of(example))
    )
