"""Addresses: what each form means, what a wrong one gets for an answer, and that local ones load."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import AddressError, ModelError
from tunesmith.models.address import (
    Address,
    is_remote,
    load_chat,
    load_encoder,
    model_folder,
    parse,
    tuned_address,
)
from tunesmith.models.base import Sampling
from tunesmith.models.local import LocalModel
from tunesmith.models.remote import RemoteModel
from tunesmith.records import Message

FORMS = (
    "Use smollm2, minilm, hf:org/name, hf:org/name@revision or hf:org/name@COMMIT+code, path:FOLDER, gguf:FILE, "
    "openai:MODEL or openai:MODEL@URL, "
    "ft:BASE:ORGANISATION:SUFFIX:ID or the same with @URL."
)
TEMPLATE = "{% for message in messages %}<s>{{ message['content'] }}</s>{% endfor %}"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("smollm2", Address("bundled", "smollm2")),
        ("minilm", Address("bundled", "minilm")),
        ("hf:org/name", Address("hf", "org/name")),
        ("hf:org/name@v1.0", Address("hf", "org/name", revision="v1.0")),
        ("hf:gpt2@refs/pr/1", Address("hf", "gpt2", revision="refs/pr/1")),
        (f"hf:org/name@{'a' * 40}+code", Address("hf", "org/name", revision="a" * 40, code=True)),
        ("path:./a folder:1", Address("path", "./a folder:1")),
        ("gguf:models/a.Q4_K_M.gguf", Address("gguf", "models/a.Q4_K_M.gguf")),
        ("openai:gpt-4o", Address("openai", "gpt-4o")),
        (
            "openai:qwen2.5:7b@http://localhost:11434/v1",
            Address("openai", "qwen2.5:7b", url="http://localhost:11434/v1"),
        ),
        ("openai:@cf/meta/llama", Address("openai", "@cf/meta/llama")),
        ("ft:gpt-4o:org::1", Address("ft", "gpt-4o:org::1")),
        (
            "ft:gpt-4.1-mini:org:suffix:1@http://localhost:8000/v1",
            Address("ft", "gpt-4.1-mini:org:suffix:1", url="http://localhost:8000/v1"),
        ),
    ],
)
def test_an_address_means_one_thing(text: str, meant: Address) -> None:
    """Each form is understood, and written again as it was."""
    assert parse(text) == meant
    assert str(meant) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("smolm2", "Did you mean smollm2?"),
        ("opnai:gpt-4o", "Did you mean openai:gpt-4o?"),
        ("org/name", "Did you mean hf:org/name?"),
        (
            "",
            FORMS,
        ),
        (
            "fake:x",
            FORMS,
        ),
        ("hf:a/b/c", "Write hf:org/name, hf:org/name@revision or hf:org/name@COMMIT+code."),
        ("hf:org/name+code", "Write hf:org/name, hf:org/name@revision or hf:org/name@COMMIT+code."),
        ("gguf:", "Write gguf:FILE."),
        ("path:", "Write path:FOLDER."),
        ("openai:m@localhost:8000", "Write openai:MODEL or openai:MODEL@URL."),
        ("ft:gpt-4o", "Write ft:BASE:ORGANISATION:SUFFIX:ID or the same with @URL."),
    ],
)
def test_a_wrong_address_gets_the_nearest_form(text: str, hint: str) -> None:
    """What means nothing is an error that shows how to write it."""
    with pytest.raises(AddressError) as caught:
        parse(text)

    assert caught.value.message == f"The model address {text!r} is not understood."
    assert caught.value.hint == hint


def test_a_bare_folder_is_recognised(tmp_path: Path) -> None:
    """Somebody who forgets path: is told so."""
    with pytest.raises(AddressError, match=re.escape(f"Did you mean path:{tmp_path}?")):
        parse(str(tmp_path))


def test_code_is_allowed_for_a_commit_only() -> None:
    """A branch, a tag or a part of a commit does not say which code would run."""
    for revision in ("main", "v1.0", "0123abc"):
        with pytest.raises(
            AddressError, match=r"lets code run without saying which: .*\n  Name the full commit"
        ):
            parse(f"hf:org/name@{revision}+code")


@given(st.text(max_size=20))
def test_what_is_understood_is_written_back(text: str) -> None:
    """No address is read as another one than was written."""
    for prefix in ("hf:", "path:", "gguf:", "openai:", "ft:"):
        try:
            address = parse(prefix + text)
        except AddressError:
            continue
        assert str(address) == prefix + text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama of one block and sixteen numbers, with a byte-level tokenizer and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    place = tmp_path / "model"
    words = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(place)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(place)
    return place


def write_adapter(folder: Path, base: str | None) -> None:
    """Write a LoRA adapter of rank 1 on one layer, as PEFT does."""
    from safetensors.torch import save_file

    layer = "base_model.model.model.layers.0.mlp.down_proj"
    folder.mkdir()
    tensors = {f"{layer}.lora_A.weight": torch.ones(1, 32), f"{layer}.lora_B.weight": torch.ones(16, 1)}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "bias": "none", "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def test_a_folder_answers(folder: Path) -> None:
    """A path: address is a model that generates, under its own name."""
    model = load_chat(f"path:{folder}", batch_size=2)

    answers = model.reply([(Message("user", "hi"),)] * 3, Sampling(max_tokens=4))

    assert isinstance(model, LocalModel)
    assert model.name == f"path:{folder}"
    assert [answer.prompt_tokens for answer in answers] == [4, 4, 4]
    assert model_folder(f"path:{folder}") == folder


@pytest.mark.parametrize("form", ["{}", "path:{}", "../model"])
def test_an_adapter_is_merged_into_its_base(folder: Path, form: str) -> None:
    """An adapter's folder names its base by a folder, an address or from itself; its update is added."""
    adapter = folder.parent / "adapter"
    write_adapter(adapter, form.format(folder))

    base, tuned = (load_chat(f"path:{place}") for place in (folder, adapter))

    assert isinstance(base, LocalModel)
    assert isinstance(tuned, LocalModel)
    name = "model.layers.0.mlp.down_proj"
    before, after = (model.model.get_submodule(name).weight.float() for model in (base, tuned))
    torch.testing.assert_close(after - before, torch.full((16, 32), 2.0), atol=0.02, rtol=0)


