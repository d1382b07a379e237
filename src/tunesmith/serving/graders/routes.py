"""The routes at which graders are tried before they are used."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import Request
from starlette.responses import Response

from tunesmith.errors import TunesmithError
from tunesmith.serving.answers import as_json
from tunesmith.serving.errors import invalid
from tunesmith.serving.graders.grading import Ask, Grade, check, grade
from tunesmith.serving.inside import ask
from tunesmith.serving.keys import Caller
from tunesmith.serving.routing import api_router
from tunesmith.serving.state import Either
from tunesmith.serving.wire.graders import RunGrader, ValidateGrader

router = api_router("/v1/fine_tuning/alpha/graders", "graders")

_FLAGS: Final = (
    "formula_parse_error", "sample_parse_error", "truncated_observation_error", "unresponsive_reward_error",
    "invalid_variable_error", "other_error", "python_grader_server_error", "python_grader_runtime_error",
    "model_grader_server_error", "model_grader_refusal_error", "model_grader_parse_error",
)  # fmt: skip


@router.post("/run")
async def run(request: Request, caller: Either, body: RunGrader) -> Response:
    """Grade one answer."""
    values = {"item": body.item or {}, "sample": sample_of(body.model_sample)}
    graded = await grade(body.grader, values, asker(request.app, caller))
    return as_json(
        {
            "reward": graded.score,
            "metadata": _metadata(graded),
            "sub_rewards": {name: part.score for name, part in graded.parts.items()},
            "model_grader_token_usage_per_model": dict(graded.tokens),
        }
    )


@router.post("/validate")
def validate(caller: Either, body: ValidateGrader) -> Response:
    """Look at a grader without using it."""
    try:
        check(body.grader)
    except TunesmithError as error:
        raise invalid(f"Invalid grader: {error.message}.", param="grader", code="invalid_grader") from error
    return as_json({"grader": body.grader.model_dump(exclude_none=True)})


def sample_of(text: str, tools: list[Any] | None = None) -> dict[str, Any]:
    """Return what templates and functions see of an answer."""
    sample: dict[str, Any] = {"output_text": text, "output_tools": tools or []}
    try:
        sample["output_json"] = json.loads(text)
    except (ValueError, RecursionError):
        # Words, as most answers are.
        sample["output_json"] = None
    return sample


def asker(app: Any, caller: Caller) -> Ask:
    """Return what asks the server itself, as a caller."""

    async def asking(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, _, told = await ask(app, caller, "POST", path, body)
        return status, told

    return asking


def _metadata(graded: Grade) -> dict[str, Any]:
    fault = graded.fault
    errors: dict[str, Any] = {flag: fault is not None and fault.kind == flag for flag in _FLAGS}
    errors |= {
        "python_grader_server_error_type": None,
        "python_grader_runtime_error_details": None,
        "model_grader_server_error_details": None,
    }
    if fault is not None:
        details = {
            "python_grader_server_error": "python_grader_server_error_type",
            "python_grader_runtime_error": "python_grader_runtime_error_details",
        }
        # The API has no place for the words of the other faults; this one stands for any server's.
        errors[details.get(fault.kind, "model_grader_server_error_details")] = fault.message
    return {
        "name": graded.grader.name,
        "type": graded.grader.type,
        "errors": errors,
        "execution_time": graded.seconds,
        "scores": {name: part.score for name, part in graded.parts.items()}
        or {graded.grader.name: graded.score},
        "token_usage": sum(graded.tokens.values()) or None,
        "sampled_model_name": getattr(graded.grader, "model", None),
    }
