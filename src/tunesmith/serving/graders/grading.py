"""Grade an answer: the score of each kind of grader, and what went wrong where there is none."""

from __future__ import annotations

import ast
import json
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import anyio.to_thread

from tunesmith.errors import TunesmithError
from tunesmith.sandbox.run import Limits, call_function
from tunesmith.serving.graders import formula, templates
from tunesmith.serving.graders.similarity import METRICS
from tunesmith.serving.inside import refusal_in
from tunesmith.serving.wire.graders import (
    GraderMessage,
    GraderSampling,
    LabelModel,
    MultiGrader,
    PythonGrader,
    ScoreModel,
    StringCheck,
    TextSimilarity,
)

# Asks one of the server's routes: path and body in, status and body out.
Ask = Callable[[str, dict[str, Any]], Awaitable[tuple[int, Any]]]
AnyGrader = StringCheck | TextSimilarity | PythonGrader | ScoreModel | LabelModel | MultiGrader

# What embeds for the cosine, as OpenAI has it; a server offers another by an alias.
EMBEDDING = "text-embedding-3-large"
_PYTHON = Limits()
# Characters: a sentence or three.
_REASONING = 200


class GraderFault(TunesmithError):
    """No score; `kind` is the API's name for what went wrong."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Grade:
    """A score, or 0 and the fault that there is instead; tokens are those that models which grade have used."""

    grader: AnyGrader
    score: float
    seconds: float
    fault: GraderFault | None = None
    parts: Mapping[str, Grade] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    said: Mapping[str, Any] | None = None


def check(grader: AnyGrader) -> None:
    """Raise TunesmithError for a grader that could grade nothing."""
    if isinstance(grader, MultiGrader):
        for each in grader.named.values():
            check(each)
        formula.check(grader.calculate_output, grader.named.keys())
    elif isinstance(grader, PythonGrader):
        _check_source(grader.source)
    elif isinstance(grader, StringCheck | TextSimilarity):
        templates.check(grader.input)
        templates.check(grader.reference)
    else:
        for message in grader.input:
            templates.check(message.text)


async def grade(grader: AnyGrader, values: Mapping[str, Any], ask: Ask) -> Grade:
    """Grade with `values` for "item" and "sample"; whatever fails is a fault in the grade, never raised."""
    start = time.perf_counter()
    try:
        found = await _graded(grader, values, ask)
        if not math.isfinite(found.score):
            raise GraderFault("invalid_variable_error", f"the score is {found.score}")
    except templates.TemplateError as error:
        found = Grade(grader, 0.0, 0.0, GraderFault("invalid_variable_error", error.message))
    except formula.FormulaError as error:
        found = Grade(grader, 0.0, 0.0, GraderFault("formula_parse_error", error.message))
    except GraderFault as fault:
        found = Grade(grader, 0.0, 0.0, fault)
    return replace(found, seconds=time.perf_counter() - start)


async def _graded(grader: AnyGrader, values: Mapping[str, Any], ask: Ask) -> Grade:
    if isinstance(grader, MultiGrader):
        return await _multi(grader, values, ask)
    if isinstance(grader, PythonGrader):
        return Grade(grader, await anyio.to_thread.run_sync(_python, grader, dict(values)), 0.0)
    if isinstance(grader, StringCheck):
        text, reference = templates.fill(grader.input, values), templates.fill(grader.reference, values)
        return Grade(grader, float(_checked(grader.operation, text, reference)), 0.0)
    if isinstance(grader, TextSimilarity):
        text, reference = templates.fill(grader.input, values), templates.fill(grader.reference, values)
        if grader.evaluation_metric == "cosine":
            return await _cosine(grader, text, reference, ask)
        measure = METRICS[grader.evaluation_metric]
        return Grade(grader, await anyio.to_thread.run_sync(measure, text, reference), 0.0)
    return await _by_model(grader, values, ask)


def _checked(operation: str, text: str, reference: str) -> bool:
    if operation == "like":
        return reference in text
    if operation == "ilike":
        return reference.casefold() in text.casefold()
    return (text == reference) == (operation == "eq")


def _check_source(source: str) -> None:
    try:
        parsed = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GraderFault("python_grader_runtime_error", f"the source is no Python: {error}") from error
    names = {node.name for node in parsed.body if isinstance(node, ast.FunctionDef)}
    if "grade" not in names:
        raise GraderFault("python_grader_runtime_error", "the source defines no function grade(sample, item)")


def _python(grader: PythonGrader, values: dict[str, Any]) -> float:
    ran = call_function(grader.source, "grade", [values.get("sample"), values.get("item")], _PYTHON)
    if ran.failure in ("died", "output"):
        raise GraderFault("python_grader_server_error", ran.message)
    if ran.failure is not None:
        raise GraderFault("python_grader_runtime_error", ran.message)
    if isinstance(ran.value, bool) or not isinstance(ran.value, int | float):
        raise GraderFault(
            "python_grader_runtime_error", f"grade gave {json.dumps(ran.value)[:200]}, which is no number"
        )
    try:
        return float(ran.value)
    except OverflowError as error:
        raise GraderFault("python_grader_runtime_error", "grade gave a number without bounds") from error


async def _cosine(grader: TextSimilarity, text: str, reference: str, ask: Ask) -> Grade:
    import numpy as np

    status, told = await ask(
        "/v1/embeddings",
        {"model": EMBEDDING, "input": [text or " ", reference or " "], "encoding_format": "float"},
    )
    if status != 200:
        raise GraderFault("model_grader_server_error", refusal_in(told)[1])
    one, other = (np.array(each["embedding"]) for each in told["data"])
    score = float(one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-12))
    return Grade(grader, score, 0.0, tokens={EMBEDDING: told["usage"]["total_tokens"]})


async def _multi(grader: MultiGrader, values: Mapping[str, Any], ask: Ask) -> Grade:
    parts = {name: await grade(each, values, ask) for name, each in grader.named.items()}
    tokens: Counter[str] = Counter()
    for part in parts.values():
        tokens.update(part.tokens)
    found = Grade(grader, 0.0, 0.0, parts=parts, tokens=tokens)
    faults = [(name, part.fault) for name, part in parts.items() if part.fault is not None]
    if faults:
        name, fault = faults[0]
        return replace(found, fault=GraderFault(fault.kind, f"{name}: {fault.message}"))
    try:
        scores = {name: part.score for name, part in parts.items()}
        return replace(found, score=formula.value_of(grader.calculate_output, scores))
    except formula.FormulaError as error:
        return replace(found, fault=GraderFault("formula_parse_error", error.message))


async def _by_model(grader: ScoreModel | LabelModel, values: Mapping[str, Any], ask: Ask) -> Grade:
    """Ask a model for a number or a label; the form of its answer is held by its schema."""
    messages = [_filled(message, values) for message in grader.input]
    if isinstance(grader, ScoreModel):
        low, high = grader.range or [0.0, 1.0]
        key, wanted = "result", {"type": "number", "minimum": low, "maximum": high}
        sampling = grader.sampling_params or GraderSampling()
    else:
        key, wanted = "result", {"enum": grader.labels}
        sampling = GraderSampling()
    schema = {
        "type": "object",
        # What leads to a judgement stands before it.
        "properties": {"reasoning": {"type": "string", "maxLength": _REASONING}, key: wanted},
        "required": ["reasoning", key],
        "additionalProperties": False,
    }
    body: dict[str, Any] = {
        "model": grader.model,
        "messages": messages,
        "temperature": 0.0 if sampling.temperature is None else sampling.temperature,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "grade", "schema": schema, "strict": True},
        },
    }
    most = sampling.max_completions_tokens or sampling.max_completion_tokens
    body |= {"seed": sampling.seed, "top_p": sampling.top_p, "max_completion_tokens": most}
    status, told = await ask(
        "/v1/chat/completions", {name: each for name, each in body.items() if each is not None}
    )
    if status != 200:
        raise GraderFault("model_grader_server_error", refusal_in(told)[1])
    try:
        said = told["choices"][0]["message"]
        tokens = {grader.model: (told.get("usage") or {}).get("total_tokens", 0)}
    except (LookupError, TypeError, AttributeError) as error:
        # A service behind an address may answer what it likes.
        raise GraderFault("model_grader_parse_error", f"no answer: {json.dumps(told):.300}") from error
    if said.get("refusal"):
        return Grade(
            grader, 0.0, 0.0, GraderFault("model_grader_refusal_error", said["refusal"]), tokens=tokens
        )
    try:
        given = json.loads(said["content"])[key]
        score = float(given) if isinstance(grader, ScoreModel) else float(given in grader.passing_labels)
    except (ValueError, TypeError, KeyError) as error:
        fault = GraderFault(
            "model_grader_parse_error", f"the model's answer is not whole: {said['content']!r:.500}"
        )
        fault.__cause__ = error
        return Grade(grader, 0.0, 0.0, fault, tokens=tokens)
    return Grade(
        grader, score, 0.0, tokens=tokens, said={"input": messages, "output": said["content"], "given": given}
    )


def _filled(message: GraderMessage, values: Mapping[str, Any]) -> dict[str, str]:
    return {"role": message.role, "content": templates.fill(message.text, values)}
