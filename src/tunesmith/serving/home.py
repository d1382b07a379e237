"""The folder in which a server keeps everything, and the lock by which one server at a time works there.

~/.local/share/tunesmith/server/   or $TUNESMITH_HOME, or `tunesmith serve --home FOLDER`
├── server.db                      the database, unless another is named by its URL
├── blobs/ab/ab12...               bytes of files, by their SHA-256
├── incoming/                      bytes that are still coming; emptied when a server starts
├── batches/batch_.../            the answers of a batch so far
├── evals/evalrun_.../           the items of a run while it runs
├── jobs/ftjob-.../                a folder per fine-tuning job
├── models/                        what jobs have tuned
└── lock                           held (flock) by the server that works here
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import ServerBusy, ServerError


def default_home() -> Path:
    """Return $TUNESMITH_HOME, else tunesmith/server in the user's data folder."""
    own = os.environ.get("TUNESMITH_HOME")
    if own:
        return Path(own).expanduser().absolute()
    return (
        Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser().absolute() / "tunesmith/server"
    )


@dataclass(frozen=True, slots=True)
class Home:
    """A server's folder; its parts are made when it is opened."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> Home:
        """Return the folder, made if it is not there, readable by nobody else.

        Raises ServerError if it cannot be made or written to.
        """
        home = cls(root.expanduser().absolute())
        try:
            home.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for part in (home.blobs, home.incoming, home.evals, home.jobs, home.models):
                part.mkdir(exist_ok=True)
        except OSError as error:
            raise ServerError(
                f"The server's folder {home.root} cannot be used: {error.strerror}",
                hint="Name another with --home or TUNESMITH_HOME.",
            ) from error
        return home

    @property
    def database(self) -> Path:
        """The file of the database where no other is named."""
        return self.root / "server.db"

    @property
    def blobs(self) -> Path:
        """Where the bytes of files lie, by their digest."""
        return self.root / "blobs"

    @property
    def incoming(self) -> Path:
        """Where bytes lie while they come."""
        return self.root / "incoming"

    @property
    def evals(self) -> Path:
        """Where each run of an eval has its items."""
        return self.root / "evals"

    @property
    def jobs(self) -> Path:
        """Where each job has its folder."""
        return self.root / "jobs"

    @property
    def models(self) -> Path:
        """Where tuned models lie."""
        return self.root / "models"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder: the lock goes with this process, however that ends.

        Raises ServerBusy if another server works here.
        """
        import fcntl

        with (self.root / "lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise ServerBusy(
                    f"Another server works in {self.root} (process {holder}).",
                    hint="Stop it, or give this one a folder of its own with --home.",
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
