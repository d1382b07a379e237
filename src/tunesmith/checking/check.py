"""The whole check of a file: its stretches in several processes, then what there is between rows.

A row is read once. Memory holds a stretch of the file for each process, and 30 bytes for each row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from tunesmith.checking.against import read_benchmark
from tunesmith.checking.block import (
    MOST_FINDINGS,
    Block,
    Found,
    Looker,
    Order,
    Seen,
    begin_looking,
    begin_reading,
    read_block,
    settle,
    shapes_in,
)
from tunesmith.curating.across import Between
from tunesmith.curating.rules import Finding
from tunesmith.errors import DatasetError, UsageError
from tunesmith.progress import Progress, silent
from tunesmith.records import Role
from tunesmith.training.example_files import is_plain
from tunesmith.training.inspect import Inspection, Spread, Tally, inspect, spread_of
from tunesmith.training.quick import Shape

BLOCK: Final = 4 * 2**20
# Starting processes takes longer than looking at so many bytes.
ALONE: Final = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Quality:
    """What the rules found: the first findings, how many there are by rule, what is between rows, turns of a row."""

    findings: tuple[Found, ...]
    by_rule: Mapping[str, int]
    between: Between
    turns: Spread | None


@dataclass(frozen=True, slots=True)
class Report:
    """What training would find in a file, what the rules did, and all there is between rows, however much."""

    inspection: Inspection
    quality: Quality | None
    between: Between | None = None


class Pool(Protocol):
    """Workers that were made ready, and take one item after the other."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...
    def map(self, function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterator[Any]:
        """Yield what the function makes of each item, in their order."""
        ...


#: Makes a pool: how many workers, what makes each ready, and what that is given.
MakePool = Callable[..., Pool]


def check(
    order: Order,
    *,
    workers: int | None = None,
    pool: MakePool | None = None,
    on_progress: Progress = silent,
) -> Report:
    """Look at every row of a file as training would and by every rule; `workers` None: one for each processor.

    `pool` makes workers that are elsewhere (None: processes of this machine, where the file is large enough).
    Raises UsageError if there is no such file. Plain text is looked at as training would, for rules are about rows.
    """
    if is_plain(order.path):
        from tunesmith.models.local import load_tokenizer

        found = inspect(order.path, load_tokenizer(order.base), order.settings, on_progress=on_progress)
        return Report(found, None)
    for path in order.against:
        read_benchmark(path)  # one that cannot be read is told before anything is begun
    blocks = list(blocks_of(order.path))
    seen = _seen(order, blocks, workers or os.cpu_count() or 1, pool, on_progress)
    between = seen.rows.told()
    _blame_between(seen, between)
    quality = Quality(
        tuple(sorted(seen.findings, key=lambda found: found.line)),
        dict(seen.by_rule),
        _shortened(between),
        spread_of(seen.turns),
    )
    return Report(seen.tally.told(order.path, order.settings), quality, between)


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


def _seen(
    order: Order, blocks: list[Block], workers: int, pool: MakePool | None, on_progress: Progress
) -> Seen:
    if pool is not None and blocks:
        return _together(order, blocks, workers, pool, on_progress)
    total = sum(block.end - block.start for block in blocks)
    if workers == 1 or total <= ALONE:
        looker = Looker(order)
        seen = _joined(order, blocks, map(looker.look, blocks), on_progress)
        if not looker.distrusted:
            return seen
        looker = Looker(order, counting=False)
        return _joined(order, blocks, map(looker.look, blocks), on_progress)
    try:
        return _together(order, blocks, workers, _processes, on_progress)
    except BrokenProcessPool as error:
        raise DatasetError(
            f"a process that read {order.path} was ended from outside, as happens where memory is short",
            hint="Check it with fewer processes: --workers 1",
        ) from error


def _joined(order: Order, blocks: list[Block], looked: Iterable[Seen], on_progress: Progress) -> Seen:
    whole = Seen(Tally(order.settings.max_length, order.settings.too_long))
    done, total = 0, sum(block.end - block.start for block in blocks)
    for block, seen in zip(blocks, looked, strict=True):
        whole.join(seen)
        done += block.end - block.start
        on_progress(done >> 10, total >> 10, "kB")
    return whole


def _together(order: Order, blocks: list[Block], workers: int, make: MakePool, on_progress: Progress) -> Seen:
    """Read in several processes that need little memory; one after them looks at what takes a tokenizer."""
    with make(1, begin_looking, order) as pool:
        first = blocks[:1] if order.settings.objective == "answers" else []
        shapes: dict[tuple[Role, ...], Shape] = next(iter(pool.map(shapes_in, first)), {})
    with make(min(workers, len(blocks)), begin_reading, order, shapes) as pool:
        seen = _joined(order, blocks, pool.map(read_block, blocks), on_progress)
    if _settle(order, seen, workers, make, on_progress):
        return seen
    # Some row is rendered to other tokens than were counted: nothing that was counted can be trusted.
    return _rendered(order, blocks, workers, make, on_progress)


def _settle(
    order: Order, seen: Seen, workers: int, make: MakePool, on_progress: Progress, *, counting: bool = True
) -> bool:
    """Look at the rows that were set aside, and tell whether what was counted can be trusted."""
    if not len(seen.aside):
        return True
    parts = list(seen.aside.some(BLOCK))
    with make(min(workers, len(parts)), begin_looking, order, counting) as pool:
        trusted = True
        for number, (tally, held) in enumerate(pool.map(settle, parts), 1):
            seen.tally.join(tally)
            trusted = trusted and held
            on_progress(number, len(parts), "rows rendered")
    seen.tally.faults.sort(key=lambda fault: fault.line)
    return trusted


def _rendered(order: Order, blocks: list[Block], workers: int, make: MakePool, on_progress: Progress) -> Seen:
    with make(min(workers, len(blocks)), begin_reading, order, {}) as pool:
        seen = _joined(order, blocks, pool.map(read_block, blocks), on_progress)
    _settle(order, seen, workers, make, on_progress, counting=False)
    return seen


def _processes(workers: int, begin: Callable[..., None], *given: object) -> ProcessPoolExecutor:
    # Not forked: a bar is drawn by a thread of this process.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin, initargs=given)


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
