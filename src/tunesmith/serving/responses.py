"""Responses: OpenAI's newer door to the same answers, which remembers what was said by the id of the last response."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Final, Literal

import anyio.to_thread
from fastapi import Query, Request
from pydantic import ValidationError
from sqlalchemy import delete
from starlette.responses import Response as HttpResponse

from tunesmith.errors import ModelError
from tunesmith.guarding.guard import Guard, Watch
from tunesmith.guarding.rails import Finding
from tunesmith.inference.requests import Generation, Piece, Result, TokenLogprob
from tunesmith.models.local import prompt_ids
from tunesmith.serving import asking, items, proxy, rails
from tunesmith.serving.answers import STREAMS, as_events, as_json, data
from tunesmith.serving.chat import requests_of
from tunesmith.serving.errors import ApiError, invalid, not_found
from tunesmith.serving.ids import new_id
from tunesmith.serving.keys import Caller
from tunesmith.serving.paging import listed
from tunesmith.serving.roster import Local, Remote
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Asker, Server, Services
from tunesmith.serving.store import Store
from tunesmith.serving.tables import Response
from tunesmith.serving.talk import conversation_of, made_calls
from tunesmith.serving.wire.chat import CreateChat
from tunesmith.serving.wire.responses import CreateResponse, Item, Question

router = api_router("/v1/responses", "responses")

# How long a response can be referred to, as at OpenAI.
KEPT_SECONDS: Final = 30 * 24 * 3600
_LONGEST: Final = 2048


@router.post("", responses=STREAMS)
async def create(request: Request, server: Server, caller: Asker, body: CreateResponse) -> HttpResponse:
    """Answer an input, after what the response before it remembers."""
    await anyio.to_thread.run_sync(server.refuse_contender, caller.organisation, body.model)
    model = await anyio.to_thread.run_sync(server.roster.find, caller.organisation, body.model)
    spent = partial(server.limiter.spent, caller)
    if isinstance(model, Remote):
        if server.guard is not None:
            raise invalid(
                f"Within this server's rails '{body.model}' answers at /v1/chat/completions alone.",
                param="model",
            )
        return await proxy.forward(request, model, "/responses", body.model, spent=spent)
    turn = await anyio.to_thread.run_sync(_turn, server, caller, model, body)
    if server.guard is not None:
        refusal = await anyio.to_thread.run_sync(_hear, server.guard, turn)
        if refusal is not None:
            return await _refused(server, turn, refusal)
    going = asking.submit(model.engine, requests_of(model, turn.chat), "input", spent)
    if body.stream:
        return as_events(_stream(server, turn, _pieces(turn, going), going))
    [result] = await asking.results(request, going, "input")
    result = await _within(request, server, turn, result)
    return as_json(await anyio.to_thread.run_sync(_keep, server, turn, result, turn.output(result)))


@router.post("/input_tokens")
async def count(request: Request, server: Server, caller: Asker, body: Question) -> HttpResponse:
    """Count the tokens of an input as the model would read it."""
    await anyio.to_thread.run_sync(server.refuse_contender, caller.organisation, body.model)
    model = await anyio.to_thread.run_sync(server.roster.find, caller.organisation, body.model)
    if isinstance(model, Remote):
        return await proxy.forward(request, model, "/responses/input_tokens", body.model)
    before = await anyio.to_thread.run_sync(_before, server.store, caller, body.previous_response_id)
    chat = _chat(body, [*items.read(before), *body.items])
    ids = await anyio.to_thread.run_sync(_prompt, model, chat)
    return as_json({"object": "response.input_tokens", "input_tokens": len(ids)})


@router.get("/{response_id}", responses=STREAMS)
def retrieve(
    server: Server, caller: Asker, response_id: str, stream: Annotated[bool | None, Query()] = None
) -> HttpResponse:
    """Show a response."""
    if stream:
        raise invalid("A response that is over is not streamed again.", param="stream")
    return as_json(_find(server.store, caller, response_id).body)


@router.delete("/{response_id}")
def remove(server: Server, caller: Asker, response_id: str) -> HttpResponse:
    """Delete a response: nothing can refer to it any more."""
    row = _find(server.store, caller, response_id)
    with server.store.write() as session:
        session.execute(delete(Response).where(Response.number == row.number))
    return as_json({"id": response_id, "object": "response", "deleted": True})


@router.post("/{response_id}/cancel")
def cancel(server: Server, caller: Asker, response_id: str) -> HttpResponse:
    """Refuse to cancel: a response that is kept has ended."""
    row = _find(server.store, caller, response_id)
    raise invalid(f"The response '{row.id}' has ended; only a background response can be cancelled.")


@router.get("/{response_id}/input_items")
def input_items(
    server: Server,
    caller: Asker,
    response_id: str,
    after: Annotated[str | None, Query(max_length=256)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Literal["asc", "desc"], Query()] = "desc",
) -> HttpResponse:
    """List all that a response was given to read."""
    row = _find(server.store, caller, response_id)
    found: list[dict[str, Any]] = [*_before(server.store, caller, row.previous), *row.input]
    if order == "desc":
        found.reverse()
    if after is not None:
        places = [number for number, item in enumerate(found) if item["id"] == after]
        if not places:
            raise invalid(f"There is nothing with the id '{after}' to read on from.", param="after")
        found = found[places[0] + 1 :]
    return as_json(listed(found[:limit], len(found) > limit, lambda item: item))


def sweep(store: Store) -> None:
    """Delete the responses that are kept no longer."""
    with store.write() as session:
        session.execute(delete(Response).where(Response.created_at < store.clock() - KEPT_SECONDS))


@dataclass(slots=True)
class _Turn:
    """One answer in the making: who asked what, the chat that it became, and the response as it is shown meanwhile."""

    caller: Caller
    body: CreateResponse
    model: Local
    chat: CreateChat
    input: list[dict[str, Any]]
    shown: dict[str, Any]
    message: str = field(default_factory=lambda: new_id("msg_"))
    call: str = field(default_factory=lambda: new_id("fc_"))
    # Within rails: what was found in the input, and what looks at the answer.
    found: tuple[Finding, ...] = ()
    watch: Watch | None = None
    refused: bool = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that rails have found."""
        return (*self.found, *(self.watch.findings if self.watch else ()))

    @property
    def stopped(self) -> bool:
        """Whether a refusal stands in the place of the answer."""
        return self.refused or (self.watch is not None and self.watch.stopped)

    def output(self, result: Result) -> dict[str, Any]:
        """Return the item that a result is: a call or a message."""
        calls = made_calls(self.chat, result.text)
        status = "incomplete" if result.finish == "length" else "completed"
        if calls:
            # One call is made at a time: see `parallel_tool_calls`.
            [called] = calls
            return {
                "type": "function_call",
                "id": self.call,
                "call_id": new_id("call_"),
                "name": called.name,
                "arguments": called.arguments,
                "status": "completed",
            }
        part = self.part(result.text)
        if self.body.logprobs:
            tokenizer = self.model.tokenizer
            part["logprobs"] = [asking.logprob_shown(tokenizer, each) for each in result.logprobs]
        return {
            "type": "message",
            "id": self.message,
            "role": "assistant",
            "status": status,
            "content": [part],
        }

    def part(self, text: str) -> dict[str, Any]:
        """Return the part of a message that says a text."""
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def ended(self, result: Result, output: dict[str, Any], now: int) -> dict[str, Any]:
        """Return the response with its answer."""
        cut = self.stopped or (result.finish == "length" and output["type"] == "message")
        why = "content_filter" if self.stopped else "max_output_tokens"
        read, said = result.prompt_tokens, len(result.tokens)
        usage = {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": result.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + said,
        }
        return self.shown | {
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": why} if cut else None,
            "completed_at": None if cut else now,
            "output": [output],
            "usage": usage,
            **rails.noted(self.findings),
        }


