"""Fine-tuning jobs: created, listed, followed, paused, resumed, cancelled."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import anyio
import anyio.to_thread
from fastapi import Query, Request
from sqlalchemy import func, select
from starlette.responses import Response

from tunesmith.errors import TunesmithError
from tunesmith.models.address import is_remote
from tunesmith.serving.answers import STREAMS, as_events, as_json, data
from tunesmith.serving.errors import ApiError, invalid
from tunesmith.serving.files import find_file
from tunesmith.serving.ids import new_id
from tunesmith.serving.jobs import ENDED
from tunesmith.serving.keys import Caller
from tunesmith.serving.names import address_of
from tunesmith.serving.paging import listed, page
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Server, Services, Tuner
from tunesmith.serving.tables import File, Job, JobCheckpoint, JobEvent
from tunesmith.serving.wire.tuning import CreateJob

_METADATA: Final = re.compile(r"metadata\[(?P<key>.{1,64})\]")
_POLL_SECONDS: Final = 0.25

router = api_router("/v1/fine_tuning/jobs", "fine-tuning")

After = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.post("")
def create(server: Server, caller: Tuner, body: CreateJob) -> Response:
    """Create a job; its files are looked into before its turn comes."""
    _check_queue(server, caller)
    base = address_of(server.store, server.options, caller.organisation, body.model)
    _check_base(body.model, base)
    train = _file(server, caller, body.training_file, "training_file")
    valid = None
    if body.validation_file is not None:
        valid = _file(server, caller, body.validation_file, "validation_file")
    method = body.trained_as
    hyperparameters = method.hyperparameters.model_dump()
    job = Job(
        id=new_id("ftjob-"),
        organisation=caller.organisation,
        key=caller.key,
        model=body.model,
        base=base,
        training_file=train.id,
        validation_file=None if valid is None else valid.id,
        suffix=body.suffix,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        meta=body.metadata,
        method={"type": method.type, method.type: {"hyperparameters": hyperparameters}},
        hyperparameters=hyperparameters,
        integrations=[],
        status="validating_files",
        error=None,
        created_at=server.store.clock(),
        started_at=None,
        finished_at=None,
        estimated_finish=None,
        trained_tokens=None,
        fine_tuned_model=None,
        result_files=[],
        journal=0,
    )
    server.jobs.prepare(job, train, valid, "preferences" if method.type == "dpo" else "answers")
    with server.store.write() as session:
        session.add(job)
        session.flush()
        server.jobs.begin(session, job)
    return as_json(shown(job))


@router.get("")
def list_all(
    request: Request,
    server: Server,
    caller: Tuner,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """List jobs, newest first; `metadata[key]=value` keeps those that have it, `metadata=null` those that have none."""
    query = select(Job).where(Job.organisation == caller.organisation)
    wanted = {
        match["key"]: value
        for name, value in request.query_params.multi_items()
        if (match := _METADATA.fullmatch(name)) is not None
    }
    if request.query_params.get("metadata") == "null":
        query = query.where(Job.meta.is_(None))
    for key, value in wanted.items():
        query = query.where(Job.meta[key].as_string() == value)
    rows, more = page(server.store, query, Job, after=after, limit=limit)
    return as_json(listed(rows, more, shown))


@router.get("/{job_id}")
def retrieve(server: Server, caller: Tuner, job_id: str) -> Response:
    """Show a job."""
    return as_json(shown(find_job(server, caller, job_id)))


@router.post("/{job_id}/cancel")
def cancel(server: Server, caller: Tuner, job_id: str) -> Response:
    """Cancel a job: it ends at once."""
    return as_json(shown(server.jobs.cancel(caller.organisation, job_id)))


@router.post("/{job_id}/pause")
def pause(server: Server, caller: Tuner, job_id: str) -> Response:
    """Pause a job after the step that it is in."""
    return as_json(shown(server.jobs.pause(caller.organisation, job_id)))


@router.post("/{job_id}/resume")
def resume(server: Server, caller: Tuner, job_id: str) -> Response:
    """Let a paused job go on from its checkpoint when its turn comes."""
    return as_json(shown(server.jobs.resume(caller.organisation, job_id)))


@router.get("/{job_id}/events", responses=STREAMS)
async def events(
    server: Server, caller: Tuner, job_id: str, after: After = None, limit: Limit = 20, stream: bool = False
) -> Response:
    """List what a job has said, newest first; with `stream`, all of it from the first on, as it comes."""
    job = await anyio.to_thread.run_sync(find_job, server, caller, job_id)
    if stream:
        return as_events(_following(server, job.id))
    query = select(JobEvent).where(JobEvent.job == job.id)
    rows, more = await anyio.to_thread.run_sync(
        lambda: page(server.store, query, JobEvent, after=after, limit=limit)
    )
    return as_json(listed(rows, more, event_shown))


@router.get("/{job_id}/checkpoints")
def checkpoints(
    server: Server, caller: Tuner, job_id: str, after: After = None, limit: Limit = 10
) -> Response:
    """List the states of a job's model that can be used as models, newest first."""
    job = find_job(server, caller, job_id)
    query = select(JobCheckpoint).where(JobCheckpoint.job == job.id)
    rows, more = page(server.store, query, JobCheckpoint, after=after, limit=limit)
    return as_json(listed(rows, more, checkpoint_shown))


