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
from typing import Any, Generic, TypeVar

import anyio.to_thread
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from tunesmith.guarding.guard import Guard, Shown, Watch, asked_again
from tunesmith.guarding.policy import Policy
from tunesmith.guarding.rails import Context, Finding, Outcome, strictest
from tunesmith.guards import guard_of
from tunesmith.inference.compute import computed, computed_apart
from tunesmith.inference.requests import Piece, Result
from tunesmith.models.base import Encoder
from tunesmith.models.messages import Call, ChatMessage
from tunesmith.project import Project
from tunesmith.records import Passage
from tunesmith.serving.answers import as_events, as_json, data
from tunesmith.serving.errors import invalid
from tunesmith.serving.ids import new_id
from tunesmith.serving.wire.chat import CreateChat, CreateCompletion

Body = TypeVar("Body", CreateChat, CreateCompletion)
Answering = Callable[[Body], Awaitable[Response]]
_DONE = "data: [DONE]\n\n"


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
    texts, found = guard.heard([body.messages[at].words for at in users])
    messages, passages, findings = list(body.messages), list[Passage](), list[Finding]()
    for at, text in zip(users, texts, strict=True):
        if text != messages[at].words:
            messages[at] = messages[at].model_copy(update={"content": text})
    for at, message in enumerate(body.messages):
        if message.role not in ("tool", "function"):
            continue
        source = message.name or message.tool_call_id or ""
        shown, about = guard.shown([Passage(source, message.words, 1.0)])
        passages += shown
        findings += about
        text = shown[0].text if shown else f"[left out: {about[-1].reason}]"
        if text != message.words:
            messages[at] = message.model_copy(update={"content": text})
    context = Context(question=texts[-1] if texts else "", passages=tuple(passages))
    whole = Outcome(found.action, found.text, (*found.findings, *findings))
    return Heard(body.model_copy(update={"messages": messages}), whole, context)


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
    prompts = [body.prompt] if isinstance(body.prompt, str) else list(body.prompt)
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

    def again(self, said: str, reason: str) -> Body:
        """Return what is asked after an answer was not accepted: one answer, and why."""
        if not isinstance(self.body, CreateChat):
            # What is gone on from has no place for words to the model: it is only drawn once more.
            return self.body.model_copy(update={"n": 1})
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
        said, whole["usage"] = await _judged(turn, choice, whole.get("usage"))
        choices.append(said)
    return as_json(whole | {"choices": choices})


async def _judged(turn: _Turn[Any], choice: dict[str, Any], usage: Any) -> tuple[dict[str, Any], Any]:
    """Return a choice as it may be given, asked for again if need be, and the tokens of all that was asked."""
    findings = list[Finding]()
    for left in range(turn.guard.tries, -1, -1):
        found = await anyio.to_thread.run_sync(_look, turn, choice)
        findings += found.findings
        if found.action != "ask_again" or not left:
            break
        response = await turn.answer(turn.again(_said(turn, choice), found.reason))
        if response.status_code != 200:
            break
        whole = json.loads(bytes(response.body))
        usage = _summed(usage, whole.get("usage"))
        choice = whole["choices"][0] | {"index": choice["index"]}
    return _given(turn, choice, found) | turn.noted(findings), usage


def _look(turn: _Turn[Any], choice: dict[str, Any]) -> Outcome:
    """Return what becomes of a choice: of its words and of its calls."""
    words = turn.guard.look("output", _words(turn, choice), turn.context)
    calls = _calls(choice.get("message", {}))
    if not calls or words.action in ("ask_again", "refuse"):
        return words
    called = turn.guard.look("tools", _lines(calls), turn.context)
    findings = (*words.findings, *called.findings)
    return Outcome(strictest(findings), called.text if called.action == "redact" else words.text, findings)


def _words(turn: _Turn[Any], choice: dict[str, Any]) -> str:
    return (choice["message"].get("content") if turn.chat else choice["text"]) or ""


