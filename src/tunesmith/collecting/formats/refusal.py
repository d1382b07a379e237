"""Why a file is not read."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class Refusal(Exception):
    """The rule that a file breaks, and what exactly; who asked for the file makes a Rejection of it."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule
        self.detail = detail


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Make a Refusal of whatever a parser raises over a file that is not what it says it is.

    The parsers of these formats promise no kind of error, and a list would never be whole: among those seen are
    OSError (a directory that points before its file) and NotImplementedError. One file must not stop the others. What
    is not the file's fault goes on: no memory, no room on the disk.
    """
    try:
        yield
    except (Refusal, MemoryError):
        raise
    except Exception as error:
        # Whatever it is, it is told with the file's name.
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Refusal("damaged", f"it cannot be read as {what}: {error or type(error).__name__}") from error
