"""A teacher's replies on disk, by what was asked: nothing is asked twice, whatever ended the run before."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.records import Answer


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, and the tokens that it read and wrote for it."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cut: bool = False

    @classmethod
    def of(cls, answer: Answer) -> Reply:
        """Return what of an answer is kept."""
        return cls(answer.text, answer.prompt_tokens, answer.completion_tokens, answer.finish == "length")


class Replies:
    """Replies by key, appended to a file (None: kept in memory) as they come; safe to use from several threads.

    What a kill cut off is the last line at most, which is then asked for again.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = _read(path)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A line that a kill cut off must not swallow the next one.
            self._file = path.open("a", encoding="utf-8")
            self._file.write("\n")

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Reply | None:
        """Return what was said under a key."""
        return self._known.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Keep what was said, on disk before this returns."""
        with self._lock:
            self._known[key] = reply
            if self._path is not None:
                row = [key, reply.text, reply.prompt_tokens, reply.completion_tokens, reply.cut]
                self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
                self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._path is not None:
            self._file.close()


def _read(path: Path | None) -> dict[str, Reply]:
    if path is None or not path.exists():
        return {}
    known: dict[str, Reply] = {}
    # Not splitlines: a reply may hold a Unicode line separator, which JSON does not end a line with.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        row = _row(line)
        if row is not None:
            known[row[0]] = Reply(*row[1:])
    return known


def _row(line: str) -> list[Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, list) and len(row) == 5 else None
