"""Rails around what is asked and answered here: chats and completions, local and remote, whole or as a stream.

They work on what travels, so that a model on this machine and one behind a service are within the same rails. What was
found stands in each choice under `guard`, which OpenAI's API does not have; what is refused ends by "content_filter",
which it has.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import anyio.to_thread
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from tunesmith.guarding.guard import Guard, Shown, Watch, asked_again
from tunesmith.guarding.policy import Policy
from tunesmith.guarding.rails import Action, Context, Finding, Outcome, strictest
from tunesmith.guarding.tools import calls_of, lines_of
from tunesmith.guards import guard_of
from tunesmith.inference.compute import computed, computed_apart
from tunesmith.inference.requests import Piece, Result
from tunesmith.models.base import Encoder
from tunesmith.models.messages import Call, ChatMessage
from tunesmith.project import Project
from tunesmith.records import Passage
from tunesmith.serving.answers import as_events, as_json, data, data_in
from tunesmith.serving.errors import ApiError, invalid
from tunesmith.serving.ids import new_id
from tunesmith.serving.wire.chat import CreateChat, CreateCompletion

Body = TypeVar("Body", CreateChat, CreateCompletion)
Answering = Callable[[Body], Awaitable[Response]]
_DONE = "data: [DONE]\n\n"
# What of an answer goes on beside its choices: no rail looks at other fields.
_HEAD: Final = ("id", "object", "created", "model", "usage", "system_fingerprint", "service_tier")


def rails_of(policy: Policy, folder: Path, project: Project | None = None) -> Guard:
    """Return a policy's rails; where they need an encoder, it is computed where all models here are.

    Calls are held against the project's catalogue unless the policy names another. Raises ConfigError, and UsageError
    where that catalogue is not made yet.
    """
    calls = policy.output.calls
    needed = project is not None and calls is not None and calls.catalogue is None
    catalogue = project.catalogue if project is not None and needed else None
    return guard_of(policy, folder, catalogue=catalogue, load_encoder=_in_turn)


def sent(guard: Guard | None, body: BaseModel) -> dict[str, Any] | None:
    """Return what a service gets within rails: the body as it was read here; None: what the request holds."""
    return None if guard is None else body.model_dump(mode="json", by_alias=True, exclude_unset=True)


@dataclass(frozen=True, slots=True)
class Heard:
    """A chat as a model may read it, what was found in it, and what its answer is held against."""

    body: CreateChat
    found: Outcome
    context: Context


def hear(guard: Guard, body: CreateChat) -> Heard:
    """Look at what users say in a chat, and at the results of tools, which nobody has vouched for.

    A result that is refused is left out, and the chat goes on.
    """
    users = [at for at, each in enumerate(body.messages) if each.role == "user"]
    texts, found = guard.heard([body.messages[at].under_name for at in users])
    messages, passages, findings = list(body.messages), list[Passage](), list[Finding]()
    for at, text in zip(users, texts, strict=True):
        if text != messages[at].under_name:
            messages[at] = _saying(messages[at], text)
    for at, message in enumerate(body.messages):
        if message.role not in ("tool", "function"):
            continue
        source = message.name or message.tool_call_id or ""
        shown, about = guard.shown([Passage(source, message.under_name, 1.0)])
        passages += shown
        findings += about
        text = shown[0].text if shown else f"[left out: {about[-1].reason}]"
        if text != message.under_name:
            messages[at] = _saying(message, text)
    context = Context(question=texts[-1] if texts else "", passages=tuple(passages))
    whole = Outcome(found.action, found.text, (*found.findings, *findings))
    return Heard(body.model_copy(update={"messages": messages}), whole, context)


def _saying(message: ChatMessage, text: str) -> ChatMessage:
    """Return a message that says a text, under its name only where the text still begins with it."""
    if message.name is None:
        return message.model_copy(update={"content": text})
    under = f"{message.name}: "
    if text.startswith(under):
        return message.model_copy(update={"content": text.removeprefix(under)})
    given = message.model_dump(exclude_unset=True, exclude={"name"})
    # The result of a function cannot be sent without a name.
    named = {"name": "left_out"} if message.role == "function" else {}
    return ChatMessage.model_validate(given | named | {"content": text})


async def chat(
    guard: Guard, body: CreateChat, answer: Answering[CreateChat], shown: Sequence[Shown] = ()
) -> Response:
    """Answer a chat within rails; `shown` grows by what `answer` retrieves before it returns."""
    heard = await anyio.to_thread.run_sync(hear, guard, body)
    if heard.found.action == "refuse":
        return _refusal(guard, body, heard.found, chat=True)
    return await _answered(
        _Turn(guard, heard.body, heard.context, heard.found.findings, answer, chat=True, shown=shown)
    )


async def completion(guard: Guard, body: CreateCompletion, answer: Answering[CreateCompletion]) -> Response:
    """Go on from texts within rails; raises ApiError for a prompt of token ids, which cannot be looked at."""
    prompts = _prompts(body)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if len(texts) < len(prompts):
        raise invalid("This server looks at what it is asked: send the prompt as text.", param="prompt")
    outcomes = [await anyio.to_thread.run_sync(guard.look, "input", text) for text in texts]
    findings = tuple(each for found in outcomes for each in found.findings)
    refused = next((found for found in outcomes if found.action == "refuse"), None)
    if refused is not None:
        return _refusal(guard, body, refused, chat=False)
    read = [found.text for found in outcomes]
    told = body.model_copy(update={"prompt": read[0] if isinstance(body.prompt, str) else read})
    return await _answered(_Turn(guard, told, Context(question=read[0]), findings, answer, chat=False))


def _prompts(body: CreateCompletion) -> list[Any]:
    return [body.prompt] if isinstance(body.prompt, str) else list(body.prompt)


def _choices(body: CreateChat | CreateCompletion) -> int:
    """Return how many choices are asked for: `n` of each prompt."""
    return (body.n or 1) * (1 if isinstance(body, CreateChat) else len(_prompts(body)))


@dataclass(frozen=True)
class _Turn(Generic[Body]):
    """What is asked, and how an answer is had; `shown` is what was retrieved for it meanwhile."""

    guard: Guard
    body: Body
    heard: Context
    findings: tuple[Finding, ...]
    answer: Answering[Body]
    chat: bool
    shown: Sequence[Shown] = ()

    @property
    def context(self) -> Context:
        """What an answer is held against."""
        passages = [*self.heard.passages]
        for each in self.shown:
            passages += each.passages
        return replace(self.heard, passages=tuple(passages))

    @property
    def several(self) -> bool:
        """Whether more than one choice is asked for."""
        return _choices(self.body) > 1

    def again(self, number: int, said: str, reason: str) -> Body:
        """Return what is asked after the choice of this number was not accepted: one answer, and why."""
        if not isinstance(self.body, CreateChat):
            # What is gone on from has no place for words to the model: it is only drawn once more.
            prompt = _prompts(self.body)[number // (self.body.n or 1)]
            return self.body.model_copy(update={"n": 1, "prompt": prompt})
        return again(self.body, said, reason)

    def noted(self, findings: Sequence[Finding]) -> dict[str, Any]:
        """Return the field in which a choice says what was found."""
        return noted((*self.findings, *(found for each in self.shown for found in each.findings), *findings))


def again(body: CreateChat, said: str, reason: str) -> CreateChat:
    """Return the chat in which a model is told why its answer was not accepted; one more answer is asked for."""
    words = [
        ChatMessage(role=each.role, content=each.content)
        for each in asked_again((), said or "(nothing)", reason)
    ]
    return body.model_copy(update={"messages": [*body.messages, *words], "n": 1})


def noted(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the field in which an answer says what was found, none if that is nothing."""
    if not findings:
        return {}
    told = dict.fromkeys((each.rail, each.action, each.reason) for each in findings)
    return {"guard": [{"rail": rail, "action": action, "reason": reason} for rail, action, reason in told]}


