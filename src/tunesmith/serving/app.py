"""The server as an ASGI app: its parts put together, the routes, and what happens around each request."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import tunesmith.serving.graders.routes as graders
from tunesmith.errors import DiskFull, StoreError, TunesmithError
from tunesmith.serving import (
    batches,
    chat,
    completions,
    embeddings,
    evals,
    files,
    fine_tuning,
    health,
    models,
    moderations,
    responses,
    uploads,
)
from tunesmith.serving.errors import ApiError, invalid, no_room
from tunesmith.serving.eval_runs import EvalRuns
from tunesmith.serving.ids import new_id
from tunesmith.serving.inside import CALLER
from tunesmith.serving.state import Services

_LOG = logging.getLogger("tunesmith.serving")
_OF_FILES = re.compile(r"/v1/(files|uploads/[^/]+/parts)")
_FIELD = re.compile(r"[a-z_0-9]+")
_TYPES = frozenset({"int", "str", "float", "bool"})
_SWEEP_SECONDS, _TICK_SECONDS, _BATCH_SECONDS, _AFTER_ERROR_SECONDS = 60, 0.2, 0.5, 5
# What is answered to everybody: a load balancer has no key.
OPEN = frozenset({"/healthz"})
# The routes, part by part.
MODULES = (
    health, files, uploads, fine_tuning, models, chat, completions, responses, embeddings, moderations, batches,
    graders, evals,
)  # fmt: skip


def make_app(services: Services) -> FastAPI:
    """Return the app over the parts of a server."""
    app = FastAPI(title="Tunesmith", lifespan=_lifespan, docs_url=None, redoc_url=None)
    app.state.services = services
    for module in MODULES:
        app.include_router(module.router)
    app.add_exception_handler(ApiError, _say)
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.add_exception_handler(HTTPException, _say_http)
    app.add_exception_handler(TunesmithError, _say_own)
    app.add_exception_handler(OSError, _say_system)
    app.add_exception_handler(Exception, _say_unknown)
    app.add_middleware(Around, services=services)
    return app


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """Let what goes on beside the requests run until the block ends."""
    services: Services = app.state.services
    async with anyio.create_task_group() as tasks:
        in_thread = anyio.to_thread.run_sync
        for work, call, seconds in (
            ("sweep", partial(in_thread, _sweep, services), _SWEEP_SECONDS),
            ("jobs", partial(in_thread, services.jobs.tick), _TICK_SECONDS),
            ("batches", batches.Batches(services, app).turn, _BATCH_SECONDS),
            ("evals", EvalRuns(services, app).turn, _BATCH_SECONDS),
        ):
            tasks.start_soon(_again_and_again, work, call, seconds)
        yield
        tasks.cancel_scope.cancel()
    await anyio.to_thread.run_sync(services.jobs.stop)
    await anyio.to_thread.run_sync(services.roster.close)


async def _again_and_again(work: str, call: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Do something beside the requests for as long as the server runs; an error costs one turn, and is logged."""
    while True:
        try:
            await call()
        except Exception as error:  # noqa: BLE001 - who looks after the jobs must outlive whatever befalls one of them
            _LOG.error("background work failed", exc_info=error, extra={"work": work})
            await anyio.sleep(_AFTER_ERROR_SECONDS)
        await anyio.sleep(seconds)


def _sweep(services: Services) -> None:
    """Delete what has expired."""
    files.sweep_files(services.store, services.blobs)
    uploads.sweep_uploads(services.store, services.blobs)
    responses.sweep(services.store)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with running(app):
        yield


class Around:
    """What happens around each request: the caller is known first, the answer gets an id, and how it went is logged.

    Plain ASGI, so that what is streamed goes through as it comes, and a client that goes away is noticed.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app, self._services = app, services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, start, status = Request(scope), time.perf_counter(), 0
        request.state.id = new_id("req_")
        limits: dict[str, str] = {}

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request.state.id
                headers.update(limits)
                headers["openai-processing-ms"] = str(round(1000 * (time.perf_counter() - start)))
            await send(message)

        try:
            if CALLER in scope:
                request.state.caller = scope[CALLER]
            elif scope["path"] not in OPEN:
                request.state.caller = self._services.access.caller(request)
                limits |= self._services.limiter.request(request.state.caller)
            await self._app(scope, self._bounded(scope, receive), sending)
        except ApiError as error:
            await (await _say(request, error))(scope, receive, sending)
        finally:
            # Never what was said.
            _LOG.info(
                "request",
                extra={
                    "request": request.state.id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "seconds": round(time.perf_counter() - start, 4),
                },
            )

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Return `receive` for a body of bounded size; files have a bound of their own. Raises ApiError (413)."""
        most, seen = self._services.options.max_body_bytes, 0
        if _OF_FILES.fullmatch(scope["path"]):
            return receive
        declared = Request(scope).headers.get("content-length", "0")
        if declared.isdigit() and len(declared) < 19 and int(declared) > most:
            raise _too_much(most)

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _too_much(most)
            return message

        return counting


def _too_much(most: int) -> ApiError:
    return ApiError(413, f"The request has more than the {most:,} bytes that are allowed.", retry=False)


async def _say(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, error.headers)


async def _say_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Where several shapes are allowed, the one that came furthest is what was meant.
    first: dict[str, Any] = max(error.errors(), key=lambda each: len(_place(each["loc"])))
    param = ".".join(_place(first["loc"])) or None
    if first["type"] == "extra_forbidden":
        return await _say(request, invalid(f"Unrecognized request argument supplied: {param}", param=param))
    where = f" for '{param}'" if param else ""
    said = first["msg"].removeprefix("Value error, ")
    return await _say(request, invalid(f"Invalid value{where}: {said}.", param=param))


def _place(location: Sequence[int | str]) -> list[str]:
    """Return the fields that lead to an error, without pydantic's words for the shapes that it has tried."""
    inner = location[1:] if location and location[0] in ("body", "query", "path") else location
    return [
        str(part)
        for part in inner
        if isinstance(part, int) or (_FIELD.fullmatch(part) and part not in _TYPES)
    ]


async def _say_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = {404: f"Unknown request URL: {request.method} {request.url.path}.", 405: "Not allowed here."}
    message = known.get(error.status_code, str(error.detail))
    kind = "invalid_request_error" if error.status_code < 500 else None
    return await _say(
        request, ApiError(error.status_code, message, kind=kind, headers=dict(error.headers or {}))
    )


async def _say_own(request: Request, error: Exception) -> Response:
    assert isinstance(error, TunesmithError)
    if isinstance(error, DiskFull):
        return await _say(request, no_room("this"))
    status = 503 if isinstance(error, StoreError) else 400
    return await _say(request, ApiError(status, str(error)))


async def _say_system(request: Request, error: Exception) -> Response:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return await _say(request, no_room("this"))
    raise error


async def _say_unknown(request: Request, error: Exception) -> Response:
    """Answer where this server is at fault; what went wrong is in its log alone."""
    _LOG.error("error", exc_info=error, extra={"request": request.state.id})
    return await _say(
        request, ApiError(500, "The server had an error. Its log has it under the request's id.")
    )
