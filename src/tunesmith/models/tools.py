"""Tools: a model is told of functions, calls one, hears what is wrong with the call or what it gave, and answers.

Models are told in their chat template's own way or, at a service, in the wire format's; the others in words, as the
server tells them (`messages`). What is not covered: several calls in one turn; the first counts.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.models.base import CallingModel, ChatModel, Functions, Retriever, Sampling
from tunesmith.models.call_schemas import call_schema
from tunesmith.models.messages import Call, result_of, told_of
from tunesmith.models.wrappers import question, told
from tunesmith.records import Answer, Conversation, Message, Passage

_DEEPER = 4  # passages of documents, which are no functions, may stand among the entries
_BEGUN = re.compile(r'\{\s*"(name|function|tool_calls)"')
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


class ToolSettings(BaseModel):
    """How many functions a question gets, which of them may be run, and how often their results go back.

    `run` holds ids of functions of Python packages that are safe to run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=5, ge=1, le=128)
    run: tuple[str, ...] = ()
    rounds: int = Field(default=2, ge=1, le=16)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call: what it stands for, and what the model is told of it.

    `parameters` is the JSON schema of its arguments, as JSON.
    """

    id: str
    name: str
    description: str
    parameters: str

    @property
    def told(self) -> dict[str, Any]:
        """What a model is told, in the form of OpenAI's functions."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": json.loads(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave when it was run, in words; `failed` if it gave an error."""

    words: str
    failed: bool = False


class Toolbox(Protocol):
    """The functions that may be called, and what becomes of a call."""

    def tool(self, entry_id: str) -> Tool | None:
        """Return the function that stands for what a passage's id names, None if there is none."""
        ...

    def named(self, name: str) -> Tool | None:
        """Return the function of a name, or of an id, None if there is none."""
        ...

    def fault(self, tool: Tool, arguments: Mapping[str, Any]) -> str | None:
        """Return why a call cannot be made, None if it can."""
        ...

    def answer(self, tool: Tool, arguments: Mapping[str, Any], words: str) -> str:
        """Return a call as an answer shows it, behind the words (none: the function's own)."""
        ...

    def unknown(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Return a call of what does not exist as an answer shows it."""
        ...

    def run(self, tool: Tool, arguments: Mapping[str, Any]) -> Outcome | None:
        """Run a call that has no fault, None if it may not be run."""
        ...


#: Returns a model that can say nothing but JSON of the schema of each conversation.
Hold = Callable[[ChatModel, Callable[[Conversation], dict[str, Any]]], ChatModel]


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that a model made: the function's name and its arguments."""

    name: str
    arguments: Mapping[str, Any]


def call_in(text: str) -> Asked | None:
    """Return the first call in a text, None if there is none that can be read.

    Chat templates differ in what they teach: a call is an object with a name and `arguments` or `parameters`, perhaps
    as the `function` of another, with anything around it; arguments may be JSON in a string.
    """
    decoder = json.JSONDecoder()
    for found in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, found.start())
        except ValueError:
            continue
        if (asked := _call_of(value)) is not None:
            return asked
    return None


def _call_of(value: Any) -> Asked | None:
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("function"), dict):
        value = value["function"]
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    if isinstance(value.get("name"), str) and isinstance(arguments, dict):
        return Asked(value["name"], arguments)
    return None


