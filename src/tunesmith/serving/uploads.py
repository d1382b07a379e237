"""Uploads: a file that comes in parts, put together when the last has come."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import anyio.to_thread
from fastapi import Request
from sqlalchemy import delete, select, update
from starlette.responses import Response

from tunesmith.serving.answers import as_json
from tunesmith.serving.blobs import Blobs, chunks_of
from tunesmith.serving.errors import conflict, invalid
from tunesmith.serving.files import find_file, keep_file, most_bytes, purpose_of
from tunesmith.serving.files import shown as file_shown
from tunesmith.serving.ids import new_id
from tunesmith.serving.keys import Caller
from tunesmith.serving.multipart import described, read_form, too_large
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Either, Server, Services
from tunesmith.serving.store import Store
from tunesmith.serving.tables import Part, Upload
from tunesmith.serving.wire.files import CompleteUpload, CreateUpload

_LIFE: Final = 3600
_PART_BYTES: Final = 64 * 2**20

router = api_router("/v1/uploads", "uploads")


@router.post("")
def create(server: Server, caller: Either, body: CreateUpload) -> Response:
    """Begin an upload; it is forgotten if it is not completed within an hour."""
    if body.bytes > most_bytes(server, caller):
        raise too_large(most_bytes(server, caller))
    now = server.store.clock()
    row = Upload(
        id=new_id("upload_"),
        organisation=caller.organisation,
        filename=body.filename.replace("\\", "/").rpartition("/")[2] or "file",
        purpose=purpose_of(body.purpose),
        mime_type=body.mime_type,
        bytes=body.bytes,
        status="pending",
        file=None,
        expires_after=None if body.expires_after is None else body.expires_after.model_dump(),
        created_at=now,
        expires_at=now + _LIFE,
    )
    with server.store.write() as session:
        session.add(row)
    return as_json(_shown(server, row))


@router.post("/{upload_id}/parts", openapi_extra=described("data"))
async def add_part(request: Request, server: Server, caller: Either, upload_id: str) -> Response:
    """Take a part: a form with `data`, at most 64 MiB; parts may come in any order and at once."""
    upload = await anyio.to_thread.run_sync(_pending, server, caller, upload_id)
    with server.blobs.receive() as incoming:
        await read_form(request, "data", incoming, most_bytes=_PART_BYTES)
        if incoming.bytes == 0:
            raise invalid("The part is empty.", param="data")
        row = Part(
            id=new_id("part_"), upload=upload.id, bytes=incoming.bytes, created_at=server.store.clock()
        )

        def name(digest: str) -> None:
            row.digest = digest
            with server.store.write() as session:
                session.add(row)

        await anyio.to_thread.run_sync(server.blobs.keep, incoming, name)
    part = {"id": row.id, "object": "upload.part", "created_at": row.created_at, "upload_id": upload.id}
    return as_json(part)


@router.post("/{upload_id}/complete")
def complete(server: Server, caller: Either, upload_id: str, body: CompleteUpload) -> Response:
    """Put the parts together as a file."""
    upload = _pending(server, caller, upload_id)
    parts = {part.id: part for part in _parts(server.store, upload.id)}
    unknown = [part for part in body.part_ids if part not in parts]
    if unknown or len(set(body.part_ids)) < len(body.part_ids):
        raise invalid(
            f"'part_ids' names a part that is not there, or one twice: {unknown[:1]}.", param="part_ids"
        )
    total = sum(parts[part].bytes for part in body.part_ids)
    if total != upload.bytes:
        raise invalid(
            f"The parts have {total:,} bytes, and {upload.bytes:,} were announced.", param="part_ids"
        )
    digest = hashlib.md5(usedforsecurity=False)
    with server.blobs.receive() as incoming:
        for part in body.part_ids:
            for chunk in chunks_of(server.blobs.path(parts[part].digest)):
                incoming.write(chunk)
                digest.update(chunk)
        if body.md5 is not None and digest.hexdigest() != body.md5.lower():
            raise invalid("The parts together have another MD5 than 'md5' says.", param="md5")
        life = None if upload.expires_after is None else int(upload.expires_after["seconds"])
        file = keep_file(server, caller.organisation, incoming, upload.filename, upload.purpose, life=life)
    _end(server.store, server.blobs, upload, "completed", file.id)
    return as_json(_shown(server, _find(server, caller, upload_id)))


@router.post("/{upload_id}/cancel")
def cancel(server: Server, caller: Either, upload_id: str) -> Response:
    """Forget an upload and its parts."""
    _end(server.store, server.blobs, _pending(server, caller, upload_id), "cancelled", None)
    return as_json(_shown(server, _find(server, caller, upload_id)))


def sweep_uploads(store: Store, blobs: Blobs) -> None:
    """Forget the parts of uploads whose time is over."""
    query = select(Upload).where(Upload.status == "pending", Upload.expires_at <= store.clock())
    for upload in store.all(query):
        _end(store, blobs, upload, "expired", None)


def _end(store: Store, blobs: Blobs, upload: Upload, status: str, file: str | None) -> None:
    digests = [part.digest for part in _parts(store, upload.id)]
    with store.write() as session:
        session.execute(update(Upload).where(Upload.id == upload.id).values(status=status, file=file))
        session.execute(delete(Part).where(Part.upload == upload.id))
    blobs.release(digests)


def _find(server: Services, caller: Caller, id: str) -> Upload:
    found: Upload = server.store.find(Upload, caller.organisation, id, "upload")
    return found


def _pending(server: Services, caller: Caller, id: str) -> Upload:
    upload = _find(server, caller, id)
    over = upload.expires_at <= server.store.clock()
    if upload.status != "pending" or over:
        raise conflict(f"The upload {id} is {'expired' if over else upload.status}.", code="invalid_status")
    return upload


def _parts(store: Store, upload: str) -> list[Part]:
    return store.all(select(Part).where(Part.upload == upload))


def _shown(server: Services, upload: Upload) -> dict[str, Any]:
    file = None if upload.file is None else file_shown(find_file(server, upload.organisation, upload.file))
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": upload.created_at,
        "expires_at": upload.expires_at,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": file,
    }