def test_an_adapter_is_asked_as_it_was_trained(folder: Path) -> None:
    """The chat template beside an adapter comes before its base's."""
    adapter = folder.parent / "adapter"
    write_adapter(adapter, str(folder))
    (adapter / "chat_template.jinja").write_text("{{ messages[0].content }}\nSo:", encoding="utf-8")

    base, tuned = (load_chat(f"path:{place}") for place in (folder, adapter))

    assert isinstance(base, LocalModel)
    assert isinstance(tuned, LocalModel)
    assert tuned.tokenizer.chat_template == "{{ messages[0].content }}\nSo:"
    assert base.tokenizer.chat_template != tuned.tokenizer.chat_template


def test_an_adapter_is_no_whole_model(folder: Path) -> None:
    """Where a whole model is needed, an adapter is not silently taken for its base."""
    adapter = folder.parent / "adapter"
    write_adapter(adapter, str(folder))

    with pytest.raises(ModelError, match="is an adapter; here a whole model is needed"):
        model_folder(f"path:{adapter}")


@pytest.mark.parametrize(("base", "words"), [(None, "does not say which"), ("gone", "is for 'gone', which")])
def test_an_adapter_without_a_base_is_an_error(tmp_path: Path, base: str | None, words: str) -> None:
    """An adapter whose base is not named, or is not there, cannot be used."""
    write_adapter(tmp_path / "adapter", base)

    with pytest.raises(ModelError, match=words):
        load_chat(f"path:{tmp_path / 'adapter'}")


def test_folders_without_a_safe_model_are_refused(tmp_path: Path) -> None:
    """A missing folder, one without a model, and pickled weights each get their own answer."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    said = []
    for name in ("gone", "empty", "pickled"):
        with pytest.raises(ModelError) as caught:
            model_folder(f"path:{tmp_path / name}")
        said.append(caught.value.message)

    assert said == [
        f"The folder {tmp_path / 'gone'} does not exist.",
        f"{tmp_path / 'empty'} holds no model: config.json is missing.",
        f"{tmp_path / 'pickled'} has no weights in safetensors format; "
        "pickled ones are refused, for they can run code.",
    ]


def test_settings_that_are_no_settings_are_named(folder: Path) -> None:
    """A config.json that was cut short is an error with its path."""
    (folder / "config.json").write_text('{"model_type": ', encoding="utf-8")

    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        model_folder(f"path:{folder}")


def test_a_remote_model_has_a_name_and_no_folder() -> None:
    """An openai: address is a model to ask, not one with weights here."""
    text = "openai:m@http://127.0.0.1:9/v1"

    model = load_chat(text)

    assert isinstance(model, RemoteModel)
    assert model.name == text
    with pytest.raises(AddressError, match="is a remote model"):
        load_encoder(text)


@pytest.mark.parametrize(("text", "served_as"), [("openai:m", "m"), ("ft:gpt-4o:org::1", "ft:gpt-4o:org::1")])
def test_a_services_name_of_a_model_is_what_it_is_asked_for(text: str, served_as: str) -> None:
    """Of a tuned model's name `ft:` is a part, of another's `openai:` is not; the address is the name here."""
    url = "http://127.0.0.1:9/v1"

    assert parse(text).served_as == served_as
    assert tuned_address(served_as, f"{url}/") == parse(f"{text}@{url}")
    assert load_chat(f"{text}@{url}").name == f"{text}@{url}"


@pytest.mark.parametrize(
    ("text", "remote"),
    [("openai:m", True), ("ft:a:b", True), ("smollm2", False), ("path:openai:m", False), ("openai", False)],
)
def test_where_the_weights_are_can_be_told(text: str, remote: bool) -> None:
    """A service keeps those of two forms; the others' are here."""
    assert is_remote(text) == remote


def test_bundled_models_do_what_they_are_for() -> None:
    """An encoder does not chat and a chat model does not embed; nothing is fetched to find out."""
    with pytest.raises(AddressError, match=r"minilm is an encoder: it cannot answer\.\n  Use smollm2\."):
        load_chat("minilm")
    with pytest.raises(
        AddressError, match=r"smollm2 is a language model: it cannot embed texts\.\n  Use minilm\."
    ):
        load_encoder("smollm2")


def test_an_adapter_does_not_let_code_run(folder: Path) -> None:
    """Its base's code was named by whoever wrote the adapter, not by the user."""
    adapter = folder.parent / "adapter"
    write_adapter(adapter, f"hf:somebody/model@{'0' * 40}+code")
    with pytest.raises(ModelError, match=r"whose own code would run, and nobody has allowed that here"):
        load_chat(f"path:{adapter}")
