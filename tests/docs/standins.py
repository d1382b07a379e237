"""Tiny random models in the places of the embedded ones, so that a page's commands run in seconds, offline."""

import re
from datetime import UTC, datetime
from pathlib import Path

from tunesmith.models import fetch
from tunesmith.records import to_json

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def put_models(cache: Path, text: str) -> None:
    """Fill the cache folder with a language model and an encoder that know the words of the text."""
    _language_model(cache / "smollm2", text)
    _encoder(cache / "minilm", text)
    for name in ("smollm2", "minilm"):
        _sign(cache / name, name)


def _language_model(folder: Path, text: str) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([text], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = _TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def _encoder(folder: Path, text: str) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(re.findall(r"\w+", text.lower())))]
    folder.mkdir(parents=True)
    folder.joinpath("vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)


def _sign(folder: Path, name: str) -> None:
    """Write the PROVENANCE.json by which a finished folder of the cache is known."""
    made = fetch.Provenance(
        name=name,
        origin="hub",
        source="a stand-in",
        version="0",
        sha256="",
        licence="Apache-2.0",
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=fetch._RECIPE,
        files={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    )
    folder.joinpath(fetch.PROVENANCE).write_text(to_json(made), encoding="utf-8")
