"""Files: uploaded as a form, listed, read back, deleted, gone when they expire."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import anyio.to_thread
from fastapi import Query, Request
from sqlalchemy import Select, delete, or_, select
from starlette.responses import FileResponse, Response

from tunesmith.serving.answers import as_json
from tunesmith.serving.blobs import Blobs, Incoming
from tunesmith.serving.errors import invalid, not_found
from tunesmith.serving.ids import new_id
from tunesmith.serving.keys import Caller
from tunesmith.serving.multipart import described, read_form
from tunesmith.serving.paging import listed, page
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Either, Server, Services
from tunesmith.serving.store import Store
from tunesmith.serving.tables import File

PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_SHORTEST_LIFE, _LONGEST_LIFE = 3600, 30 * 24 * 3600
_FIELDS: Final = ("purpose", "expires_after[anchor]", "expires_after[seconds]")

router = api_router("/v1/files", "files")


@router.post(
    "",
    openapi_extra=described(
        "file",
        purpose={"type": "string", "enum": list(PURPOSES)},
        **{
            "expires_after[anchor]": {"type": "string", "enum": ["created_at"], "optional": True},
            "expires_after[seconds]": {
                "type": "integer", "minimum": _SHORTEST_LIFE, "maximum": _LONGEST_LIFE, "optional": True,
            },
        },
    ),
)  # fmt: skip
async def create(request: Request, server: Server, caller: Either) -> Response:
    """Take a file: a form with `file` and `purpose`, written to the disk as it comes."""
    with server.blobs.receive() as incoming:
        form = await read_form(request, "file", incoming, most_bytes=most_bytes(server, caller))
        for field in form.fields:
            if field not in _FIELDS:
                raise invalid(f"Unrecognized request argument supplied: {field}", param=field)
        purpose = purpose_of(form.fields.get("purpose"))
        life = _life(form.fields)
        if incoming.bytes == 0:
            raise invalid("The file is empty.", param="file")
        assert form.filename is not None
        name = form.filename
        row = await anyio.to_thread.run_sync(
            lambda: keep_file(server, caller.organisation, incoming, name, purpose, life=life)
        )
    return as_json(shown(row))


@router.get("")
def list_all(
    server: Server,
    caller: Either,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """List files, newest first unless `order` says otherwise."""
    query = _living(server.store).where(File.organisation == caller.organisation)
    if purpose is not None:
        query = query.where(File.purpose == purpose)
    rows, more = page(server.store, query, File, after=after, limit=limit, descending=order == "desc")
    return as_json(listed(rows, more, shown))


@router.get("/{file_id}")
def retrieve(server: Server, caller: Either, file_id: str) -> Response:
    """Show a file."""
    return as_json(shown(find_file(server, caller.organisation, file_id)))


@router.get(
    "/{file_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The bytes."}},
)
def content(server: Server, caller: Either, file_id: str) -> Response:
    """Give a file's bytes."""
    row = find_file(server, caller.organisation, file_id)
    return FileResponse(
        server.blobs.path(row.digest), media_type="application/octet-stream", filename=row.filename
    )


@router.delete("/{file_id}")
def remove(server: Server, caller: Either, file_id: str) -> Response:
    """Delete a file; its bytes go too, unless another file has the same."""
    row = find_file(server, caller.organisation, file_id)
    with server.store.write() as session:
        session.execute(delete(File).where(File.id == row.id))
    server.blobs.release([row.digest])
    return as_json({"id": row.id, "object": "file", "deleted": True})


def find_file(server: Services, organisation: str, file_id: str, *, param: str | None = None) -> File:
    """Return a file of an organisation; raises ApiError (404) if it has none with this id, or no longer."""
    query = _living(server.store).where(File.organisation == organisation, File.id == file_id)
    row: File | None = server.store.one(query)
    if row is None:
        raise not_found("file", file_id, param=param)
    return row


def add_file(
    server: Services,
    organisation: str,
    chunks: Iterable[bytes],
    filename: str,
    purpose: str,
    *,
    life: int | None = None,
) -> File:
    """Keep bytes that the server itself has made as a file."""
    with server.blobs.receive() as incoming:
        for chunk in chunks:
            incoming.write(chunk)
        return keep_file(server, organisation, incoming, filename, purpose, life=life)


def keep_file(
    server: Services,
    organisation: str,
    incoming: Incoming,
    filename: str,
    purpose: str,
    *,
    life: int | None = None,
) -> File:
    """Keep what came as a file that lives `life` seconds (None: until it is deleted)."""
    now = server.store.clock()
    row = File(
        id=new_id("file-"),
        organisation=organisation,
        filename=filename,
        purpose=purpose,
        bytes=incoming.bytes,
        status="processed",
        status_details=None,
        created_at=now,
        expires_at=None if life is None else now + life,
    )

    def name(digest: str) -> None:
        row.digest = digest
        with server.store.write() as session:
            session.add(row)

    server.blobs.keep(incoming, name)
    return row


def sweep_files(store: Store, blobs: Blobs) -> None:
    """Delete the files whose time is over, and their bytes."""
    over = (File.expires_at.is_not(None), File.expires_at <= store.clock())
    with store.write() as session:
        digests = list(session.scalars(select(File.digest).where(*over)))
        session.execute(delete(File).where(*over))
    blobs.release(digests)


def most_bytes(server: Services, caller: Caller) -> int:
    """Return how many bytes a caller's file may have."""
    own = caller.limits.upload_bytes
    return server.options.max_upload_bytes if own is None else min(own, server.options.max_upload_bytes)


def purpose_of(given: str | None) -> str:
    """Return a purpose that files may have; raises ApiError (400) for another."""
    if given not in PURPOSES:
        said = "is missing" if given is None else f"cannot be '{given}'"
        raise invalid(f"'purpose' {said}: use one of {', '.join(PURPOSES)}.", param="purpose")
    return given


def life_of(anchor: object, seconds: object) -> int:
    """Return how many seconds a file lives; raises ApiError (400) for an anchor or a time that is not allowed."""
    if anchor != "created_at":
        raise invalid("'expires_after[anchor]' can only be 'created_at'.", param="expires_after[anchor]")
    text = str(seconds)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        text = "0"
    if not _SHORTEST_LIFE <= int(text) <= _LONGEST_LIFE:
        raise invalid(
            f"'expires_after[seconds]' must be between {_SHORTEST_LIFE} and {_LONGEST_LIFE}.",
            param="expires_after[seconds]",
        )
    return int(text)


def shown(row: File) -> dict[str, Any]:
    """Return a file as the API shows it."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        "status_details": row.status_details,
    }


def path_of(server: Services, row: File) -> Path:
    """Return where a file's bytes lie."""
    return server.blobs.path(row.digest)


def _living(store: Store) -> Select[Any]:
    return select(File).where(or_(File.expires_at.is_(None), File.expires_at > store.clock()))


def _life(fields: dict[str, str]) -> int | None:
    anchor, seconds = (fields.get(f"expires_after[{key}]") for key in ("anchor", "seconds"))
    return None if anchor is None and seconds is None else life_of(anchor, seconds)
