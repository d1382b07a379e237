"""Models: those that the server offers, and those that an organisation has tuned."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete
from starlette.responses import Response

from tunesmith.serving.answers import as_json
from tunesmith.serving.errors import ApiError, not_found
from tunesmith.serving.names import tuned_model
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Either, Server, Tuner
from tunesmith.serving.tables import JobCheckpoint, Model

router = api_router("/v1/models", "models")


@router.get("")
def list_all(server: Server, caller: Either) -> Response:
    """List all models that the caller may use."""
    tuned = [_tuned(model, caller.organisation) for model in server.roster.tuned(caller.organisation)]
    offered = [_offered(server.started, name) for name in server.options.models]
    contenders = [
        _offered(server.started, name)
        for name in (() if server.contenders is None else server.contenders.names)
        if name not in server.options.models
    ]
    return as_json({"object": "list", "data": [*offered, *contenders, *tuned]})


@router.get("/{model:path}")
def retrieve(server: Server, caller: Either, model: str) -> Response:
    """Show a model."""
    tuned = tuned_model(server.store, caller.organisation, model)
    if tuned is not None:
        return as_json(_tuned(tuned, caller.organisation))
    if model in server.options.models or (server.contenders is not None and server.contenders.knows(model)):
        return as_json(_offered(server.started, model))
    raise not_found("model", model, param="model")


@router.delete("/{model:path}")
def remove(server: Server, caller: Tuner, model: str) -> Response:
    """Delete a tuned model: it answers nobody from now on, and its files go."""
    tuned = tuned_model(server.store, caller.organisation, model)
    if tuned is None:
        if model in server.options.models:
            raise ApiError(
                403, f"The model '{model}' belongs to the server and cannot be deleted.", param="model"
            )
        raise not_found("model", model, param="model")
    with server.store.write() as session:
        session.execute(delete(Model).where(Model.number == tuned.number))
        session.execute(
            delete(JobCheckpoint).where(JobCheckpoint.model == tuned.name, JobCheckpoint.job == tuned.job)
        )
    server.roster.forget(tuned.address)
    if tuned.job is not None:
        server.jobs.drop_models(tuned.job)
    return as_json({"id": model, "object": "model", "deleted": True})


def _tuned(model: Model, organisation: str) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created_at, "owned_by": organisation}


def _offered(created: int, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "tunesmith"}
