"""Which sources may be shown to a model: by the ids of passages."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from tunesmith.guarding.rails import Context, Find, Found


def from_sources(allow: Sequence[str], deny: Sequence[str]) -> Find:
    """Return what finds a passage whose id fits none of `allow` (if there are any), or one of `deny`."""

    def find(_: str, context: Context) -> Found | None:
        fits = not allow or any(fnmatchcase(context.source, pattern) for pattern in allow)
        denied = any(fnmatchcase(context.source, pattern) for pattern in deny)
        return None if fits and not denied else Found(f"the source {context.source!r} is not allowed")

    return find
