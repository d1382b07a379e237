"""Make a model folder of a LitGPT checkpoint, once, without running what a pickle could hold.

LitGPT's names (litgpt/scripts/convert_lit_checkpoint.py) become those of transformers. It keeps queries, keys and
values in one matrix, all queries first; Llama's relatives have three, GPT-NeoX one that goes head by head.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.errors import ModelError
from tunesmith.models.digest import file_digest
from tunesmith.models.quiet import quiet
from tunesmith.models.shelf import Say, cache_dir, shelve, silent

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

# Raise it when conversion changes what it writes: checkpoints converted the old way are then converted again.
_RECIPE = 1
_WEIGHTS = "lit_model.pth"
_CONFIG = "model_config.yaml"
_TOKENIZER: Final = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
_LAYER = re.compile(r"transformer\.h\.(?P<layer>\d+)\.(?P<part>.+)\.(?P<kind>weight|bias)")
# Settings that are carried over, or that say nothing about the model's arithmetic.
_CARRIED: Final = frozenset(
    {
        *("name", "hf_config", "block_size", "vocab_size", "padding_multiple", "padded_vocab_size"),
        *(
            "n_layer",
            "n_embd",
            "n_head",
            "n_query_groups",
            "head_size",
            "intermediate_size",
            "mlp_class_name",
        ),
        *("norm_eps", "attn_bias", "norm_qk", "parallel_residual", "gelu_approximate"),
        *("rope_base", "rope_condense_ratio", "rope_adjustments", "rotary_percentage"),
    }
)
# What settings that are not carried over may say: the values that change nothing. Mixtures of experts are refused by
# their number, and windows by their size; the rest about them is then without effect.
_ONLY: Final[Mapping[str, tuple[Any, ...]]] = {
    "n_expert": (0,),
    "n_expert_per_token": (0,),
    "norm_1": (True,),
    "norm_2": (True,),
    "norm_qk_type": ("default",),
    "routed_scaling_factor": (1.0,),
}
_UNSET = (None, False)
_STRETCHES = (
    frozenset[str](),
    frozenset({"factor"}),
    frozenset({"factor", "low_freq_factor", "high_freq_factor", "original_max_seq_len"}),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What model_config.yaml says of a model, with what LitGPT fills in."""

    settings: Mapping[str, Any]

    @property
    def heads(self) -> int:
        """Heads of queries."""
        return int(self.settings["n_head"])

    @property
    def groups(self) -> int:
        """Heads of keys and values."""
        return int(self.settings.get("n_query_groups") or self.heads)

    @property
    def head_size(self) -> int:
        """Dimensions of a head."""
        return int(self.settings.get("head_size") or self.settings["n_embd"] // self.heads)


@dataclass(frozen=True, slots=True)
class _Family:
    """How one family's checkpoints are carried over: its settings' values, its names, and its queries' matrix."""

    only: Mapping[str, tuple[Any, ...]]
    names: Mapping[str, str]
    parts: Mapping[str, str]
    split: Callable[[Shape, str, str, Tensor], Iterator[tuple[str, Tensor]]]
    config: Callable[[Shape, dict[str, Any]], PreTrainedConfig]


def is_litgpt(folder: Path) -> bool:
    """Tell whether a folder is a LitGPT checkpoint."""
    return (folder / _WEIGHTS).is_file() and (folder / _CONFIG).is_file()


def litgpt_folder(folder: Path, *, say: Say = silent) -> Path:
    """Return the model folder made of a LitGPT checkpoint, in the cache under the digest of its content.

    Raises ModelError for a model of another family than Llama's and GPT-NeoX's, and for a pickle with more than
    tensors.
    """
    inputs = [folder / name for name in (_WEIGHTS, _CONFIG, *_TOKENIZER) if (folder / name).is_file()]
    content = "\n".join(f"{path.name} {file_digest(path)}" for path in inputs)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]

    def make(work: Path) -> Path:
        say(f"Converting the LitGPT checkpoint in {folder} once.")
        ready = work / "ready"
        ready.mkdir()
        convert_litgpt(folder, ready)
        return ready

    place = cache_dir() / "litgpt" / f"{folder.resolve().name}-{digest}-{_RECIPE}"
    return shelve(place, make, name=str(folder), say=say)


def convert_litgpt(folder: Path, into: Path) -> None:
    """Write a LitGPT checkpoint as transformers reads it: config.json, model.safetensors, the tokenizer's files."""
    from safetensors.torch import save_file

    shape = _read_shape(folder)
    family = _family(folder, shape)
    state = dict(_renamed(folder, family, shape, _read_weights(folder)))
    config = family.config(shape, _tied(state))
    _check_complete(folder, config, state)
    for name in _TOKENIZER:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, into / name)
    with quiet():
        _set_ends(config, into)
        config.save_pretrained(into)
    save_file(state, into / "model.safetensors", metadata={"format": "pt"})


