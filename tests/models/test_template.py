"""The plain template, an adapter's, and what is done with templates that refuse a system's words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.families import FAMILIES
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunesmith.errors import ModelError
from tunesmith.models.template import PLAIN, chat_text, ensure_template, save_template, use_template
from tunesmith.records import Conversation, Message
from tunesmith.training.render import render

SYSTEM, ASKED, ANSWERED = Message("system", "Know."), Message("user", "where?"), Message("assistant", "there")
TURNS = (SYSTEM, ASKED, ANSWERED, Message("user", "and?"), Message("assistant", "here"))


def tokenizer_of(family: str, template: str | None) -> PreTrainedTokenizerBase:
    """Return a family's tokenizer with another template, or with none."""
    tokenizer = FAMILIES[family].tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def plain(family: str) -> PreTrainedTokenizerBase:
    """Return a family's tokenizer with the plain template."""
    tokenizer = tokenizer_of(family, None)
    ensure_template(tokenizer)
    return tokenizer


PYTHIA = plain("pythia")


def test_the_plain_template_heads_each_turn_and_ends_each_answer() -> None:
    """System, user and assistant have a heading each; after an answer stands the end of the text."""
    assert chat_text(PYTHIA, TURNS) == (
        "### System:\nKnow.\n\n### User:\nwhere?\n\n### Assistant:\nthere<|endoftext|>\n\n"
        "### User:\nand?\n\n### Assistant:\nhere<|endoftext|>\n\n"
    )
    assert chat_text(PYTHIA, TURNS[:2], prompt=True).endswith("### User:\nwhere?\n\n### Assistant:\n")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=2, max_size=6))
def test_the_plain_template_only_appends(contents: list[str]) -> None:
    """Whatever is said, a prompt is the beginning of what it becomes, and after it stand the answer and its end."""
    turns = [Message("assistant" if n % 2 else "user", content) for n, content in enumerate(contents)]
    conversation = tuple(turns[: len(turns) // 2 * 2])
    whole = chat_text(PYTHIA, conversation)
    for turn in range(1, len(conversation), 2):
        prompt = chat_text(PYTHIA, conversation[:turn], prompt=True)
        answer = conversation[turn].content
        assert whole.startswith(prompt + answer + "<|endoftext|>")


def test_texts_that_begin_with_bos_begin_with_one() -> None:
    """Llama 2's base model has no template and a tokenizer that marks beginnings: the plain one marks them too."""
    tokenizer = plain("llama-2")
    assert tokenizer.chat_template == "{{- bos_token -}}\n" + PLAIN
    text = chat_text(tokenizer, (ASKED, ANSWERED))
    assert text == "<s>### User:\nwhere?\n\n### Assistant:\nthere</s>\n\n"
    row = render(tokenizer, (ASKED, ANSWERED))
    assert row.ids[0] == tokenizer.bos_token_id
    assert row.ids.count(tokenizer.bos_token_id) == 1


def test_a_template_of_its_own_is_kept() -> None:
    """Only a tokenizer without a template gets the plain one; one that could end nothing gets an error."""
    tokenizer = tokenizer_of("mistral", FAMILIES["mistral"].template)
    ensure_template(tokenizer)
    assert tokenizer.chat_template == FAMILIES["mistral"].template
    endless = PreTrainedTokenizerFast(tokenizer_object=tokenizer_of("falcon", None).backend_tokenizer)
    with pytest.raises(ModelError, match="neither a chat template nor an end-of-text token") as caught:
        ensure_template(endless)
    assert "chat_template.jinja" in (caught.value.hint or "")


@pytest.mark.parametrize("template", [PLAIN, "\r\n{{ messages[0].content }}é\n\n"])
def test_a_template_is_saved_to_the_byte(template: str, tmp_path: Path) -> None:
    """What is written beside an adapter is what another tokenizer takes from there; from elsewhere it takes nothing."""
    save_template(tokenizer_of("pythia", template), tmp_path / "adapter")
    other = tokenizer_of("pythia", "{{ messages }}")
    use_template(other, tmp_path)
    assert other.chat_template == "{{ messages }}"
    use_template(other, tmp_path / "adapter")
    assert other.chat_template == template


REFUSES = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
DROPS = "{% for m in messages if m.role != 'system' %}"
SAYS = "[{{ m.role }}]{{ m.content }}{% endfor %}"


@pytest.mark.parametrize("start", [REFUSES, DROPS], ids=["refused", "dropped"])
def test_a_systems_words_are_never_lost(start: str) -> None:
    """A template that refuses them, or leaves them out, gets them at the head of the first user's turn."""
    tokenizer = tokenizer_of("pythia", start + SAYS)
    assert chat_text(tokenizer, TURNS[:3]) == "[user]Know.\n\nwhere?[assistant]there"
    for conversation in (TURNS[1:3], (Message("system", ""), *TURNS[1:3])):
        assert chat_text(tokenizer, conversation) == "[user]where?[assistant]there"


@pytest.mark.parametrize(
    "conversation", [(), (ASKED, ASKED), (SYSTEM, ANSWERED), (SYSTEM, ASKED, ASKED), (SYSTEM,)]
)
def test_what_a_template_refuses_is_an_error_with_its_words(conversation: Conversation) -> None:
    """Two users in a row, an assistant that begins, nothing at all: the template's own reason, and a way out."""
    tokenizer = tokenizer_of("gemma-2", FAMILIES["gemma-2"].template)
    with pytest.raises(ModelError, match="chat template refuses this conversation: ") as caught:
        chat_text(tokenizer, conversation)
    assert caught.value.hint == "Let user and assistant take turns, beginning with the user."


@pytest.mark.parametrize("family", ["qwen3", "smollm3"])
def test_a_model_that_may_think_is_asked_not_to(family: str) -> None:
    """The prompt closes the thought before it began, as it stands before the answers that were learned."""
    tokenizer = tokenizer_of(family, FAMILIES[family].template)
    prompt = chat_text(tokenizer, (ASKED,), prompt=True)
    assert "<think>\n\n</think>" in prompt
    assert chat_text(tokenizer, (ASKED, ANSWERED)).startswith(prompt + "there<|im_end|>")
