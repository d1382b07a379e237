"""Modelfiles: a chat template in Go's words writes what the model's own does, or is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tunesmith.errors import ModelError
from tunesmith.exporting.modelfile import Glue, glue_of, modelfile
from tunesmith.models.template import chat_text
from tunesmith.records import Conversation, Message

CHATML = Glue(
    system="<|im_start|>system\n",
    first="<|im_start|>user\n",
    after_system="<|im_end|>\n<|im_start|>user\n",
    again="<|im_end|>\n<|im_start|>user\n",
    answer="<|im_end|>\n<|im_start|>assistant\n",
    end="<|im_end|>\n<|im_start|>assistant\n",
)
DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def tokenizer(chat_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose template a test may change."""
    import copy

    return copy.deepcopy(chat_tokenizer)


def test_the_glue_of_chatml(tokenizer: PreTrainedTokenizerFast) -> None:
    """What ChatML writes around the words is found."""
    assert glue_of(tokenizer) == CHATML


def test_a_template_with_a_system_message_of_its_own(tokenizer: PreTrainedTokenizerFast) -> None:
    """What a template puts in front where no system message stands is found too."""
    tokenizer.chat_template = DEFAULT
    assert glue_of(tokenizer).first == "<|im_start|>system\nBe good.<|im_end|>\n<|im_start|>user\n"


@given(st.booleans(), st.lists(st.text("abc é\n<{}", min_size=1), min_size=1, max_size=7))
def test_glue_writes_what_the_template_writes(
    chat_tokenizer: PreTrainedTokenizerFast, led: bool, words: list[str]
) -> None:
    """For conversations of any length, with a system message or without, both texts are equal."""
    words = words if len(words) % 2 else words[1:]
    roles = ("user", "assistant") * len(words)
    turns: Any = tuple(Message(role, text) for role, text in zip(roles, words, strict=False))  # type: ignore[arg-type]
    conversation: Conversation = (*((Message("system", "S"),) if led else ()), *turns)
    assert glue_of(chat_tokenizer).render(conversation) == chat_text(
        chat_tokenizer, conversation, prompt=True
    )


def test_the_go_template() -> None:
    """Each role has its words; what could begin an action is quoted."""
    made = Glue("<s>", "<f>", "<a>", "<u>", "<b>", "{end}").go()
    assert made == (
        '{{- range $i, $message := .Messages }}{{ if eq .Role "system" }}<s>'
        '{{ else if eq .Role "assistant" }}<b>{{ else if eq $i 0 }}<f>'
        "{{ else if and (eq $i 1) $.System }}<a>{{ else }}<u>{{ end }}"
        '{{ .Content }}{{ end }}{{ "{end}" }}'
    )


def test_a_modelfile(tokenizer: PreTrainedTokenizerFast) -> None:
    """File, template, system prompt, where to stop, context and licence; the context is bounded."""
    made = modelfile(tokenizer, gguf="m.gguf", context=512, system="Be brief.", licence="MIT")
    before, _, after = made.partition(CHATML.go())
    assert before == 'FROM ./m.gguf\nTEMPLATE """'
    assert after == (
        '"""\nSYSTEM """Be brief."""\nPARAMETER stop "<|im_end|>"\nPARAMETER temperature 0\n'
        'PARAMETER num_ctx 512\nLICENSE """MIT"""\n'
    )
    assert "num_ctx 4096\n" in modelfile(tokenizer, gguf="m", context=9000, system=None, licence=None)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (DEFAULT.replace("message['content']", "message['content']|upper"), "drops or changes the words"),
        (DEFAULT.replace("{{ message['role'] }}", "{{ loop.index }}"), "writes other words around a turn"),
        ("{{ raise_exception('no system') }}", "cannot be written as Ollama's: no system"),
    ],
    ids=["words", "count", "refusal"],
)
def test_templates_that_do_more_are_refused(
    tokenizer: PreTrainedTokenizerFast, template: str, why: str
) -> None:
    """A template that changes words, or writes them by their number, is not what Ollama would be told."""
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=why) as refused:
        glue_of(tokenizer)
    assert "--to gguf" in str(refused.value.hint)


def test_words_that_would_end_a_block_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    """Three quotation marks in a system prompt would end it early."""
    with pytest.raises(ModelError, match="three quotation marks"):
        modelfile(tokenizer, gguf="m", context=9, system='say """ok"""', licence=None)
