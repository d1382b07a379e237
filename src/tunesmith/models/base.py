"""A model is anything that answers conversations: the protocols that all of them obey."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tunesmith.records import Answer, Conversation, Passage

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick tokens: greedy at temperature 0. `stop` ends an answer after the first of these strings.

    `schema` is a JSON schema, as text, that the answer is wanted in. A service that can is told so; others are not
    bound by it, so that who asks must read what comes. `anew` wants an answer thought out again, though the model
    may know what it said before: its seconds are what is asked for.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    schema: str = ""
    anew: bool = False


@runtime_checkable
class ChatModel(Protocol):
    """Answers conversations: in batches for evaluating, in a stream for serving."""

    @property
    def name(self) -> str:
        """The model's address or, for a wrapped model, what was done to it."""
        ...

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return one answer for each conversation, in order."""
        ...

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield pieces of the answer; joined they are what `reply` would have said."""
        ...


#: The functions that a conversation's model may call, each with its name, description and JSON schema of parameters.
Functions = Callable[[Conversation], Sequence[Mapping[str, Any]]]


@runtime_checkable
class CallingModel(Protocol):
    """A ChatModel with a way of its own to be told of functions; what it calls is in the answer's text, as JSON."""

    @property
    def knows_functions(self) -> bool:
        """Whether it has one: of local models, the chat template says so."""
        ...

    def calling(self, functions: Functions) -> ChatModel:
        """Return the same model, told of each conversation's functions."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors of length one, so that a dot product is a cosine."""

    @property
    def name(self) -> str:
        """The encoder's address."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """Return an array of shape (texts, dimensions)."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Finds the passages nearest to a question."""

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return for each question its `count` nearest passages, nearest first."""
        ...
