"""Merged weights: summed in float32, rounded once, loaded by transformers as any model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tests.exporting.conftest import END, NewFolder, order, write_adapter

from tunesmith.errors import ModelError
from tunesmith.exporting.export import export
from tunesmith.exporting.merge import load_whole, round_weights, stored_dtype
from tunesmith.models.address import Place
from tunesmith.models.local import load_tokenizer


def _stored_as(folder: Path, dtype: torch.dtype) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).save_pretrained(folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_merged_weights_are_the_rounded_sum(
    new_folder: NewFolder, tmp_path: Path, dtype: torch.dtype
) -> None:
    """The files hold base plus update in the base's own type, proved in transformers; the config says the type."""
    folder = new_folder(tie_word_embeddings=True)
    _stored_as(folder, dtype)
    place = Place(folder, write_adapter(folder, tmp_path / "adapter"))
    made = export(order(folder, "merged", place=place), tmp_path / "out")
    expected = load_whole(place).get_submodule("model.layers.0.self_attn.q_proj").weight
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        found = file.get_tensor("model.layers.0.self_attn.q_proj.weight")
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 - safetensors' file is no mapping
    assert torch.equal(found, expected.to(dtype))
    assert stored_dtype(tmp_path / "out") == dtype
    assert made.parity is not None
    assert made.parity.found.largest < 1e-3
    assert made.parity.precision == str(dtype).removeprefix("torch.")


def test_transformers_stops_where_the_template_ends_a_turn(new_folder: NewFolder, tmp_path: Path) -> None:
    """The generation config names the end of a turn, though the base's named another token."""
    folder = new_folder()
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 0}), encoding="utf-8")
    export(order(folder, "merged"), tmp_path / "out")
    written = json.loads(tmp_path.joinpath("out", "generation_config.json").read_text(encoding="utf-8"))
    assert written["eos_token_id"] == [load_tokenizer(folder).convert_tokens_to_ids(END)]


def test_quantised_weights_are_never_merged_into(new_folder: NewFolder, tmp_path: Path) -> None:
    """A base in 4 bits is refused by its method's name, with the way out."""
    folder = new_folder()
    config = json.loads(folder.joinpath("config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    folder.joinpath("config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"are quantised \(bitsandbytes\): nothing is merged") as refused:
        export(order(folder, "merged"), tmp_path / "out")
    assert "bf16 or fp32" in str(refused.value.hint)


def test_an_odd_type_is_refused(new_folder: NewFolder) -> None:
    """A type in which weights are not written is named."""
    folder = new_folder()
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "float8_e4m3fn"}), encoding="utf-8")
    with pytest.raises(ModelError, match="are of type float8_e4m3fn: only float32, bfloat16, float16"):
        stored_dtype(folder)


def test_rounding_names_a_weight_that_does_not_fit(new_folder: NewFolder) -> None:
    """A weight beyond what float16 holds is an error, not an infinity in a file."""
    model = load_whole(Place(new_folder()))
    with torch.no_grad():
        model.get_submodule("model.norm").weight[3] = 7e4
    with pytest.raises(ModelError, match=r"tensor model\.norm\.weight has values that float16 cannot hold"):
        round_weights(model, torch.float16)