def _said(turn: _Turn[Any], choice: dict[str, Any]) -> str:
    """Return what a choice says as the model has said it: words, and calls as JSON."""
    parts = (_words(turn, choice), _lines(_calls(choice.get("message", {}))))
    return "\n".join(part for part in parts if part)


def _calls(message: dict[str, Any]) -> list[Call]:
    """Return the calls of a message or of a whole delta."""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    if message.get("function_call"):
        functions.append(message["function_call"])
    return [Call(each.get("name") or "", each.get("arguments") or "{}") for each in functions]


def _lines(calls: Sequence[Call]) -> str:
    return "\n".join(json.dumps({"name": call.name, "arguments": call.arguments}) for call in calls)


def _given(turn: _Turn[Any], choice: dict[str, Any], found: Outcome) -> dict[str, Any]:
    """Return a choice as it may be given: as it is, with another text, or refused."""
    if found.action == "allow":
        return choice
    stopped = found.action in ("ask_again", "refuse")
    text = turn.guard.refused(found.reason) if stopped else found.text
    # What was to be called is only shown, or not even that.
    dropped = stopped or any(
        each.rail.startswith("tools.") and each.action == "redact" for each in found.findings
    )
    finish = "content_filter" if stopped else choice["finish_reason"]
    if dropped and finish in ("tool_calls", "function_call"):
        finish = "stop"
    # The tokens that were said would tell what was taken out.
    more = {"logprobs": None, "finish_reason": finish}
    if not turn.chat:
        return choice | {"text": text} | more
    kept: dict[str, Any] = {} if dropped else choice["message"]
    return choice | {"message": kept | {"role": "assistant", "content": text, "refusal": None}} | more


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
        for number in range(body.n or 1)
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
class _Saying:
    """One choice of a stream: what of it may go on, and how it ends."""

    turn: _Turn[Any]
    number: int
    tries: int
    watch: Watch = field(init=False)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    held: list[dict[str, Any]] = field(default_factory=list)
    over: bool = False
    # Why it is asked again, once it is.
    again: Outcome | None = None

    def __post_init__(self) -> None:
        self.watch = Watch(self.turn.guard, self.turn.context)

    def take(self, choice: dict[str, Any]) -> list[dict[str, Any]]:
        """Take a piece of the choice, and return the pieces that may go on."""
        if self.over:
            return []
        delta = choice.get("delta") or {}
        if delta.get("tool_calls") or delta.get("function_call"):
            self._hold(choice, delta)
            choice, delta = choice | {"delta": {}}, {}
        text = (delta.get("content") if self.turn.chat else choice.get("text")) or ""
        pieces = []
        if delta.get("role") and not text:
            pieces.append(choice | {"finish_reason": None})
        if passed := self.watch.feed(text):
            pieces.append(self._piece(passed))
        finish = choice.get("finish_reason")
        if finish is not None and not self.watch.stopped and (passed := self.watch.end()):
            pieces.append(self._piece(passed))
        if self.watch.stopped:
            return [*pieces, *self._stop(Outcome(self.watch.action, "", tuple(self.watch.findings)))]
        return pieces if finish is None else [*pieces, *self._end(finish)]

    def _hold(self, choice: dict[str, Any], delta: dict[str, Any]) -> None:
        """Keep the pieces of calls back until all of them can be looked at."""
        self.held.append(choice | {"finish_reason": None})
        for part in (
            *(delta.get("tool_calls") or ()),
            *([{"function": delta["function_call"]}] if delta.get("function_call") else ()),
        ):
            call = self.calls.setdefault(part.get("index", 0), {"name": "", "arguments": ""})
            for key in call:
                call[key] += (part.get("function") or {}).get(key) or ""

    @property
    def called(self) -> list[Call]:
        """The calls that have come."""
        return [Call(each["name"], each["arguments"] or "{}") for _, each in sorted(self.calls.items())]

    def _end(self, finish: str) -> list[dict[str, Any]]:
        calls = _lines(self.called)
        found = self.turn.guard.look("tools", calls, self.turn.context) if calls else None
        if found is not None and found.action in ("ask_again", "refuse"):
            return self._stop(found)
        self.over = True
        findings = (*self.watch.findings, *(found.findings if found else ()))
        if found is not None and found.action == "redact":
            return [self._piece(found.text), self._last("stop", findings)]
        return [*self.held, self._last(finish, findings)]

    def _stop(self, found: Outcome) -> list[dict[str, Any]]:
        """Return how a choice ends that may not go on; nothing if it is asked again."""
        self.over = True
        if found.action == "ask_again" and self.tries and not self.watch.said:
            self.again = found
            return []
        text = self.turn.guard.refused(found.reason)
        piece = self._piece(f"\n\n{text}" if self.watch.said else text)
        return [piece, self._last("content_filter", found.findings)]

    def _piece(self, text: str) -> dict[str, Any]:
        said = {"delta": {"content": text}} if self.turn.chat else {"text": text}
        return {"index": self.number, "logprobs": None, "finish_reason": None} | said

    def _last(self, finish: str, findings: Sequence[Finding]) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": {}} if self.turn.chat else {"text": ""}
        ended = {"index": self.number, "logprobs": None, "finish_reason": finish} | said
        return ended | self.turn.noted(findings)