async def _answered(turn: _Turn[Any]) -> Response:
    response = await turn.answer(turn.body)
    if response.status_code != 200:
        return response
    if isinstance(response, StreamingResponse):
        return as_events(_stream(turn, response))
    whole: dict[str, Any] = json.loads(bytes(response.body))
    choices = []
    for choice in whole["choices"]:
        said, whole = await _judged(turn, choice, whole)
        choices.append(said)
    return as_json(_kept(whole, (*_HEAD, "tunesmith")) | {"choices": choices})


def _kept(given: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: given[key] for key in keys if key in given}


async def _judged(
    turn: _Turn[Any], choice: dict[str, Any], whole: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a choice as it may be given, asked for again if need be, and the answer with the tokens of all of them."""
    findings = list[Finding]()
    for left in range(turn.guard.tries, -1, -1):
        looked = await anyio.to_thread.run_sync(_look, turn, choice)
        found = looked.found
        findings += found.findings
        if found.action != "ask_again" or not left:
            break
        response = await turn.answer(turn.again(choice["index"], _said(turn, choice), found.reason))
        if response.status_code != 200:
            break
        more = json.loads(bytes(response.body))
        whole |= {"usage": _summed(whole.get("usage"), more.get("usage"))} | _kept(more, ("tunesmith",))
        choice = more["choices"][0] | {"index": choice["index"]}
    stopped = found.action in ("ask_again", "refuse")
    return _given(turn, choice, looked) | turn.noted(findings), whole | _beside(turn.guard, whole, stopped)


def _beside(guard: Guard, whole: dict[str, Any], stopped: bool) -> dict[str, Any]:
    """Return what a project's contender tells beside its answer; of one that is refused, what was retrieved alone."""
    told = whole.get("tunesmith")
    if not isinstance(told, dict):
        return {}
    retrieved = _kept(told, ("retrieved",))
    if stopped:
        return {"tunesmith": retrieved | {"cited": (), "confidence": None, "notes": ()}}
    notes = guard.noted([str(note) for note in told.get("notes") or ()])
    return {"tunesmith": retrieved | _kept(told, ("cited", "confidence")) | {"notes": notes}}


@dataclass(frozen=True, slots=True)
class _Looked:
    """What becomes of a choice, and its calls as they may be made; none where they are only shown."""

    found: Outcome
    calls: tuple[Call, ...] = ()


def _look(turn: _Turn[Any], choice: dict[str, Any]) -> _Looked:
    """Return what becomes of a choice: of its words and of its calls."""
    words = turn.guard.look("output", _words(turn, choice), turn.context)
    calls = _calls(choice.get("message", {}))
    if not calls or words.action in ("ask_again", "refuse"):
        return _Looked(words)
    called = turn.guard.called(calls, turn.context)
    findings, made = (*words.findings, *called.findings), calls_of(called.text)
    return _Looked(Outcome(strictest(findings), words.text if made else called.text, findings), made)


def _words(turn: _Turn[Any], choice: dict[str, Any]) -> str:
    return _content(choice["message"]) if turn.chat else choice["text"] or ""


def _content(message: dict[str, Any]) -> str:
    """Return what a message or a delta says; a service's own refusal is words, too."""
    return message.get("content") or message.get("refusal") or ""


def _said(turn: _Turn[Any], choice: dict[str, Any]) -> str:
    """Return what a choice says as the model has said it: words, and calls as JSON."""
    parts = (_words(turn, choice), lines_of(_calls(choice.get("message", {}))))
    return "\n".join(part for part in parts if part)


def _calls(message: dict[str, Any]) -> list[Call]:
    """Return the calls of a message."""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    if message.get("function_call"):
        functions.append(message["function_call"])
    return [Call(each.get("name") or "", each.get("arguments") or "{}") for each in functions]


def _given(turn: _Turn[Any], choice: dict[str, Any], looked: _Looked) -> dict[str, Any]:
    """Return a choice as it may be given, of what was looked at alone: as it is, with another text, or refused."""
    found, finish = looked.found, choice.get("finish_reason")
    stopped = found.action in ("ask_again", "refuse")
    if stopped:
        finish = "content_filter"
    elif finish in ("tool_calls", "function_call") and not looked.calls:
        finish = "stop"
    # The tokens that were said would tell what was taken out.
    logprobs = choice.get("logprobs") if found.action == "allow" else None
    given = {"index": choice["index"], "logprobs": logprobs, "finish_reason": finish}
    text = turn.guard.refused(found.reason) if stopped else found.text
    if not turn.chat:
        return given | {"text": text}
    message = choice["message"]
    said: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
    if found.action == "allow" and not message.get("content"):
        said |= {"content": message.get("content"), "refusal": message.get("refusal")}
    return given | {"message": said | ({} if stopped else _made(message, looked.calls))}


def _made(message: dict[str, Any], calls: Sequence[Call]) -> dict[str, Any]:
    """Return the calls of a message as they may be made."""
    functions = [{"name": call.name, "arguments": call.arguments} for call in calls]
    tools = message.get("tool_calls") or ()
    made: dict[str, Any] = {}
    if functions and tools:
        made["tool_calls"] = [
            {"id": call.get("id"), "type": "function", "function": function}
            for call, function in zip(tools, functions, strict=False)
        ]
    if len(functions) > len(tools):
        made["function_call"] = functions[-1]
    return made


def _summed(usage: Any, more: Any) -> Any:
    """Return the tokens of two answers together; details are those of the first."""
    if not isinstance(usage, dict) or not isinstance(more, dict):
        return usage or more
    keys = ("prompt_tokens", "completion_tokens", "total_tokens")
    return usage | {key: usage.get(key, 0) + more.get(key, 0) for key in keys}


# --- refused before anything is asked


def _refusal(guard: Guard, body: CreateChat | CreateCompletion, found: Outcome, *, chat: bool) -> Response:
    """Return the refusal as an answer, or as a stream of one, that no model was asked for."""
    text = guard.refused(found.reason)
    kind, prefix = ("chat.completion", "chatcmpl-") if chat else ("text_completion", "cmpl-")
    streamed = bool(body.stream)
    head = {
        "id": new_id(prefix),
        "object": f"{kind}.chunk" if streamed and chat else kind,
        "created": int(time.time()),
        "model": body.model,
    }
    said: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    choices = [
        {"index": number, "logprobs": None, "finish_reason": "content_filter"}
        | ({"delta" if streamed else "message": said} if chat else {"text": text})
        | noted(found.findings)
        for number in range(_choices(body))
    ]
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    if not streamed:
        return as_json(head | {"choices": choices, "usage": usage})

    async def events() -> AsyncIterator[str]:
        yield data(head | {"choices": choices})
        if body.stream_options is not None and body.stream_options.include_usage:
            yield data(head | {"choices": [], "usage": usage})
        yield _DONE

    return as_events(events())


# --- streams


@dataclass
class _Begun:
    """A call that comes in parts; one that has no index came as `function_call`, as calls once did."""

    index: int | None
    id: str | None
    name: str = ""
    arguments: str = ""

    def is_over(self, id: str | None, name: str) -> bool:
        """Tell whether a part with this id and name belongs to another call."""
        if id and self.id:
            return id != self.id or bool(name and self.name and name != self.name)
        return bool(name and self.name)

    def made(self, number: int, call: Call) -> dict[str, Any]:
        """Return the delta in which the call is made as it may be."""
        function = {"name": call.name, "arguments": call.arguments}
        if self.index is None:
            return {"function_call": function}
        made = {"index": number, "id": self.id or new_id("call_"), "type": "function", "function": function}
        return {"tool_calls": [made]}


@dataclass
class _Saying:
    """One choice of a stream: what of it may go on, and how it ends."""

    turn: _Turn[Any]
    number: int
    tries: int
    watch: Watch = field(init=False)
    calls: list[_Begun] = field(default_factory=list)
    over: bool = False
    refused: bool = False
    # Why it is asked again, once it is.
    again: Outcome | None = None

    def __post_init__(self) -> None:
        self.watch = Watch(self.turn.guard, self.turn.context)

    def take(self, choice: dict[str, Any]) -> list[dict[str, Any]]:
        """Take a piece of the choice, and return the pieces that may go on, of what was looked at alone."""
        if self.over:
            return []
        delta = choice.get("delta") or {}
        self._hold(delta)
        pieces = [self._of({"role": "assistant", "content": ""})] if delta.get("role") else []
        if passed := self.watch.feed(_content(delta) if self.turn.chat else choice.get("text") or ""):
            pieces.append(self._piece(passed))
        finish = choice.get("finish_reason")
        if finish is not None and not self.watch.stopped and (passed := self.watch.end()):
            pieces.append(self._piece(passed))
        if self.watch.stopped:
            return [*pieces, *self._stop(self.watch.action, ())]
        return pieces if finish is None else [*pieces, *self._end(finish)]

    def _hold(self, delta: dict[str, Any]) -> None:
        """Keep the calls of a delta back until all of them can be looked at."""
        for part in delta.get("tool_calls") or ():
            self._call(part.get("index") or 0, part.get("id"), part.get("function") or {})
        if delta.get("function_call"):
            self._call(None, None, delta["function_call"])

    def _call(self, index: int | None, id: str | None, function: dict[str, Any]) -> None:
        """Add a part to the call that it belongs to: another id, or a second name, begins another call."""
        name = function.get("name") or ""
        call = next((each for each in reversed(self.calls) if each.index == index), None)
        if call is None or call.is_over(id, name):
            call = _Begun(index, id)
            self.calls.append(call)
        call.id = call.id or id
        call.name = call.name or name
        call.arguments += function.get("arguments") or ""

    @property
    def said(self) -> str:
        """What has come, words and calls."""
        return "\n".join(part for part in (self.watch.come, lines_of(self._called)) if part)

    @property
    def _called(self) -> list[Call]:
        return [Call(each.name, each.arguments or "{}") for each in self.calls]

    def _end(self, finish: str) -> list[dict[str, Any]]:
        found = self.turn.guard.called(self._called, self.turn.context)
        if found.action in ("ask_again", "refuse"):
            return self._stop(found.action, found.findings)
        self.over = True
        findings, made = (*self.watch.findings, *found.findings), calls_of(found.text)
        if self.calls and not made:
            return [self._piece(found.text), self._last("stop", findings)]
        calls = zip(self.calls, made, strict=False)
        return [
            *(self._of(begun.made(number, call)) for number, (begun, call) in enumerate(calls)),
            self._last(finish, findings),
        ]

    def _stop(self, action: Action, more: Sequence[Finding]) -> list[dict[str, Any]]:
        """Return how a choice ends that may not go on; nothing if it is asked again."""
        self.over = True
        found = Outcome(action, "", (*self.watch.findings, *more))
        if found.action == "ask_again" and self.tries and not self.watch.said:
            self.again = found
            return []
        self.refused = True
        text = self.turn.guard.refused(found.reason)
        piece = self._piece(f"\n\n{text}" if self.watch.said else text)
        return [piece, self._last("content_filter", found.findings)]

    def _piece(self, text: str) -> dict[str, Any]:
        return self._of({"content": text} if self.turn.chat else text)

    def _of(self, said: dict[str, Any] | str) -> dict[str, Any]:
        """Return a piece with a delta, or with a text."""
        key = "text" if isinstance(said, str) else "delta"
        return {"index": self.number, "logprobs": None, "finish_reason": None, key: said}

    def _last(self, finish: str, findings: Sequence[Finding]) -> dict[str, Any]:
        ended = self._of({} if self.turn.chat else "")
        return ended | {"finish_reason": finish} | self.turn.noted(findings)


async def _stream(turn: _Turn[Any], response: StreamingResponse) -> AsyncIterator[str]:
    """Yield a stream's events with what may go on of them; a single answer may be asked for again."""
    head: dict[str, Any] = {}
    usage: Any = None
    earlier = tuple[Finding, ...]()
    for left in range(0 if turn.several else turn.guard.tries, -1, -1):
        told = replace(turn, findings=(*turn.findings, *earlier))
        saying: dict[int, _Saying] = {}
        begun = bool(head)
        async for event in _events(response):
            if isinstance(event, str) or "choices" not in event:
                if line := _beside_choices(event):
                    yield line
                continue
            head = head or {key: event[key] for key in ("id", "created", "model") if key in event}
            if event.get("usage"):
                usage = _summed(usage, event["usage"])
            for choice in event["choices"]:
                number = choice["index"]
                one = saying.setdefault(number, _Saying(told, number, left))
                for piece in one.take(choice):
                    if not (begun and (piece.get("delta") or {}).get("role")):
                        yield data(_kept(event, _HEAD) | head | {"choices": [piece]})
            if not event["choices"] and not any(one.again for one in saying.values()):
                refused = any(one.refused for one in saying.values())
                beside = _beside(turn.guard, event, refused)
                yield data(_kept(event, _HEAD) | head | {"choices": [], "usage": usage} | beside)
        unwanted = next((one for one in saying.values() if one.again), None)
        if unwanted is None or unwanted.again is None:
            break
        earlier += unwanted.again.findings
        response = await _streamed(told, told.again(0, unwanted.said, unwanted.again.reason))
    yield _DONE


def _beside_choices(event: dict[str, Any] | str) -> str:
    """Return what goes on of an event without choices: a comment, or an error, which a service says itself."""
    if isinstance(event, str):
        return event
    return data(_kept(event, ("error",))) if "error" in event else ""


async def _streamed(turn: _Turn[Any], body: Any) -> StreamingResponse:
    response = await turn.answer(body)
    if isinstance(response, StreamingResponse):
        return response

    async def alone() -> AsyncIterator[str]:
        # An error of the service, told as a stream tells it.
        yield f"data: {bytes(response.body).decode()}\n\n"

    return StreamingResponse(alone())


async def _events(response: StreamingResponse) -> AsyncIterator[dict[str, Any] | str]:
    """Yield what a stream's events say, and its comments without their words; it is closed with this one.

    Other fields, of which chats and completions have none, do not go on. Data that is no JSON, which no rail can read,
    ends the stream with an error.
    """
    left = ""
    iterator = response.body_iterator
    try:
        async for piece in iterator:
            left += piece if isinstance(piece, str) else bytes(piece).decode()
            *lines, left = left.split("\n")
            for line in lines:
                said = data_in(line)
                if line.startswith(":"):
                    yield ":\n\n"
                elif said and said != "[DONE]":
                    event = _event(said)
                    yield event
                    if "error" in event:
                        return
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def _event(said: str) -> dict[str, Any]:
    """Return what data says, or the error that it says nothing that can be read."""
    try:
        event = json.loads(said)
    except ValueError:
        event = None
    if isinstance(event, dict):
        return event
    error = ApiError(502, "The model's service sent data that is no JSON object.", code="bad_gateway")
    return error.body()


# --- responses


async def watched(
    watch: Watch, pieces: AsyncIterator[tuple[int, Piece | Result]]
) -> AsyncIterator[tuple[int, Piece | Result]]:
    """Yield the pieces of one local answer that may go on, without their tokens, and its result with the same words."""
    async for number, came in pieces:
        if isinstance(came, Piece):
            if passed := watch.feed(came.text):
                yield number, Piece(passed)
            continue
        if passed := watch.end():
            yield number, Piece(passed)
        if watch.stopped:
            text = watch.guard.refused(watch.reason)
            text = f"\n\n{text}" if watch.said else text
            yield number, Piece(text)
            watch.said += text
        yield number, replace(came, text=watch.said, logprobs=())


async def alone(result: Result) -> AsyncIterator[tuple[int, Piece | Result]]:
    """Yield what no model was asked for, as pieces of an answer come."""
    yield 0, Piece(result.text)
    yield 0, result


def refused(guard: Guard, reason: str) -> Result:
    """Return a refusal as a result that took no tokens."""
    return Result(guard.refused(reason), (), "stop", 0, 0)


# --- encoders


@dataclass(frozen=True, slots=True)
class _InTurn:
    """An encoder that takes its turn among all that is computed here."""

    encoder: Encoder

    @property
    def name(self) -> str:
        """The encoder's address."""
        return self.encoder.name

    def embed(self, texts: Sequence[str]) -> Any:
        """Return the encoder's vectors."""
        return computed(partial(self.encoder.embed, texts))


def _in_turn(address: str) -> Encoder:
    from tunesmith.models.address import load_encoder

    return _InTurn(computed_apart(lambda: load_encoder(address)))
