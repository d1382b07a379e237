"""What reviewers decide: one record a decision, one file a reviewer that only grows, in the project's own folder."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from tunesmith.errors import DatasetError, UsageError
from tunesmith.records import Example, fingerprint, read_jsonl, to_json

FOLDER: Final = "reviews"
JUDGE: Final = "judge:"
REVIEWED: Final = "reviewed"

Verdict = Literal["accept", "edit", "reject", "flag", "undo"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision about one question with its answer, and what the reviewer saw when taking it.

    `key` is the fingerprint of question and answer, so that a decision holds for the same text whatever its example is
    called. `quotes` are the pieces of evidence in full: they say what the source said then. `checks` are those of the
    example, a judge's score among them. `settles` holds the ids of decisions of others that this one was taken in view
    of, to end a disagreement. An "undo" takes back the reviewer's last decision about the key. Raises ValueError for
    what no reviewer can have decided.
    """

    key: str
    verdict: Verdict
    reviewer: str
    time: str
    question: str
    answer: str
    example: str
    rating: int | None = None
    reason: str = ""
    new_question: str | None = None
    new_answer: str | None = None
    quotes: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    settles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fault = next((says for says, of in _FAULTS if of(self)), None)
        if fault is not None:
            raise ValueError(fault)

    @property
    def id(self) -> str:
        """What other decisions name it by."""
        return fingerprint(asdict(self))

    @property
    def new_key(self) -> str | None:
        """The key of the edited text, None where nothing was edited."""
        if self.new_question is None or self.new_answer is None:
            return None
        return text_key(self.new_question, self.new_answer)


def _edits_badly(decision: Decision) -> bool:
    if decision.verdict != "edit":
        return (decision.new_question, decision.new_answer) != (None, None)
    return decision.new_key in (None, decision.key)


def _is_no_time(decision: Decision) -> bool:
    try:
        return stamp(datetime.fromisoformat(decision.time)) != decision.time
    except ValueError:
        return True


_FAULTS: Final[tuple[tuple[str, Callable[[Decision], bool]], ...]] = (
    (
        "the key is not that of its question and answer",
        lambda one: one.key != text_key(one.question, one.answer),
    ),
    ("the reviewer's name cannot name a file", lambda one: not is_name(one.reviewer)),
    ("the rating is not one of 1 to 5", lambda one: one.rating is not None and not 1 <= one.rating <= 5),
    ("a rejection needs a reason", lambda one: one.verdict == "reject" and not one.reason.strip()),
    ("an edit, and nothing else, has a new question and a new answer, and changes something", _edits_badly),
    ("the time is not in UTC with microseconds, as in 2026-11-27T13:40:11.000000+00:00", _is_no_time),
)


def text_key(question: str, answer: str) -> str:
    """Return what decisions about a question with its answer are found by."""
    return fingerprint(question, answer)


def key_of(example: Example) -> str:
    """Return what decisions about an example are found by: its text alone, so that it outlives a new id."""
    return text_key(example.question, example.answer)


def quotes_of(example: Example) -> tuple[str, ...]:
    """Return what an example quotes, in the form in which two states of the source are compared."""
    return tuple(sorted(piece.quote for piece in example.evidence))


def judge_score(checks: Iterable[str]) -> float | None:
    """Return the score of a check "judge:SCORE", None where no model judged."""
    scores = (re.fullmatch(rf"{JUDGE}(\d+(?:\.\d+)?)", check) for check in checks)
    return next((float(score[1]) for score in scores if score is not None), None)


def stamp(time: datetime) -> str:
    """Return a time as decisions carry it: in UTC with microseconds, so that texts sort as times do."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def is_name(reviewer: str) -> bool:
    """Tell whether a reviewer's name can be a file's name: letters and digits at its ends, no slash inside."""
    return re.fullmatch(r"\w(?:[\w .@+-]{0,58}[\w])?", reviewer) is not None


def check_name(reviewer: str) -> None:
    """Raise UsageError for a name that cannot be a file's."""
    if not is_name(reviewer):
        raise UsageError(
            f"{reviewer!r} cannot be a reviewer's name, since it names a file",
            hint="Use letters, digits and . @ + - _ inside, up to 60 in all: --reviewer NAME.",
        )


# --- the files


def in_order(decisions: Iterable[Decision]) -> tuple[Decision, ...]:
    """Return decisions by time; the order is the same whatever order they came in."""
    return tuple(sorted(decisions, key=_rank))


def _rank(decision: Decision) -> tuple[object, ...]:
    """Return what orders decisions: all of one, since two files may hold different ones of the same time."""
    new = (decision.new_question or "", decision.new_answer or "")
    place = (
        decision.time,
        decision.reviewer,
        decision.key,
        decision.verdict,
        decision.rating or 0,
        decision.reason,
    )
    return (*place, *new, decision.example, decision.quotes, decision.checks, decision.settles)


def read_decisions(folder: Path) -> tuple[Decision, ...]:
    """Return the decisions of all reviewers' files of a folder, by time; raises DatasetError for a broken line."""
    found = {one for path in sorted(folder.glob("*.jsonl")) for one in _read_own(path)}
    return in_order(found)


def _read_own(path: Path) -> Iterable[Decision]:
    for number, decision in enumerate(read_jsonl(Decision, path), 1):
        if decision.reviewer != path.stem:
            raise DatasetError(
                f"{path.name}, line {number}: the decision is {decision.reviewer}'s, not {path.stem}'s",
                hint=f"Each reviewer has a file: move the line into {decision.reviewer}.jsonl.",
            )
        yield decision


def append(folder: Path, decisions: Iterable[Decision]) -> None:
    """Add decisions to the files of their reviewers; each is on the disk before the next."""
    folder.mkdir(parents=True, exist_ok=True)
    for decision in decisions:
        _append_line(folder / f"{decision.reviewer}.jsonl", f"{to_json(decision)}\n".encode())


def _append_line(path: Path, line: bytes) -> None:
    """Write a line to the disk, or nothing of it: half a line would break the whole file."""
    with path.open("ab", buffering=0) as file:
        start = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(start)
            raise


@dataclass(frozen=True, slots=True)
class Merged:
    """What came in from another file: decisions that were new, those that were here already, and whose they are."""

    added: int
    known: int
    reviewers: tuple[str, ...]


def merge_file(folder: Path, other: Path) -> Merged:
    """Copy another person's decisions into the folder; all lines are read first, so that it is all of them or none.

    Raises UsageError if there is no such file, DatasetError for a broken line or a file without any.
    """
    if not other.is_file():
        raise UsageError(f"{other} is no file", hint="Name a file of decisions, such as reviews/NAME.jsonl.")
    coming = set(read_jsonl(Decision, other))
    if not coming:
        raise DatasetError(f"{other} holds no decisions", hint="Name a file that `tunesmith review` wrote.")
    new = coming - set(read_decisions(folder))
    append(folder, in_order(new))
    return Merged(len(new), len(coming) - len(new), tuple(sorted({one.reviewer for one in coming})))