def _turn(server: Services, caller: Caller, model: Local, body: CreateResponse) -> _Turn:
    """Put together what is asked. Raises ApiError for what is not there, does not fit, or cannot be rendered."""
    given = items.kept(body.items)
    said = [*items.read(_before(server.store, caller, body.previous_response_id)), *body.items]
    if len(said) > _LONGEST:
        raise invalid(f"The conversation has {len(said)} items; {_LONGEST} are read at most.", param="input")
    chat = _chat(body, said)
    if body.truncation == "auto":
        room = _context(model) - (body.max_output_tokens or 1)
        while len(_prompt(model, chat)) > room and len(said) > 1:
            # What a dropped call has given goes with it.
            said = said[1:]
            while len(said) > 1 and said[0].type == "function_call_output":
                said = said[1:]
            chat = _chat(body, said)
    return _Turn(caller, body, model, chat, given, _begun(body, server.store.clock()))


def _context(model: Local) -> int:
    return model.engine.context or 2**20


def _chat(body: Question, said: Sequence[Item]) -> CreateChat:
    try:
        return items.chat_of(body, said)
    except ValidationError as error:
        # Two rules hold for the whole alone: names of functions, and the choice among them.
        told = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise invalid(f"Invalid value for 'tools': {told}.", param="tools") from error


