"""The whole check of a file: its stretches in several processes, then what there is between rows.

A row is read once. Memory holds a stretch of the file for each process, and 30 bytes for each row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from tunesmith.checking.block import MOST_FINDINGS, Block, Found, Looker, Order, Seen, begin, look
from tunesmith.curating.across import Between
from tunesmith.curating.rules import Finding
from tunesmith.errors import DatasetError, UsageError
from tunesmith.progress import Progress, silent
from tunesmith.training.example_files import is_plain
from tunesmith.training.inspect import Inspection, Spread, inspect, spread_of

BLOCK: Final = 4 * 2**20
# Starting processes takes longer than looking at so many bytes.
ALONE: Final = 8 * 2**20
_READ: Final = 2**20


@dataclass(frozen=True, slots=True)
class Quality:
    """What the rules found: the first findings, how many there are by rule, what is between rows, turns of a row."""

    findings: tuple[Found, ...]
    by_rule: Mapping[str, int]
    between: Between
    turns: Spread | None


@dataclass(frozen=True, slots=True)
class Report:
    """What training would find in a file, and what the rules did."""

    inspection: Inspection
    quality: Quality | None


def check(order: Order, *, workers: int | None = None, on_progress: Progress = silent) -> Report:
    """Look at every row of a file as training would and by every rule; `workers` None: one for each processor.

    Raises UsageError if there is no such file. Plain text is looked at as training would, for rules are about rows.
    """
    if is_plain(order.path):
        from tunesmith.models.local import load_tokenizer

        found = inspect(order.path, load_tokenizer(order.base), order.settings, on_progress=on_progress)
        return Report(found, None)
    blocks = list(blocks_of(order.path))
    seen = _seen(order, blocks, workers or os.cpu_count() or 1, on_progress)
    between = seen.rows.told()
    _blame_between(seen, between)
    quality = Quality(
        tuple(sorted(seen.findings, key=lambda found: found.line)),
        dict(seen.by_rule),
        _shortened(between),
        spread_of(seen.turns),
    )
    return Report(seen.tally.told(order.path, order.settings), quality)


def blocks_of(path: Path, size: int = BLOCK) -> Iterator[Block]:
    """Yield the stretches of a file, each of whole lines; raises UsageError if it cannot be read."""
    try:
        with path.open("rb") as file:
            start, line = 0, 1
            while data := file.read(size):
                data += file.readline()
                yield Block(start, start + len(data), line)
                start += len(data)
                line += data.count(b"\n")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Give a file of examples: JSON lines, or a .txt.",
        ) from error


def _seen(order: Order, blocks: list[Block], workers: int, on_progress: Progress) -> Seen:
    done, total = 0, sum(block.end - block.start for block in blocks)
    whole: Seen | None = None
    looked = _alone(order, blocks) if workers == 1 or total <= ALONE else _together(order, blocks, workers)
    for block, seen in zip(blocks, looked, strict=True):
        if whole is None:
            whole = seen
        else:
            whole.join(seen)
        done += block.end - block.start
        on_progress(done >> 10, total >> 10, "kB")
    return Looker(order).look(Block(0, 0, 1)) if whole is None else whole


def _alone(order: Order, blocks: list[Block]) -> Iterator[Seen]:
    looker = Looker(order)
    for block in blocks:
        yield looker.look(block)


def _together(order: Order, blocks: list[Block], workers: int) -> Iterator[Seen]:
    # Not forked: a bar is drawn by a thread of this process.
    context = get_context("spawn")
    try:
        with ProcessPoolExecutor(
            min(workers, len(blocks)), mp_context=context, initializer=begin, initargs=(order,)
        ) as pool:
            yield from pool.map(look, blocks)
    except BrokenProcessPool as error:
        raise DatasetError(
            f"a process that read {order.path} was ended from outside, as happens where memory is short",
            hint="Check it with fewer processes: --workers 1",
        ) from error


_WAYS: Final = {
    "duplicate": "Take one of them out: tunesmith check FILE --fix OUT does.",
    "inconsistent": "Keep the answer that is right.",
    "system prompt": "Use one wording: tunesmith check FILE --fix OUT does.",
}


def _blame_between(seen: Seen, between: Between) -> None:
    """Tell what is between rows as findings of their lines."""
    seen.by_rule.update(
        {
            rule: count
            for rule, count in (
                ("duplicate", len(between.duplicates)),
                ("inconsistent", len(between.inconsistent)),
                ("system prompt", len(between.variants)),
            )
            if count
        }
    )
    room = MOST_FINDINGS
    for repeat in between.duplicates[:room]:
        found = f"the same row as line {repeat.first:,}"
        seen.findings.append(_between(repeat.line, "duplicate", found, mendable=True))
    for repeat in between.inconsistent[:room]:
        found = f"the question of line {repeat.first:,} with another answer"
        seen.findings.append(_between(repeat.line, "inconsistent", found))
    for variant in between.variants[:room]:
        found = f"{variant.rows:,} row(s) say {_short(variant.text)}, and most {_short(variant.usual)}"
        seen.findings.append(_between(variant.line, "system prompt", found, mendable=True))


def _between(line: int, rule: str, found: str, *, mendable: bool = False) -> Found:
    return Found(line, Finding(rule, None, found, _WAYS[rule], "look", mendable))


def _shortened(between: Between) -> Between:
    return replace(
        between,
        duplicates=between.duplicates[:MOST_FINDINGS],
        inconsistent=between.inconsistent[:MOST_FINDINGS],
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 50 else f"{line[:20]}...{line[-26:]}")
