"""Requests that the server makes of itself, for batches and evals: the same routes, as the caller they are made for."""

from __future__ import annotations

import json
from typing import Any, Final

import anyio
from starlette.types import ASGIApp, Message, Scope

from tunesmith.serving.keys import Caller

CALLER: Final = "tunesmith.caller"


def refusal_in(told: Any) -> tuple[str, str]:
    """Return the code and the message of an answer that is an error, also of a service that words it otherwise."""
    error = told.get("error") if isinstance(told, dict) else None
    if isinstance(error, dict):
        return str(error.get("code") or error.get("type") or "error"), str(error.get("message") or error)
    return "error", f"the model's service refused: {json.dumps(told)[:300]}"


async def ask(
    app: ASGIApp, caller: Caller, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, str], Any]:
    """Return the status, the headers and the JSON body with which the app answers."""
    sent = b"" if body is None else json.dumps(body).encode()
    waiting: list[Message] = [{"type": "http.request", "body": sent, "more_body": False}]
    status, headers, parts = 500, dict[str, str](), list[bytes]()

    async def receive() -> Message:
        if not waiting:
            # Who asks stays on the line until it has been answered.
            await anyio.sleep_forever()
        return waiting.pop()

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers.update({key.decode(): value.decode() for key, value in message["headers"]})
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(sent)).encode())],
        "client": None,
        "server": None,
        "state": {},
        CALLER: caller,
    }
    await app(scope, receive, send)
    text = b"".join(parts)
    return status, headers, json.loads(text) if text else None
