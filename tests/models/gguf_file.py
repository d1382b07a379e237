"""Write a tiny Llama, or Qwen 2, as a GGUF file, as llama.cpp's converter does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2ForCausalLM

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    path: Path,
    model: LlamaForCausalLM | Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    rule: str | None = "gpt-2",
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    architecture: str = "llama",
    more: Callable[[Any], None] = lambda writer: None,
    without: str = "",
) -> None:
    """Write a model and its tokenizer; `rule` names how text is split, `kind` is what matrices are stored as.

    `more` may add to the file before it is written; the tensor called `without` is left out.
    """
    config = model.config
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, rule)
    more(writer)
    for name, tensor in _tensors(model).items():
        if name != without:
            # Blocks of Q8_0 hold 32 numbers of a row; as in llama.cpp, rows that do not come out even stay whole.
            even = kind != GGMLQuantizationType.Q8_0 or tensor.shape[-1] % 32 == 0
            stored = kind if tensor.ndim > 1 and even else GGMLQuantizationType.F32
            writer.add_tensor(name, quantize(tensor, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerFast, rule: str | None) -> None:
    known: Mapping[str, int] = tokenizer.get_vocab()
    tokens = sorted(known, key=lambda token: known[token])
    special = set(tokenizer.all_special_tokens)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    if rule is not None:
        writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def _tensors(model: LlamaForCausalLM | Qwen2ForCausalLM) -> dict[str, NDArray[np.float32]]:
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    heads = heads if model.config.model_type == "llama" else {}
    found = {}
    for name, parameter in model.named_parameters():
        place, _, kind = name.rpartition(".")
        array = parameter.detach().float().numpy()
        turned = heads.get(place.rpartition(".")[2])
        layer, _, part = place.removeprefix("model.layers.").partition(".")
        ours = _NAMES[place] if place in _NAMES else f"blk.{layer}.{_NAMES[part]}"
        found[f"{ours}.{kind}"] = array if turned is None else _interleaved(array, turned)
    return found


def _interleaved(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return Llama's rows as llama.cpp turns them: the two dimensions of a pair side by side, not half a head apart."""
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))
