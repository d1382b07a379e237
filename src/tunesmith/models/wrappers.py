"""Models that wrap a model: with another system prompt, with example turns, with retrieved passages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tunesmith.errors import DatasetError, ModelError
from tunesmith.models.base import ChatModel, Retriever, Sampling
from tunesmith.models.quotes import checked, streamed_without_quotes
from tunesmith.records import Answer, Conversation, Message, Passage

#: How a model is told of the JSON schema that its answer must have.
SCHEMA: Final = "Answer with JSON of this schema alone: "

_ENTRIES_HEAD = "Entries that may help, the likeliest first:"
_TEXTS_HEAD = "Passages that may help, the likeliest first:"


def prompted(model: ChatModel, system: str) -> ChatModel:
    """Return the model that reads `system` as its system message, in place of the conversation's own."""
    return _Rewriting(model, f"{model.name}+prompt", lambda conversation: _with_system(conversation, system))


def few_shot(model: ChatModel, examples: Sequence[Conversation]) -> ChatModel:
    """Return the model that sees the examples' turns after the system message, before the conversation.

    Raises DatasetError for an example that is not turns of user and assistant, the assistant's last.
    """
    for number, example in enumerate(examples, 1):
        check_turns(number, example)
    shown = tuple(message for example in examples for message in example)
    return _Rewriting(model, f"{model.name}+few_shot", lambda conversation: with_turns(conversation, shown))


def retrieving(
    model: ChatModel,
    retriever: Retriever,
    *,
    count: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> ChatModel:
    """Return the model that sees, with each question, the `count` passages nearest to it.

    The question is the last user message; a batch is one search. `Answer.retrieved` names the passages, and
    `Answer.seconds` holds the answer's share of the search too, in seconds of `clock`. Quotes that an answer begins
    with, as RAFT trains them, are looked up in the passages and left out (`quotes`).
    """
    return _Retrieving(model, retriever, count, clock)


def with_passages(conversation: Conversation, passages: Sequence[Passage]) -> Conversation:
    """Return the conversation whose last user message shows the passages, in their order, and the question.

    Training, evaluating and serving all render passages here. Without passages nothing changes. Raises
    ModelError for a conversation in which the user says nothing.
    """
    if not passages:
        return conversation
    head = _ENTRIES_HEAD if all(passage.kind == "entry" for passage in passages) else _TEXTS_HEAD
    lines = "\n".join(f"- {passage.text}" for passage in passages)
    return asked_with(conversation, f"{head}\n{lines}")


def asked_with(conversation: Conversation, shown: str) -> Conversation:
    """Return the conversation whose last user message shows something ahead of the question.

    Raises ModelError for a conversation in which the user says nothing.
    """
    at = _last_user(conversation)
    text = f"{shown}\n\nQuestion: {conversation[at].content}"
    return (*conversation[:at], Message("user", text), *conversation[at + 1 :])


def told(conversation: Conversation, words: str) -> Conversation:
    """Return the conversation whose system message ends with the words, or is them where there is none."""
    own = conversation[:1] if conversation and conversation[0].role == "system" else ()
    text = "\n\n".join([*(message.content for message in own), words])
    return (Message("system", text), *conversation[len(own) :])


def in_schema(model: ChatModel, schema: str) -> ChatModel:
    """Return the model that is told to answer with JSON of a schema, itself JSON.

    A service is also sent the schema (`Sampling.schema`). Weights that are here are held to it by their constraint.
    """
    return _InSchema(model, schema)


@dataclass(frozen=True, slots=True)
class _Rewriting:
    """A ChatModel that rewrites each conversation before the model reads it."""

    model: ChatModel
    name: str
    rewrite: Callable[[Conversation], Conversation]

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return the model's answers to the rewritten conversations."""
        return self.model.reply([self.rewrite(conversation) for conversation in conversations], sampling)

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the model's answer to the rewritten conversation."""
        yield from self.model.stream(self.rewrite(conversation), sampling)


@dataclass(frozen=True, slots=True)
class _InSchema:
    """A ChatModel that is told of a JSON schema."""

    model: ChatModel
    schema: str

    @property
    def name(self) -> str:
        """The model's name, and that it answers with JSON."""
        return f"{self.model.name}+json"

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return the model's answers to the conversations with the schema."""
        shown = [told(conversation, SCHEMA + self.schema) for conversation in conversations]
        return self.model.reply(shown, replace(sampling, schema=self.schema))

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the model's answer to the conversation with the schema."""
        yield from self.model.stream(
            told(conversation, SCHEMA + self.schema), replace(sampling, schema=self.schema)
        )


@dataclass(frozen=True, slots=True)
class _Retrieving:
    """A ChatModel that searches before it answers."""

    model: ChatModel
    retriever: Retriever
    count: int
    clock: Callable[[], float]

    @property
    def name(self) -> str:
        """The model's name, and that it retrieves."""
        return f"{self.model.name}+retrieval"

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return the model's answers, each with the ids of the passages that it saw."""
        if not conversations:
            return []
        start = self.clock()
        found = self._search(conversations)
        searching = (self.clock() - start) / len(conversations)
        shown = [
            with_passages(conversation, passages)
            for conversation, passages in zip(conversations, found, strict=True)
        ]
        return [
            replace(
                checked(answer, passages),
                retrieved=tuple(passage.id for passage in passages),
                seconds=answer.seconds + searching,
            )
            for answer, passages in zip(self.model.reply(shown, sampling), found, strict=True)
        ]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the model's answer to the conversation with its passages."""
        [passages] = self._search([conversation])
        shown = with_passages(conversation, passages)
        yield from streamed_without_quotes(self.model.stream(shown, sampling))

    def _search(self, conversations: Sequence[Conversation]) -> list[tuple[Passage, ...]]:
        return self.retriever.search([question(one) for one in conversations], self.count)


def _with_system(conversation: Conversation, system: str) -> Conversation:
    own = conversation[:1] if conversation and conversation[0].role == "system" else ()
    return (Message("system", system), *conversation[len(own) :])


def with_turns(conversation: Conversation, turns: Conversation) -> Conversation:
    """Return the conversation with the turns after its system message."""
    own = conversation[:1] if conversation and conversation[0].role == "system" else ()
    return (*own, *turns, *conversation[len(own) :])


def check_turns(number: int, example: Conversation) -> None:
    """Raise DatasetError unless an example is turns of user and assistant."""
    roles = [message.role for message in example]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise DatasetError(
            f"example {number} of the few shots has the turns {', '.join(roles) or 'none'}",
            hint="An example is a user's question and the assistant's answer, in turn; no system message.",
        )


def question(conversation: Conversation) -> str:
    """Return what is asked: the last user message; raises ModelError where the user says nothing."""
    return conversation[_last_user(conversation)].content


def _last_user(conversation: Conversation) -> int:
    """Return the index of the last user message."""
    for index in range(len(conversation) - 1, -1, -1):
        if conversation[index].role == "user":
            return index
    raise ModelError(
        "the conversation has no user message, so there is nothing to search for",
        hint="Ask a question: a conversation needs a message with the role user.",
    )
