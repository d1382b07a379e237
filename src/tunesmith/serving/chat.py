"""Chats: answered whole or as a stream, with tools, schemas, several choices and log-probabilities."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import Request
from starlette.responses import Response

from tunesmith.errors import ModelError
from tunesmith.guarding.guard import Shown
from tunesmith.inference.requests import Finish, Generation, Piece, Result, TokenLogprob
from tunesmith.inference.requests import Request as Wanted
from tunesmith.models.local import prompt_ids
from tunesmith.models.messages import Call
from tunesmith.serving import asking, contending, proxy, rails
from tunesmith.serving.answers import STREAMS, as_events, as_json, data
from tunesmith.serving.errors import invalid
from tunesmith.serving.ids import new_id
from tunesmith.serving.keys import Caller
from tunesmith.serving.roster import Local, Remote
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Asker, Server, Services
from tunesmith.serving.talk import conversation_of, grammar_of, made_calls
from tunesmith.serving.wire.chat import CreateChat

router = api_router("/v1/chat/completions", "chat")


@router.post("", responses=STREAMS)
async def create(request: Request, server: Server, caller: Asker, body: CreateChat) -> Response:
    """Answer a conversation, by a model or by a project's contender, within rails if there are any."""
    if server.guard is None:
        return await _answer(request, server, caller, body)
    shown = list[Shown]()
    answer = partial(_answer, request, server, caller, shown=shown)
    return await rails.chat(server.guard, body, answer, shown)


async def _answer(
    request: Request, server: Services, caller: Caller, body: CreateChat, shown: list[Shown] | None = None
) -> Response:
    contenders = await anyio.to_thread.run_sync(server.contending, caller.organisation, body.model)
    if contenders is not None:
        asked = contending.Asked(body, caller, server.store.clock(), [] if shown is None else shown)
        return await contending.answer(contenders, server.limiter, asked)
    model = await anyio.to_thread.run_sync(server.roster.find, caller.organisation, body.model)
    spent = partial(server.limiter.spent, caller)
    if isinstance(model, Remote):
        sent = rails.sent(server.guard, body)
        return await proxy.forward(request, model, "/chat/completions", body.model, sent, spent=spent)
    wanted = await anyio.to_thread.run_sync(requests_of, model, body)
    head = {"id": new_id("chatcmpl-"), "created": server.store.clock(), "model": body.model}
    # Refusals come before a stream begins, with a status of their own.
    going = asking.submit(model.engine, wanted, "messages", spent, each=len(wanted))
    if body.stream:
        return as_events(_stream(model, body, head, going))
    results = await asking.results(request, going, "messages")
    choices = [_choice(model, body, number, result) for number, result in enumerate(results)]
    whole = {
        "object": "chat.completion",
        "choices": choices,
        "usage": usage(results),
        "system_fingerprint": None,
    }
    return as_json(head | whole)


def requests_of(model: Local, body: CreateChat) -> list[Wanted]:
    """Return what the engine is asked: one request per choice.

    Raises ApiError for a conversation that the template refuses and a schema that cannot be held.
    """
    try:
        prompt = prompt_ids(model.tokenizer, conversation_of(body))
    except ModelError as error:
        raise invalid(f"{error.message}. {error.hint or ''}".strip(), param="messages") from error
    held = grammar_of(body)

    def grammar() -> Any:
        if held is None:
            return None
        kind, given = held
        return model.grammars.of_schema(given) if kind == "schema" else model.grammars.of_lark(given)

    try:
        return [
            Wanted(
                prompt,
                max_tokens=body.max_completion_tokens or body.max_tokens,
                **asking.drawing(body, number),
                logprobs=(body.top_logprobs or 0) if body.logprobs else None,
                adapter=model.adapter,
                grammar=grammar(),
            )
            for number in range(body.n or 1)
        ]
    except ModelError as error:
        raise asking.api_error(error, "messages") from error


def usage(results: list[Result]) -> dict[str, Any]:
    """Return the tokens of answers to one prompt."""
    prompt, said = results[0].prompt_tokens, sum(len(result.tokens) for result in results)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
        "prompt_tokens_details": {"cached_tokens": results[0].cached_tokens},
    }


def _choice(model: Local, body: CreateChat, number: int, result: Result) -> dict[str, Any]:
    calls = made_calls(body, result.text)
    message: dict[str, Any] = {"role": "assistant", "content": result.text, "refusal": None}
    if calls:
        message["content"] = None
        message |= _called(body, calls)
    logprobs = _logprobs(model, result.logprobs) if body.logprobs else None
    return {
        "index": number,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": _finish(body, result.finish, calls),
    }


def _called(body: CreateChat, calls: Sequence[Call], *, stream: bool = False) -> dict[str, Any]:
    functions = [{"name": call.name, "arguments": call.arguments} for call in calls]
    if body.functions is not None:
        return {"function_call": functions[0]}
    return {
        "tool_calls": [
            ({"index": number} if stream else {})
            | {"id": new_id("call_"), "type": "function", "function": function}
            for number, function in enumerate(functions)
        ]
    }


def _finish(body: CreateChat, finish: Finish, calls: Sequence[Call]) -> str:
    if not calls:
        return "length" if finish == "length" else "stop"
    return "function_call" if body.functions is not None else "tool_calls"


async def _stream(
    model: Local, body: CreateChat, head: dict[str, Any], going: list[Generation]
) -> AsyncIterator[str]:
    """Yield an answer as server-sent events; what may be a call is held back until it is whole."""
    include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    head = head | {"object": "chat.completion.chunk", "system_fingerprint": None}
    more: dict[str, Any] = {"usage": None} if include_usage else {}

    def chunk(
        number: int, delta: dict[str, Any], finish: str | None = None, told: Sequence[TokenLogprob] = ()
    ) -> str:
        logprobs = _logprobs(model, told) if told else None
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return data(head | {"choices": [choice]} | more)

    results: dict[int, Result] = {}
    holds: dict[int, bool] = {}
    untold: dict[int, list[TokenLogprob]] = {number: [] for number in range(len(going))}
    try:
        for number in range(len(going)):
            yield chunk(number, {"role": "assistant", "content": "", "refusal": None})
        async for number, came in asking.pieces(going):
            if isinstance(came, Piece):
                untold[number] += came.tokens
                if number not in holds and came.text:
                    holds[number] = bool(body.callable) and came.text.startswith("{")
                if came.text and not holds[number]:
                    yield chunk(number, {"content": came.text}, told=untold[number])
                    untold[number] = []
                continue
            results[number] = came
            if came.finish == "cancelled":
                yield data(asking.taken_away().body())
                return
            calls = made_calls(body, came.text) if holds.get(number) else ()
            if calls:
                yield chunk(number, _called(body, calls, stream=True))
            elif holds.get(number) or untold[number]:
                yield chunk(number, {"content": came.text if holds.get(number) else ""}, told=untold[number])
            yield chunk(number, {}, _finish(body, came.finish, calls))
        if include_usage:
            yield data(
                head | {"choices": [], "usage": usage([results[number] for number in sorted(results)])}
            )
        yield "data: [DONE]\n\n"
    except ModelError as error:
        yield data(asking.api_error(error, "messages").body())
    finally:
        asking.let_go(going)


def _logprobs(model: Local, told: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {"content": [asking.logprob_shown(model.tokenizer, each) for each in told], "refusal": None}
