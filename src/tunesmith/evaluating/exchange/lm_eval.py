"""Results as lm-evaluation-harness writes them: results_DATE.json, and samples_TASK_DATE.jsonl beside it.

A contender is a model with a folder of its own; a set is a task, or two where it has both calls and answers in words.
The form is that of `EvaluationTracker` of version 0.4: `results`, `configs`, `versions`, `n-shot`, `n-samples`,
`higher_is_better`; a line for each question with `doc`, `target`, `resps` and the metrics.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tunesmith.errors import DatasetError
from tunesmith.evaluating.exchange.results import OURS, Results, held_by, measures_of, names_of, original
from tunesmith.evaluating.exchange.results import tasks as tasks_of
from tunesmith.records import Answer, Example, Score

_LOWER_IS_BETTER: Final = frozenset(
    {"hallucinated", "wrong_arguments", "no_call", "wrongly_abstained", "no_label", "judge_error"}
)
# What each line has beside its metrics.
_ROW: Final = frozenset(
    {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
    | {"doc_hash", "prompt_hash", "target_hash"}
)


def write(results: Results) -> dict[str, str]:
    """Return the files' texts by their paths: a folder for each contender, floor and ceiling."""
    files: dict[str, str] = {}
    date = re.sub(r"[:_]", "-", results.made)
    by_contender: dict[str, dict[str, tuple[Score, ...]]] = {}
    for (contender, set_name), scores in tasks_of(results.every).items():
        by_contender.setdefault(contender, {})[set_name] = scores
    for contender, sets in by_contender.items():
        folder = re.sub(r"[^\w.+-]", "_", contender)
        tasks = {_task(set_name): scores for set_name, scores in sets.items()}
        summed = _summed(results, contender, tasks)
        files[f"{folder}/results_{date}.json"] = json.dumps(summed, indent=2, ensure_ascii=False)
        for task, scores in tasks.items():
            lines = (
                json.dumps(_row(number, one, results.questions[one.example]), ensure_ascii=False)
                for number, one in enumerate(scores)
            )
            files[f"{folder}/samples_{task}_{date}.jsonl"] = "\n".join(lines) + "\n"
    return files


def _task(set_name: str) -> str:
    return re.sub(r"[^\w.+-]", "-", set_name)


