"""What is scored without a language model: constant, copied and first-hit answers, and the ceiling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tunesmith.catalogue import Catalogue
from tunesmith.errors import DatasetError
from tunesmith.evaluating.scores import acceptable, score
from tunesmith.models.base import Encoder
from tunesmith.records import Answer, Example, Score

Sets = Mapping[str, Sequence[Example]]


def constant(train: Sequence[Example], sets: Sets, catalogue: Catalogue) -> tuple[Score, ...]:
    """Score the one training answer that is right most often on the training set, given to every question."""
    return _always("constant", _best_constant(train), sets, catalogue)


def majority(train: Sequence[Example], sets: Sets, catalogue: Catalogue) -> tuple[Score, ...]:
    """Score the answer of the most frequent training entry, given to every question.

    Empty where it is the constant answer too: the same floor twice would say nothing.
    """
    answer = _majority(train)
    if answer == _best_constant(train):
        return ()
    return _always("majority", answer, sets, catalogue)


def nearest(train: Sequence[Example], sets: Sets, catalogue: Catalogue) -> tuple[Score, ...]:
    """Score the answer of the training question that shares most words, by BM25."""
    find = nearest_by_words([example.question for example in _need(train)])
    return _copied("nearest", find, train, sets, catalogue)


def nearest_embedded(
    train: Sequence[Example], sets: Sets, catalogue: Catalogue, encoder: Encoder
) -> tuple[Score, ...]:
    """Score the answer of the training question nearest in meaning, by cosine in the encoder's space."""
    find = _cosine([example.question for example in _need(train)], encoder)
    return _copied("nearest_embedded", find, train, sets, catalogue)


def first_hit(
    name: str,
    answers: Mapping[str, str],
    retrieved: Mapping[str, Sequence[str]],
    sets: Sets,
    catalogue: Catalogue,
) -> tuple[Score, ...]:
    """Score the derived answer of the retriever's first hit, under the contender name `name`.

    `answers` maps entry ids to answer texts, `retrieved` maps example ids to entry ids, nearest first. Where
    nothing was retrieved the answer is empty. Raises DatasetError for a question or an entry that has no
    line.
    """

    def text(example: Example) -> str:
        hits = _hits(retrieved, example)
        return _derived(answers, hits[0]) if hits else ""

    return _scores(name, sets, catalogue, text)


def hit_in(name: str, retrieved: Mapping[str, Sequence[str]], count: int, sets: Sets) -> tuple[Score, ...]:
    """Score the ceiling of choosing: exact where any of the first `count` hits is acceptable.

    A perfect chooser says a call of the catalogue in any case, so a miss counts as valid; no hit at all is no
    call.
    """
    return tuple(
        _choice(name, set_name, example, _hits(retrieved, example)[:count])
        for set_name, examples in sets.items()
        for example in examples
    )


def _choice(name: str, set_name: str, example: Example, hits: Sequence[str]) -> Score:
    right = [hit for hit in hits if hit in acceptable(example)]
    called = next(iter((*right, *hits)), None)
    return Score(
        contender=name,
        set=set_name,
        example=example.id,
        group=example.group,
        verdict="exact" if right else "valid" if hits else "no_call",
        called=called,
        answer=Answer(text="", retrieved=tuple(hits)),
        reason=f"an acceptable entry is hit {hits.index(right[0]) + 1}"
        if right
        else f"not in {len(hits)} hits",
    )


def _need(train: Sequence[Example]) -> Sequence[Example]:
    if not train:
        raise DatasetError(
            "floors are made from the training examples, and there are none",
            hint="Curate a training set first: `tunesmith run curate`.",
        )
    return train


def _best_constant(train: Sequence[Example]) -> str:
    """Return the first training answer among those whose entry is acceptable to most training questions."""
    counts = Counter(entry for example in _need(train) for entry in set(acceptable(example)))
    # An id that only stands in others' acceptable lists has no answer of its own to give.
    return max(train, key=lambda example: counts[acceptable(example)[0]]).answer


def _majority(train: Sequence[Example]) -> str:
    counts = Counter(example.group for example in _need(train))
    return max(train, key=lambda example: counts[example.group]).answer


def _always(name: str, text: str, sets: Sets, catalogue: Catalogue) -> tuple[Score, ...]:
    return _scores(name, sets, catalogue, lambda _: text)


def _scores(
    name: str, sets: Sets, catalogue: Catalogue, answer: Callable[[Example], str]
) -> tuple[Score, ...]:
    return tuple(
        score(name, set_name, example, Answer(text=answer(example)), catalogue)
        for set_name, examples in sets.items()
        for example in examples
    )


def _copied(
    name: str,
    find: Callable[[Sequence[str]], list[int]],
    train: Sequence[Example],
    sets: Sets,
    catalogue: Catalogue,
) -> tuple[Score, ...]:
    return tuple(
        score(name, set_name, example, Answer(text=train[index].answer), catalogue)
        for set_name, examples in sets.items()
        for example, index in zip(examples, find([example.question for example in examples]), strict=True)
    )


def nearest_by_words(texts: Sequence[str]) -> Callable[[Sequence[str]], list[int]]:
    """Return what finds for each question the row of the text that shares most words with it, by BM25."""
    import bm25s

    def tokens(batch: Sequence[str]) -> list[list[str]]:
        split = bm25s.tokenize(list(batch), stopwords="en", return_ids=False, show_progress=False)
        return [list(words) for words in split]

    index = bm25s.BM25()
    index.index(tokens(texts), show_progress=False)

    def find(questions: Sequence[str]) -> list[int]:
        if not questions:
            return []
        # `get_scores` and the first maximum, since `retrieve` breaks ties in no promised order.
        return [int(index.get_scores(words).argmax()) if words else 0 for words in tokens(questions)]

    return find


def _cosine(texts: Sequence[str], encoder: Encoder) -> Callable[[Sequence[str]], list[int]]:
    known = encoder.embed(texts)

    def find(questions: Sequence[str]) -> list[int]:
        if not questions:
            return []
        return [int(index) for index in (encoder.embed(questions) @ known.T).argmax(axis=1)]

    return find


def _hits(retrieved: Mapping[str, Sequence[str]], example: Example) -> Sequence[str]:
    if example.id not in retrieved:
        raise DatasetError(
            f"nothing is said about what was retrieved for example {example.id}: {example.question!r}",
            hint="Search for every question of every test set; give an empty list where nothing was found.",
        )
    return retrieved[example.id]


def _derived(answers: Mapping[str, str], entry: str) -> str:
    if entry not in answers:
        raise DatasetError(
            f"the retriever found {entry}, for which there is no derived answer",
            hint="Derive an answer for every entry of the index.",
        )
    return answers[entry]
