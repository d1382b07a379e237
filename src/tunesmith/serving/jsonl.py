"""JSON lines from a client, read one at a time: each an object, or a fault with its line's number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pydantic_core

_LONGEST: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class JsonLine:
    """An object and its line, counted from 1."""

    number: int
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LineFault:
    """What is wrong with a line."""

    number: int
    message: str


def read_lines(path: Path) -> Iterator[JsonLine | LineFault]:
    """Yield the objects of a file; blank lines are none. Never more than a line is in memory, and that bounded."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST + 1):
            number += 1
            if len(line) > _LONGEST and not line.endswith(b"\n"):
                yield LineFault(number, f"the line is longer than {_LONGEST:,} bytes")
                while rest := file.readline(_LONGEST):
                    if rest.endswith(b"\n"):
                        break
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield _read(number, line)


def _read(number: int, line: bytes) -> JsonLine | LineFault:
    try:
        # Bounded in depth and in the digits of a number, and strict about UTF-8.
        value = pydantic_core.from_json(line, allow_inf_nan=False)
    except ValueError as error:
        said = str(error).replace("at line 1 column", "in column")
        return LineFault(number, f"not JSON: {said}")
    if not isinstance(value, dict):
        return LineFault(number, f"a {type(value).__name__}, not an object")
    return JsonLine(number, value)
