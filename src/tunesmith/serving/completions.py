"""The old completions: texts that are gone on from, without a chat template."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, cast

import anyio.to_thread
from fastapi import Request
from starlette.responses import Response

from tunesmith.errors import ModelError
from tunesmith.inference.requests import Generation, Piece, Result, TokenLogprob
from tunesmith.inference.requests import Request as Wanted
from tunesmith.serving import asking, proxy, rails
from tunesmith.serving.answers import STREAMS, as_events, as_json, data
from tunesmith.serving.errors import invalid
from tunesmith.serving.ids import new_id
from tunesmith.serving.keys import Caller
from tunesmith.serving.roster import Local, Remote
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Asker, Server, Services
from tunesmith.serving.wire.chat import CreateCompletion

router = api_router("/v1/completions", "completions")

_DEFAULT_TOKENS = 16


@router.post("", responses=STREAMS)
async def create(request: Request, server: Server, caller: Asker, body: CreateCompletion) -> Response:
    """Go on from texts, `n` times from each."""
    if server.guard is None:
        return await _answer(request, server, caller, body)
    return await rails.completion(server.guard, body, partial(_answer, request, server, caller))


async def _answer(request: Request, server: Services, caller: Caller, body: CreateCompletion) -> Response:
    await anyio.to_thread.run_sync(server.refuse_contender, caller.organisation, body.model)
    model = await anyio.to_thread.run_sync(server.roster.find, caller.organisation, body.model)
    spent = partial(server.limiter.spent, caller)
    if isinstance(model, Remote):
        sent = rails.sent(server.guard, body)
        return await proxy.forward(request, model, "/completions", body.model, sent, spent=spent)
    prompts = await anyio.to_thread.run_sync(_prompts, model, body)
    head = {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": server.store.clock(),
        "model": body.model,
    }
    wanted = [_wanted(model, body, prompt, number) for prompt in prompts for number in range(body.n or 1)]
    going = asking.submit(model.engine, wanted, "prompt", spent, each=body.n or 1)
    if body.stream:
        return as_events(_stream(model, body, head, going))
    results = await asking.results(request, going, "prompt")
    choices = [
        _choice(model, body, number, result, going[number].request) for number, result in enumerate(results)
    ]
    return as_json(head | {"choices": choices, "usage": _usage(body, results)})


def _prompts(model: Local, body: CreateCompletion) -> list[tuple[int, ...]]:
    """Return the ids of each prompt; a text begins as the model's texts do."""
    given: Any = body.prompt
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        given = [given]
    vocabulary = model.engine.model.get_input_embeddings().weight.shape[0]
    prompts = []
    for prompt in given:
        ids = tuple(model.tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else tuple(prompt)
        if not ids:
            first = model.tokenizer.bos_token_id or model.tokenizer.eos_token_id
            ids = (cast("int", first),)
        if any(token >= vocabulary for token in ids):
            raise invalid(f"The model's tokens end at {vocabulary - 1}.", param="prompt")
        prompts.append(ids)
    return prompts


def _wanted(model: Local, body: CreateCompletion, prompt: tuple[int, ...], number: int) -> Wanted:
    most = _DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
    return Wanted(
        prompt,
        # With none wanted one is made, for the log-probabilities of the prompt, and not told.
        max_tokens=max(1, most),
        **asking.drawing(body, number),
        logprobs=body.logprobs,
        prompt_logprobs=bool(body.echo) and body.logprobs is not None,
        adapter=model.adapter,
    )


def _choice(
    model: Local, body: CreateCompletion, number: int, result: Result, wanted: Wanted
) -> dict[str, Any]:
    silent = body.max_tokens == 0
    echoed = model.tokenizer.decode(list(wanted.prompt), skip_special_tokens=True) if body.echo else ""
    told: list[TokenLogprob | int] = []
    if body.echo:
        told += [wanted.prompt[0], *result.prompt_logprobs]
    told += [] if silent else list(result.logprobs)
    return {
        "index": number,
        "text": echoed + ("" if silent else result.text),
        "logprobs": None if body.logprobs is None else _logprobs(model, told),
        "finish_reason": "length" if silent else result.finish,
    }


def _logprobs(model: Local, told: Sequence[TokenLogprob | int]) -> dict[str, Any]:
    """Return log-probabilities in the old shape; the first token of a prompt has none."""

    def text(token: int) -> str:
        return asking.token_bytes(model.tokenizer, token).decode("utf-8", "replace")

    tokens, logprobs, tops, offsets, place = [], [], [], [], 0
    for each in told:
        token = each if isinstance(each, int) else each.token
        tokens.append(text(token))
        logprobs.append(None if isinstance(each, int) else each.logprob)
        tops.append(None if isinstance(each, int) else {text(other): logprob for other, logprob in each.top})
        offsets.append(place)
        place += len(tokens[-1])
    return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}


def _usage(body: CreateCompletion, results: Sequence[Result]) -> dict[str, Any]:
    prompt = sum(result.prompt_tokens for result in results[:: body.n or 1])
    said = 0 if body.max_tokens == 0 else sum(len(result.tokens) for result in results)
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


async def _stream(
    model: Local, body: CreateCompletion, head: dict[str, Any], going: list[Generation]
) -> AsyncIterator[str]:
    include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    more: dict[str, Any] = {"usage": None} if include_usage else {}

    def chunk(number: int, text: str, finish: str | None, told: Sequence[TokenLogprob] = ()) -> str:
        logprobs = None if body.logprobs is None else _logprobs(model, told)
        choice = {"index": number, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return data(head | {"choices": [choice]} | more)

    results: dict[int, Result] = {}
    try:
        if body.echo:
            for number, generation in enumerate(going):
                ids = list(generation.request.prompt)
                yield chunk(number, model.tokenizer.decode(ids, skip_special_tokens=True), None)
        async for number, came in asking.pieces(going):
            if isinstance(came, Piece):
                if body.max_tokens != 0:
                    yield chunk(number, came.text, None, came.tokens)
                continue
            results[number] = came
            if came.finish == "cancelled":
                yield data(asking.taken_away().body())
                return
            yield chunk(number, "", "length" if body.max_tokens == 0 else came.finish)
        if include_usage:
            told = _usage(body, [results[number] for number in sorted(results)])
            yield data(head | {"choices": [], "usage": told})
        yield "data: [DONE]\n\n"
    except ModelError as error:
        yield data(asking.api_error(error, "prompt").body())
    finally:
        asking.let_go(going)
