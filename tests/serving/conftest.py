"""What the server's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import Running, serving


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A server with nothing in it."""
    with serving(tmp_path / "home") as server:
        yield server
