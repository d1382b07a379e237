"""Make a model folder of a GGUF file, once: whole safetensors weights, its tokenizer, its chat template."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.errors import ModelError
from tunesmith.models.digest import file_digest
from tunesmith.models.quiet import quiet
from tunesmith.models.shelf import Say, cache_dir, shelve, silent

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Raise it when conversion changes what it writes: files converted the old way are then converted again.
_RECIPE = 1
# Byte-level vocabularies keep only the name of the rule by which their text is split before merging. These are the
# names that llama.cpp (src/llama-vocab.cpp) gives to GPT-2's rule, and to that rule with each digit apart.
_AS_GPT2: Final = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "jais"})
_DIGITS_APART: Final = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)
# Llama 3.1 and later stretch their positions by these (low and high frequency factor, original length) and a factor.
_LLAMA3 = (1.0, 4.0, 8192)
_ROPE_FREQS = "rope_freqs.weight"


def gguf_folder(file: Path, *, say: Say = silent) -> Path:
    """Return the model folder made of a GGUF file, in the cache under the digest of its content.

    Raises ModelError for a file that is no GGUF, of a family that transformers cannot read, or that would be read
    otherwise than it was meant.
    """
    if not file.is_file():
        raise ModelError(f"The file {file} does not exist.", hint="Give the path of a .gguf file.")
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise ModelError(
                f"{file} is no GGUF file: it does not begin with GGUF.", hint="Give the path of a .gguf file."
            )
    name = f"{file.stem}-{file_digest(file)[:16]}-{_RECIPE}"

    def make(work: Path) -> Path:
        say(f"Converting {file.name} once, to whole weights.")
        ready = work / "ready"
        ready.mkdir()
        convert_gguf(file, ready)
        return ready

    return shelve(cache_dir() / "gguf" / name, make, name=file.name, say=say)


def convert_gguf(file: Path, into: Path) -> None:
    """Write a GGUF file as a folder: quantised weights in bf16, whole ones as they are; raises ModelError."""
    reader = _read(file)
    _check_whole(file, reader)
    _check_rule(file, reader)
    rope = _stretched_positions(file, reader)
    # The bar of the dequantisation is plain tqdm, which no setting of transformers reaches.
    with quiet(), redirect_stderr(io.StringIO()):
        model = _model(file, reader)
        tokenizer = _tokenizer(file, reader)
        if rope is not None:
            model.config.rope_parameters = {**model.config.rope_parameters, **rope}
        _set_ends(model, tokenizer, _value(reader, "tokenizer.ggml.eot_token_id"))
        model.save_pretrained(into)
        tokenizer.save_pretrained(into)
    _drop_strangers(into, len(_value(reader, "tokenizer.ggml.tokens")))


def _read(file: Path) -> GGUFReader:
    from gguf import GGUFReader

    try:
        return GGUFReader(file)
    except (ValueError, IndexError, KeyError) as error:
        raise ModelError(
            f"{file} cannot be read as GGUF: {error}", hint="It may be cut short: download it again."
        ) from error


def _value(reader: GGUFReader, key: str) -> Any:
    """Return a field of the file, None if it has none of that name."""
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _check_whole(file: Path, reader: GGUFReader) -> None:
    """Raise ModelError for what is only a part of a model."""
    if (_value(reader, "split.count") or 1) > 1:
        raise ModelError(
            f"{file} is one part of several.",
            hint="Join them with llama.cpp's `llama-gguf-split --merge`, and give the joined file.",
        )
    kind = _value(reader, "general.type") or "model"
    if kind != "model":
        raise ModelError(
            f"{file} holds no model but what GGUF calls {kind!r}.", hint="Give the file of the model itself."
        )


def _stretched_positions(file: Path, reader: GGUFReader) -> dict[str, Any] | None:
    """Return how positions are stretched, in transformers' words; None if they are not.

    Transformers reads neither these fields nor the tensor. Raises ModelError for a way that is not Llama 3's.
    """
    architecture = _value(reader, "general.architecture")
    way = _value(reader, f"{architecture}.rope.scaling.type") or "none"
    factors = next((tensor.data for tensor in reader.tensors if tensor.name == _ROPE_FREQS), None)
    if (factors is None and way == "none") or architecture == "gpt-oss":
        return None
    found = None if factors is None or way != "none" else _as_llama3(reader, architecture, factors)
    if found is None:
        raise ModelError(
            f"{file} stretches its positions in a way that cannot be carried over "
            f"({way if factors is None else _ROPE_FREQS}).",
            hint="Use the model's folder: hf:org/name or path:FOLDER.",
        )
    return found


def _as_llama3(reader: GGUFReader, architecture: str, factors_D: Any) -> dict[str, Any] | None:
    """Return Llama 3's parameters if they give these factors (one for each pair of a head's dimensions)."""
    import numpy as np

    low, high, original = _LLAMA3
    factor = float(factors_D.max())
    base = _value(reader, f"{architecture}.rope.freq_base") or 10000.0
    lengths_D = 2 * np.pi * base ** (np.arange(len(factors_D)) / len(factors_D))
    smooth_D = np.clip((original / lengths_D - low) / (high - low), 0, 1)
    if not np.allclose(factors_D, 1 / ((1 - smooth_D) / factor + smooth_D), rtol=1e-3):
        return None
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


def _model(file: Path, reader: GGUFReader) -> PreTrainedModel:
    """Return the model in a GGUF file; raises ModelError unless each of its weights has a place, and none is free."""
    from transformers import AutoModelForCausalLM

    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=_dtype(reader), output_loading_info=True, **_dequantised()
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{file} holds no language model that transformers can read from GGUF "
            f"({_value(reader, 'general.architecture')}): {error}",
            hint="Use the model's folder: hf:org/name or path:FOLDER.",
        ) from error
    missing = sorted(told["missing_keys"])
    inside = sum(int(tensor.n_elements) for tensor in reader.tensors if tensor.name != _ROPE_FREQS)
    if missing or inside != model.num_parameters():
        raise ModelError(
            f"{file} is not read as it was meant: it holds {inside:,} weights, and transformers places "
            f"{model.num_parameters():,}" + (f", without {missing[0]}" if missing else ""),
            hint="Use the model's folder: hf:org/name or path:FOLDER.",
        )
    return model


def _dtype(reader: GGUFReader) -> torch.dtype:
    """Return the type of whole weights; bf16 for quantised ones, which hold no more than that."""
    import torch
    from gguf import GGMLQuantizationType as Kind

    whole = {Kind.F32: torch.float32, Kind.F16: torch.float16}
    kinds = {tensor.tensor_type for tensor in reader.tensors if len(tensor.shape) > 1}
    return whole.get(kinds.pop(), torch.bfloat16) if len(kinds) == 1 else torch.bfloat16


def _dequantised() -> dict[str, Any]:
    """Return the argument that asks for plain weights; older versions lack it and always give them."""
    from transformers.utils import quantization_config

    config = getattr(quantization_config, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _set_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, end_of_turn: int | None) -> None:
    """Tell the model's settings where texts and turns end."""
    from transformers import GenerationConfig

    tokenizer.model_max_length = model.config.max_position_embeddings
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.config.update({"eos_token_id": end, "pad_token_id": pad})
    ends = end if end_of_turn in (None, end) else [end, end_of_turn]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=pad
    )


