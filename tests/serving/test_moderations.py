"""Moderations over the wire, with a tiny classifier that has learned four texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tunesmith.serving.moderations import CATEGORIES, categories_of
from tunesmith.serving.options import Options

from .running import serving

TEXTS = {"i will hit you": [1.0, 0.0], "i hate them": [0.0, 1.0], "find the node": [0.0, 0.0]}


def write_classifier(folder: Path, labels: list[str], **settings: Any) -> str:
    """Write a classifier that knows the texts; returns its address."""
    import torch
    from tests.conftest import write_encoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    write_encoder(folder, list(TEXTS))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = dict(enumerate(labels))
    config = BertConfig.from_pretrained(folder, id2label=names, **settings)
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    inputs = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    wanted = torch.tensor([row[: len(labels)] for row in TEXTS.values()])
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.eval()
    for _ in range(60):
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    return f"path:{folder}"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Iterator[OpenAI]:
    """A client of a server with a classifier, one of unknown labels, and a chat model."""
    folder = tmp_path_factory.mktemp("classifiers")
    many: Any = {"problem_type": "multi_label_classification"}
    models = {
        "omni-moderation-latest": write_classifier(folder / "known", ["violence", "hate"], **many),
        "strange": write_classifier(folder / "strange", ["cats", "dogs"], **many),
        "tiny": tiny,
    }
    with serving(folder / "home", Options(models=models)) as running:
        yield OpenAI(
            base_url=running.url, api_key="any", max_retries=0, timeout=60, _strict_response_validation=True
        )


def test_harmful_texts_are_flagged_by_their_category(client: OpenAI) -> None:
    told = client.moderations.create(input=list(TEXTS))
    assert told.model == "omni-moderation-latest"
    assert [result.flagged for result in told.results] == [True, True, False]
    first, second, _ = told.results
    assert (first.categories.violence, first.categories.hate) == (True, False)
    assert (second.categories.violence, second.categories.hate) == (False, True)
    assert first.category_scores.violence > 0.5 > first.category_scores.hate
    # What the classifier has no label for was not judged, and says so.
    assert first.category_applied_input_types.violence == ["text"]
    assert first.category_applied_input_types.sexual == []


def test_one_text_parts_and_long_texts_are_read_whole(client: OpenAI) -> None:
    [alone] = client.moderations.create(input="i will hit you").results
    assert alone.categories.violence
    given: Any = [{"type": "text", "text": "i will hit you"}]
    [parts] = client.moderations.create(input=given).results
    assert parts == alone
    # The window that holds the threat decides, however much stands before it.
    long = "find the node " * 400 + "i will hit you " * 60
    [found] = client.moderations.create(input=long).results
    assert found.categories.violence


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"model": "other"}, openai.NotFoundError, "--model other=ADDRESS"),
        ({"model": "strange"}, openai.BadRequestError, "none of the categories"),
        ({"model": "tiny"}, openai.BadRequestError, "no text classifier but LlamaForCausalLM"),
        ({"input": [{"type": "image_url", "image_url": {"url": "x"}}]}, openai.BadRequestError, "send text"),
        ({"input": []}, openai.BadRequestError, "input"),
    ],
)
def test_what_cannot_be_judged_is_refused(client: OpenAI, given: Any, kind: Any, said: str) -> None:
    with pytest.raises(kind, match=said):
        client.moderations.create(**{"input": "x"} | given)


def test_labels_of_known_classifiers_are_understood() -> None:
    assert categories_of(list(CATEGORIES)) == list(CATEGORIES)
    assert categories_of(["self_harm/intent", "sexual_minors", "OK", "identity_hate", "S3", "LABEL_0"]) == [
        "self-harm/intent", "sexual/minors", None, "hate", "sexual/minors", None,
    ]  # fmt: skip


def test_labels_that_exclude_each_other_share_one_probability(tmp_path: Path) -> None:
    from tunesmith.models.address import load_classifier

    classifier = load_classifier(write_classifier(tmp_path / "one", ["violence", "OK"]))
    scores = classifier.scores(["i will hit you", "find the node"])
    assert scores.sum(-1) == pytest.approx([1, 1])
    assert classifier.scores([]).shape == (0, 2)
