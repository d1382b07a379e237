"""Write a model as one GGUF file: weights in llama.cpp's order, tokenizer, ends of turn and chat template.

The format is described in ggml's docs/gguf.md. Families whose graphs llama.cpp has, and whose export has been proved
here, are in `_FAMILIES`; every other one is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tunesmith.errors import ModelError
from tunesmith.exporting.merge import require_finite
from tunesmith.models.local import end_of_turn_ids, text_ids

if TYPE_CHECKING:
    import gguf
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Precision = Literal["f16", "q8_0"]


@dataclass(frozen=True, slots=True)
class _Family:
    """What llama.cpp calls a family, and whether its graph turns pairs of neighbours (a rotary of its own)."""

    name: str
    neighbours: bool


_FAMILIES: Final = {
    "LlamaForCausalLM": _Family("llama", neighbours=True),
    "MistralForCausalLM": _Family("llama", neighbours=True),
    "Qwen2ForCausalLM": _Family("qwen2", neighbours=False),
    "Qwen3ForCausalLM": _Family("qwen3", neighbours=False),
}

_ELSEWHERE: Final = (
    "Export the merged weights (--to merged), and convert them with llama.cpp's convert_hf_to_gguf.py."
)

# How a tokenizer splits text before its merges, and what GGUF calls that rule. A regular expression is taken
# as far as two rules differ in it: up to how many digits it keeps together.
_LETTERS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_RULES: Final = {
    ("bytes by words",): "gpt-2",
    ("digits", "bytes by words"): "smollm",
    (_LETTERS + r"\p{N}" + _REST, "bytes"): "qwen2",
    (_LETTERS + r"\p{N}{1,3}" + _REST, "bytes"): "llama-bpe",
}


def write_gguf(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    precision: Precision,
    *,
    name: str,
    licence: str | None,
) -> None:
    """Write a float32 model as a GGUF file in `precision`, with what a runtime needs to talk to it.

    Matrices are f16 or, where their rows are whole blocks of 32, q8_0; vectors stay float32. Raises ModelError for a
    family, an attention window, a rotary scaling or a tokenizer that is not known to come out right.
    """
    import gguf

    family = _family(model)
    writer = gguf.GGUFWriter(path, family.name)
    writer.add_name(name)
    if licence is not None:
        writer.add_license(licence)
    types = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
    writer.add_file_type(types[precision])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, model)
    _add_tokenizer(writer, tokenizer, model.config.vocab_size)
    for tensor_name, values, kind in _tensors(model, family, precision):
        writer.add_tensor(tensor_name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def round_as(model: PreTrainedModel, precision: Precision) -> None:
    """Round a model's weights to the values that they have in a GGUF file of that precision; they stay float32.

    Raises ModelError, naming the tensor, if a weight is too large for the precision.
    """
    import gguf
    import numpy as np
    import torch

    # Too large a value is an error of its own below, not numpy's warning.
    with torch.no_grad(), np.errstate(over="ignore", invalid="ignore"):
        for name, weight in model.named_parameters():
            values = weight.numpy()
            kind = _kind(values, precision)
            rounded = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
            weight.copy_(torch.from_numpy(rounded))
            require_finite(name, bool(weight.isfinite().all()), precision)


def _family(model: PreTrainedModel) -> _Family:
    name = type(model).__name__
    if name not in _FAMILIES:
        raise ModelError(
            f"models of the family {name} are not exported as GGUF; these are: {', '.join(_FAMILIES)}",
            hint=_ELSEWHERE,
        )
    family, config = _FAMILIES[name], model.config
    if getattr(config, "sliding_window", None) is not None:
        raise ModelError(
            f"this {name} attends to windows of {config.sliding_window} tokens, "
            f"which llama.cpp's graph of {family.name} does not",
            hint=_ELSEWHERE,
        )
    if config.hidden_act != "silu":
        raise ModelError(f"this {name} activates with {config.hidden_act}, not silu", hint=_ELSEWHERE)
    return family


def _add_shape(writer: gguf.GGUFWriter, model: PreTrainedModel) -> None:
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


# --- weights


def _tensors(
    model: PreTrainedModel, family: _Family, precision: Precision
) -> Iterator[tuple[str, np.ndarray[Any, Any], gguf.GGMLQuantizationType]]:
    """Yield each tensor under llama.cpp's name, as float32, with the type that it is written in."""
    import gguf

    config = model.config
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family.name)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    factors = _rotary_factors(model, family)
    if factors is not None:
        yield "rope_freqs.weight", factors, gguf.GGMLQuantizationType.F32
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(
                f"llama.cpp has no place for the tensor {name} of this {type(model).__name__}",
                hint=_ELSEWHERE,
            )
        heads = _turned_heads(name, config) if family.neighbours else None
        values = (tensor if heads is None else as_neighbours(tensor, heads)).numpy()
        yield found, values, _kind(values, precision)


