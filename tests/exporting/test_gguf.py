"""GGUF files: every family that is exported says in llama.cpp what it says here; others are refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.exporting.conftest import NewFolder, order

from tunesmith.errors import ModelError
from tunesmith.exporting.export import export
from tunesmith.exporting.gguf import Precision, as_neighbours, round_as
from tunesmith.exporting.merge import load_whole
from tunesmith.models.address import Place

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("Llama", {}),
        ("Llama", {"tie_word_embeddings": True, "head_dim": 32}),
        ("Llama", {"rope_parameters": LLAMA3}),
        ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}}),
        ("Mistral", {"sliding_window": None}),
        ("Qwen2", {"rule": "qwen2"}),
        ("Qwen3", {"rule": "qwen2", "head_dim": 32}),
    ],
    ids=["llama", "tied", "llama3", "linear", "mistral", "qwen2", "qwen3"],
)
def test_llama_cpp_says_what_the_model_says(
    new_folder: NewFolder, tmp_path: Path, family: str, config: dict[str, Any], precision: Precision
) -> None:
    """Each family, with the rotary scalings it may have, is loaded by llama.cpp and proved on 32 prompts."""
    made = export(order(new_folder(family, **config), "gguf", precision), tmp_path / "out")
    assert sorted(made.files) == ["README.md", "model.gguf"]
    assert made.parity is not None
    assert made.parity.prompts == 32
    assert made.parity.found.typical <= made.parity.allowed.typical < {"f16": 0.1, "q8_0": 2.0}[precision]


@pytest.mark.parametrize("rule", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_each_splitting_rule_is_named(new_folder: NewFolder, tmp_path: Path, rule: str) -> None:
    """The file names the rule, and llama.cpp reads numbers, line breaks and other scripts by it as we do."""
    import gguf

    export(order(new_folder(rule=rule), "gguf"), tmp_path / "out")
    fields = gguf.GGUFReader(tmp_path / "out" / "model.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == rule


def test_the_file_holds_the_reference_weights(new_folder: NewFolder, tmp_path: Path) -> None:
    """What is in the file, dequantised, is bit for bit what `round_as` leaves in the model."""
    import gguf

    folder = new_folder("Qwen2", rule="qwen2")
    export(order(folder, "gguf", "q8_0", proved=False), tmp_path / "out")
    model = load_whole(Place(folder))
    round_as(model, "q8_0")
    found = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors
    }
    for theirs, ours in (("blk.1.ffn_down", "model.layers.1.mlp.down_proj"), ("output", "lm_head")):
        assert torch.equal(
            torch.from_numpy(found[f"{theirs}.weight"]), model.get_submodule(ours).weight.detach()
        )


def test_rotary_pairs_become_neighbours() -> None:
    """Row i and row i + half of a head stand side by side, in every head, for weights and biases."""
    assert as_neighbours(torch.arange(8), 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert as_neighbours(torch.arange(8)[:, None], 1).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


@pytest.mark.parametrize(
    ("family", "config", "why"),
    [
        ("GPTNeoX", {}, "models of the family GPTNeoXForCausalLM are not exported as GGUF"),
        ("Mistral", {"sliding_window": 128}, "attends to windows of 128 tokens"),
        ("Llama", {"hidden_act": "gelu"}, "activates with gelu, not silu"),
        ("Llama", {"rule": "whole"}, "splits text by bytes: GGUF's name of this rule is not known here"),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 4.0}},
            "the rotary scaling 'dynamic' of llama is not exported",
        ),
    ],
    ids=["family", "window", "activation", "splitting", "scaling"],
)
def test_what_would_come_out_wrong_is_refused(
    new_folder: NewFolder, tmp_path: Path, family: str, config: dict[str, Any], why: str
) -> None:
    """A model that llama.cpp's graph or tokenizer would distort is named before anything is kept, with a way out."""
    with pytest.raises(ModelError, match=why) as refused:
        export(order(new_folder(family, **config), "gguf"), tmp_path / "out")
    assert "--to merged" in str(refused.value.hint)
    assert not (tmp_path / "out").exists()


def test_values_too_large_for_halves_are_refused(new_folder: NewFolder) -> None:
    """A weight that f16 cannot hold is named by its tensor; it would be infinite in the file."""
    model = load_whole(Place(new_folder()))
    with torch.no_grad():
        model.get_submodule("model.layers.0.mlp.up_proj").weight[0, 0] = 1e5
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.up_proj\.weight has values that f16 cannot hold"):
        round_as(model, "f16")
