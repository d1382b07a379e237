"""Let a process keep the memory that it frees: what comes next need not be asked for, and cleared, page by page."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Final

# glibc's malloc.h: what is larger is mapped anew each time, and what is free at the top is given back.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 2**30


@cache
def keep_freed_memory() -> bool:
    """Keep freed memory for later use in this process; False where the C library has no such setting.

    A training step makes and frees a gigabyte of short-lived matrices. Given back to the system and asked for again,
    they cost a tenth to a fifth of the step (docs/log.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
