"""A model that says what it is told: for tests, documentation and trying out a pipeline without weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.errors import ModelError
from tunesmith.models.base import Sampling
from tunesmith.models.metering import use
from tunesmith.records import Answer, Conversation


@dataclass(frozen=True, slots=True)
class FakeModel:
    """A ChatModel of prepared replies: by the last message's text, or by a function of the conversation.

    A word, with the space before it, is a token. `max_tokens` and `stop` are obeyed, temperature and seed are
    not; a message without a reply raises ModelError.
    """

    replies: Mapping[str, str] | Callable[[Conversation], str]
    name: str = "fake"

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return one answer for each conversation, in order; no time passes."""
        answers = [self._answer(conversation, sampling) for conversation in conversations]
        use(sum(each.prompt_tokens for each in answers), sum(each.completion_tokens for each in answers))
        return answers

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the answer word by word."""
        answer, said = self._answer(conversation, sampling), 0
        try:
            for token in _tokens(answer.text):
                said += 1
                yield token
        finally:
            use(answer.prompt_tokens, said)

    def _answer(self, conversation: Conversation, sampling: Sampling) -> Answer:
        text = self._text(conversation)
        for stop in sampling.stop:
            before, found, _ = text.partition(stop)
            text = before + found
        tokens = _tokens(text)
        kept = tokens[: sampling.max_tokens]
        return Answer(
            text="".join(kept),
            prompt_tokens=sum(len(_tokens(message.content)) for message in conversation),
            completion_tokens=len(kept),
            finish="length" if len(kept) < len(tokens) else "stop",
        )

    def _text(self, conversation: Conversation) -> str:
        if callable(self.replies):
            return self.replies(conversation)
        question = conversation[-1].content
        if question not in self.replies:
            raise ModelError(
                f"the model {self.name!r} has no reply to {question[:80]!r}",
                hint="Add it to `replies`, or pass a function that answers everything.",
            )
        return self.replies[question]


def _tokens(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*\Z|\s*\S+|\s+", text)
