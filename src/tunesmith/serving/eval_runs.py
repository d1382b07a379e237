"""Work through the runs of evals: have each item answered where it is not yet, and grade the answer."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio.to_thread
from jsonschema_rs import Draft202012Validator
from sqlalchemy import select
from starlette.types import ASGIApp

from tunesmith.errors import TunesmithError
from tunesmith.serving.evals import ENDED, folder_of
from tunesmith.serving.graders import templates
from tunesmith.serving.graders.grading import AnyGrader, Ask, Grade, grade
from tunesmith.serving.graders.routes import asker, sample_of
from tunesmith.serving.ids import new_id
from tunesmith.serving.inside import refusal_in
from tunesmith.serving.jsonl import JsonLine, LineFault, read_lines
from tunesmith.serving.keys import caller_by_id
from tunesmith.serving.schemas import validator_of
from tunesmith.serving.state import Services
from tunesmith.serving.tables import Eval, EvalItem, EvalRun
from tunesmith.serving.wire.evals import Completions, CreateEval, CreateRun, ItemReference, Jsonl, Responses
from tunesmith.serving.working import one_after_another, some_at_a_time

# What OpenAI's runs have where nothing is said.
_MOST_TOKENS: Final = 2048
_TOLD: Final = 300
_USED: Final = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


class ItemError(TunesmithError):
    """An item that cannot be answered; `code` names the kind of reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run with what it needs to be worked on."""

    run: EvalRun
    source: Jsonl | Completions | Responses
    criteria: tuple[tuple[str, AnyGrader], ...]
    ask: Ask


class EvalRuns:
    """Works through one run after the other, in the server's event loop."""

    def __init__(self, server: Services, app: ASGIApp) -> None:
        self._server, self._app = server, app
        self._forget()

    def _forget(self) -> None:
        """Take away folders that no run knows: a server was killed while it made or deleted one."""
        known = set(self._server.store.all(select(EvalRun.id)))
        for folder in self._server.home.evals.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder)

    async def turn(self) -> None:
        """Work on the runs that have not ended, the oldest first."""
        broken = {"code": "server_error", "message": "The server had an error."}
        await one_after_another(self._next, self._work, lambda ended: self._end(ended, "failed", broken))

    def _next(self) -> EvalRun | None:
        return self._server.store.one(
            select(EvalRun).where(EvalRun.status.not_in(ENDED)).order_by(EvalRun.number).limit(1)
        )

    async def _work(self, run: EvalRun) -> None:
        plan = await anyio.to_thread.run_sync(self._plan, run)
        if plan is None:
            return
        left = await anyio.to_thread.run_sync(self._left, run)
        await some_at_a_time(left, lambda: self._stops(run.id), lambda row: self._item(plan, row))
        await anyio.to_thread.run_sync(self._end, run.id, "completed", None)

    def _plan(self, run: EvalRun) -> _Plan | None:
        """Return what the run needs; None if its items have a fault, which then is its end."""
        found = self._server.store.one(select(Eval).where(Eval.id == run.eval))
        caller = caller_by_id(self._server.store, run.organisation, run.key)
        if found is None or caller is None:
            self._end(
                run.id, "failed", {"code": "invalid_api_key", "message": "The key of the run was revoked."}
            )
            return None
        criteria = CreateEval.model_validate(
            {"data_source_config": found.config, "testing_criteria": found.criteria}
        ).testing_criteria
        source = CreateRun.model_validate({"data_source": run.data_source}).data_source
        total, fault = self._looked_at(run, found.config["item_schema"])
        if fault is not None:
            self._end(run.id, "failed", {"code": "invalid_items", "message": fault})
            return None
        names = _names([criterion.name for criterion in criteria])
        with self._server.store.write() as session:
            row = session.scalars(select(EvalRun).where(EvalRun.id == run.id).with_for_update()).one_or_none()
            if row is None or row.status in ENDED:
                return None
            row.status, row.counts = "in_progress", row.counts | {"total": total}
            if not row.by_criterion:
                row.by_criterion = [{"testing_criteria": name, "passed": 0, "failed": 0} for name in names]
        return _Plan(run, source, tuple(zip(names, criteria, strict=True)), asker(self._app, caller))

    def _looked_at(self, run: EvalRun, schema: dict[str, Any]) -> tuple[int, str | None]:
        """Return how many items there are, and what is wrong with the first that has a fault."""
        validator = validator_of(schema, "data_source_config.item_schema")
        total = 0
        for line in self._lines(run):
            fault = line.message if isinstance(line, LineFault) else _fault_of(line.value, validator)
            if fault is not None:
                return total, f"line {line.number}: {fault}"
            total += 1
        return total, None if total else "there are no items"

    def _lines(self, run: EvalRun) -> Iterator[JsonLine | LineFault]:
        return read_lines(folder_of(self._server, run.id) / "items.jsonl")

    def _left(self, run: EvalRun) -> Iterator[tuple[int, dict[str, Any]]]:
        done = set(self._server.store.all(select(EvalItem.place).where(EvalItem.run == run.id)))
        good = (line for line in self._lines(run) if isinstance(line, JsonLine))
        return ((place, line.value) for place, line in enumerate(good, 1) if place not in done)

    def _stops(self, id: str) -> bool:
        row = self._server.store.one(select(EvalRun).where(EvalRun.id == id))
        return row is None or row.status != "in_progress"

    async def _item(self, plan: _Plan, row: tuple[int, dict[str, Any]]) -> None:
        """Answer and grade one item, and keep what came of it."""
        place, given = row
        results: list[dict[str, Any]] = []
        used: dict[str, dict[str, int]] = {}
        try:
            sample, shown = await _answered(plan, given, used)
        except ItemError as error:
            status, shown = "error", _unanswered(plan, error)
        else:
            values = {"item": given["item"], "sample": sample}
            for name, criterion in plan.criteria:
                graded = await grade(criterion, values, plan.ask)
                results.append(_result(name, graded))
                for model, tokens in graded.tokens.items():
                    _add(used, model, {"total_tokens": tokens})
            status = (
                "error"
                if any("error" in result for result in results)
                else "pass"
                if all(result["passed"] for result in results)
                else "fail"
            )
        item = EvalItem(
            id=new_id("outputitem_"),
            organisation=plan.run.organisation,
            run=plan.run.id,
            place=place,
            status=status,
            item=given["item"],
            sample=shown,
            results=results,
            created_at=self._server.store.clock(),
        )
        await anyio.to_thread.run_sync(self._keep, item, used)

    def _keep(self, item: EvalItem, used: Mapping[str, Mapping[str, int]]) -> None:
        """Keep an item, and count it in its run, in one transaction."""
        counted = {"pass": "passed", "fail": "failed", "error": "errored"}[item.status]
        with self._server.store.write() as session:
            run = session.scalars(
                select(EvalRun).where(EvalRun.id == item.run).with_for_update()
            ).one_or_none()
            if run is None:
                return
            run.counts = run.counts | {counted: run.counts[counted] + 1}
            passed = {result["name"]: result["passed"] for result in item.results}
            run.by_criterion = [
                row
                | {
                    "passed": row["passed"] + (passed.get(row["testing_criteria"]) is True),
                    "failed": row["failed"] + (passed.get(row["testing_criteria"]) is False),
                }
                for row in run.by_criterion
            ]
            total = {name: dict(tokens) for name, tokens in run.usage.items()}
            for model, tokens in used.items():
                _add(total, model, tokens)
            run.usage = total
            session.add(item)

    def _end(self, id: str, status: str, error: dict[str, str] | None) -> None:
        with self._server.store.write() as session:
            row = session.scalars(select(EvalRun).where(EvalRun.id == id).with_for_update()).one_or_none()
            if row is not None and row.status not in ENDED:
                row.status, row.error = status, error
        shutil.rmtree(folder_of(self._server, id), ignore_errors=True)


