"""Known answers: the nearest as example turns, and as classes with calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from tunesmith.errors import DatasetError
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.models.known import EmbeddingClassifier, Known, KnownAnswer, nearest_shots
from tunesmith.records import Answer, Conversation, Message

LONG = Sampling(max_tokens=1000)
WORDS = ("path", "cycle", "tree", "count")


@dataclass
class WordEncoder:
    """An Encoder of which each known word is a direction; it keeps what it was asked."""

    name: str = "words"
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array of shape (texts, words), of length one where a word is known."""
        self.asked.append(tuple(texts))
        rows = np.array([[text.split().count(word) for word in WORDS] for text in texts], dtype=np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return rows


def known(*pairs: tuple[str, str], encoder: WordEncoder | None = None) -> Known:
    """Return known answers of which each answer is a class."""
    answers = tuple(KnownAnswer(question, answer, answer) for question, answer in pairs)
    return Known(answers, encoder or WordEncoder())


def _transcript(conversation: Conversation) -> str:
    return "\n".join(f"<{message.role}> {message.content}" for message in conversation)


def asked(text: str) -> Conversation:
    """Return a conversation with a system message and a question."""
    return Message("system", "Be brief."), Message("user", text)


SHOTS = (("a path", "A1"), ("a cycle", "A2"), ("a path and a cycle", "A3"), ("a tree", "A4"))


def test_the_nearest_examples_stand_before_the_question_the_nearest_last() -> None:
    """Their turns come after the system message; of equals the first are taken."""
    model = nearest_shots(FakeModel(_transcript, name="echo"), known(*SHOTS), count=2)
    [answer] = model.reply([asked("which path ?")], LONG)

    assert isinstance(model, ChatModel)
    assert model.name == "echo+nearest_shots"
    assert answer.text == (
        "<system> Be brief.\n<user> a path and a cycle\n<assistant> A3\n<user> a path\n<assistant> A1\n"
        "<user> which path ?"
    )
    assert "".join(model.stream(asked("which path ?"), LONG)) == answer.text
    assert "A4" not in model.reply([asked("no word of these")], LONG)[0].text


def test_known_questions_are_embedded_once_and_a_batch_at_a_time() -> None:
    """However often it is asked."""
    encoder = WordEncoder()
    model = nearest_shots(FakeModel(_transcript), known(*SHOTS, encoder=encoder), count=1)
    assert model.reply([], LONG) == []
    model.reply([asked("path"), asked("tree")], LONG)
    model.reply([asked("cycle")], LONG)
    assert encoder.asked == [("path", "tree"), tuple(question for question, _ in SHOTS), ("cycle",)]


def test_nothing_known_is_refused() -> None:
    """There must be a training question."""
    with pytest.raises(DatasetError, match="no question is known"):
        known()


def test_a_class_of_one_question_is_found() -> None:
    """With one example each, the nearest class is the likeliest, and all probabilities add up to one."""
    model = EmbeddingClassifier(known(("a path", "A1"), ("a cycle", "A2"), ("a tree", "A3")))
    found = model.classify(["the tree", "the path"])

    assert isinstance(model, ChatModel)
    assert [one.answer for one in found] == ["A3", "A1"]
    assert model.labels == ("A1", "A2", "A3")
    for one in found:
        assert sum(one.probabilities_C) == pytest.approx(1)
        assert max(one.probabilities_C) > 1 / 3


@pytest.mark.parametrize("count", [2, 3])
def test_classes_have_the_answer_of_their_first_question(count: int) -> None:
    """Two classes, which scikit-learn learns as one vector, and three alike."""
    answers = [
        KnownAnswer("a path", "one path", "path"),
        KnownAnswer("path path", "another path", "path"),
        KnownAnswer("a cycle", "a cycle", "cycle"),
        KnownAnswer("a tree", "a tree", "tree"),
    ]
    chosen = answers[: count + 1]
    model = EmbeddingClassifier(Known(tuple(chosen), WordEncoder()))
    answered = {one.answer for one in model.classify([answer.question for answer in chosen])}
    assert answered == {"one path", "a cycle", "a tree"} - ({"a tree"} if count == 2 else set())


def test_one_class_is_always_right() -> None:
    """There is nothing to choose from."""
    model = EmbeddingClassifier(known(("a path", "A"), ("a cycle", "A")))
    [answer] = model.reply([asked("tree")], LONG)
    assert (answer.text, answer.confidence) == ("A", 1.0)


def test_answers_say_how_sure_they_are_and_cost_no_tokens() -> None:
    """The time is the search's alone, shared out; streaming says the same."""
    ticks = iter([10.0, 14.0, 20.0, 21.0])
    model = EmbeddingClassifier(known(*SHOTS), clock=lambda: next(ticks))
    first, second = model.reply([asked("tree"), asked("path")], LONG)

    assert first == Answer("A4", seconds=2.0, confidence=first.confidence)
    assert first.confidence is not None
    assert 0.25 < first.confidence < 1
    assert second.text == "A1"
    assert "".join(model.stream(asked("tree"), LONG)) == "A4"
    assert model.reply([], LONG) == []


def test_many_classes_of_one_question_each_are_learned() -> None:
    """As many classes as questions are classes all the same, and no number to be predicted: no warning is given."""
    chance = np.random.default_rng(0)
    pairs = tuple((" ".join(chance.choice(WORDS, 6)), f"A{number}") for number in range(60))
    assert sum(EmbeddingClassifier(known(*pairs)).classify(["a path"])[0].probabilities_C) == pytest.approx(1)


def test_probabilities_are_what_comes_true() -> None:
    """Where a question says nothing of its class, the classifier is unsure; where it says all, it is sure."""
    chance = np.random.default_rng(0)
    texts = ["path " * int(chance.integers(1, 5)) + "cycle " * int(chance.integers(1, 5)) for _ in range(80)]
    noise = known(*((text, f"A{chance.integers(2)}") for text in texts))
    unsure = [max(one.probabilities_C) for one in EmbeddingClassifier(noise).classify(texts)]
    sure = known(*((f"{word} " * n, word) for word in WORDS for n in range(1, 9)))
    certain = [max(one.probabilities_C) for one in EmbeddingClassifier(sure).classify(list(WORDS))]

    assert np.mean(unsure) < 0.65
    assert min(certain) > 0.95
