"""Tiny models of several families whose words hang on every weight, and GGUF files with a fault planted in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.conftest import CHAT_TEMPLATE

from tunesmith.exporting.card import Facts
from tunesmith.exporting.export import Form, Order
from tunesmith.exporting.gguf import Precision
from tunesmith.exporting.prompts import QUESTIONS, TEXTS
from tunesmith.models.address import Place

LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# An end of turn whose name no engine knows by heart.
END = "<|over|>"
TEMPLATE = CHAT_TEMPLATE.replace("<|im_end|>", END)

BASIC: Mapping[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    # Large, so that a model of random weights is sure of what it says, and each weight counts.
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


class NewFolder(Protocol):
    """Writes the folder of a tiny model."""

    def __call__(self, family: str = "Llama", *, rule: str = "gpt-2", **config: Any) -> Path:
        """Return a folder with a model of a family, as transformers names it, and a tokenizer of a splitting rule."""
        ...


@pytest.fixture
def new_folder(tmp_path: Path) -> NewFolder:
    """Return the maker of tiny models."""

    def make(family: str = "Llama", *, rule: str = "gpt-2", **config: Any) -> Path:
        import torch
        import transformers

        torch.set_num_threads(1)
        folder = tmp_path / family.lower()
        tokenizer = _tokenizer(rule)
        tokenizer.save_pretrained(folder)
        # Ids that no text has: models are often wider than their tokenizers.
        values = {**BASIC, "vocab_size": len(tokenizer) + 3, **config}
        torch.manual_seed(0)
        model = getattr(transformers, f"{family}ForCausalLM")(
            getattr(transformers, f"{family}Config")(**values)
        )
        with torch.no_grad():
            for weight in model.parameters():
                # Biases and norms begin as zeros and ones, by which a mistake in them would not show.
                if weight.ndim == 1:
                    weight.add_(0.2 * torch.randn(weight.shape))
        model.save_pretrained(folder)
        return folder

    return make


def _tokenizer(rule: str) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, trainers
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split
    from transformers import PreTrainedTokenizerFast

    words = ByteLevel(add_prefix_space=False, use_regex=True)
    plain = ByteLevel(add_prefix_space=False, use_regex=False)
    splitting: dict[str, Any] = {
        "gpt-2": words,
        "smollm": Sequence([Digits(individual_digits=True), words]),
        "qwen2": Sequence([Split(Regex(LETTERS + r"\p{N}" + REST), "isolated"), plain]),
        "llama-bpe": Sequence([Split(Regex(LETTERS + r"\p{N}{1,3}" + REST), "isolated"), plain]),
        "whole": plain,
    }
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = splitting[rule]
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|pad|>", "<|im_start|>", END],
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    # Numbers and line breaks in a row, so that there are tokens by which rules of splitting differ.
    core.train_from_iterator([*TEXTS * 3, *QUESTIONS, "1 12 123 1234 12345 123456 \n\n\n \n " * 9], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|im_start|>", eos_token=END, pad_token="<|pad|>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write_adapter(base: Path, out: Path) -> Path:
    """Write an adapter for the model in a folder, in PEFT's format, and return its folder."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    out.mkdir()
    state = {}
    for layer, columns in (("self_attn.q_proj", 64), ("mlp.down_proj", 96)):
        for block in range(2):
            name = f"base_model.model.model.layers.{block}.{layer}"
            state[f"{name}.lora_A.weight"] = torch.randn(4, columns) * 0.2
            state[f"{name}.lora_B.weight"] = torch.randn(64, 4) * 0.2
    save_file(state, out / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none"}
    config |= {"target_modules": ["q_proj", "down_proj"], "base_model_name_or_path": str(base)}
    (out / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return out


def order(folder: Path, form: Form, precision: Precision | None = None, **more: Any) -> Order:
    """Return the order to export what is in a folder."""
    facts = Facts("tiny", "org/tiny", licence="Apache-2.0")
    return Order(more.pop("place", Place(folder)), facts, form, precision, **more)


@dataclass(frozen=True)
class Fault:
    """What is wrong in a GGUF file: keys with other values, tensors with other numbers."""

    keys: Mapping[str, Any]
    change: Callable[[str, Any], Any] = lambda name, values: values


def plant(path: Path, fault: Fault, out: Path) -> Path:
    """Write a copy of a GGUF file that has a fault, and return its path."""
    import gguf

    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        value = fault.keys.get(name, field.contents())
        if value is not None:
            writer.add_key_value(name, value, kind, inner)
    for tensor in reader.tensors:
        values = fault.change(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        writer.add_tensor(
            tensor.name, gguf.quants.quantize(values, tensor.tensor_type), raw_dtype=tensor.tensor_type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out
