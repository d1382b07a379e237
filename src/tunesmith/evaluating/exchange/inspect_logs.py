"""Results as inspect_ai writes them: an EvalLog in JSON for each contender and set.

A contender is a model; a set is a task, or two where it has both calls and answers in words; a measure is a score. The
form is version 2 of the log.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tunesmith.errors import DatasetError
from tunesmith.evaluating.exchange.results import (
    OURS,
    Results,
    held_by,
    measures_of,
    names_of,
    original,
    tasks,
)
from tunesmith.evaluating.statistics import clustered_mean
from tunesmith.records import Answer, Example, Score, fingerprint

_LETTERS: Final = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}


def write(results: Results) -> dict[str, str]:
    """Return the files' texts by their paths: one log for each contender and set."""
    files: dict[str, str] = {}
    date = re.sub(r"[:_]", "-", results.made)
    for (contender, set_name), scores in tasks(results.every).items():
        name = re.sub(r"[^\w.+-]", "-", f"{date}_{results.name}-{set_name}_{contender}")
        log = _log(results, contender, set_name, scores)
        files[f"{name}.json"] = json.dumps(log, indent=2, ensure_ascii=False)
    return files


def _log(results: Results, contender: str, set_name: str, scores: Sequence[Score]) -> dict[str, Any]:
    model = f"{OURS}/{contender}"
    task = f"{results.name}-{set_name}"
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": fingerprint("eval", task, model, results.made),
            "run_id": fingerprint("run", results.name, results.made),
            "created": results.made,
            "task": task,
            "task_id": fingerprint("task", task),
            "task_version": 1,
            "task_attribs": {},
            "task_args": {},
            "dataset": {
                "name": set_name,
                "samples": len(scores),
                "sample_ids": [one.example for one in scores],
            },
            "model": model,
            "model_args": {},
            "config": {},
            "packages": dict(results.versions),
            "metadata": {OURS: {"settings": dict(results.settings)}},
        },
        "plan": {
            "name": "plan",
            "steps": [{"solver": contender, "params": {}}],
            "config": {"temperature": 0.0},
        },
        "results": {
            "total_samples": len(scores),
            "completed_samples": len(scores),
            "scores": [_scorer(name, scores) for name in names_of(scores)],
        },
        "stats": {
            "started_at": results.made,
            "completed_at": results.made,
            "model_usage": {
                model: _usage(
                    sum(one.answer.prompt_tokens for one in scores),
                    sum(one.answer.completion_tokens for one in scores),
                )
            },
        },
        "samples": [_sample(one, results.questions[one.example], model) for one in scores],
    }


def _usage(read: int, said: int) -> dict[str, int]:
    return {"input_tokens": read, "output_tokens": said, "total_tokens": read + said}


def _scorer(name: str, scores: Sequence[Score]) -> dict[str, Any]:
    values = [(one.group, value) for one in scores if (value := measures_of(one).get(name)) is not None]
    found = clustered_mean([value for _, value in values], [group for group, _ in values])
    figures = {"mean": found.value, "low": found.low, "high": found.high}
    return {
        "name": name,
        "scorer": name,
        "params": {},
        "metrics": {key: {"name": key, "value": value, "params": {}} for key, value in figures.items()},
    }


def _sample(score: Score, example: Example, model: str) -> dict[str, Any]:
    said = {"role": "assistant", "content": score.answer.text, "source": "generate", "model": model}
    stop = "max_tokens" if score.answer.finish == "length" else "stop"
    return {
        "id": example.id,
        "epoch": 1,
        "input": example.question,
        "target": example.answer,
        "messages": [{"role": "user", "content": example.question, "source": "input"}, said],
        "output": {
            "model": model,
            "choices": [{"message": said, "stop_reason": stop}],
            "completion": score.answer.text,
            "usage": _usage(score.answer.prompt_tokens, score.answer.completion_tokens),
            "time": score.answer.seconds,
        },
        "scores": {
            name: {"value": value, "answer": score.called or score.answer.text, "explanation": score.reason}
            for name, value in measures_of(score).items()
        },
        "metadata": {OURS: held_by(score, example)},
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }


