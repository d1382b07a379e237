"""Results written to files in a form, and read from files whose form is told by what they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import DatasetError, UsageError
from tunesmith.evaluating.exchange import inspect_logs, lm_eval
from tunesmith.evaluating.exchange.results import OURS, Results, from_document, joined, to_document

ResultForm = Literal["json", "lm-eval", "inspect"]


def write_results(results: Results, out: Path, form: ResultForm) -> tuple[Path, ...]:
    """Write results and return the files: one file of our own form, a folder of the others'.

    Raises UsageError if `out` is there already.
    """
    if out.exists():
        raise UsageError(f"{out} is there already.", hint="Name another place with --out, or move it away.")
    if form == "json":
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(to_document(results), ensure_ascii=False) + "\n", encoding="utf-8")
        return (out,)
    texts = (lm_eval if form == "lm-eval" else inspect_logs).write(results)
    for name, text in texts.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")
    return tuple(out / name for name in texts)


def holds_results(path: Path) -> bool:
    """Tell whether a path may hold results: a file that is no project's, or a folder with such in it or one below."""
    return (path.is_file() and path.suffix != ".toml") or bool(_result_files(path))


def read_results(path: Path) -> Results:
    """Return the results in a file, or in all files of a folder and of the folders in it.

    Raises DatasetError for a file in none of the forms, and if two files hold a contender's answers to the same set.
    """
    files = [path] if path.is_file() else _result_files(path)
    parts = [_read(file) for file in files]
    if not parts:
        raise DatasetError(f"{path} holds no results", hint=_HINT)
    return parts[0] if len(parts) == 1 else joined(parts)


_HINT = (
    "Known are the files of `tunesmith report --to`, results_*.json of lm-eval with its samples_*.jsonl beside, and "
    "logs of inspect_ai in JSON (inspect log convert --to json)."
)


def _result_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    every = sorted(folder.glob("*.json")) + sorted(folder.glob("*/*.json"))
    return [file for file in every if _form(_document(file)) is not None]


def _read(path: Path) -> Results:
    document = _document(path)
    form = _form(document)
    if form == "json":
        return from_document(document, path.name)
    if form == "lm-eval":
        return lm_eval.read(path, document)
    if form == "inspect":
        return inspect_logs.read(document, path.name)
    raise DatasetError(f"{path} holds results in no form that is known here", hint=_HINT)


def _document(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _form(document: Mapping[str, Any]) -> ResultForm | None:
    if OURS in document and "scores" in document:
        return "json"
    if isinstance(document.get("results"), dict) and "configs" in document:
        return "lm-eval"
    if isinstance(document.get("eval"), dict) and "status" in document:
        return "inspect"
    return None