def _fault_of(row: dict[str, Any], validator: Draft202012Validator) -> str | None:
    """Return what is wrong with an item, or None."""
    item = row.get("item")
    if not isinstance(item, dict):
        return "'item' is missing, or no object"
    if not isinstance(row.get("sample", {}), dict):
        return "'sample' is no object"
    error = next(validator.iter_errors(item), None)
    if error is None:
        return None
    place = ".".join(map(str, error.instance_path))
    # The value is told with it, however long that is.
    said = error.message if len(error.message) <= _TOLD else f"{error.message[:_TOLD]}..."
    return f"item{'.' if place else ''}{place}: {said}"


async def _answered(
    plan: _Plan, given: dict[str, Any], used: dict[str, dict[str, int]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an item's answer as graders see it and as it is shown; raises ItemError where there is none."""
    source = plan.source
    if isinstance(source, Jsonl):
        sample = given.get("sample") or {}
        text = _text(sample.get("output_text", ""))
        whole = sample_of(text) | sample | {"output_text": text}
        return whole, _shown(plan, [], text, str(sample.get("finish_reason", "stop")), {})
    try:
        messages = _messages(source, given)
    except templates.TemplateError as error:
        raise ItemError("invalid_template", error.message) from error
    settings: dict[str, Any] = {}
    if source.sampling_params is not None:
        settings = source.sampling_params.model_dump(exclude_none=True, by_alias=True)
    most = settings.pop("max_completion_tokens", None) or settings.pop("max_completions_tokens", None)
    settings["seed"] = settings.get("seed", random.getrandbits(31))
    body = {"model": source.model} | settings
    if isinstance(source, Completions):
        body |= {"messages": messages, "max_completion_tokens": most or _MOST_TOKENS}
        status, told = await plan.ask("/v1/chat/completions", body)
    else:
        del body["seed"]
        if effort := body.pop("reasoning_effort", None):
            body["reasoning"] = {"effort": effort}
        body |= {"input": messages, "max_output_tokens": most or _MOST_TOKENS, "store": False}
        status, told = await plan.ask("/v1/responses", body)
    if status != 200:
        raise ItemError(*refusal_in(told))
    try:
        text, calls, finish, tokens = _read(told)
    except (LookupError, TypeError, AttributeError) as error:
        # A service behind an address may answer what it likes.
        raise ItemError(
            "invalid_answer", f"the answer has another form than the API's: {_text(told):.300}"
        ) from error
    _add(used, source.model, tokens | {"invocation_count": 1})
    sample = sample_of(text, calls) | {"choices": told.get("choices", []), "model": source.model}
    return sample, _shown(plan, messages, text, finish, tokens, calls, settings, most)


def _read(told: Mapping[str, Any]) -> tuple[str, list[Any], str, dict[str, int]]:
    """Return the text, the calls, the reason of the end and the tokens of a chat's answer or a response."""
    # Not every service counts.
    usage = told.get("usage") or {}
    if "choices" in told:
        choice = told["choices"][0]
        read, said = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        details = usage.get("prompt_tokens_details") or {}
        text, calls = choice["message"].get("content") or "", choice["message"].get("tool_calls") or []
        finish = choice["finish_reason"]
    else:
        read, said = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        details = usage.get("input_tokens_details") or {}
        messages = [item for item in told["output"] if item["type"] == "message"]
        text = "".join(part.get("text", "") for item in messages for part in item["content"])
        calls = [item for item in told["output"] if item["type"] == "function_call"]
        finish = "length" if told["status"] == "incomplete" else "tool_calls" if calls else "stop"
    cached = details.get("cached_tokens") or 0
    return text, calls, finish, dict(zip(_USED, (read, said, read + said, cached), strict=True))


def _messages(source: Completions | Responses, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    values = {"item": given["item"], "sample": given.get("sample") or {}}
    if isinstance(source.input_messages, ItemReference):
        found = templates.look_up(source.input_messages.item_reference, values)
        if not isinstance(found, list) or not found:
            raise templates.TemplateError(f"{source.input_messages.item_reference} is no list of messages")
        return found
    return [
        {"role": message.role, "content": templates.fill(message.text, values)}
        for message in source.input_messages.template
    ]


def _shown(
    plan: _Plan,
    messages: list[dict[str, Any]],
    text: str,
    finish: str,
    tokens: Mapping[str, int],
    calls: list[Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    most: int | None = None,
) -> dict[str, Any]:
    settings = settings or {}
    output: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        output["tool_calls"] = calls
    said = [
        {"role": str(message.get("role")), "content": _text(message.get("content"))} for message in messages
    ]
    return {
        "input": said,
        "output": [output],
        "finish_reason": finish,
        "model": plan.run.model or "",
        "usage": dict.fromkeys(_USED, 0) | dict(tokens),
        "error": None,
        "seed": settings.get("seed", 0),
        "temperature": settings.get("temperature", 1.0),
        "top_p": settings.get("top_p", 1.0),
        "max_completion_tokens": most or _MOST_TOKENS,
    }


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _unanswered(plan: _Plan, error: ItemError) -> dict[str, Any]:
    shown = _shown(plan, [], "", "error", {})
    return shown | {"output": [], "error": {"code": error.code, "message": error.message}}


def _result(name: str, graded: Grade) -> dict[str, Any]:
    grader = graded.grader
    result: dict[str, Any] = {
        "name": name,
        "type": grader.type,
        "score": graded.score,
        "passed": graded.fault is None and graded.score >= _threshold(grader),
    }
    if graded.said is not None:
        result["sample"] = dict(graded.said)
    if graded.fault is not None:
        result["error"] = {"code": graded.fault.kind, "message": graded.fault.message}
    return result


def _threshold(grader: AnyGrader) -> float:
    """Return from which score on a criterion is passed: what it says, else the middle of its range, else all of it."""
    said: float | None = getattr(grader, "pass_threshold", None)
    if said is not None:
        return said
    if grader.type == "score_model":
        low, high = grader.range or (0.0, 1.0)
        return (low + high) / 2
    return 0.5 if grader.type == "python" else 1.0


def _names(names: list[str]) -> list[str]:
    """Return names of which no two are the same."""
    return [
        name if names.count(name) == 1 else f"{name}-{names[: number + 1].count(name)}"
        for number, name in enumerate(names)
    ]


def _add(total: dict[str, dict[str, int]], model: str, tokens: Mapping[str, int]) -> None:
    kept = total.setdefault(model, dict.fromkeys((*_USED, "invocation_count"), 0))
    for key, count in tokens.items():
        kept[key] += count
