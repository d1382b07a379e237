"""The chat template: the model's own, an adapter's, or a plain one for families that have none.

Every conversation that is trained on, asked or served is rendered here. A template that refuses a system's words, or
leaves them out, gets them at the head of the first user's turn, as Gemma 3's own template puts them. Where a template
lets a model think before it answers, it is told that it need not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.errors import ModelError
from tunesmith.records import Conversation, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE: Final = "chat_template.jinja"

#: For models that were never given a template: headed turns in plain words, so that no token has to be added, and the
#: end of text after each answer.
PLAIN: Final = """\
{%- set heads = {'system': '### System', 'user': '### User', 'assistant': '### Assistant'} -%}
{%- for message in messages -%}
{{- heads[message['role']] + ':\\n' + message['content'] -}}
{%- if message['role'] == 'assistant' -%}{{- eos_token -}}{%- endif -%}
{{- '\\n\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Assistant:\\n' -}}{%- endif -%}
"""
_WITH_BOS: Final = "{{- bos_token -}}\n"


def ensure_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a chat template the plain one, after a BOS if its texts begin with one.

    Raises ModelError for a tokenizer without an end of text: an answer would never end.
    """
    if tokenizer.chat_template is not None:
        return
    if tokenizer.eos_token is None:
        raise ModelError(
            "the tokenizer has neither a chat template nor an end-of-text token, so no answer would ever end",
            hint=f"Put eos_token into its tokenizer_config.json, or a {FILE} beside it.",
        )
    tokenizer.chat_template = (_WITH_BOS if _begins_with_bos(tokenizer) else "") + PLAIN


def _begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    ids: list[int] = tokenizer("")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def save_template(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the template beside an adapter: what it was trained with is what it is asked with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(tokenizer.get_chat_template().encode())


def use_template(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Take the template that `save_template` wrote into a folder; without one the tokenizer keeps its own."""
    if (folder / FILE).is_file():
        tokenizer.chat_template = (folder / FILE).read_bytes().decode()


def knows_functions(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether the chat template has a way of its own to tell the model of functions."""
    name = "function_that_is_looked_for"
    asked: Conversation = (Message("user", "asked"),)
    return name in chat_text(tokenizer, asked, prompt=True, functions=({"name": name, "parameters": {}},))


def chat_text(
    tokenizer: PreTrainedTokenizerBase,
    conversation: Conversation,
    *,
    prompt: bool = False,
    functions: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return a conversation as the chat template renders it; as a `prompt`, up to where the assistant speaks.

    `functions` (name, description, parameters as a JSON schema) are told in the template's own way, if it has one.
    Raises ModelError for a conversation that the template refuses, such as one of two users in a row.
    """
    from jinja2 import TemplateError

    # transformers itself refuses a conversation of nothing, with a ValueError.
    refusals = (TemplateError, ValueError)
    has_system = bool(conversation) and conversation[0].role == "system"
    try:
        text = _rendered(tokenizer, conversation, prompt, functions)
    except refusals as error:
        if not has_system:
            raise _refused(error) from error
    else:
        if not has_system or conversation[0].content.strip() in text:
            return text
    try:
        return _rendered(tokenizer, _folded(conversation), prompt, functions)
    except refusals as error:
        raise _refused(error) from error


def _rendered(
    tokenizer: PreTrainedTokenizerBase,
    conversation: Conversation,
    prompt: bool,
    functions: Sequence[Mapping[str, Any]],
) -> str:
    messages = [{"role": message.role, "content": message.content} for message in conversation]
    tools = [{"type": "function", "function": dict(function)} for function in functions]
    return str(
        tokenizer.apply_chat_template(
            messages,
            tools=tools or None,
            tokenize=False,
            add_generation_prompt=prompt,
            enable_thinking=False,
        )
    )


def _folded(conversation: Conversation) -> Conversation:
    """Return the conversation with the system's words at the head of the first user's."""
    system, *turns = conversation
    if not turns or turns[0].role != "user":
        return conversation
    words = "\n\n".join(part for part in (system.content, turns[0].content) if part)
    return (Message("user", words), *turns[1:])


def _refused(error: Exception) -> ModelError:
    return ModelError(
        f"the model's chat template refuses this conversation: {error}",
        hint="Let user and assistant take turns, beginning with the user.",
    )