def calling(
    model: ChatModel,
    toolbox: Toolbox,
    retriever: Retriever,
    *,
    count: int = 5,
    rounds: int = 2,
    hold: Hold | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ChatModel:
    """Return the model that may call, with each question, the `count` functions that the retriever finds for it.

    A call is checked against its function's schema and the catalogue. One that cannot be read or made is told to the
    model, which may call once more. One that may be run is, and its result goes back, `rounds` times at most; then the
    model says the answer, or calls again. The answer is the last call as the toolbox shows it, behind what the model
    said of its result; an answer without a call is the model's own text. With `hold` the first turn can be nothing but
    a call that fits: it is given the model and the JSON schema of a conversation's calls.

    `Answer.retrieved` names the functions' ids, `Answer.notes` what was done, and tokens and seconds are those of all
    turns. A stream yields the whole answer at its end, for a call is checked before it is shown.
    """
    return _Calling(model, toolbox, retriever, count, rounds, hold, clock)


@dataclass
class _Talk:
    """One conversation in the making: what was said so far, the functions it has, and its last good call."""

    conversation: Conversation
    tools: tuple[Tool, ...]
    passages: tuple[Passage, ...]
    turns: int = 0
    runs: int = 0
    asked_again: bool = False
    call: tuple[Tool, Mapping[str, Any]] | None = None
    spent: Answer = field(default_factory=lambda: Answer(""))
    text: str | None = None
    notes: list[str] = field(default_factory=list)

    def heard(self, answer: Answer) -> None:
        """Count a turn's tokens and time."""
        self.turns += 1
        self.spent = replace(
            answer,
            prompt_tokens=self.spent.prompt_tokens + answer.prompt_tokens,
            completion_tokens=self.spent.completion_tokens + answer.completion_tokens,
            seconds=self.spent.seconds + answer.seconds,
        )

    def goes_on(self, said: str, reply: str) -> None:
        """Add a turn of the assistant's and what the user says to it."""
        self.conversation = (*self.conversation, Message("assistant", said), Message("user", reply))


@dataclass(frozen=True, slots=True)
class _Calling:
    """A ChatModel that calls functions before it answers."""

    model: ChatModel
    toolbox: Toolbox
    retriever: Retriever
    count: int
    rounds: int
    hold: Hold | None
    clock: Callable[[], float]

    @property
    def name(self) -> str:
        """The model's name, and that it has tools."""
        return f"{self.model.name}+tools"

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return the answers; all conversations that go on are asked at once."""
        if not conversations:
            return []
        start = self.clock()
        found = self.retriever.search([question(one) for one in conversations], _DEEPER * self.count)
        searching = (self.clock() - start) / len(conversations)
        talks = [self._begun(one, passages) for one, passages in zip(conversations, found, strict=True)]
        while open_talks := [talk for talk in talks if talk.text is None]:
            for talk, answer in zip(open_talks, self._ask(open_talks, sampling), strict=True):
                talk.heard(answer)
                self._take(talk, answer)
        return [_whole(talk, searching) for talk in talks]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the whole answer."""
        [answer] = self.reply([conversation], sampling)
        yield answer.text

    def _begun(self, conversation: Conversation, passages: tuple[Passage, ...]) -> _Talk:
        known = [(one, tool) for one in passages if (tool := self.toolbox.tool(one.id)) is not None][
            : self.count
        ]
        passages = tuple(one for one, _ in known)
        tools = tuple(tool for _, tool in known)
        if tools and not self._tells_itself:
            conversation = told(conversation, told_of([tool.told for tool in tools]))
        return _Talk(conversation, tools, passages)

    @property
    def _tells_itself(self) -> bool:
        return isinstance(self.model, CallingModel) and self.model.knows_functions

    def _ask(self, talks: Sequence[_Talk], sampling: Sampling) -> list[Answer]:
        """Return each talk's next answer: those of which the first turn is held, and the others."""
        held = [talk for talk in talks if self.hold is not None and talk.turns == 0 and talk.tools]
        kept = set(map(id, held))
        free = [talk for talk in talks if id(talk) not in kept]
        said = {
            id(talk): answer
            for group in (held, free)
            for talk, answer in zip(group, self._said(group, sampling, held=group is held), strict=True)
        }
        return [said[id(talk)] for talk in talks]

    def _said(self, talks: Sequence[_Talk], sampling: Sampling, *, held: bool) -> list[Answer]:
        if not talks:
            return []
        tools = {talk.conversation: talk.tools for talk in talks}
        model = self.model
        if isinstance(model, CallingModel) and self._tells_itself:
            functions: Functions = lambda conversation: [tool.told for tool in tools[conversation]]  # noqa: E731
            model = model.calling(functions)
        if held and self.hold is not None:
            model = self.hold(model, lambda conversation: _any_call(tools[conversation]))
        return model.reply([talk.conversation for talk in talks], sampling)

    def _take(self, talk: _Talk, answer: Answer) -> None:
        """Do what an answer asks for: let the talk go on, or end it with a text."""
        asked = call_in(answer.text)
        if asked is None:
            self._end_in_words(talk, answer)
            return
        tool = self.toolbox.named(asked.name)
        if tool is None:
            fault: str | None = f"there is no function {asked.name}"
        else:
            fault = self.toolbox.fault(tool, asked.arguments)
        if fault is not None:
            self._refuse(talk, answer, fault, asked)
            return
        assert tool is not None
        talk.call = (tool, asked.arguments)
        outcome = self.toolbox.run(tool, asked.arguments) if talk.runs < self.rounds else None
        if outcome is None:
            talk.text = self.toolbox.answer(tool, asked.arguments, "")
            return
        talk.runs += 1
        talk.notes.append(f"{'failed' if outcome.failed else 'ran'}: {tool.id} gave {outcome.words}")
        talk.goes_on(_said(asked), result_of(tool.name, outcome.words))

    def _end_in_words(self, talk: _Talk, answer: Answer) -> None:
        if talk.call is not None:
            tool, arguments = talk.call
            talk.text = self.toolbox.answer(tool, arguments, _words(answer.text))
        elif _BEGUN.search(answer.text) and not talk.asked_again:
            self._refuse(talk, answer, "it is no JSON that can be read", None)
        else:
            talk.notes.append("no function was called")
            talk.text = answer.text

    def _refuse(self, talk: _Talk, answer: Answer, fault: str, asked: Asked | None) -> None:
        """Ask again, once; else answer with the last good call, or show the bad one as it is."""
        talk.notes.append(f"refused: {fault}")
        if not talk.asked_again:
            talk.asked_again = True
            said = answer.text if asked is None else _said(asked)
            talk.goes_on(
                said, f"That call cannot be made: {fault}. Call again, with JSON alone, and so that it can."
            )
            return
        if talk.call is not None:
            talk.text = self.toolbox.answer(*talk.call, "")
        elif asked is not None and (tool := self.toolbox.named(asked.name)) is not None:
            talk.text = self.toolbox.answer(tool, asked.arguments, "")
        else:
            talk.text = answer.text if asked is None else self.toolbox.unknown(asked.name, asked.arguments)


def _any_call(tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the JSON schema of a call of one of the functions."""
    return call_schema({tool.name: json.loads(tool.parameters) for tool in tools})


def _said(asked: Asked) -> str:
    return Call(asked.name, json.dumps(asked.arguments)).said


def _words(text: str) -> str:
    """Return what a model says of a result, in one paragraph and without code: the code is the call's."""
    return " ".join(_FENCED.sub(" ", text).split())


def _whole(talk: _Talk, searching: float) -> Answer:
    return replace(
        talk.spent,
        text=talk.text or "",
        seconds=talk.spent.seconds + searching,
        retrieved=tuple(passage.id for passage in talk.passages),
        notes=tuple(talk.notes),
    )
