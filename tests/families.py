"""A tiny random model and tokenizer of each family, built in code: what a hub would give, small enough to train.

Each has what sets its family apart: how it marks positions (learned, rotary, ALiBi), which blocks run in parallel,
windows of attention, scaled embeddings, capped logits, tied or biased output projections, a vocabulary that is larger
than the tokenizer's. The tokenizers are of the class that the family's own models name, with its special tokens and
chat template where it has one; the templates are shortened to what conversations of plain text use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

TEXTS: Final = (
    "system user assistant model\n\n  the shortest path is found by this function\n\n",
    "where is the node? it is near the edge. find the flow of a cycle, and count each tree in the soup!",
    "```python\nimport graphs\n\ngraphs.shortest_path(graph, source=1, target=2)\n```\n",
)
BYTES: Final = [f"<0x{byte:02X}>" for byte in range(256)]


@dataclass(frozen=True, slots=True)
class Family:
    """A family's tiny model: how its configuration and tokenizer are made, and its chat template if it has one.

    `turn` is what the template writes after the assistant's words, up to the end of turn; `ends` are the tokens that
    the generation config names beside the eos; `spare` are the rows that the vocabulary has beyond the tokenizer's.
    """

    tokenizer: Callable[[], PreTrainedTokenizerBase]
    config: Callable[..., PreTrainedConfig]
    settings: Mapping[str, Any]
    template: str | None = None
    turn: str = "{eos_token}"
    ends: tuple[str, ...] = ()
    spare: int = 0

    def write(self, folder: Path) -> Path:
        """Write model and tokenizer into a folder as save_pretrained leaves them; returns the folder."""
        tokenizer = self.tokenizer()
        tokenizer.chat_template = self.template
        tokenizer.save_pretrained(folder)
        self.model(tokenizer).save_pretrained(folder)
        return folder

    def model(self, tokenizer: PreTrainedTokenizerBase) -> Any:
        """Return the model, always the same."""
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        config = self.config(vocab_size=len(tokenizer) + self.spare, **ids, **self.settings)
        model = AutoModelForCausalLM.from_config(config)
        _spread(model)
        if self.ends:
            ends = tokenizer.convert_tokens_to_ids(list(self.ends))
            model.generation_config.eos_token_id = [tokenizer.eos_token_id, *ends]
        return model.eval()


def _spread(model: Any) -> None:
    """Give the weights sizes at which the model is sure of some token and different prompts have different answers."""
    generator = torch.Generator().manual_seed(0)
    ends = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    for name, parameter in model.named_parameters():
        if parameter in ends:
            parameter.data.normal_(std=3.0 / math.sqrt(parameter.shape[-1]), generator=generator)
        elif parameter.ndim > 1:
            parameter.data.normal_(std=2.0 / math.sqrt(parameter.shape[0]), generator=generator)
        elif "post_feedforward" in name:
            # Gemma's embeddings are scaled: what its blocks add must be as large to be heard.
            parameter.data.fill_(6.0)


# --- tokenizers: byte-level BPE, and BPE with byte fallback as SentencePiece has it


def _byte_level(
    name: str, *special: str, **named: str | bool | None
) -> Callable[[], PreTrainedTokenizerBase]:
    """Return the maker of a byte-level BPE of transformers' class `name`, as GPT-2 introduced it."""

    def make() -> PreTrainedTokenizerBase:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator(TEXTS * 3, trainer)
        if name == "PreTrainedTokenizerFast":
            tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **named)
        else:
            tokenizer = getattr(transformers, name)(**_learned(backend), **named)
        tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
        return tokenizer

    return make


def _byte_fallback(
    name: str,
    *special: str | AddedToken,
    first: tuple[str, ...] = ("<unk>", "<s>", "</s>"),
    **named: str | bool | None,
) -> Callable[[], PreTrainedTokenizerBase]:
    """Return the maker of a BPE over characters, bytes for those it never saw, of transformers' class `name`."""

    def make() -> PreTrainedTokenizerBase:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=130, show_progress=False)
        backend.train_from_iterator(TEXTS * 3, trainer)
        learned = _learned(backend)
        words = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
        vocab = {word: number for number, word in enumerate([*first, *BYTES, *words])}
        tokenizer = getattr(transformers, name)(vocab=vocab, merges=learned["merges"], **named)
        tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
        return tokenizer

    return make


def _learned(backend: Tokenizer) -> dict[str, Any]:
    """Return the vocabulary and merges that a tokenizer has learned."""
    model = json.loads(backend.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


# --- chat templates

_ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    + _ALTERNATE
    + "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}" + _ALTERNATE + "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
QWEN_2 = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}" + CHATML
)
# As of Qwen3's first models: the last answer is thought about, those before it are shown without their thoughts.
QWEN_3 = (
    "{% set ns = namespace(last=-1) %}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.index0 > ns.last and loop.last %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
SMOLLM_3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{% set mode = '/think' if enable_thinking else '/no_think' %}"
    "{% set thought = '' if enable_thinking else '<think>\n\n</think>\n' %}"
    "{{ '<|im_start|>system\nReasoning Mode: ' + mode + '\n\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'].rstrip() }}"
    "{% else %}{{ 'You are SmolLM.' }}{% endif %}{{ '<|im_end|>\n' }}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<|im_start|>user\n' + message['content'] + '<|im_end|>\n' }}{% elif message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' + thought + message['content'].lstrip('\n') + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + thought }}{% endif %}"
)
_GEMMA_TURNS = (
    "{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') + message['content'] | trim"
    " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA_2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% set first = '' %}{% for message in messages %}" + _ALTERNATE + _GEMMA_TURNS
)
GEMMA_3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}" + _ALTERNATE + _GEMMA_TURNS
)
PHI_3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
PHI_4 = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)

