"""What the server's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunesmith.serving.options import Options

from .running import Running, serving


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A server with nothing in it."""
    with serving(tmp_path / "home") as server:
        yield server


@pytest.fixture(scope="session")
def tiny(family_folder: Callable[[str], Path]) -> str:
    """The address of a tiny random model."""
    return f"path:{family_folder('smollm2')}"


@pytest.fixture(scope="session")
def options(tiny: str) -> Options:
    """A server's options that offer the tiny model, and an alias of it."""
    return Options(models={"tiny": tiny, "gpt-3.5-turbo": "tiny"})


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a tiny random encoder."""
    from tests.conftest import write_encoder

    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder, ["find the node and the soup"])
    return f"path:{folder}"
