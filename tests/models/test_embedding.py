"""The local encoder: unit vectors, in order, independent of their batch, trainable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tunesmith.errors import ModelError
from tunesmith.models.base import Encoder
from tunesmith.models.embedding import LocalEncoder, mean_pool

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "how", "far", "is", "the", "shortest", "path", "soup"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A BERT of two dozen numbers wide with a dozen words, as save_pretrained leaves it."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(tmp_path)
    return tmp_path


def test_vectors_have_length_one_and_keep_the_order(folder: Path) -> None:
    """Each row is its text's vector, whatever the others in the batch are."""
    encoder = LocalEncoder.load(folder, name="path:tiny")
    texts = ["the shortest path", "soup", "how far is the shortest path", "far"] * 40

    vectors = encoder.embed(texts)

    assert isinstance(encoder, Encoder)
    assert (encoder.name, vectors.shape, vectors.dtype.name) == ("path:tiny", (160, 24), "float32")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        vectors[:4], np.vstack([encoder.embed([text]) for text in texts[:4]]), atol=1e-5
    )


def test_no_texts_give_no_rows(folder: Path) -> None:
    """An empty list is an array of no rows and the encoder's width."""
    assert LocalEncoder.load(folder, name="tiny").embed([]).shape == (0, 24)


def test_text_after_the_limit_does_not_count(folder: Path) -> None:
    """`max_length` counts tokens, the two that enclose a text among them."""
    encoder = LocalEncoder.load(folder, name="tiny", max_length=4)

    cut, whole, other = encoder.embed(["the path soup soup", "the path", "soup path"])

    np.testing.assert_allclose(cut, whole, atol=1e-6)
    assert not np.allclose(cut, other, atol=1e-3)


def test_gradients_flow_and_embedding_leaves_training_as_it_was(folder: Path) -> None:
    """Training uses the vectors that searching will see; embedding in between is without dropout."""
    encoder = LocalEncoder.load(folder, name="tiny")
    encoder.model.train()

    twice = encoder.embed(["the path"]), encoder.embed(["the path"])
    torch.autograd.backward(encoder.vectors(["the path", "soup"])[0, 0])

    np.testing.assert_array_equal(*twice)
    assert encoder.model.training
    assert encoder.model.get_input_embeddings().weight.grad.abs().sum() > 0


def test_the_mean_leaves_padding_out() -> None:
    """Only tokens under the mask count."""
    hidden_B_T_D = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [100.0, 100.0]]])

    pooled_B_D = mean_pool(hidden_B_T_D, torch.tensor([[1, 1, 0]]))

    torch.testing.assert_close(pooled_B_D, torch.tensor([[0.6, 0.8]]))


def test_another_pooling_is_refused(folder: Path) -> None:
    """A folder that says its vectors are its first token's would be searched with wrong ones."""
    (folder / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes), encoding="utf-8")

    with pytest.raises(ModelError, match="pools by pooling_mode_cls_token; only the mean"):
        LocalEncoder.load(folder, name="tiny")


def test_a_folder_without_an_encoder_is_named(tmp_path: Path) -> None:
    """An empty folder is an error that shows its path."""
    with pytest.raises(ModelError, match=f"{tmp_path} holds no encoder"):
        LocalEncoder.load(tmp_path, name="tiny")
