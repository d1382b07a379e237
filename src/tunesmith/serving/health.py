"""Whether the server lives."""

from __future__ import annotations

from fastapi import APIRouter

from tunesmith.serving.state import Server

router = APIRouter()


@router.get("/healthz")
def healthz(server: Server) -> dict[str, str]:
    """Say that the server answers and its database can be read."""
    from sqlalchemy import text

    with server.store.read() as session:
        session.execute(text("SELECT 1"))
    return {"status": "ok"}
