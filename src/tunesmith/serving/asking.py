"""Ask an engine from the event loop: pieces as they come, an end where nobody waits, errors in OpenAI's words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from starlette.requests import Request as HttpRequest

from tunesmith.errors import ModelError
from tunesmith.inference.grammar import GrammarError
from tunesmith.inference.requests import (
    ContextOverflow,
    EngineBusy,
    Generation,
    Piece,
    Request,
    Result,
    TokenLogprob,
)
from tunesmith.serving.errors import ApiError, invalid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.inference.engine import Engine
    from tunesmith.serving.wire.chat import CreateChat, CreateCompletion

# Hears tokens read and said.
Spending = Callable[[int, int], None]


def submit(
    engine: Engine, requests: Sequence[Request], what: str, spent: Spending, *, each: int = 1
) -> list[Generation]:
    """Submit requests; raises ApiError, and submits none, where the engine refuses one.

    `what` says what the prompt is made of. `spent` hears the tokens read and said of each answer when it ends, also
    where nobody waits any more; of `each` answers that follow each other, which have one prompt, it is read once.
    """
    going: list[Generation] = []
    try:
        for request in requests:
            going.append(engine.submit(request))
    except ModelError as error:
        let_go(going)
        raise api_error(error, what) from error
    for number, generation in enumerate(going):
        generation.on_result(partial(_count, spent, number % each == 0))
    return going


def _count(spent: Spending, first: bool, result: Result) -> None:
    # What was given up before its first token may not even have been read.
    if result.tokens or result.finish != "cancelled":
        spent(result.prompt_tokens if first else 0, len(result.tokens))


def drawing(body: CreateChat | CreateCompletion, number: int) -> dict[str, Any]:
    """Return how the tokens of a choice are drawn, as a Request takes it; each choice draws its own by a seed."""
    stop = body.stop
    return {
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "seed": None if body.seed is None else (body.seed + number) % 2**63,
        "stop": (stop,) if isinstance(stop, str) else tuple(stop or ()),
        "logit_bias": {int(token): bias for token, bias in (body.logit_bias or {}).items()},
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
    }


def let_go(going: Sequence[Generation]) -> None:
    """Cancel what has not ended."""
    for generation in going:
        if not generation.done:
            generation.cancel()


async def pieces(going: Sequence[Generation]) -> AsyncIterator[tuple[int, Piece | Result]]:
    """Yield what comes, with the number of the answer it belongs to; each answer's Result last.

    Raises ModelError where the engine failed.
    """
    news = _listen(going)
    left = set(range(len(going)))
    while left:
        await news.wait()
        news.clear()
        for number in sorted(left):
            ended = going[number].done
            for piece in going[number].ready():
                yield number, piece
            if ended:
                left.discard(number)
                yield number, going[number].result()


def _listen(going: Sequence[Generation], *, only_end: bool = False) -> asyncio.Event:
    """Return an event that is set when something has come for one of the answers, or one has ended."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        # Called by the engine's thread; where the loop has ended nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(news.set)

    for generation in going:
        generation.on_news(tell, only_end=only_end)
    return news


async def results(http: HttpRequest, going: Sequence[Generation], what: str) -> list[Result]:
    """Wait for whole answers; raises ApiError if the engine failed, or if the client went away meanwhile."""
    found: dict[int, Result] = {}
    failed: list[ModelError] = []
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            while (await http.receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        async def gather() -> None:
            # Whole answers need no look at each piece, of which each would wake this loop.
            news = _listen(going, only_end=True)
            try:
                while len(found) < len(going):
                    await news.wait()
                    news.clear()
                    for number, generation in enumerate(going):
                        if generation.done:
                            found[number] = generation.result()
            except ModelError as error:
                failed.append(error)
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        tasks.start_soon(gather)
    let_go(going)
    if failed:
        raise api_error(failed[0], what) from failed[0]
    if len(found) < len(going):
        # Nobody hears this.
        raise ApiError(499, "The client went away.")
    whole = [found[number] for number in range(len(going))]
    if any(result.finish == "cancelled" for result in whole):
        raise taken_away()
    return whole


def taken_away() -> ApiError:
    """Return the error of a model that was deleted while it answered."""
    return ApiError(503, "The model was taken away while it answered.", code="model_not_loaded", retry=False)


def api_error(error: ModelError, what: str) -> ApiError:
    """Return what went wrong as OpenAI words it."""
    if isinstance(error, ContextOverflow):
        return invalid(
            f"This model's maximum context length is {error.limit} tokens. However, you requested "
            f"{error.prompt + error.wanted} tokens ({error.prompt} in the {what}, {error.wanted} in the completion). "
            f"Please reduce the length of the {what} or completion.",
            param=what,
            code="context_length_exceeded",
        )
    if isinstance(error, EngineBusy):
        return ApiError(
            429, f"{error.message}. Try again later.", code="engine_busy", headers={"retry-after": "1"}
        )
    if isinstance(error, GrammarError):
        return invalid(error.message, param="response_format", code="invalid_schema")
    return ApiError(500, error.message)


def token_shown(tokenizer: PreTrainedTokenizerBase, token: int, logprob: float) -> dict[str, Any]:
    """Return a token with its log-probability as chats show it."""
    data = token_bytes(tokenizer, token)
    return {"token": data.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(data)}


def logprob_shown(tokenizer: PreTrainedTokenizerBase, told: TokenLogprob) -> dict[str, Any]:
    """Return a token and its alternatives as chats show them."""
    top = [token_shown(tokenizer, token, logprob) for token, logprob in told.top]
    return token_shown(tokenizer, told.token, told.logprob) | {"top_logprobs": top}


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    """Return the bytes that a token stands for, which may be a part of a character."""
    piece = tokenizer.convert_ids_to_tokens(token)
    if isinstance(piece, str):
        if len(piece) == 6 and piece.startswith("<0x"):
            return bytes([int(piece[3:5], 16)])
        table = _byte_table()
        if "\u0120" in tokenizer.get_vocab() and all(letter in table for letter in piece):
            return bytes(table[letter] for letter in piece)
    text: str = tokenizer.decode([token])
    return text.encode()


def _byte_table() -> dict[str, int]:
    """Return the letters by which byte-level BPE writes bytes (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in plain}
    rest = [byte for byte in range(256) if byte not in plain]
    return table | {chr(256 + number): byte for number, byte in enumerate(rest)}
