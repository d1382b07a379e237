"""The rows that a judge is asked about: read from a JSONL file, all its defects at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tunesmith.errors import DatasetError
from tunesmith.evaluating.judging import Grade, Graded, Pair, Winner

_PAIR: Final = ("question", "a", "b")
_ANSWER: Final = ("question", "answer", "reference")
_ALSO: Final = ("id", "group", "reference", "source")
_MOST_TOLD = 20
_WINNERS: Final[Mapping[str, Winner]] = {"a": "a", "b": "b", "tie": "tie"}
_GRADES: Final[Mapping[str, Grade]] = {"right": "right", "wrong": "wrong"}


@dataclass(frozen=True, slots=True)
class Rows:
    """A file's rows: pairs, or answers to grade; fields that no judge reads, with how many rows have them."""

    pairs: tuple[Pair, ...] = ()
    answers: tuple[Graded, ...] = ()
    not_read: Mapping[str, int] | None = None


def read_rows(path: Path, human: str = "human") -> Rows:
    """Return the rows of a file of `{question, a, b}` (two answers), or of `{question, answer, reference}` (one).

    A row may also have `id`, `group`, `reference` and `source`, and, in the field that `human` names, a person's
    verdict: "a", "b" or "tie"; "right" or "wrong".

    Raises DatasetError with the line numbers of all rows that are neither, or that are both kinds mixed.
    """
    problems: list[str] = []
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}", hint="Name a JSONL file in UTF-8.") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _object(line)
            if row is None:
                problems.append(f"line {number}: this is no JSON object")
            else:
                rows.append((number, row))
    kind: Literal["pair", "answer"] = "pair" if any("a" in row or "b" in row for _, row in rows) else "answer"
    needed = _PAIR if kind == "pair" else _ANSWER
    for number, row in rows:
        problems += [f"line {number}: {said}" for said in _problems(row, needed, kind, human)]
    ids = Counter(_id(number, row) for number, row in rows)
    problems += [f"the id {name!r} stands {times} times" for name, times in ids.items() if times > 1]
    if problems or not rows:
        raise DatasetError(_told(path, problems), hint=_HINT)
    not_read = Counter(name for _, row in rows for name in row if name not in (*needed, *_ALSO, human))
    if kind == "pair":
        return Rows(pairs=tuple(_pair(number, row, human) for number, row in rows), not_read=not_read)
    return Rows(answers=tuple(_answer(number, row, human) for number, row in rows), not_read=not_read)


_HINT = (
    'Each line is {"question": ..., "a": ..., "b": ...}, with "reference", "source" and a person\'s "human" verdict '
    'where there are, or {"question": ..., "answer": ..., "reference": ...}.'
)


def _told(path: Path, problems: list[str]) -> str:
    if not problems:
        return f"{path.name} has no row"
    shown = "\n".join(problems[:_MOST_TOLD])
    more = f"\nand {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    return f"{path.name} cannot be judged:\n{shown}{more}"


def _object(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _problems(row: Mapping[str, Any], needed: tuple[str, ...], kind: str, human: str) -> list[str]:
    found = [f"{name!r} is missing" for name in needed if row.get(name) is None]
    texts = (*needed, *(name for name in _ALSO if name != "id"))
    found += [
        f"{name!r} is no text but {row[name]!r:.40}"
        for name in dict.fromkeys(texts)
        if row.get(name) is not None and not isinstance(row[name], str)
    ]
    said, allowed = row.get(human), _WINNERS if kind == "pair" else _GRADES
    if said is not None and (not isinstance(said, str) or said.strip().casefold() not in allowed):
        found.append(f"{human!r} is {said!r:.40}, which is none of {', '.join(allowed)}")
    return found


def _id(number: int, row: Mapping[str, Any]) -> str:
    return str(row.get("id", f"line {number}"))


def _text(row: Mapping[str, Any]) -> Callable[[str], str]:
    return lambda name: row.get(name) or ""


def _pair(number: int, row: Mapping[str, Any], human: str) -> Pair:
    text = _text(row)
    return Pair(
        id=_id(number, row),
        question=text("question"),
        a=text("a"),
        b=text("b"),
        reference=text("reference"),
        source=text("source"),
        human=_WINNERS.get(text(human).strip().casefold()),
        group=text("group"),
    )


def _answer(number: int, row: Mapping[str, Any], human: str) -> Graded:
    text = _text(row)
    return Graded(
        id=_id(number, row),
        question=text("question"),
        answer=text("answer"),
        reference=text("reference"),
        human=_GRADES.get(text(human).strip().casefold()),
        group=text("group"),
    )
