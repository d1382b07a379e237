"""The one thread of a process in which models are computed.

OpenMP gives each thread that computes a team of workers. Once there are more of them than cores, workers no longer look
out for the next product but sleep and have to be woken for it: a token of a small model took 36 ms instead of 22
(docs/log.md). So engines, encoders and classifiers take turns in one thread, and what computes once, such as loading,
does so in a thread that ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

Result = TypeVar("Result")

_COMPUTING: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="computing")


def computed(call: Callable[[], Result]) -> Result:
    """Return what a call gives in the thread that computes, when its turn has come; raises what it raises.

    A call is short: whoever answers in this process waits for it.
    """
    return _COMPUTING.submit(call).result()


def computed_apart(call: Callable[[], Result]) -> Result:
    """Return what a long call gives in a thread that ends with it, while others go on computing."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            future.set_exception(error)

    threading.Thread(target=run, name="computing apart", daemon=True).start()
    return future.result()
