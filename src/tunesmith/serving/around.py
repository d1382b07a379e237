"""What happens around each request: who asks, how long and how large a body may be, how it went."""

from __future__ import annotations

import logging
import re
import time
from typing import Final

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.serving.errors import ApiError, Refused, invalid
from tunesmith.serving.ids import new_id
from tunesmith.serving.inside import CALLER
from tunesmith.serving.state import Services

_LOG = logging.getLogger("tunesmith.serving")
_OF_FILES = re.compile(r"/v1/(files|uploads/[^/]+/parts)")
# What is answered to everybody: a load balancer has no key.
OPEN: Final = frozenset({"/healthz"})


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
            if "\0" in scope["path"] or b"%00" in scope["query_string"]:
                raise invalid("The address holds a NUL character.")
            if CALLER in scope:
                request.state.caller = scope[CALLER]
            elif scope["path"] not in OPEN:
                request.state.caller = self._services.access.caller(request)
                limits |= self._services.limiter.request(request.state.caller)
            await self._app(scope, self._bounded(scope, receive), sending)
        except ApiError as error:
            await as_error(error)(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - start
            if CALLER not in scope:
                route = getattr(scope.get("route"), "path", "unknown")
                self._services.metrics.request(scope["method"], route, status, seconds)
            # Never what was said.
            _LOG.info(
                "request",
                extra={
                    "request": request.state.id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "seconds": round(seconds, 4),
                },
            )

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Return `receive` for a body of bounded size that comes in bounded time.

        Files are bounded elsewhere in size, and may take as long as they keep coming. Raises ApiError (408, 413, 415).
        """
        options, headers, seen = self._services.options, Headers(scope=scope), 0
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise ApiError(415, "Compressed bodies are not read: send the body as it is.", retry=False)
        of_files = _OF_FILES.fullmatch(scope["path"]) is not None
        declared = headers.get("content-length", "0")
        if not of_files and declared.isdecimal() and int(declared[:19]) > options.max_body_bytes:
            raise _too_much(options.max_body_bytes)
        whole, deadline = False, time.monotonic() + options.body_seconds

        async def receiving() -> Message:
            nonlocal seen, whole
            if whole:
                # What comes after a body is that the client goes away, and that may take as long as an answer does.
                return await receive()
            left = (
                options.idle_seconds if of_files else min(options.idle_seconds, deadline - time.monotonic())
            )
            message: Message | None = None
            with anyio.move_on_after(max(0.0, left)):
                message = await receive()
            if message is None:
                raise Refused(
                    ApiError(
                        408,
                        "The body came too slowly, or not at all.",
                        code="request_timeout",
                        retry=False,
                        headers={"connection": "close"},
                    )
                )
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if not of_files and seen > options.max_body_bytes:
                raise Refused(_too_much(options.max_body_bytes))
            return message

        return receiving


def as_error(error: ApiError) -> JSONResponse:
    """Return an error as it travels."""
    return JSONResponse(error.body(), error.status, error.headers)


def _too_much(most: int) -> ApiError:
    return ApiError(413, f"The request has more than the {most:,} bytes that are allowed.", retry=False)
