"""Benchmark files, in whatever form they come: chats, questions with answers, tables, a text a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.curating.benchmarks import Benchmark
from tunesmith.errors import UsageError


def read_benchmark(path: Path) -> Benchmark:
    """Return the n-grams of a file's rows; raises UsageError for a file that cannot be read or holds no row."""
    try:
        rows = list(_rows(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"the benchmark {path} cannot be read: {error}",
            hint="Give JSON lines, a JSON list, CSV or text, in UTF-8.",
        ) from error
    if not any(row.strip() for row in rows):
        raise UsageError(f"the benchmark {path} holds no row.", hint="Give another file.")
    return Benchmark.of(path.name, rows)


def _rows(path: Path) -> Iterator[str]:
    ending = path.suffix.lower()
    with path.open(encoding="utf-8-sig", newline="") as file:
        if ending in (".csv", ".tsv"):
            reader = csv.DictReader(file, delimiter="\t" if ending == ".tsv" else ",")
            yield from (" ".join(_texts(row)) for row in reader)
            return
        text = file.read()
    whole = _json(text) if text.lstrip().startswith("[") else None
    if isinstance(whole, list):
        yield from (" ".join(_texts(row)) for row in whole)
        return
    for line in text.split("\n"):
        row = _json(line)
        yield line if row is None else " ".join(_texts(row))


_NAMES = frozenset({"role", "from", "id", "type", "index", ""})  # whose values are said by nobody


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a row, but for who says them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key not in _NAMES:
                yield from _texts(each)
