"""LitGPT checkpoints, written by LitGPT itself (litgpt/make.py): the same logits, and nothing but tensors read."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tunesmith.errors import ModelError
from tunesmith.models.address import load_chat, model_folder
from tunesmith.models.base import Sampling
from tunesmith.models.litgpt import convert_litgpt
from tunesmith.records import Message

GIVEN = Path(__file__).parent / "litgpt"
Checkpoint = Callable[[str], Path]


@pytest.fixture
def checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat_tokenizer: PreTrainedTokenizerFast
) -> Checkpoint:
    """Return what copies one of the checkpoints, with a tokenizer in it, to where it may be changed."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    def copy(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(GIVEN / name, folder)
        chat_tokenizer.save_pretrained(folder)
        return folder

    return copy


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("llama", "LlamaForCausalLM"),
        ("qwen2", "Qwen2ForCausalLM"),
        ("qwen3", "Qwen3ForCausalLM"),
        ("pythia", "GPTNeoXForCausalLM"),
        ("neox", "GPTNeoXForCausalLM"),
    ],
)
def test_a_checkpoint_says_what_it_said_in_litgpt(checkpoint: Checkpoint, name: str, family: str) -> None:
    """Each family's converted model gives LitGPT's own logits."""
    expected = load_file(GIVEN / name / "expected.safetensors")

    model = AutoModelForCausalLM.from_pretrained(
        model_folder(f"path:{checkpoint(name)}"), dtype=torch.float32
    )
    with torch.no_grad():
        logits_B_T_V = model(expected["tokens"]).logits

    assert type(model).__name__ == family
    torch.testing.assert_close(logits_B_T_V, expected["logits"], atol=1e-5, rtol=1e-5)


def test_a_checkpoint_is_converted_once_for_its_content(checkpoint: Checkpoint) -> None:
    """The second time nothing is said; other weights or another template give another folder."""
    place = checkpoint("llama")
    said: list[str] = []
    first = model_folder(f"path:{place}", say=said.append)
    again = model_folder(f"path:{place}", say=said.append)
    (place / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    changed = model_folder(f"path:{place}", say=said.append)

    assert first == again != changed
    assert said == [f"Converting the LitGPT checkpoint in {place} once."] * 2


def test_a_checkpoint_with_its_tokenizer_answers(checkpoint: Checkpoint) -> None:
    """A converted checkpoint is a chat model, and its settings know the tokenizer's end."""
    place = checkpoint("llama")
    widened = torch.load(place / "lit_model.pth")
    for name in ("transformer.wte.weight", "lm_head.weight"):
        widened[name] = widened[name][torch.arange(300) % 32]
    torch.save(widened, place / "lit_model.pth")
    change(place, padded_vocab_size=300)

    [answer] = load_chat(f"path:{place}").reply([(Message("user", "hi"),)], Sampling(max_tokens=3))

    assert answer.completion_tokens > 0
    assert AutoModelForCausalLM.from_pretrained(model_folder(f"path:{place}")).config.eos_token_id == 1


def test_shared_weights_are_written_once(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Where output and input are the same matrix, the folder holds it once and says so."""
    place = checkpoint("llama")
    state = torch.load(place / "lit_model.pth")
    torch.save(state | {"lm_head.weight": state["transformer.wte.weight"].clone()}, place / "lit_model.pth")
    (tmp_path / "out").mkdir()

    convert_litgpt(place, tmp_path / "out")

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(model.lm_head.weight, state["transformer.wte.weight"])


class Harm:
    """What a pickle can do when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("harm"),)


def test_a_pickle_with_more_than_tensors_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code in a checkpoint does not run, and the file is refused."""
    monkeypatch.chdir(tmp_path)
    place = checkpoint("llama")
    torch.save({"model": Harm()}, place / "lit_model.pth")

    with pytest.raises(ModelError, match=r"lit_model\.pth cannot be read as tensors alone"):
        model_folder(f"path:{place}")
    assert not Path("harm").exists()
    assert pickle.dumps(Harm())


def change(place: Path, **settings: object) -> None:
    """Change what a checkpoint's settings say."""
    path = place / "model_config.yaml"
    known = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.dump(known | settings), encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mlp_class_name": "LLaMAMoE"}, "mlp_class_name = 'LLaMAMoE'"),
        ({"sliding_window_size": 4096}, "sliding_window_size = 4096"),
        ({"parallel_residual": True}, "parallel_residual = True"),
        (
            {"rope_adjustments": {"factor": 4.0, "beta_fast": 32, "beta_slow": 1}},
            "rope_adjustments.*beta_fast",
        ),
        ({"new_in_litgpt": 3}, "new_in_litgpt = 3"),
    ],
)
def test_other_families_are_refused(checkpoint: Checkpoint, settings: dict[str, object], words: str) -> None:
    """What would change the model and cannot be carried over is named, known or not."""
    place = checkpoint("llama")
    change(place, **settings)

    with pytest.raises(ModelError, match=f"of a family that cannot be carried over: {words}"):
        model_folder(f"path:{place}")


def test_weights_that_do_not_fit_are_refused(checkpoint: Checkpoint) -> None:
    """Settings of another size, a tensor too many, LoRA's own and missing settings are each named."""
    harms: dict[str, Callable[[Path], object]] = {
        "llama": lambda place: change(place, intermediate_size=48),
        "qwen2": lambda place: add(place, "transformer.h.0.attn.sinks.weight"),
        "qwen3": lambda place: add(place, "transformer.h.0.attn.qkv.lora_A"),
        "neox": lambda place: (place / "model_config.yaml").write_text("name: x", encoding="utf-8"),
    }
    said = []
    for name, harm in harms.items():
        place = checkpoint(name)
        harm(place)
        with pytest.raises(ModelError) as caught:
            model_folder(f"path:{place}")
        said.append(caught.value.message.replace(str(place), name))

    assert said == [
        "the LitGPT checkpoint in llama does not fit its model_config.yaml: model.layers.0.mlp.down_proj.weight "
        "should have the shape (16, 48) and has (16, 24)",
        "the LitGPT checkpoint in qwen2 is of a family that cannot be carried over: "
        "a tensor is called transformer.h.0.attn.sinks.weight",
        "qwen3/lit_model.pth holds LoRA weights that are not merged.",
        "neox/model_config.yaml does not say n_head, n_embd, n_layer, block_size, padded_vocab_size, "
        "norm_eps, mlp_class_name.",
    ]


def add(place: Path, name: str) -> None:
    """Add a tensor to a checkpoint."""
    state = torch.load(place / "lit_model.pth")
    torch.save(state | {name: torch.zeros(1)}, place / "lit_model.pth")


def test_a_checkpoint_without_a_tokenizer_is_refused(checkpoint: Checkpoint) -> None:
    """The tokenizer's files belong to the checkpoint."""
    place = checkpoint("llama")
    for path in place.glob("tokenizer*"):
        path.unlink()

    with pytest.raises(ModelError, match=r"has no tokenizer .*\n.* Put tokenizer\.json and|has no tokenizer"):
        model_folder(f"path:{place}")
