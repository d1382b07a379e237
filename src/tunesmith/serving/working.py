"""How batches and evals are worked through beside the requests: one after the other, some of its rows at a time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol, TypeVar

import anyio
import anyio.to_thread

_LOG = logging.getLogger("tunesmith.serving")
# Rows of one work that are asked for at once.
AT_ONCE: Final = 16


class Work(Protocol):
    """What has an id to be told by."""

    id: str


Some = TypeVar("Some", bound=Work)
Row = TypeVar("Row")


async def one_after_another(
    find: Callable[[], Some | None], work: Callable[[Some], Awaitable[None]], fail: Callable[[str], None]
) -> None:
    """Do each work that is found; `fail` ends one that an unforeseen error has stopped."""
    while (found := await anyio.to_thread.run_sync(find)) is not None:
        try:
            await work(found)
        except Exception as error:  # noqa: BLE001 - the next work is not to suffer from this one
            _LOG.error("work failed", exc_info=error, extra={"work": found.id})
            await anyio.to_thread.run_sync(fail, found.id)


async def some_at_a_time(
    rows: Iterator[Row], stops: Callable[[], bool], work: Callable[[Row], Awaitable[None]]
) -> None:
    """Do the work of each row, a few beside each other, until there are no more or it is to stop."""
    stopped = False

    async def worker() -> None:
        nonlocal stopped
        for row in rows:
            if stopped or await anyio.to_thread.run_sync(stops):
                stopped = True
                return
            await work(row)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(worker)
