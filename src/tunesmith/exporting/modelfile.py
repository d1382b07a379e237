"""Ollama's Modelfile: the GGUF file, its chat template in Go's language, where to stop, the system prompt.

Ollama reads Go templates and not the model's own Jinja. What a chat template writes around the words is found by
rendering, put together anew in Go's words, and compared with the template itself on conversations of several shapes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tunesmith.errors import ModelError
from tunesmith.models.local import end_of_turn_ids, text_ids
from tunesmith.models.template import chat_text
from tunesmith.records import Conversation, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HINT: Final = "Use --to gguf, and a runtime that reads the model's own template, such as llama-server."
# Ollama reads so many tokens unless it is told otherwise; longer contexts cost memory from the start.
_CONTEXT: Final = 4096


@dataclass(frozen=True, slots=True)
class Glue:
    """What a chat template writes around a conversation's words.

    `system` before a system message, `answer` before an answer, `end` before the one that is to come; `first`,
    `after_system` and `again` before a user's message that is first, follows a system message, or an answer.
    """

    system: str
    first: str
    after_system: str
    again: str
    answer: str
    end: str

    def render(self, conversation: Conversation) -> str:
        """Return what the Go template makes of a conversation that ends with a user's message."""
        parts: list[str] = []
        for number, message in enumerate(conversation):
            parts += [self._before(number, message, conversation), message.content]
        return "".join([*parts, self.end])

    def go(self) -> str:
        """Return the same as a Go template."""
        system, first, after_system, again, answer, end = map(
            _quoted, (self.system, self.first, self.after_system, self.again, self.answer, self.end)
        )
        return (
            '{{- range $i, $message := .Messages }}{{ if eq .Role "system" }}'
            f'{system}{{{{ else if eq .Role "assistant" }}}}{answer}{{{{ else if eq $i 0 }}}}{first}'
            f"{{{{ else if and (eq $i 1) $.System }}}}{after_system}{{{{ else }}}}{again}{{{{ end }}}}"
            f"{{{{ .Content }}}}{{{{ end }}}}{end}"
        )

    def _before(self, number: int, message: Message, conversation: Conversation) -> str:
        if message.role != "user":
            return self.system if message.role == "system" else self.answer
        if number == 0:
            return self.first
        return self.after_system if number == 1 and conversation[0].role == "system" else self.again


def glue_of(tokenizer: PreTrainedTokenizerBase) -> Glue:
    """Return what a chat template writes around the words; raises ModelError if it does more than that."""

    system, asked, said, again = (
        Message("system", "Ⓐ first"),
        Message("user", "Ⓑ second"),
        Message("assistant", "Ⓒ third"),
        Message("user", "Ⓓ fourth"),
    )
    try:
        before_system, after_system, answer, next_turn, end = _between(
            tokenizer, (system, asked, said, again)
        )
        first, *_ = _between(tokenizer, (asked,))
        glue = Glue(before_system, first, after_system, next_turn, answer, end)
        turns = (asked, said, again, said, asked)
        for conversation in ((asked,), (system, asked), turns, (system, *turns)):
            if glue.render(conversation) != _text(tokenizer, conversation):
                raise ValueError("it writes other words around a turn in a longer conversation")
    except (ValueError, ModelError) as error:
        # What a template itself refuses with is the cause of what rendering raises.
        raise ModelError(
            f"the model's chat template cannot be written as Ollama's: {error.__cause__ or error}", hint=_HINT
        ) from error
    return glue


def modelfile(
    tokenizer: PreTrainedTokenizerBase, *, gguf: str, context: int, system: str | None, licence: str | None
) -> str:
    """Return the Modelfile for a GGUF file beside it; `system` is the prompt that the model was tuned with."""
    stops = [str(tokenizer.decode([token])) for token in sorted(end_of_turn_ids(tokenizer))]
    lines = [
        f"FROM ./{gguf}",
        f"TEMPLATE {_block(glue_of(tokenizer).go())}",
        *([f"SYSTEM {_block(system)}"] if system else []),
        *(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops),
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {min(context, _CONTEXT)}",
        *([f"LICENSE {_block(licence)}"] if licence else []),
    ]
    return "\n".join(lines) + "\n"


def _between(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> list[str]:
    """Return what stands before, between and behind the messages' words; raises ValueError if words changed."""
    found, rest = [], _text(tokenizer, conversation)
    for message in conversation:
        before, words, rest = rest.partition(message.content)
        if not words:
            raise ValueError(f"it drops or changes the words of the {message.role}")
        found.append(before)
    return [*found, rest]


def _text(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> str:
    """Return a conversation as it is rendered, without the token that the runtime puts before every text itself."""
    text = chat_text(tokenizer, conversation, prompt=True)
    added = len(tokenizer("a")["input_ids"]) > len(text_ids(tokenizer, "a"))
    return text.removeprefix(str(tokenizer.bos_token)) if added else text


def _quoted(text: str) -> str:
    """Return a text as a Go template writes it: as it is, unless it holds what may begin an action."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if "{" in text else text


def _block(text: str) -> str:
    if '"""' in text:
        raise ModelError('a Modelfile cannot hold three quotation marks in a row (""")', hint=_HINT)
    return f'"""{text}"""'