def _prompt(model: Local, chat: CreateChat) -> tuple[int, ...]:
    try:
        return tuple(prompt_ids(model.tokenizer, conversation_of(chat)))
    except ModelError as error:
        raise invalid(f"{error.message}. {error.hint or ''}".strip(), param="input") from error


def _before(store: Store, caller: Caller, previous: str | None) -> list[dict[str, Any]]:
    """Return all items up to and with a response, oldest first. Raises ApiError where one is not there."""
    turns: list[list[dict[str, Any]]] = []
    while previous is not None and sum(map(len, turns)) <= _LONGEST:
        try:
            row = _find(store, caller, previous)
        except ApiError as error:
            raise ApiError(
                400,
                f"Previous response with id '{previous}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            ) from error
        turns.append([*row.input, *row.body["output"]])
        previous = row.previous
    return [item for turn in reversed(turns) for item in turn]


def _find(store: Store, caller: Caller, id: str) -> Response:
    found: Response = store.find(Response, caller.organisation, id, "response")
    if found.created_at < store.clock() - KEPT_SECONDS:
        raise not_found("response", id)
    return found


def _keep(server: Services, turn: _Turn, result: Result, output: dict[str, Any]) -> dict[str, Any]:
    """Keep a response unless it is asked not to be, and return it."""
    whole = turn.ended(result, output, server.store.clock())
    if turn.body.store is not False:
        with server.store.write() as session:
            session.add(
                Response(
                    id=whole["id"],
                    organisation=turn.caller.organisation,
                    previous=turn.body.previous_response_id,
                    input=turn.input,
                    body=whole,
                    created_at=whole["created_at"],
                )
            )
    return whole


def _begun(body: CreateResponse, now: int) -> dict[str, Any]:
    """Return a response before anything is answered."""
    form = body.text.format if body.text else None
    tools = [
        {"type": "function", "name": tool.name, "description": tool.description, "strict": tool.strict}
        | {"parameters": tool.parameters}
        for tool in body.tools or ()
    ]
    choice = body.tool_choice
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now,
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        # One call is made at a time, whatever is allowed.
        "parallel_tool_calls": False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": None,
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": {"type": "text"} if form is None else _format_shown(form)},
        "tool_choice": "auto"
        if choice is None
        else choice
        if isinstance(choice, str)
        else choice.model_dump(),
        "tools": tools,
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
        "user": body.user,
    }


def _format_shown(form: Any) -> dict[str, Any]:
    shown: dict[str, Any] = form.model_dump(by_alias=True, exclude_none=True)
    return shown


def _hear(guard: Guard, turn: _Turn) -> Result | None:
    """Look at what is asked, note what the answer is held against, and return a refusal if it is one."""
    heard = rails.hear(guard, turn.chat)
    turn.chat, turn.found = heard.body, heard.found.findings
    turn.refused = heard.found.action == "refuse"
    if turn.refused:
        return rails.refused(guard, heard.found.reason)
    turn.watch = Watch(guard, heard.context)
    return None


async def _refused(server: Services, turn: _Turn, result: Result) -> HttpResponse:
    if turn.body.stream:
        return as_events(_stream(server, turn, rails.alone(result), []))
    return as_json(await anyio.to_thread.run_sync(_keep, server, turn, result, turn.output(result)))


def _pieces(turn: _Turn, going: list[Generation]) -> AsyncIterator[tuple[int, Piece | Result]]:
    pieces = asking.pieces(going)
    return pieces if turn.watch is None else rails.watched(turn.watch, pieces)


