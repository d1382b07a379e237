"""Questions that people wrote, one JSON object a line, with the entry or entries, or the words, that answer them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.errors import DatasetError
from tunesmith.records import Written

_PROBLEMS_SHOWN = 20
_KEYS = frozenset(("question", "entry", "acceptable", "answer", "quote"))


def read_written(path: Path) -> tuple[Written, ...]:
    """Return the questions of a JSON lines file.

    A line holds "question" and "entry" (an id), "acceptable" (a list of ids, the best first), or both; or, for what is
    no call, "question" and "answer", and "quote" if the documents hold the answer in so many words.
    Raises DatasetError for a file without questions, and one that names the broken lines, twenty of them at most.
    """
    questions: list[Written] = []
    problems: list[str] = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        found = _read_line(line, path.name, number)
        if isinstance(found, Written):
            questions.append(found)
        else:
            problems.append(f"  line {number}: {found}")
    if problems:
        more = f"\n  and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
        raise DatasetError(
            f"{path}: {len(problems)} line(s) cannot be used:\n"
            + "\n".join(problems[:_PROBLEMS_SHOWN])
            + more,
            hint='Each line must be JSON such as {"question": "How ...?", "entry": "package.function"}, '
            'or {"question": "...", "answer": "..."} where nothing is to be called.',
        )
    if not questions:
        raise DatasetError(
            f"{path}: there is no question in it",
            hint="Write some, one JSON object a line, or take the file's name out of tunesmith.toml.",
        )
    return tuple(questions)


def _lines(path: Path) -> Iterator[str]:
    try:
        # Not splitlines: a question may hold a Unicode line separator, which JSON does not end a line with.
        yield from path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path}: there is no such file of questions",
            hint="Write one, or take its name out of tunesmith.toml.",
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: byte {error.start} is not UTF-8", hint="Save the file as UTF-8."
        ) from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error


def _read_line(line: str, file: str, number: int) -> Written | str:
    """Return the question of a line, or what is wrong with it."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.colno}"
    if not isinstance(row, dict):
        return "not an object with the keys question and entry"
    unknown = sorted(row.keys() - _KEYS)
    if unknown:
        return f"unknown key {', '.join(map(repr, unknown))}; known are {', '.join(sorted(_KEYS))}"
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        return "no question"
    answered = _in_words if row.get("answer") is not None else _by_call
    return answered(row, question.strip(), file, number)


def _in_words(row: dict[str, Any], question: str, file: str, number: int) -> Written | str:
    answer = row["answer"]
    if not isinstance(answer, str) or not answer.strip():
        return "the answer is no text"
    if row.keys() & {"entry", "acceptable"}:
        return "an answer in words and an entry: the answer of an entry is derived, so give one of the two"
    quote = row.get("quote", "")
    if not isinstance(quote, str):
        return "the quote is no text"
    return Written(question, (), file, number, answer.strip(), quote.strip())


def _by_call(row: dict[str, Any], question: str, file: str, number: int) -> Written | str:
    if row.get("quote") is not None:
        return "a quote, and no answer in words: the evidence of an entry is derived"
    acceptable = _acceptable(row.get("entry"), row.get("acceptable"))
    return acceptable if isinstance(acceptable, str) else Written(question, acceptable, file, number)


def _acceptable(entry: object, listed: object) -> tuple[str, ...] | str:
    """Return the ids, the entry first, or what is wrong with them."""
    if entry is not None and (not isinstance(entry, str) or not entry.strip()):
        return "entry is not a name"
    if listed is not None and not (
        isinstance(listed, list) and all(isinstance(path, str) and path.strip() for path in listed)
    ):
        return "acceptable is not a list of names"
    paths = ([entry] if isinstance(entry, str) else []) + (listed if isinstance(listed, list) else [])
    ids = tuple(dict.fromkeys(path.strip() for path in paths))
    return ids or "neither entry nor acceptable names an entry, and there is no answer"
