"""Pauses that nobody asked for: a full collection of garbage looks through all that was ever imported."""

from __future__ import annotations

import gc


def settle() -> None:
    """Leave what is in memory now out of later collections, each of which would stop all threads for 0.1 to 0.3 s.

    Called again where something large has come or gone: what is garbage by then is taken away.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
