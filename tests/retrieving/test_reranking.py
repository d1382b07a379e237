"""Reranking: the order of relevance, by a language model's likelihood of the question or by a cross-encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tunesmith.errors import AddressError, ModelError
from tunesmith.models.address import load_cross_encoder
from tunesmith.models.base import Retriever
from tunesmith.models.likelihood import Likelihood
from tunesmith.records import Message, Passage
from tunesmith.retrieving.reranking import QuestionLikelihood, Reranking

PASSAGES = tuple(Passage(name, f"text {name}", 1.0 - place / 10) for place, name in enumerate("abcd"))


class ListRetriever:
    """A Retriever that always finds the same passages and keeps how many it was asked for."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return the first `count` passages for each question."""
        self.counts.append(count)
        return [PASSAGES[:count] for _ in questions]


class Table:
    """A Relevance from a table of passages' texts; others have 0."""

    def __init__(self, table: dict[tuple[str, str], float]) -> None:
        self.table = table
        self.calls = 0

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the table's scores."""
        self.calls += 1
        return [self.table.get(pair, 0.0) for pair in pairs]


def test_passages_come_in_the_order_of_relevance() -> None:
    """Each question has its own; the score is the relevance; of equals the first stays first; one call for all."""
    inner, table = ListRetriever(), Table({("q1", "text c"): 2.0, ("q2", "text b"): -1.0})
    model = Reranking(inner, table, depth=3)
    first, second = model.search(["q1", "q2"], 2)

    assert isinstance(model, Retriever)
    assert first == (Passage("c", "text c", 2.0), Passage("a", "text a", 0.0))
    assert [one.id for one in second] == ["a", "c"]
    assert (inner.counts, table.calls) == ([3], 1)
    assert model.search([], 2) == []


def test_what_a_passage_is_does_not_change() -> None:
    """A piece of a document stays one."""

    class Texts(ListRetriever):
        def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
            return [(Passage("d:0", "a piece", 1.0, "text"),) for _ in questions]

    [found] = Reranking(Texts(), Table({("q", "a piece"): 3.0}), depth=2).search(["q"], 1)
    assert found == (Passage("d:0", "a piece", 3.0, "text"),)


def test_as_many_are_looked_at_as_are_asked_for() -> None:
    """More than the depth are all put into order."""
    inner = ListRetriever()
    assert len(Reranking(inner, Table({}), depth=2).search(["q"], 4)[0]) == 4
    assert inner.counts == [4]


def test_a_language_model_says_how_likely_a_question_is(chat_folder: Path) -> None:
    """The score is the mean log probability of the question's tokens after a prompt with the passage."""
    likelihood = Likelihood.load(f"path:{chat_folder}")
    pairs = [("the path", "is found"), ("the path", "a function"), ("shortest", "is found")]
    scores = QuestionLikelihood(likelihood).scores(pairs)

    prompts = [(Message("user", f"Write a question that this answers:\n\n{text}"),) for _, text in pairs]
    assert scores == likelihood.means(prompts, ["the path", "the path", "shortest"])
    assert len(set(scores)) == 3
    assert all(score < 0 for score in scores)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory, toolbox_folder: Path) -> Callable[[int], Path]:
    """Return what writes a tiny random cross-encoder with so many outputs, and tells its folder."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    def write(outputs: int) -> Path:
        folder = tmp_path_factory.mktemp("cross")
        tokenizer = AutoTokenizer.from_pretrained(toolbox_folder / "models" / "encoder")
        tokenizer.save_pretrained(folder)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
            pad_token_id=0,
            num_labels=outputs,
        )
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)
        return folder

    return write


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_cross_encoder_reads_both(outputs: int, cross_encoder: Callable[[int], Path]) -> None:
    """Scores depend on question and passage, not on who else is asked; a long text is cut, not refused."""
    model = load_cross_encoder(f"path:{cross_encoder(outputs)}")
    pairs = [
        ("keep a number", "clamp"),
        ("keep a number", "slugify it"),
        ("round", "clamp " * 200),
        ("round " * 200, "clamp"),
    ]
    scores = model.scores(pairs)

    assert len(set(scores)) == 4
    assert [model.scores([pair])[0] for pair in pairs] == pytest.approx(scores, abs=1e-5)
    assert model.scores([]) == []
    inputs = model._tokenizer([pairs[0][0]], [pairs[0][1]], return_tensors="pt")
    with torch.inference_mode():
        logits = model._model(**inputs).logits[0]
    wanted = logits[0] if outputs == 1 else logits[1] - logits[0]
    assert scores[0] == pytest.approx(float(wanted), abs=1e-5)


def test_other_models_are_no_cross_encoders(
    cross_encoder: Callable[[int], Path], toolbox_folder: Path
) -> None:
    """Three classes, an encoder without a head, and a bundled model are refused, with the way out."""
    with pytest.raises(ModelError, match="tells 3 classes apart"):
        load_cross_encoder(f"path:{cross_encoder(3)}")
    with pytest.raises(ModelError, match="is no cross-encoder but BertModel"):
        load_cross_encoder(f"path:{toolbox_folder / 'models' / 'encoder'}")
    with pytest.raises(AddressError, match="cannot rerank"):
        load_cross_encoder("minilm")