async def _within(request: Request, server: Services, turn: _Turn, result: Result) -> Result:
    """Return a whole answer as it may be given, asked for again if need be."""
    guard = server.guard
    if guard is None or turn.watch is None:
        return result
    for left in range(guard.tries, -1, -1):
        watch = Watch(guard, turn.watch.context)
        text = watch.feed(result.text) + watch.end()
        turn.watch = watch
        if not watch.stopped:
            # The tokens that were said would tell what was taken out.
            return result if text == result.text else replace(result, text=text, logprobs=())
        if watch.action != "ask_again" or not left:
            break
        turn.found += tuple(watch.findings)
        turn.chat = rails.again(turn.chat, result.text, watch.reason)
        spent = partial(server.limiter.spent, turn.caller)
        going = asking.submit(turn.model.engine, requests_of(turn.model, turn.chat), "input", spent)
        [result] = await asking.results(request, going, "input")
    return replace(result, text=guard.refused(turn.watch.reason), logprobs=())


async def _stream(
    server: Services, turn: _Turn, pieces: AsyncIterator[tuple[int, Piece | Result]], going: list[Generation]
) -> AsyncIterator[str]:
    """Yield a response as server-sent events; what may be a call is held back until it is whole."""
    events = _Events()
    try:
        yield events("response.created", response=turn.shown)
        yield events("response.in_progress", response=turn.shown)
        held: bool | None = None
        untold: list[TokenLogprob] = []
        async for _, came in pieces:
            if isinstance(came, Piece):
                untold += came.tokens
                if held is None and came.text:
                    held = bool(turn.chat.callable) and came.text.startswith("{")
                    for event in () if held else _message_begun(events, turn):
                        yield event
                if held is False and came.text:
                    logprobs = [asking.logprob_shown(turn.model.tokenizer, each) for each in untold]
                    untold = []
                    yield events(
                        "response.output_text.delta", **_of_part(turn), delta=came.text, logprobs=logprobs
                    )
                continue
            if came.finish == "cancelled":
                raise ModelError(asking.taken_away().message)
            output = turn.output(came)
            if held is not False and output["type"] == "message":
                for event in _message_begun(events, turn):
                    yield event
                if came.text:
                    yield events("response.output_text.delta", **_of_part(turn), delta=came.text, logprobs=[])
            for event in _item_ended(events, turn, output):
                yield event
            whole = await anyio.to_thread.run_sync(_keep, server, turn, came, output)
            yield events(f"response.{whole['status']}", response=whole)
    except ModelError as error:
        failed = {"code": "server_error", "message": asking.api_error(error, "input").message}
        yield events("response.failed", response=turn.shown | {"status": "failed", "error": failed})
    finally:
        asking.let_go(going)


class _Events:
    """Numbers the events of a stream."""

    def __init__(self) -> None:
        self._number = -1

    def __call__(self, type: str, **given: Any) -> str:
        self._number += 1
        return data({"type": type, "sequence_number": self._number} | given, event=type)


def _of_part(turn: _Turn) -> dict[str, Any]:
    return {"item_id": turn.message, "output_index": 0, "content_index": 0}


def _message_begun(events: _Events, turn: _Turn) -> Iterator[str]:
    item = {
        "type": "message",
        "id": turn.message,
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    yield events("response.output_item.added", output_index=0, item=item)
    yield events("response.content_part.added", **_of_part(turn), part=turn.part(""))


def _item_ended(events: _Events, turn: _Turn, output: dict[str, Any]) -> Iterator[str]:
    if output["type"] == "function_call":
        begun = output | {"arguments": "", "status": "in_progress"}
        place = {"item_id": output["id"], "output_index": 0}
        words = output["arguments"]
        yield events("response.output_item.added", output_index=0, item=begun)
        yield events("response.function_call_arguments.delta", **place, delta=words)
        yield events("response.function_call_arguments.done", **place, name=output["name"], arguments=words)
    else:
        [part] = output["content"]
        yield events(
            "response.output_text.done", **_of_part(turn), text=part["text"], logprobs=part["logprobs"]
        )
        yield events("response.content_part.done", **_of_part(turn), part=part)
    yield events("response.output_item.done", output_index=0, item=output)
