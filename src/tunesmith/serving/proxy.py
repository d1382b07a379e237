"""Requests for models that another service keeps: passed on and back as they stream, models called as they are here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tunesmith.models.remote import key_from_environment
from tunesmith.serving.answers import as_json, data_in
from tunesmith.serving.asking import Spending
from tunesmith.serving.errors import ApiError
from tunesmith.serving.roster import Remote

_TIMEOUT: Final = httpx.Timeout(600.0, connect=10.0)
# What the SDK reads of an answer's headers.
_KEPT: Final = ("retry-after", "retry-after-ms", "x-should-retry")

# How chats and completions name the tokens read and said, and how responses do.
_COUNTED: Final = (("prompt", "input"), ("completion", "output"))


async def forward(
    request: Request,
    model: Remote,
    path: str,
    name: str,
    body: dict[str, Any] | None = None,
    *,
    spent: Spending | None = None,
) -> Response:
    """Pass a request on to the service of a model; `name` is what the model is called here.

    `body` takes the place of the request's own, if it is given. `spent` hears the tokens read and said, where the
    service tells them in `usage`.

    The service gets this server's key for it (OPENAI_API_KEY), never the caller's. Raises ApiError (502) where it
    cannot be reached.
    """
    given: dict[str, Any] = await request.json() if body is None else body
    client = httpx.AsyncClient(timeout=_TIMEOUT)
    sent = client.build_request(
        "POST",
        model.url + path,
        json=given | {"model": model.model},
        headers={"authorization": f"Bearer {key_from_environment()}"},
    )
    try:
        answer = await client.send(sent, stream=True)
    except httpx.HTTPError as error:
        await client.aclose()
        raise _bad_gateway(f"The service of the model '{name}' cannot be reached: {error}") from error
    headers = {key: value for key, value in answer.headers.items() if key in _KEPT}
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        return StreamingResponse(
            _lines(client, answer, name, spent), answer.status_code, headers, media_type="text/event-stream"
        )
    try:
        content = await answer.aread()
        found = json.loads(content)
    except (httpx.HTTPError, ValueError) as error:
        raise _bad_gateway(f"The service of the model '{name}' did not answer with JSON.") from error
    finally:
        await answer.aclose()
        await client.aclose()
    if spent is not None and (used := _used(found)) is not None:
        spent(*used)
    response = as_json(_renamed(found, name), answer.status_code)
    response.headers.update(headers)
    return response


def _bad_gateway(message: str) -> ApiError:
    return ApiError(502, message, code="bad_gateway")


async def _lines(
    client: httpx.AsyncClient, answer: httpx.Response, name: str, spent: Spending | None
) -> AsyncIterator[str]:
    used: tuple[int, int] | None = None
    try:
        async for line in _lines_of(answer):
            try:
                said = json.loads(data_in(line) or "")
            except ValueError:
                yield line + "\n"
                continue
            # Some services tell with each event how much it is by then.
            used = _used(said) or used
            yield f"data: {json.dumps(_renamed(said, name), ensure_ascii=False)}\n"
    finally:
        if spent is not None and used is not None:
            spent(*used)
        await answer.aclose()
        await client.aclose()


async def _lines_of(answer: httpx.Response) -> AsyncIterator[str]:
    """Yield the lines of a stream of events; httpx's own end at U+2028 too, which JSON may hold as it is."""
    left = b""
    async for piece in answer.aiter_bytes():
        *lines, left = (left + piece).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")
    if left:
        yield left.decode(errors="replace")


def _used(body: Any) -> tuple[int, int] | None:
    """Return the tokens read and said that an answer tells, or a response within an event; None if it tells none."""
    if not isinstance(body, dict):
        return None
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return _used(body.get("response"))
    read, said = (usage.get(f"{old}_tokens", usage.get(f"{new}_tokens")) for old, new in _COUNTED)
    return (read if isinstance(read, int) else 0), (said if isinstance(said, int) else 0)


def _renamed(body: Any, name: str) -> Any:
    """Return an answer that names the model as the caller did."""
    if not isinstance(body, dict):
        return body
    changed = body | {"model": name} if "model" in body else body
    inner = changed.get("response")
    return changed | {"response": _renamed(inner, name)} if isinstance(inner, dict) else changed
