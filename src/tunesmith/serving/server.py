"""Start the server: its folder locked, its database opened, its address refused where it has no keys."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import UsageError
from tunesmith.guarding.policy import load_policy
from tunesmith.project import Project
from tunesmith.serving.access import Access, is_loopback
from tunesmith.serving.app import make_app
from tunesmith.serving.blobs import Blobs
from tunesmith.serving.contending import Contenders
from tunesmith.serving.figures import Metrics
from tunesmith.serving.home import Home
from tunesmith.serving.jobs import Jobs
from tunesmith.serving.keys import Limits, has_keys
from tunesmith.serving.limits import Limiter
from tunesmith.serving.options import Options
from tunesmith.serving.rails import rails_of
from tunesmith.serving.roster import Roster
from tunesmith.serving.settling import settle
from tunesmith.serving.state import Services
from tunesmith.serving.store import Store

if TYPE_CHECKING:
    import uvicorn


def open_store(home: Home, database: str | None = None) -> Store:
    """Return the database of a server's folder, or the one at a URL."""
    return Store(database or f"sqlite:///{home.database}")


def serve(
    root: Path,
    options: Options,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    database: str | None = None,
    policy: Path | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until told to stop (SIGINT, SIGTERM); `ready` hears the base URL once requests are answered.

    With a policy its rails are around every chat model. Raises ConfigError for a policy that is not right, ServerBusy
    if another server works in the folder, StoreError if its database cannot be used, and UsageError for an address that
    others reach while there are no keys.
    """
    import uvicorn

    from tunesmith.serving.protocol import DeadlineProtocol

    with open_services(root, options, database=database, policy=policy) as services:
        if not is_loopback(host) and not has_keys(services.store):
            raise UsageError(
                f"{host} can be reached by others, and this server has no API keys.",
                hint="Make one with `tunesmith keys new`, or serve on 127.0.0.1.",
            )
        with closing(_listening(host, port)) as listener:
            config = uvicorn.Config(
                make_app(services),
                http=DeadlineProtocol,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=30,
            )
            _ready_server(config, ready).run(sockets=[listener])


@contextmanager
def open_services(
    root: Path, options: Options, *, database: str | None = None, policy: Path | None = None
) -> Iterator[Services]:
    """Lock a server's folder and yield its parts; raises UsageError or ConfigError for a project that is none."""
    read = None if policy is None else load_policy(policy)
    project = None if options.project is None else Project.open(Path(options.project))
    guard = None if read is None or policy is None else rails_of(read, policy.parent, project)
    home = Home.open(root)
    contenders = None if project is None else Contenders(project, guard)
    ends = nullcontext() if contenders is None else closing(contenders)
    with home.lock(), closing(open_store(home, database)) as store, ends:
        blobs, roster = Blobs(home, store), Roster(store, options)
        yield Services(
            home=home,
            store=store,
            access=Access(store),
            blobs=blobs,
            jobs=Jobs(home, store, blobs, in_base64=options.metrics_in_base64),
            roster=roster,
            limiter=Limiter(usual=None if read is None else Limits(**read.rate.model_dump())),
            metrics=Metrics(store, roster),
            options=options,
            started=store.clock(),
            contenders=contenders,
            guard=guard,
        )


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises UsageError for an address or port that cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be listened on: {error.strerror}",
            hint="Another program may have the port: name a free one with --port; 0 takes any.",
        ) from error


def _ready_server(config: uvicorn.Config, ready: Callable[[str], None]) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """A server that says when it listens, and where: a port of 0 is chosen by the system."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                assert sockets is not None
                settle()
                host, port = sockets[0].getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                ready(f"http://{shown}:{port}/v1")

    return Server(config)
