"""Batches: files of requests, answered by the server's own routes when nobody waits, and gone on with after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import anyio.to_thread
from fastapi import Query
from sqlalchemy import select
from starlette.responses import Response
from starlette.types import ASGIApp

from tunesmith.serving.answers import as_json
from tunesmith.serving.errors import conflict, invalid, not_found
from tunesmith.serving.files import add_file, find_file, path_of
from tunesmith.serving.ids import new_id
from tunesmith.serving.inside import ask
from tunesmith.serving.jobs import link
from tunesmith.serving.jsonl import LineFault, read_lines
from tunesmith.serving.keys import Caller, caller_by_id
from tunesmith.serving.paging import listed, page
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Asker, Server, Services
from tunesmith.serving.store import owned
from tunesmith.serving.tables import Batch, File
from tunesmith.serving.wire.files import CreateBatch
from tunesmith.serving.working import one_after_another, some_at_a_time

_WINDOW: Final = 24 * 3600
_MOST_ERRORS: Final = 100
_REVOKED: Final = {"error": {"message": "The key was revoked.", "code": "invalid_api_key"}}
_ENDED: Final = ("completed", "failed", "expired", "cancelled")

router = api_router("/v1/batches", "batches")


@router.post("")
def create(server: Server, caller: Asker, body: CreateBatch) -> Response:
    """Begin a batch; its file is looked into first."""
    file = find_file(server, caller.organisation, body.input_file_id, param="input_file_id")
    if file.purpose != "batch":
        raise invalid(
            f"The file {file.id} has the purpose '{file.purpose}'; upload it with 'batch'.",
            param="input_file_id",
        )
    now = server.store.clock()
    row = Batch(
        id=new_id("batch_"),
        organisation=caller.organisation,
        key=caller.key,
        endpoint=body.endpoint,
        window=body.completion_window,
        input_file=file.id,
        output_file=None,
        error_file=None,
        status="validating",
        errors=[],
        counts={"total": 0, "completed": 0, "failed": 0},
        usage={"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
        moments={},
        output_expires_after=None
        if body.output_expires_after is None
        else body.output_expires_after.model_dump(),
        meta=body.metadata,
        created_at=now,
        expires_at=now + _WINDOW,
    )
    with server.store.write() as session:
        session.add(row)
    return as_json(_shown(row))


@router.get("")
def list_all(
    server: Server,
    caller: Asker,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """List batches, newest first."""
    query = select(Batch).where(Batch.organisation == caller.organisation)
    rows, more = page(server.store, query, Batch, after=after, limit=limit)
    return as_json(listed(rows, more, _shown))


@router.get("/{batch_id}")
def retrieve(server: Server, caller: Asker, batch_id: str) -> Response:
    """Show a batch."""
    return as_json(_shown(_find(server, caller, batch_id)))


@router.post("/{batch_id}/cancel")
def cancel(server: Server, caller: Asker, batch_id: str) -> Response:
    """Cancel a batch: what is answered by then is kept."""
    with server.store.write() as session:
        row = session.scalars(owned(Batch, caller.organisation, batch_id).with_for_update()).one_or_none()
        if row is None:
            raise not_found("batch", batch_id)
        if row.status in _ENDED:
            raise conflict(f"The batch {batch_id} is {row.status}.", code="invalid_status")
        if row.status != "cancelling":
            row.status = "cancelling"
            row.moments = row.moments | {"cancelling_at": server.store.clock()}
    return as_json(_shown(row))


class Batches:
    """Answers one batch after the other, in the server's event loop."""

    def __init__(self, server: Services, app: ASGIApp) -> None:
        self._server, self._app = server, app

    async def turn(self) -> None:
        """Answer the batches that have not ended, the oldest first."""
        broken = [_error("server_error", "The server had an error.")]
        await one_after_another(self._next, self._work, lambda ended: self._fail(ended, broken))

    def _next(self) -> Batch | None:
        return self._server.store.one(
            select(Batch).where(Batch.status.not_in(_ENDED)).order_by(Batch.number).limit(1)
        )

    async def _work(self, batch: Batch) -> None:
        folder = self._folder(batch.id)
        rows = await anyio.to_thread.run_sync(self._validated, batch, folder)
        if rows is None:
            return
        caller = await anyio.to_thread.run_sync(self._caller, batch)
        done = _Answers(folder / "answers.jsonl")
        left = iter([row for row in rows if row.custom_id not in done.known])

        async def answer(row: _Asked) -> None:
            request = ""
            if caller is None:
                status, body = 401, _REVOKED
            else:
                status, headers, body = await ask(self._app, caller, "POST", batch.endpoint, row.body)
                request = headers.get("x-request-id", "")
            line = {
                "id": new_id("batch_req_"),
                "custom_id": row.custom_id,
                "response": {"status_code": status, "request_id": request, "body": body},
                "error": None,
            }
            await anyio.to_thread.run_sync(done.add, line)
            await anyio.to_thread.run_sync(self._count, batch.id, done)

        await some_at_a_time(left, lambda: self._stops(batch.id), answer)
        await anyio.to_thread.run_sync(self._finish, batch.id, rows, done)

    def _validated(self, batch: Batch, folder: Path) -> list[_Asked] | None:
        """Return the requests of a batch; None if there are faults, which then are its end."""
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / "input.jsonl"
        if not copy.is_file():
            file = self._server.store.one(select(File).where(File.id == batch.input_file))
            if file is None:
                self._fail(batch.id, [_error("invalid_input_file", "The input file was deleted.")])
                return None
            link(path_of(self._server, file), copy)
        rows: list[_Asked] = []
        errors: list[dict[str, Any]] = []
        for each in _asked(copy, batch.endpoint):
            if isinstance(each, _Asked):
                rows.append(each)
            elif len(errors) < _MOST_ERRORS:
                errors.append(each)
        names: set[str] = set()
        for row in rows:
            if row.custom_id in names and len(errors) < _MOST_ERRORS:
                errors.append(
                    _error("duplicate_custom_id", f"'{row.custom_id}' is used twice.", row.line, "custom_id")
                )
            names.add(row.custom_id)
        if not rows and not errors:
            errors.append(_error("empty_file", "The input file holds no request."))
        if errors:
            self._fail(batch.id, errors)
            return None
        with self._server.store.write() as session:
            kept = session.scalars(select(Batch).where(Batch.id == batch.id).with_for_update()).one()
            kept.counts = kept.counts | {"total": len(rows)}
            if kept.status == "validating":
                kept.status = "in_progress"
                kept.moments = kept.moments | {"in_progress_at": self._server.store.clock()}
        return rows

    def _caller(self, batch: Batch) -> Caller | None:
        return caller_by_id(self._server.store, batch.organisation, batch.key)

    def _stops(self, id: str) -> bool:
        row = self._server.store.one(select(Batch).where(Batch.id == id))
        return row is None or row.status != "in_progress" or row.expires_at <= self._server.store.clock()

    def _count(self, id: str, done: _Answers) -> None:
        with self._server.store.write() as session:
            row = session.scalars(select(Batch).where(Batch.id == id).with_for_update()).one()
            row.counts = row.counts | {"completed": done.good, "failed": done.bad}
            row.usage = done.usage

    def _finish(self, id: str, rows: list[_Asked], done: _Answers) -> None:
        """Make the files of answers and errors, and say how it ended."""
        batch = self._server.store.one(select(Batch).where(Batch.id == id))
        assert batch is not None
        cancelled, left = batch.status == "cancelling", len(rows) > len(done.known)
        expired = left and not cancelled
        missing = [row.custom_id for row in rows if row.custom_id not in done.known] if expired else []
        output = self._keep(batch, done.lines(good=True), "output")
        errors = self._keep(batch, [*done.lines(good=False), *map(_expired, missing)], "errors")
        now = self._server.store.clock()
        with self._server.store.write() as session:
            row = session.scalars(select(Batch).where(Batch.id == id).with_for_update()).one()
            row.output_file, row.error_file = output, errors
            row.status = "cancelled" if cancelled else "expired" if expired else "completed"
            row.moments = row.moments | {"finalizing_at": now, f"{row.status}_at": now}
            row.counts = row.counts | {"completed": done.good, "failed": done.bad + len(missing)}
            row.usage = done.usage
        self._clear(id)

    def _keep(self, batch: Batch, lines: list[dict[str, Any]], what: str) -> str | None:
        if not lines:
            return None
        chunks = (json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        name = f"{batch.id}_{what}.jsonl"
        life = None if batch.output_expires_after is None else int(batch.output_expires_after["seconds"])
        return add_file(self._server, batch.organisation, chunks, name, "batch_output", life=life).id

    def _fail(self, id: str, errors: list[dict[str, Any]]) -> None:
        with self._server.store.write() as session:
            row = session.scalars(select(Batch).where(Batch.id == id).with_for_update()).one()
            row.status, row.errors = "failed", errors
            row.moments = row.moments | {"failed_at": self._server.store.clock()}
        self._clear(id)

    def _clear(self, id: str) -> None:
        """Delete what a batch that has ended no longer needs: a deleted file's bytes would live on here."""
        shutil.rmtree(self._folder(id), ignore_errors=True)

    def _folder(self, id: str) -> Path:
        return self._server.home.root / "batches" / id


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request of a batch."""

    line: int
    custom_id: str
    body: dict[str, Any]


class _Answers:
    """The answers of a batch so far, on the disk as they come; what a kill has cut is taken away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: set[str] = set()
        self.good = self.bad = 0
        self.usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        if path.is_file():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            path.write_bytes(whole)
            for line in whole.splitlines():
                self._note(json.loads(line))

    def add(self, line: dict[str, Any]) -> None:
        """Add an answer."""
        with self.path.open("ab") as file:
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._note(line)

    def lines(self, *, good: bool) -> list[dict[str, Any]]:
        """Return the answers, or the errors."""
        if not self.path.is_file():
            return []
        found = map(json.loads, self.path.read_bytes().splitlines())
        return [line for line in found if (line["response"]["status_code"] == 200) == good]

    def _note(self, line: dict[str, Any]) -> None:
        self.known.add(line["custom_id"])
        if line["response"]["status_code"] != 200:
            self.bad += 1
            return
        self.good += 1
        used = line["response"]["body"].get("usage") or {}
        read = used.get("prompt_tokens", used.get("input_tokens", 0))
        said = used.get("completion_tokens", used.get("output_tokens", 0))
        for key, count in (("input_tokens", read), ("output_tokens", said), ("total_tokens", read + said)):
            self.usage[key] += count


def _asked(path: Path, endpoint: str) -> Iterator[_Asked | dict[str, Any]]:
    for line in read_lines(path):
        if isinstance(line, LineFault):
            yield _error("invalid_json_line", line.message, line.number)
            continue
        row = line.value
        if not isinstance(row.get("custom_id"), str) or not row["custom_id"]:
            yield _error("missing_required_parameter", "'custom_id' is missing.", line.number, "custom_id")
        elif row.get("method") != "POST":
            yield _error("invalid_method", "'method' can only be POST.", line.number, "method")
        elif row.get("url") != endpoint:
            yield _error("mismatched_endpoint", f"'url' is not the batch's {endpoint}.", line.number, "url")
        elif not isinstance(row.get("body"), dict):
            yield _error("missing_required_parameter", "'body' is missing.", line.number, "body")
        elif row["body"].get("stream"):
            yield _error(
                "invalid_request", "Answers of a batch are not streamed.", line.number, "body.stream"
            )
        else:
            yield _Asked(line.number, row["custom_id"], row["body"])


def _error(code: str, message: str, line: int | None = None, param: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "line": line, "param": param}


def _expired(custom_id: str) -> dict[str, Any]:
    error = {"code": "batch_expired", "message": "The batch's time was over before this request's turn came."}
    return {"id": new_id("batch_req_"), "custom_id": custom_id, "response": None, "error": error}


def _find(server: Services, caller: Caller, id: str) -> Batch:
    found: Batch = server.store.find(Batch, caller.organisation, id, "batch")
    return found


def _shown(batch: Batch) -> dict[str, Any]:
    moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    usage = batch.usage | {
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file,
        "completion_window": batch.window,
        "status": batch.status,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        "request_counts": batch.counts,
        "usage": usage,
        "metadata": batch.meta,
    } | {f"{moment}_at": batch.moments.get(f"{moment}_at") for moment in moments}
