"""Write a file anew with everything mended that needs no guess, and a diff of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tunesmith.curating.across import Between
from tunesmith.curating.rules import mended, without_junk
from tunesmith.errors import UsageError

Mend = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a file: where it and the diff are, rows that were changed and left out, and what was mended."""

    out: Path
    diff: Path
    rows: int
    changed: int
    left_out: int


def mend(path: Path, out: Path, between: Between, *, also: Mend = lambda text: text) -> Mended:
    """Write a file's rows to a new one, mended; a row that needs nothing stays byte for byte as it is.

    Left out are rows that repeat another one whole; a system prompt that differs from a more frequent one in a dot or a
    space becomes that one. `also` is done to each text after that. The diff has each line that changed, as it was and
    as it is. Raises UsageError for an `out` that is there.
    """
    diff = out.with_name(f"{out.name}.diff")
    for file in (out, diff):
        if file.exists():
            raise UsageError(f"{file} is there already.", hint="Name another file with --fix.")
    way = _Way(
        frozenset(repeat.line for repeat in between.duplicates),
        {variant.text: variant.usual for variant in between.variants},
        also,
    )
    counts: Counter[str] = Counter()
    part, part_diff = (file.with_name(f"{file.name}.part") for file in (out, diff))
    try:
        with (
            part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as rows,
            part_diff.open("w", encoding="utf-8", errors="surrogateescape") as told,
        ):
            told.write(f"--- {path}\n+++ {out}\n")
            for number, line in _lines(path):
                counts[_write(number, line, rows, told, way)] += 1
        part.rename(out)
        part_diff.rename(diff)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)
        part_diff.unlink(missing_ok=True)
    return Mended(out, diff, counts["kept"] + counts["changed"], counts["changed"], counts["left out"])


@dataclass(frozen=True, slots=True)
class _Way:
    """What is left out, which system prompts become which, and what else is done to a text."""

    repeats: frozenset[int]
    usual: Mapping[str, str]
    also: Mend

    def message(self, message: Any) -> Any:
        """Return a message, mended."""
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return message
        text = message["content"]
        if message.get("role") == "system":
            text = self.usual.get(text, text)
        # That a user writes Python may be meant.
        mend = mended if message.get("role") == "assistant" else without_junk
        return message | {"content": self.also(mend(text))}

    def row(self, value: Any) -> Any:
        """Return a row, or a part of one, with its messages mended."""
        if not isinstance(value, dict):
            return value
        return {
            key: list(map(self.message, inner))
            if key in _MESSAGES and isinstance(inner, list)
            else self.row(inner)
            for key, inner in value.items()
        }


def _write(number: int, line: str, rows: TextIO, told: TextIO, way: _Way) -> str:
    if not line.strip():
        return "blank"
    if number in way.repeats:
        told.write(f"@@ -{number} +0,0 @@\n-{line.rstrip()}\n")
        return "left out"
    new = _mended_row(line, way)
    rows.write(new if new.endswith("\n") else f"{new}\n")
    if new.rstrip("\n") == line.rstrip("\n"):
        return "kept"
    told.write(f"@@ -{number} +{number} @@\n-{line.rstrip()}\n+{new.rstrip()}\n")
    return "changed"


def _mended_row(line: str, way: _Way) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        return line
    new = way.row(row)
    return line if new == row else json.dumps(new, ensure_ascii=False)


_MESSAGES = frozenset({"messages", "preferred_output", "non_preferred_output"})


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        yield from enumerate(file, 1)
