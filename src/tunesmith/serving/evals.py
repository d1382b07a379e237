"""Evals: what is graded and by what, their runs over items, and the grade of each item."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import Query
from sqlalchemy import delete, select
from starlette.responses import Response

from tunesmith.errors import TunesmithError
from tunesmith.serving.answers import as_json
from tunesmith.serving.errors import conflict, invalid
from tunesmith.serving.files import find_file, path_of
from tunesmith.serving.graders.grading import check
from tunesmith.serving.ids import new_id
from tunesmith.serving.jobs import link
from tunesmith.serving.keys import Caller
from tunesmith.serving.paging import listed, page
from tunesmith.serving.routing import api_router
from tunesmith.serving.schemas import validator_of
from tunesmith.serving.state import Asker, Server, Services
from tunesmith.serving.tables import Eval, EvalItem, EvalRun
from tunesmith.serving.wire.evals import CreateEval, CreateRun, FileContent, FileId, UpdateEval

router = api_router("/v1/evals", "evals")

ENDED: Final = ("completed", "failed", "canceled")
After = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=100)]
Order = Annotated[Literal["asc", "desc"], Query()]


# --- evals


@router.post("")
def create(server: Server, caller: Asker, body: CreateEval) -> Response:
    """Describe what is graded."""
    validator_of(body.data_source_config.item_schema, "data_source_config.item_schema")
    for number, criterion in enumerate(body.testing_criteria):
        try:
            check(criterion)
        except TunesmithError as error:
            raise invalid(
                f"Invalid criterion '{criterion.name}': {error.message}.", param=f"testing_criteria.{number}"
            ) from error
    config = body.data_source_config
    row = Eval(
        id=new_id("eval_"),
        organisation=caller.organisation,
        name=body.name or "Unnamed eval",
        config=config.model_dump(exclude_none=True),
        criteria=[criterion.model_dump(exclude_none=True) for criterion in body.testing_criteria],
        meta=body.metadata,
        created_at=server.store.clock(),
    )
    with server.store.write() as session:
        session.add(row)
    return as_json(_eval_shown(row))


@router.get("")
def list_all(
    server: Server,
    caller: Asker,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: Annotated[Literal["created_at"], Query()] = "created_at",
) -> Response:
    """List evals by when they were made: nothing else about them is dated, and another order is refused."""
    del order_by
    query = select(Eval).where(Eval.organisation == caller.organisation)
    rows, more = page(server.store, query, Eval, after=after, limit=limit, descending=order == "desc")
    return as_json(listed(rows, more, _eval_shown))


@router.get("/{eval_id}")
def retrieve(server: Server, caller: Asker, eval_id: str) -> Response:
    """Show an eval."""
    return as_json(_eval_shown(_find(server, caller, eval_id)))


@router.post("/{eval_id}")
def update(server: Server, caller: Asker, eval_id: str, body: UpdateEval) -> Response:
    """Change the name or the metadata of an eval."""
    _find(server, caller, eval_id)
    with server.store.write() as session:
        row = session.scalars(select(Eval).where(Eval.id == eval_id).with_for_update()).one()
        if body.name is not None:
            row.name = body.name
        if body.metadata is not None:
            row.meta = body.metadata
    return as_json(_eval_shown(row))


@router.delete("/{eval_id}")
def remove(server: Server, caller: Asker, eval_id: str) -> Response:
    """Delete an eval with all its runs."""
    _find(server, caller, eval_id)
    runs = server.store.all(select(EvalRun.id).where(EvalRun.eval == eval_id))
    with server.store.write() as session:
        session.execute(delete(EvalItem).where(EvalItem.run.in_(runs)))
        session.execute(delete(EvalRun).where(EvalRun.eval == eval_id))
        session.execute(delete(Eval).where(Eval.id == eval_id))
    for run in runs:
        shutil.rmtree(folder_of(server, run), ignore_errors=True)
    return as_json({"object": "eval.deleted", "deleted": True, "eval_id": eval_id})


# --- runs


@router.post("/{eval_id}/runs")
def create_run(server: Server, caller: Asker, eval_id: str, body: CreateRun) -> Response:
    """Begin a run; its items are looked into first."""
    found = _find(server, caller, eval_id)
    source = body.data_source.source
    run = EvalRun(
        id=new_id("evalrun_"),
        organisation=caller.organisation,
        key=caller.key,
        eval=eval_id,
        name=body.name or found.name,
        model=getattr(body.data_source, "model", None),
        data_source=body.data_source.model_dump(exclude_none=True, by_alias=True),
        status="queued",
        error=None,
        counts={"total": 0, "passed": 0, "failed": 0, "errored": 0},
        by_criterion=[],
        usage={},
        meta=body.metadata,
        created_at=server.store.clock(),
    )
    folder = folder_of(server, run.id)
    try:
        folder.mkdir(parents=True)
        _lay_out(server, caller, source, folder / "items.jsonl")
        with server.store.write() as session:
            session.add(run)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return as_json(_run_shown(run))


@router.get("/{eval_id}/runs")
def list_runs(
    server: Server,
    caller: Asker,
    eval_id: str,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: Annotated[
        Literal["queued", "in_progress", "completed", "canceled", "failed"] | None, Query()
    ] = None,
) -> Response:
    """List the runs of an eval."""
    _find(server, caller, eval_id)
    query = select(EvalRun).where(EvalRun.eval == eval_id)
    if status is not None:
        query = query.where(EvalRun.status == status)
    rows, more = page(server.store, query, EvalRun, after=after, limit=limit, descending=order == "desc")
    return as_json(listed(rows, more, _run_shown))


@router.get("/{eval_id}/runs/{run_id}")
def retrieve_run(server: Server, caller: Asker, eval_id: str, run_id: str) -> Response:
    """Show a run."""
    return as_json(_run_shown(_find_run(server, caller, eval_id, run_id)))


# SDKs up to 3.3 cancel at the run's own address.
@router.post("/{eval_id}/runs/{run_id}")
@router.post("/{eval_id}/runs/{run_id}/cancel")
def cancel_run(server: Server, caller: Asker, eval_id: str, run_id: str) -> Response:
    """Cancel a run: what is graded by then is kept."""
    _find_run(server, caller, eval_id, run_id)
    with server.store.write() as session:
        row = session.scalars(select(EvalRun).where(EvalRun.id == run_id).with_for_update()).one()
        if row.status in ENDED:
            raise conflict(f"The run {run_id} is {row.status}.", code="invalid_status")
        row.status = "canceled"
    return as_json(_run_shown(row))


@router.delete("/{eval_id}/runs/{run_id}")
def remove_run(server: Server, caller: Asker, eval_id: str, run_id: str) -> Response:
    """Delete a run with its items."""
    _find_run(server, caller, eval_id, run_id)
    with server.store.write() as session:
        session.execute(delete(EvalItem).where(EvalItem.run == run_id))
        session.execute(delete(EvalRun).where(EvalRun.id == run_id))
    shutil.rmtree(folder_of(server, run_id), ignore_errors=True)
    return as_json({"object": "eval.run.deleted", "deleted": True, "run_id": run_id})


# --- items


@router.get("/{eval_id}/runs/{run_id}/output_items")
def list_items(
    server: Server,
    caller: Asker,
    eval_id: str,
    run_id: str,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: Annotated[Literal["fail", "pass", "error"] | None, Query()] = None,
) -> Response:
    """List the graded items of a run."""
    _find_run(server, caller, eval_id, run_id)
    query = select(EvalItem).where(EvalItem.run == run_id)
    if status is not None:
        query = query.where(EvalItem.status == status)
    rows, more = page(server.store, query, EvalItem, after=after, limit=limit, descending=order == "desc")
    return as_json(listed(rows, more, lambda row: _item_shown(row, eval_id)))


@router.get("/{eval_id}/runs/{run_id}/output_items/{item_id}")
def retrieve_item(server: Server, caller: Asker, eval_id: str, run_id: str, item_id: str) -> Response:
    """Show a graded item."""
    _find_run(server, caller, eval_id, run_id)
    found: EvalItem = server.store.find(EvalItem, caller.organisation, item_id, "output item")
    if found.run != run_id:
        raise invalid(f"The item {item_id} is not of the run {run_id}.", param="output_item_id")
    return as_json(_item_shown(found, eval_id))


def folder_of(server: Services, run: str) -> Path:
    """Return where the items of a run lie while it runs."""
    return server.home.evals / run


def _lay_out(server: Services, caller: Caller, source: Any, to: Path) -> None:
    if isinstance(source, FileId):
        file = find_file(server, caller.organisation, source.id, param="data_source.source.id")
        link(path_of(server, file), to)
        return
    assert isinstance(source, FileContent)
    with to.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row.model_dump(exclude_none=True)) + "\n" for row in source.content)


def _find(server: Services, caller: Caller, id: str) -> Eval:
    found: Eval = server.store.find(Eval, caller.organisation, id, "eval")
    return found


def _find_run(server: Services, caller: Caller, eval_id: str, id: str) -> EvalRun:
    _find(server, caller, eval_id)
    found: EvalRun = server.store.find(EvalRun, caller.organisation, id, "eval run")
    if found.eval != eval_id:
        raise invalid(f"The run {id} is not of the eval {eval_id}.", param="run_id")
    return found


def _eval_shown(row: Eval) -> dict[str, Any]:
    item = row.config["item_schema"]
    schema: dict[str, Any] = {"type": "object", "properties": {"item": item}, "required": ["item"]}
    if row.config.get("include_sample_schema"):
        schema["properties"]["sample"] = {"type": "object", "properties": {"output_text": {"type": "string"}}}
        schema["required"] = ["item", "sample"]
    return {
        "id": row.id,
        "object": "eval",
        "name": row.name,
        "created_at": row.created_at,
        "data_source_config": {"type": "custom", "schema": schema},
        "testing_criteria": row.criteria,
        "metadata": row.meta or {},
    }


def _run_shown(row: EvalRun) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "eval.run",
        "eval_id": row.eval,
        "name": row.name,
        "model": row.model or "",
        "status": row.status,
        "error": row.error,
        "created_at": row.created_at,
        "data_source": row.data_source,
        "metadata": row.meta or {},
        "report_url": f"/v1/evals/{row.eval}/runs/{row.id}/output_items",
        "result_counts": row.counts,
        "per_testing_criteria_results": row.by_criterion,
        "per_model_usage": [{"model_name": name} | used for name, used in row.usage.items()],
    }


def _item_shown(row: EvalItem, eval_id: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "eval.run.output_item",
        "eval_id": eval_id,
        "run_id": row.run,
        "created_at": row.created_at,
        "status": row.status,
        "datasource_item_id": row.place,
        "datasource_item": row.item,
        "results": row.results,
        "sample": row.sample,
    }