# --- families

_SIZE: Final[dict[str, Any]] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
_GROUPED: Final[dict[str, Any]] = {**_SIZE, "num_key_value_heads": 2}
_GPT: Final[dict[str, Any]] = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
_GEMMA: Final[dict[str, Any]] = {
    **_GROUPED,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_FALCON: Final[dict[str, Any]] = {key: _SIZE[key] for key in _SIZE if key != "intermediate_size"}

_gpt_2 = _byte_level("GPT2Tokenizer")
_neox = _byte_level("GPTNeoXTokenizer", pad_token=None)
_llama = _byte_fallback("LlamaTokenizer", add_bos_token=True)
_falcon = _byte_level("PreTrainedTokenizerFast", ">>TITLE<<", ">>INTRODUCTION<<", eos_token="<|endoftext|>")
_qwen = _byte_level("Qwen2Tokenizer", "<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>")
_smol = _byte_level(
    "GPT2Tokenizer",
    unk_token="<|endoftext|>",
    bos_token="<|im_start|>",
    eos_token="<|im_end|>",
    pad_token="<|im_end|>",
)
_gemma = _byte_fallback(
    "GemmaTokenizer",
    "<start_of_turn>",
    "<end_of_turn>",
    first=("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
    add_bos_token=True,
)
_phi_3 = _byte_fallback(
    "LlamaTokenizer",
    *(
        AddedToken(f"<|{name}|>", rstrip=True, special=True)
        for name in ("system", "user", "assistant", "end")
    ),
    eos_token="<|endoftext|>",
    pad_token="<|endoftext|>",
)
_phi_4 = _byte_level(
    "GPT2Tokenizer", "<|im_start|>", "<|im_sep|>", eos_token="<|im_end|>", pad_token="<|dummy_85|>"
)

FAMILIES: Final[dict[str, Family]] = {
    "llama-2": Family(_llama, transformers.LlamaConfig, _SIZE, LLAMA_2, turn=" {eos_token}"),
    "code-llama": Family(
        _byte_fallback("CodeLlamaTokenizer"),
        transformers.LlamaConfig,
        {**_SIZE, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        LLAMA_2,
        turn=" {eos_token}",
    ),
    "tinyllama": Family(
        _byte_fallback("LlamaTokenizer", pad_token="</s>", add_bos_token=True),
        transformers.LlamaConfig,
        _GROUPED,
        ZEPHYR,
    ),
    "smollm2": Family(_smol, transformers.LlamaConfig, {**_GROUPED, "tie_word_embeddings": True}, CHATML),
    "falcon": Family(_falcon, transformers.FalconConfig, _FALCON),
    "falcon-rw": Family(
        _byte_level("GPT2Tokenizer"),
        transformers.FalconConfig,
        {**_FALCON, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    ),
    "phi": Family(
        _byte_level("CodeGenTokenizer"),
        transformers.PhiConfig,
        {
            **_SIZE,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
        },
        spare=13,
    ),
    "pythia": Family(_neox, transformers.GPTNeoXConfig, {**_SIZE, "tie_word_embeddings": False}, spare=7),
    "mpt": Family(
        _neox, transformers.MptConfig, {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}
    ),
    "cerebras-gpt": Family(_gpt_2, transformers.GPT2Config, {**_GPT, "activation_function": "gelu"}),
    "mistral": Family(_llama, transformers.MistralConfig, {**_GROUPED, "sliding_window": 12}, MISTRAL),
    "gpt-j": Family(_gpt_2, transformers.GPTJConfig, {**_GPT, "rotary_dim": 8, "tie_word_embeddings": False}),
    "qwen2": Family(
        _qwen,
        transformers.Qwen2Config,
        {**_GROUPED, "tie_word_embeddings": True},
        QWEN_2,
        ends=("<|endoftext|>",),
        spare=11,
    ),
    "qwen3": Family(
        _qwen, transformers.Qwen3Config, {**_GROUPED, "head_dim": 32}, QWEN_3, ends=("<|endoftext|>",)
    ),
    # Capped at a third of what the family's models have, for logits that are smaller than theirs.
    "gemma-2": Family(
        _gemma,
        transformers.Gemma2Config,
        {**_GEMMA, "final_logit_softcapping": 10.0, "attn_logit_softcapping": 15.0},
        GEMMA_2,
        "<end_of_turn>",
        ("<end_of_turn>",),
    ),
    "gemma-3": Family(
        _gemma, transformers.Gemma3TextConfig, _GEMMA, GEMMA_3, "<end_of_turn>", ("<end_of_turn>",)
    ),
    "phi-3": Family(
        _phi_3,
        transformers.Phi3Config,
        {**_SIZE, "sliding_window": 40},
        PHI_3,
        "<|end|>",
        ("<|end|>",),
        spare=5,
    ),
    "phi-4": Family(_phi_4, transformers.Phi3Config, _GROUPED, PHI_4),
    "smollm3": Family(
        _smol,
        transformers.SmolLM3Config,
        {**_GROUPED, "no_rope_layer_interval": 2, "tie_word_embeddings": True},
        SMOLLM_3,
    ),
    "starcoder2": Family(
        _byte_level("GPT2Tokenizer", "<fim_prefix>"),
        transformers.Starcoder2Config,
        {**_GROUPED, "sliding_window": 24},
    ),
}
