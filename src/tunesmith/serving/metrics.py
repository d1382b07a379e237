"""The figures of the server, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from tunesmith.serving.state import Admin, Server

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(server: Server, caller: Admin) -> Response:
    """Tell all figures in Prometheus' text format."""
    del caller
    return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)