def _turned_heads(name: str, config: PreTrainedConfig) -> int | None:
    """Return how many heads a query's or key's tensor has; None for what the rotary does not turn."""
    if ".self_attn.q_proj." in name:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if ".self_attn.k_proj." in name else None


def as_neighbours(weight: Tensor, heads: int) -> Tensor:
    """Return a query's or key's rows in the order in which each head's rotary pairs are neighbours.

    Transformers turns row i of a head together with row i + half, llama.cpp's llama graph row 2i with row 2i + 1.
    """
    half = weight.shape[0] // heads // 2
    paired = weight.reshape(heads, 2, half, *weight.shape[1:])
    return paired.transpose(1, 2).reshape(weight.shape).contiguous()


def _kind(values: np.ndarray[Any, Any], precision: Precision) -> gguf.GGMLQuantizationType:
    import gguf

    if values.ndim < 2:
        return gguf.GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q8_0]
    whole = values.shape[-1] % block == 0
    return gguf.GGMLQuantizationType.Q8_0 if precision == "q8_0" and whole else gguf.GGMLQuantizationType.F16


def _rotary_factors(model: PreTrainedModel, family: _Family) -> np.ndarray[Any, Any] | None:
    """Return by how much each rotary frequency is divided (linear and Llama 3's scaling), None if by nothing."""
    import torch

    kind = model.config.rope_parameters.get("rope_type", "default")
    scaled = kind in ("linear", "llama3") and family.name == "llama"
    if kind != "default" and not scaled:
        raise ModelError(f"the rotary scaling {kind!r} of {family.name} is not exported", hint=_ELSEWHERE)
    if not scaled:
        return None
    frequencies = model.get_decoder().rotary_emb.inv_freq.float()
    steps = torch.arange(len(frequencies), dtype=torch.float32) / len(frequencies)
    plain = model.config.rope_parameters["rope_theta"] ** -steps
    factors: np.ndarray[Any, Any] = (plain / frequencies).numpy()
    return factors


# --- the tokenizer


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    _require_byte_level(backend)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitting(backend))
    tokens, kinds = _vocabulary(backend, size)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = backend["model"]["merges"]
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in merges])
    _add_special(writer, tokenizer)
    writer.add_chat_template(tokenizer.chat_template)


def _require_byte_level(backend: dict[str, Any]) -> None:
    """Raise ModelError for a tokenizer that is not byte-level BPE, or that rewrites text before it splits it."""
    model, normalizer = backend["model"], backend["normalizer"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        kind = "SentencePiece's BPE" if model.get("byte_fallback") else model["type"]
        raise ModelError(f"the tokenizer is {kind}; only byte-level BPE is exported as GGUF", hint=_ELSEWHERE)
    # llama.cpp skips NFC: text that people type is composed already.
    if normalizer is not None and normalizer["type"] != "NFC":
        raise ModelError(f"the tokenizer rewrites text ({normalizer['type']})", hint=_ELSEWHERE)


def _splitting(backend: dict[str, Any]) -> str:
    """Return GGUF's name of the rule by which the tokenizer splits text before its merges."""
    spec = backend["pre_tokenizer"] or {"type": "none"}
    parts = tuple(map(_part, spec["pretokenizers"] if spec["type"] == "Sequence" else [spec]))
    if parts not in _RULES:
        raise ModelError(
            f"the tokenizer splits text by {', then '.join(parts)}: GGUF's name of this rule is not known here",
            hint=_ELSEWHERE,
        )
    return _RULES[parts]


def _part(spec: dict[str, Any]) -> str:
    match spec:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": by_words}:
            return "bytes by words" if by_words else "bytes"
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return str(pattern)
    return str(spec["type"])


def _vocabulary(backend: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Return every token's text and type by its id, up to the model's `size`: ids that no text has are unused."""
    import gguf

    kind = gguf.TokenType
    texts = [f"[PAD{number}]" for number in range(size)]
    kinds = [int(kind.UNUSED)] * size
    for text, number in backend["model"]["vocab"].items():
        texts[number], kinds[number] = text, int(kind.NORMAL)
    for added in backend["added_tokens"]:
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = int(kind.CONTROL if added["special"] else kind.USER_DEFINED)
    return texts, kinds


def _add_special(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write which tokens begin a text, end it, end a turn and pad, and whether a text gets the first by itself."""
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_add_bos_token(len(tokenizer("a")["input_ids"]) > len(text_ids(tokenizer, "a")))
    ends = end_of_turn_ids(tokenizer)
    if tokenizer.eos_token_id is not None:
        writer.add_eos_token_id(tokenizer.eos_token_id)
    for token in ends - {tokenizer.eos_token_id}:
        writer.add_eot_token_id(token)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