def _summed(results: Results, contender: str, tasks: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    figures = {task: _figures(scores) for task, scores in tasks.items()}
    return {
        "results": {task: {"alias": task, **found} for task, found in figures.items()},
        "group_subtasks": {task: [] for task in tasks},
        "configs": {
            task: {
                "task": task,
                "output_type": "generate_until",
                "metric_list": [
                    {"metric": name, "aggregation": "mean", "higher_is_better": name not in _LOWER_IS_BETTER}
                    for name in names_of(scores)
                ],
                "num_fewshot": 0,
                "metadata": {"version": 1, OURS: {"settings": dict(results.settings)}},
            }
            for task, scores in tasks.items()
        },
        "versions": dict.fromkeys(tasks, 1),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {
            task: {name: name not in _LOWER_IS_BETTER for name in names_of(scores)}
            for task, scores in tasks.items()
        },
        "n-samples": {
            task: {"original": len(scores), "effective": len(scores)} for task, scores in tasks.items()
        },
        "config": {"model": OURS, "model_args": f"contender={contender}"},
        "git_hash": None,
        "date": _seconds(results.made),
        "model_source": OURS,
        "model_name": contender,
        "model_name_sanitized": re.sub(r"[^\w.+-]", "_", contender),
        OURS: {"project": results.name, "versions": dict(results.versions)},
    }


def _figures(scores: Sequence[Score]) -> dict[str, float]:
    """Return the means and their standard errors, as the harness names them, each over the answers that have it."""
    found: dict[str, float] = {}
    for name in names_of(scores):
        values = [value for one in scores if (value := measures_of(one).get(name)) is not None]
        mean = sum(values) / len(values)
        spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
        found |= {f"{name},none": mean, f"{name}_stderr,none": (spread / len(values)) ** 0.5}
    return found


def _seconds(made: str) -> float:
    try:
        return datetime.fromisoformat(made).timestamp()
    except ValueError:
        return 0.0


def _row(number: int, score: Score, example: Example) -> dict[str, Any]:
    doc = {"id": example.id, "question": example.question, OURS: held_by(score, example)}
    target, said = example.answer, score.answer.text
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": example.question, "arg_1": {}}},
        "resps": [[said]],
        "filtered_resps": [said],
        "filter": "none",
        "metrics": list(measures_of(score)),
        "doc_hash": _hash(json.dumps({"id": example.id, "question": example.question})),
        "prompt_hash": _hash(example.question),
        "target_hash": _hash(target),
        **measures_of(score),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- reading


def read(path: Path, document: Mapping[str, Any]) -> Results:
    """Return the results of one results_*.json, with the samples that lie beside it.

    Raises DatasetError where no samples do: without the answers, nothing can be paired.
    """
    model = str(
        document.get("model_name") or document.get("config", {}).get("model_args") or path.parent.name
    )
    date = path.stem.removeprefix("results_")
    unread: Counter[str] = Counter()
    scores: list[Score] = []
    questions: dict[str, Example] = {}
    for task in document["results"]:
        samples = path.with_name(f"samples_{task}_{date}.jsonl")
        if not samples.is_file():
            if document.get("group_subtasks", {}).get(task):
                continue  # a group's figures are those of its tasks
            raise DatasetError(
                f"{samples.name} is not beside {path.name}: without each answer, runs cannot be compared",
                hint="Run lm_eval with --log_samples, and keep its files together.",
            )
        for score, example in _read_rows(samples, model, str(task), unread):
            scores.append(score)
            questions[example.id] = example
    made = document.get("date")
    return Results(
        name=model,
        made=datetime.fromtimestamp(made).astimezone().isoformat()
        if isinstance(made, float | int) and made
        else date,
        scores=tuple(scores),
        questions=questions,
        versions={f"task {task}": str(version) for task, version in document.get("versions", {}).items()},
        unread=unread,
    )


def _read_rows(samples: Path, model: str, task: str, unread: Counter[str]) -> Iterator[tuple[Score, Example]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(samples.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                rows.setdefault(str(row["doc_id"]), []).append(row)
            except (ValueError, TypeError, KeyError) as error:
                raise DatasetError(
                    f"{samples.name}, line {number} is no sample of lm-eval's",
                    hint="Each line is a JSON object with a doc_id.",
                ) from error
    for doc_id, found in rows.items():
        doc = found[0].get("doc")
        held = original(doc.get(OURS), samples.name) if isinstance(doc, dict) else None
        yield held if held is not None else _foreign(doc_id, found, model, task, unread)


def _foreign(
    doc_id: str, rows: Sequence[Mapping[str, Any]], model: str, task: str, unread: Counter[str]
) -> tuple[Score, Example]:
    """Return a question's score, its rows being those of the harness's filters."""
    first = rows[0]
    identity = f"{task}:{first.get('doc_hash') or doc_id}"
    measures: dict[str, float] = {}
    for row in rows:
        suffix = "" if row.get("filter", "none") == "none" else f",{row['filter']}"
        for name, value in row.items():
            if name in _ROW:
                continue
            if isinstance(value, bool | int | float) and 0 <= value <= 1:
                measures[name + suffix] = float(value)
            else:
                unread[
                    f"{name} ({'not from 0 to 1' if isinstance(value, int | float) else 'no number'})"
                ] += 1
    if not measures:
        raise DatasetError(
            f"{task}: question {doc_id} has no measure from 0 to 1",
            hint="Only such measures can be compared; accuracy and exact match are.",
        )
    said = first.get("filtered_resps") or first.get("resps") or ""
    answer = Answer(text=_text(said))
    example = Example(identity, _question(first), _text(first.get("target", "")), origin="lm-eval")
    score = Score(model, task, identity, identity, verdict=None, called=None, answer=answer)
    return replace(score, measures=measures), example


def _text(value: Any) -> str:
    """Return what was said: the only text of nested lists, else all as JSON."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _question(row: Mapping[str, Any]) -> str:
    doc = row.get("doc")
    if isinstance(doc, Mapping) and isinstance(doc.get("question"), str):
        return str(doc["question"])
    arguments = row.get("arguments")
    if isinstance(arguments, Mapping):
        arguments = list(arguments.values())
    if isinstance(arguments, list) and arguments:
        first = arguments[0]
        prompt = first.get("arg_0") if isinstance(first, Mapping) else first[0] if first else ""
        return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)
    return json.dumps(doc, ensure_ascii=False, sort_keys=True)
