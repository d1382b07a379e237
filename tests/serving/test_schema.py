"""The server keeps to its own description: what schemathesis makes of it is answered, and never with a fault."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tunesmith.serving.app import MODULES
from tunesmith.serving.options import Options

from .running import Running, serving

ROUTES = [
    (method, route)
    for module in MODULES
    for route in module.router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods or ())
]
CHECKS = [
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    content_type_conformance,
]
# More are tried by hand: SCHEMA_EXAMPLES=400 (ten minutes).
EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "16"))
FITTING, MISFIT = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


def _cases() -> Iterator[Any]:
    for method, route in ROUTES:
        path = route.path_format
        yield pytest.param(method, path, FITTING, id=f"{method} {path} fitting")
        if route.body_field or route.dependant.query_params or route.openapi_extra:
            yield pytest.param(method, path, MISFIT, id=f"{method} {path} misfit")


@dataclass(frozen=True)
class Api:
    """The description of a running server, by which its routes are called, and ids of what is there."""

    schema: Any
    ids: dict[str, str]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, options: Options, tiny_encoder: str) -> Iterator[Api]:
    """A server with one of each in it."""
    offered = replace(options, models=dict(options.models) | {"encoder": tiny_encoder})
    with serving(tmp_path_factory.mktemp("schema") / "home", offered) as server:
        schema = schemathesis.openapi.from_url(server.url.removesuffix("/v1") + "/openapi.json")
        yield Api(schema, _things(server))


def _things(server: Running) -> dict[str, str]:
    """Make one of each that has an id; returns the ids by the names that paths have for them."""
    client = server.client
    file = client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}
    requests = client.files.create(file=("b.jsonl", json.dumps(request).encode()), purpose="batch")
    eval = client.evals.create(
        data_source_config={"type": "custom", "item_schema": {"type": "object"}},
        testing_criteria=[
            {"type": "string_check", "name": "a", "operation": "eq", "input": "a", "reference": "a"}
        ],
    )
    run = client.evals.runs.create(
        eval.id,
        data_source={"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"a": "b"}}]}},
    )
    while not (items := client.evals.runs.output_items.list(run.id, eval_id=eval.id).data):
        time.sleep(0.1)
    return {
        "file_id": file.id,
        "upload_id": client.uploads.create(
            filename="a", bytes=10, mime_type="text/plain", purpose="fine-tune"
        ).id,
        "job_id": client.fine_tuning.jobs.create(model="tiny", training_file=file.id).id,
        "model": "tiny",
        "response_id": client.responses.create(model="tiny", input="x", max_output_tokens=1).id,
        "batch_id": client.batches.create(
            input_file_id=requests.id, endpoint="/v1/chat/completions", completion_window="24h"
        ).id,
        "eval_id": eval.id,
        "run_id": run.id,
        "item_id": items[0].id,
    }


@pytest.mark.parametrize(("method", "path", "mode"), _cases())
def test_a_route_keeps_to_its_description(api: Api, method: str, path: str, mode: GenerationMode) -> None:
    @given(case=api.schema[path][method].as_strategy(generation_mode=mode), known=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any, known: bool) -> None:
        if known:
            # What is made up is not found, or asks for more than there is: all else would go unread.
            for name in case.path_parameters:
                case.path_parameters[name] = api.ids[name]
            if isinstance(case.body, dict):
                case.body |= {key: value for key, value in _fitting(path).items() if key in case.body}
        case.validate_response(case.call(timeout=60), checks=CHECKS)

    ask()


def _fitting(path: str) -> dict[str, Any]:
    model = "encoder" if path == "/v1/embeddings" else "tiny"
    return {"model": model} | dict.fromkeys(("max_tokens", "max_completion_tokens", "max_output_tokens"), 2)
