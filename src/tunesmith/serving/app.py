"""The server as an ASGI app: its routes, what goes on beside them, and its errors in OpenAI's form."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

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
    metrics,
    models,
    moderations,
    responses,
    uploads,
)
from tunesmith.serving.around import Around, as_error
from tunesmith.serving.errors import ApiError, Refused, invalid, no_room
from tunesmith.serving.eval_runs import EvalRuns
from tunesmith.serving.state import Services
from tunesmith.serving.wire.base import Error

_LOG = logging.getLogger("tunesmith.serving")
_FIELD = re.compile(r"[a-z_0-9]+")
_TYPES = frozenset({"int", "str", "float", "bool"})
_SWEEP_SECONDS, _TICK_SECONDS, _BATCH_SECONDS, _AFTER_ERROR_SECONDS = 60, 0.2, 0.5, 5
# What the server's own description of itself (/openapi.json) says of every error.
ERROR: dict[str, Any] = {"model": Error, "description": "What is wrong, in OpenAI's form."}
# The routes, part by part.
MODULES = (
    health, metrics, files, uploads, fine_tuning, models, chat, completions, responses, embeddings, moderations,
    batches, graders, evals,
)  # fmt: skip


def make_app(services: Services) -> FastAPI:
    """Return the app over the parts of a server."""
    app = FastAPI(
        title="Tunesmith",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        responses={"4XX": ERROR, "5XX": ERROR},
    )
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


async def _say(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return as_error(error)


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
    if isinstance(error, Refused):
        return as_error(error.error)
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
    if isinstance(error, StoreError):
        # Where it lies and why it fails is for who runs the server.
        _LOG.error("database failed", exc_info=error, extra={"request": request.state.id})
        return await _say(
            request, ApiError(503, "The server's database cannot be used now; its log says why.")
        )
    return await _say(request, ApiError(400, str(error)))


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
