"""A server on a real socket, in a thread of the test's process, with the real SDK to ask it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import uvicorn
from openai import OpenAI
from sqlalchemy import create_engine, text

from tunesmith.serving.app import make_app
from tunesmith.serving.options import Options
from tunesmith.serving.protocol import DeadlineProtocol
from tunesmith.serving.server import open_services
from tunesmith.serving.state import Services

from . import postgres


@dataclass(frozen=True)
class Running:
    """A running server: its base URL, its parts, and a client."""

    url: str
    services: Services
    client: OpenAI

    def as_key(self, key: str) -> OpenAI:
        """Return a client with another key."""
        return self.client.with_options(api_key=key)


def database_of(root: Path) -> str | None:
    """Return the address of a server's own schema in the PostgreSQL that the tests were given, made if need be."""
    address = os.environ.get(postgres.ADDRESS)
    if address is None:
        return None
    schema = f"home_{sha256(str(root).encode()).hexdigest()[:24]}"
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
    engine.dispose()
    return f"{address}?options=-csearch_path%3D{schema}"


@contextmanager
def serving(
    root: Path, options: Options | None = None, database: str | None = None, policy: Path | None = None
) -> Iterator[Running]:
    """Run a server in a folder until the block ends; its database is PostgreSQL where the tests were given one."""
    with open_services(
        root, options or Options(), database=database or database_of(root), policy=policy
    ) as services:
        config = uvicorn.Config(
            make_app(services),
            http=DeadlineProtocol,
            port=0,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                thread.join(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}/v1"
            with OpenAI(base_url=url, api_key="any", max_retries=0, timeout=60) as client:
                yield Running(url, services, client)
        finally:
            server.should_exit = True
            thread.join()