def _read_shape(folder: Path) -> Shape:
    import yaml

    try:
        settings = yaml.safe_load((folder / _CONFIG).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ModelError(f"{folder / _CONFIG} cannot be read: {error}") from error
    needed = ("n_head", "n_embd", "n_layer", "block_size", "padded_vocab_size", "norm_eps", "mlp_class_name")
    missing = [key for key in needed if not isinstance(settings, dict) or key not in settings]
    if missing:
        raise ModelError(
            f"{folder / _CONFIG} does not say {', '.join(missing)}.",
            hint="Use the model_config.yaml that LitGPT wrote beside the weights.",
        )
    return Shape(settings)


def _family(folder: Path, shape: Shape) -> _Family:
    """Return the family that a model belongs to; raises ModelError, naming what does not fit, for another one."""
    kind = shape.settings["mlp_class_name"]
    family = _FAMILIES.get(kind)
    if family is None:
        raise _not_carried(folder, f"mlp_class_name = {kind!r}")
    only = {**_ONLY, **family.only}
    for key, value in {**dict.fromkeys(family.only), **shape.settings}.items():
        if value not in only.get(key, _UNSET) and not (key in _CARRIED and key not in only):
            raise _not_carried(folder, f"{key} = {value!r}")
    adjusted = shape.settings.get("rope_adjustments") or {}
    stretched_twice = len(adjusted) > 1 and shape.settings.get("rope_condense_ratio", 1) != 1
    if frozenset(adjusted) not in _STRETCHES or stretched_twice:
        raise _not_carried(folder, f"rope_adjustments = {adjusted!r}")
    return family


def _not_carried(folder: Path, what: str) -> ModelError:
    return ModelError(
        f"the LitGPT checkpoint in {folder} is of a family that cannot be carried over: {what}",
        hint="Convert it with `litgpt convert_from_litgpt`, save it as safetensors, and name that folder.",
    )


def _read_weights(folder: Path) -> Mapping[str, Tensor]:
    """Return a checkpoint's tensors by LitGPT's names; nothing else in the pickle is made, so no code of it runs."""
    import torch

    try:
        loaded = torch.load(folder / _WEIGHTS, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        words = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{folder / _WEIGHTS} cannot be read as tensors alone: {words}",
            hint="A file that holds more than tensors is refused, for it can run code; one cut short is to be "
            "copied anew.",
        ) from error
    state = loaded.get("model", loaded)
    if any("lora_" in name for name in state):
        raise ModelError(
            f"{folder / _WEIGHTS} holds LoRA weights that are not merged.",
            hint="Merge them: `litgpt merge_lora` and the folder.",
        )
    return dict(state)


def _renamed(
    folder: Path, family: _Family, shape: Shape, state: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Yield a checkpoint's tensors by transformers' names."""
    for name, tensor in state.items():
        layer = _LAYER.fullmatch(name)
        if name in family.names:
            yield family.names[name], tensor
        elif layer and layer["part"] == "attn.qkv":
            yield from family.split(shape, layer["layer"], layer["kind"], tensor)
        elif layer and layer["part"] in family.parts:
            yield f"{family.parts[layer['part']].format(layer['layer'])}.{layer['kind']}", tensor
        else:
            raise _not_carried(folder, f"a tensor is called {name}")


def _tied(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return whether output and input share their weights; LitGPT writes both, and the copy is dropped."""
    import torch

    starts = [name for name in state if name.endswith(("embed_tokens.weight", "embed_in.weight"))]
    end = state.get("lm_head.weight")
    tied = bool(starts) and end is not None and torch.equal(end, state[starts[0]])
    if tied:
        del state["lm_head.weight"]
    return {"tie_word_embeddings": tied}


def _check_complete(folder: Path, config: PreTrainedConfig, state: Mapping[str, Tensor]) -> None:
    """Raise ModelError unless each weight of the model is there in its shape, and nothing else."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    odd = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if odd:
        raise ModelError(
            f"the LitGPT checkpoint in {folder} does not fit its {_CONFIG}: {odd[0]} should have the shape "
            f"{wanted.get(odd[0])} and has {found.get(odd[0])}",
            hint="Use the weights and the settings that LitGPT wrote together.",
        )


def _set_ends(config: PreTrainedConfig, folder: Path) -> None:
    """Take from the tokenizer where texts begin and end, which LitGPT's settings do not say."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the LitGPT checkpoint has no tokenizer that transformers can read: {error}",
            hint="Put tokenizer.json and tokenizer_config.json of its base model beside lit_model.pth.",
        ) from error
    config.update({"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id})


# --- the families


def _common(shape: Shape) -> dict[str, Any]:
    settings = shape.settings
    return {
        "vocab_size": settings["padded_vocab_size"],
        "hidden_size": settings["n_embd"],
        "intermediate_size": settings["intermediate_size"],
        "num_hidden_layers": settings["n_layer"],
        "num_attention_heads": shape.heads,
        "max_position_embeddings": settings["block_size"],
        "rope_parameters": _rope(settings),
    }


def _rope(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how positions turn, in transformers' words."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(settings.get("rope_base") or 10000)}
    adjusted = settings.get("rope_adjustments") or {}
    if "original_max_seq_len" in adjusted:
        return {
            **rope,
            "rope_type": "llama3",
            "factor": adjusted["factor"],
            "low_freq_factor": adjusted["low_freq_factor"],
            "high_freq_factor": adjusted["high_freq_factor"],
            "original_max_position_embeddings": adjusted["original_max_seq_len"],
        }
    factor = adjusted.get("factor", 1) * (settings.get("rope_condense_ratio") or 1)
    return rope if factor == 1 else {**rope, "rope_type": "linear", "factor": float(factor)}


def _llama_config(shape: Shape, tied: dict[str, Any]) -> PreTrainedConfig:
    """Return Llama's settings, Qwen 2's where queries, keys and values have a bias, Qwen 3's where they are normed."""
    from transformers import LlamaConfig, Qwen2Config, Qwen3Config

    settings = shape.settings
    same = {
        **_common(shape),
        **tied,
        "num_key_value_heads": shape.groups,
        "head_dim": shape.head_size,
        "rms_norm_eps": settings["norm_eps"],
    }
    if settings.get("norm_qk"):
        return Qwen3Config(**same, architectures=["Qwen3ForCausalLM"])
    if settings.get("attn_bias"):
        return Qwen2Config(**same, architectures=["Qwen2ForCausalLM"])
    return LlamaConfig(**same, architectures=["LlamaForCausalLM"])


def _neox_config(shape: Shape, tied: dict[str, Any]) -> PreTrainedConfig:
    from transformers import GPTNeoXConfig

    settings, same = shape.settings, _common(shape)
    share = settings.get("rotary_percentage", 0.25)
    same["rope_parameters"] = {**same["rope_parameters"], "partial_rotary_factor": share}
    return GPTNeoXConfig(
        **same,
        **tied,
        hidden_act="gelu" if settings.get("gelu_approximate", "none") == "none" else "gelu_pytorch_tanh",
        layer_norm_eps=settings["norm_eps"],
        use_parallel_residual=settings.get("parallel_residual", True),
        architectures=["GPTNeoXForCausalLM"],
    )


def _three(shape: Shape, layer: str, kind: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield queries, keys and values apart."""
    import torch

    rows = [heads * shape.head_size for heads in (shape.heads, shape.groups, shape.groups)]
    for name, part in zip("qkv", torch.split(tensor, rows), strict=True):
        # A tensor of its own: safetensors does not write views that share memory.
        yield f"model.layers.{layer}.self_attn.{name}_proj.{kind}", part.clone()


def _head_by_head(shape: Shape, layer: str, kind: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield one tensor in which each head's query, key and value follow one another."""
    apart = tensor.view(3, shape.heads, shape.head_size, *tensor.shape[1:])
    yield (
        f"gpt_neox.layers.{layer}.attention.query_key_value.{kind}",
        apart.transpose(0, 1).reshape(tensor.shape),
    )


_FAMILIES: Final[Mapping[str, _Family]] = {
    "LLaMAMLP": _Family(
        only={
            "bias": (False,),
            "norm_class_name": ("RMSNorm",),
            "parallel_residual": (False,),
            "rotary_percentage": (1.0,),
        },
        names={
            "transformer.wte.weight": "model.embed_tokens.weight",
            "transformer.ln_f.weight": "model.norm.weight",
            "lm_head.weight": "lm_head.weight",
        },
        parts={
            "norm_1": "model.layers.{}.input_layernorm",
            "norm_2": "model.layers.{}.post_attention_layernorm",
            "attn.proj": "model.layers.{}.self_attn.o_proj",
            "attn.norm_q": "model.layers.{}.self_attn.q_norm",
            "attn.norm_k": "model.layers.{}.self_attn.k_norm",
            "mlp.fc_1": "model.layers.{}.mlp.gate_proj",
            "mlp.fc_2": "model.layers.{}.mlp.up_proj",
            "mlp.proj": "model.layers.{}.mlp.down_proj",
        },
        split=_three,
        config=_llama_config,
    ),
    "GptNeoxMLP": _Family(
        only={
            "bias": (True,),
            "norm_class_name": ("LayerNorm",),
            "norm_qk": _UNSET,
        },
        names={
            "transformer.wte.weight": "gpt_neox.embed_in.weight",
            "transformer.ln_f.weight": "gpt_neox.final_layer_norm.weight",
            "transformer.ln_f.bias": "gpt_neox.final_layer_norm.bias",
            "lm_head.weight": "lm_head.weight",
        },
        parts={
            "norm_1": "gpt_neox.layers.{}.input_layernorm",
            "norm_2": "gpt_neox.layers.{}.post_attention_layernorm",
            "attn.proj": "gpt_neox.layers.{}.attention.dense",
            "mlp.fc": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
            "mlp.proj": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
        },
        split=_head_by_head,
        config=_neox_config,
    ),
}