# --- reading


def read(document: Mapping[str, Any], place: str) -> Results:
    """Return the results of one log; `place` names its file in errors.

    Of several epochs a question's measures are the means. Samples without a score (an error, a limit) are counted as
    `unread`. Raises DatasetError for a log without samples.
    """
    told = document.get("eval") or {}
    samples = document.get("samples")
    if not samples:
        raise DatasetError(
            f"{place} holds no samples: without each answer, runs cannot be compared",
            hint="Write the whole log: inspect log convert --to json.",
        )
    model, task = str(told.get("model", place)), str(told.get("task", place))
    unread: Counter[str] = Counter()
    if document.get("status") != "success":
        unread[f"a log whose status is {document.get('status')}"] += 1
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        by_id.setdefault(str(sample.get("id")), []).append(sample)
    read_scores: list[Score] = []
    questions: dict[str, Example] = {}
    for epochs in by_id.values():
        held = original((epochs[0].get("metadata") or {}).get(OURS), place)
        found = held if held is not None else _foreign(epochs, model, task, unread)
        if found is not None:
            read_scores.append(found[0])
            questions[found[1].id] = found[1]
    return Results(
        name=f"{task} by {model}",
        made=str(told.get("created", "")),
        scores=tuple(read_scores),
        questions=questions,
        versions={str(name): str(version) for name, version in (told.get("packages") or {}).items()},
        unread=unread,
    )


def _foreign(
    epochs: Sequence[Mapping[str, Any]], model: str, task: str, unread: Counter[str]
) -> tuple[Score, Example] | None:
    values: dict[str, list[float]] = {}
    for sample in epochs:
        if not sample.get("scores"):
            unread["a sample without a score"] += 1
        for scorer, score in (sample.get("scores") or {}).items():
            for name, value in _values(str(scorer), score.get("value")):
                number = _number(value)
                if number is None:
                    unread[f"{name} (no number from 0 to 1)"] += 1
                else:
                    values.setdefault(name, []).append(number)
    if not values:
        return None
    first = epochs[0]
    identity = f"{task}:{first.get('id')}"
    usage = (first.get("output") or {}).get("usage") or {}
    answer = Answer(
        text=_said(first),
        prompt_tokens=int(usage.get("input_tokens") or 0),
        completion_tokens=int(usage.get("output_tokens") or 0),
        seconds=float((first.get("output") or {}).get("time") or 0.0),
    )
    measures = {name: sum(found) / len(found) for name, found in values.items()}
    target = first.get("target", "")
    example = Example(
        id=identity,
        question=_text(first.get("input", "")),
        answer=target if isinstance(target, str) else json.dumps(target, ensure_ascii=False),
        origin="inspect",
    )
    score = Score(model, task, identity, identity, None, None, answer, measures=measures)
    return score, example


def _values(scorer: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"{scorer}.{key}", inner) for key, inner in value.items()]
    return [(scorer, value)]


def _number(value: Any) -> float | None:
    """Return a score's value as inspect_ai's own conversion does: letters are correct, incorrect, partial, none."""
    if isinstance(value, str) and value in _LETTERS:
        return _LETTERS[value]
    return float(value) if isinstance(value, bool | int | float) and 0 <= value <= 1 else None


def _said(sample: Mapping[str, Any]) -> str:
    output = sample.get("output") or {}
    choices = output.get("choices") or [{}]
    return _text((choices[0].get("message") or {}).get("content", output.get("completion", "")))


def _text(value: Any) -> str:
    """Return a text, or that of messages and of their parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_text(part) for part in value)
    if isinstance(value, Mapping):
        return _text(value.get("content", value.get("text", "")))
    return ""