async def _stream(turn: _Turn[Any], response: StreamingResponse) -> AsyncIterator[str]:
    """Yield a stream's events with what may go on of them; a single answer may be asked for again."""
    several = (turn.body.n or 1) > 1
    head: dict[str, Any] = {}
    usage: Any = None
    earlier = tuple[Finding, ...]()
    for left in range(0 if several else turn.guard.tries, -1, -1):
        told = replace(turn, findings=(*turn.findings, *earlier))
        saying: dict[int, _Saying] = {}
        begun = bool(head)
        async for event in _events(response):
            if isinstance(event, str) or "choices" not in event:
                if event != _DONE:
                    yield event if isinstance(event, str) else data(event)
                continue
            head = head or {key: event[key] for key in ("id", "created", "model") if key in event}
            if event.get("usage"):
                usage = _summed(usage, event["usage"])
            for choice in event["choices"]:
                number = choice["index"]
                one = saying.setdefault(number, _Saying(told, number, left))
                for piece in one.take(choice):
                    if not (begun and (piece.get("delta") or {}).get("role")):
                        yield data(event | head | {"choices": [piece]})
            if not event["choices"] and not any(one.again for one in saying.values()):
                yield data(event | head | {"usage": usage})
        unwanted = next((one for one in saying.values() if one.again), None)
        if unwanted is None or unwanted.again is None:
            break
        earlier += unwanted.again.findings
        said = unwanted.watch.come or _lines(unwanted.called)
        response = await _streamed(told, told.again(said, unwanted.again.reason))
    yield _DONE


async def _streamed(turn: _Turn[Any], body: Any) -> StreamingResponse:
    response = await turn.answer(body)
    if isinstance(response, StreamingResponse):
        return response

    async def alone() -> AsyncIterator[str]:
        # An error of the service, told as a stream tells it.
        yield f"data: {bytes(response.body).decode()}\n\n"

    return StreamingResponse(alone())


async def _events(response: StreamingResponse) -> AsyncIterator[dict[str, Any] | str]:
    """Yield a stream's events, those that are JSON as what they say; it is closed with this one."""
    left = ""
    iterator = response.body_iterator
    try:
        async for piece in iterator:
            left += piece if isinstance(piece, str) else bytes(piece).decode()
            *lines, left = left.split("\n")
            for line in lines:
                if line.startswith("data: {"):
                    yield json.loads(line.removeprefix("data: "))
                elif line:
                    yield f"{line}\n\n"
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


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