def find_job(server: Services, caller: Caller, job_id: str) -> Job:
    """Return a job of the caller's organisation; raises ApiError (404) if it has none with this id."""
    found: Job = server.store.find(Job, caller.organisation, job_id, "fine-tuning job")
    return found


async def _following(server: Services, job: str) -> AsyncIterator[str]:
    """Yield a job's events as they come, until it has ended."""
    last = 0
    while True:
        # Asked before the events, so that the last ones are not missed.
        row = await anyio.to_thread.run_sync(server.store.one, select(Job.status).where(Job.id == job))
        query = (
            select(JobEvent).where(JobEvent.job == job, JobEvent.sequence > last).order_by(JobEvent.sequence)
        )
        for event in await anyio.to_thread.run_sync(server.store.all, query):
            last = event.sequence
            yield data(event_shown(event))
        if row is None or row in ENDED:
            yield "data: [DONE]\n\n"
            return
        await anyio.sleep(_POLL_SECONDS)


def _check_queue(server: Services, caller: Caller) -> None:
    most = caller.limits.queued_jobs
    if most is None:
        return
    query = select(func.count()).select_from(Job).where(Job.key == caller.key, Job.status.not_in(ENDED))
    if (server.store.one(query) or 0) >= most:
        raise ApiError(
            429,
            f"This key may have {most} jobs at once. Wait until one has ended, or cancel one.",
            code="rate_limit_exceeded",
            retry=False,
        )


def _check_base(name: str, address: str) -> None:
    from tunesmith.models.address import locate

    if is_remote(address):
        raise invalid(
            f"The model '{name}' is kept by another service, and this one trains here. Name a model whose weights are "
            "on this machine.",
            param="model",
            code="model_not_available",
        )
    try:
        locate(address)
    except TunesmithError as error:
        raise invalid(
            f"The model '{name}' cannot be trained: {error.message}",
            param="model",
            code="model_not_available",
        ) from error


def _file(server: Services, caller: Caller, id: str, param: str) -> File:
    file = find_file(server, caller.organisation, id, param=param)
    if file.purpose != "fine-tune":
        raise invalid(
            f"The file {id} has the purpose '{file.purpose}'; upload it with 'fine-tune'.",
            param=param,
            code="invalid_file_purpose",
        )
    return file


def shown(job: Job) -> dict[str, Any]:
    """Return a job as the API shows it."""
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "estimated_finish": _estimate(job),
        "error": job.error,
        "fine_tuned_model": job.fine_tuned_model,
        # Old clients read the epochs here, also of jobs that were made with `method`.
        "hyperparameters": {key: value for key, value in job.hyperparameters.items() if key != "beta"},
        "method": job.method,
        "model": job.model,
        "organization_id": job.organisation,
        "result_files": job.result_files,
        "seed": job.seed,
        "status": job.status,
        "trained_tokens": job.trained_tokens,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "integrations": job.integrations,
        "metadata": job.meta,
        "user_provided_suffix": job.suffix,
    }


def _estimate(job: Job) -> int | None:
    if job.status != "running" or job.estimated_finish is None:
        return None
    return max(job.estimated_finish, int(time.time()))


def event_shown(event: JobEvent) -> dict[str, Any]:
    """Return an event as the API shows it."""
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": event.created_at,
        "level": event.level,
        "message": event.message,
        "type": event.type,
        "data": event.data,
    }


def checkpoint_shown(checkpoint: JobCheckpoint) -> dict[str, Any]:
    """Return a checkpoint as the API shows it."""
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": checkpoint.created_at,
        "fine_tuned_model_checkpoint": checkpoint.model,
        "fine_tuning_job_id": checkpoint.job,
        "step_number": checkpoint.step,
        "metrics": checkpoint.metrics,
    }