def _tokenizer(file: Path, reader: GGUFReader) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a GGUF file, which splits text as the model's own does.

    Transformers reads a rule that it does not know as GPT-2's. SmolLM2's numbers would stay whole, and the model
    never saw such tokens in training.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{file} holds no tokenizer that transformers can read: {error}") from error
    if _value(reader, "tokenizer.ggml.pre") in _DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    return tokenizer


def _check_rule(file: Path, reader: GGUFReader) -> None:
    """Raise ModelError for a rule of splitting text that would be taken for GPT-2's and is another one."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    rule = _value(reader, "tokenizer.ggml.pre")
    byte_level = _value(reader, "tokenizer.ggml.model") == "gpt2"
    if byte_level and rule not in {*_AS_GPT2, *_DIGITS_APART, *GGUF_PRE_TOKENIZER_SPLITS}:
        raise ModelError(
            f"{file} splits text by a rule that is not known here ({rule or 'it names none'}): "
            "the model would read other tokens than it was trained on.",
            hint="Use the model's folder, whose tokenizer.json has the rule itself: hf:org/name or path:FOLDER.",
        )


def _drop_strangers(folder: Path, count: int) -> None:
    """Take out of a tokenizer what the file does not have: GPT-2's end of text, of which the model has no vector."""
    core, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    parts, said = (json.loads(path.read_text(encoding="utf-8")) for path in (core, settings))
    strange = {token["content"] for token in parts["added_tokens"] if token["id"] >= count}
    if not strange:
        return
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["content"] not in strange]
    for name in [name for name, value in said.items() if isinstance(value, str) and value in strange]:
        said[name] = None
    core.write_text(json.dumps(parts, indent=2, ensure_ascii=False), encoding="utf-8")
    settings.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
