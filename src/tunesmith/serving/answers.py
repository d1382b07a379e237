"""What routes answer with: plain JSON, and streams of server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse

# How a route that can stream is described in OpenAPI.
STREAMS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer, whole or as a stream.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}


def as_json(body: Any, status: int = 200) -> Response:
    """Return a body as JSON without looking at it again: what routes give is plain already."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")


def as_events(events: AsyncIterator[str]) -> Response:
    """Return a stream of server-sent events; each is the text of its lines."""
    return StreamingResponse(
        events,
        media_type="text/event-stream",
        headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
    )


def data(body: Any, event: str | None = None) -> str:
    """Return one server-sent event with a JSON body."""
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


def data_in(line: str) -> str | None:
    """Return what a line of a stream has as data, with or without a blank behind the colon; None if it is no data."""
    name, _, value = line.partition(":")
    return value.removeprefix(" ") if name == "data" else None
