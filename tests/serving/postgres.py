"""Run a command with a PostgreSQL server that is made for it and gone after it: postgres.py COMMAND...

The server's programs are Debian's package `postgresql`. The command gets the address of an empty database in
TUNESMITH_TEST_POSTGRES.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ADDRESS = "TUNESMITH_TEST_POSTGRES"


def programs() -> Path:
    """Return the folder of the server's programs; exits where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    alone = shutil.which("initdb")
    if found:
        return found[-1].parent
    if alone:
        return Path(alone).parent
    raise SystemExit("There is no PostgreSQL: apt-get install postgresql")


@contextmanager
def running() -> Iterator[str]:
    """Start a server in a folder of its own; yields the address of an empty database, as SQLAlchemy writes it."""
    bin_folder = programs()
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tunesmith-postgres-") as folder:
        place = Path(folder)
        # PostgreSQL refuses to run as root.
        as_user: list[str] = []
        if os.getuid() == 0:
            shutil.chown(place, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]
        _run(
            [
                *as_user,
                str(bin_folder / "initdb"),
                "-D",
                f"{folder}/data",
                "-U",
                "tunesmith",
                "-A",
                "trust",
                "-E",
                "UTF8",
            ]
        )
        # Nothing here outlives the run, so nothing is waited for on the disk.
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off -c max_connections=300 -k {folder}"
        )
        control = [*as_user, str(bin_folder / "pg_ctl"), "-D", f"{folder}/data", "-w"]
        try:
            _run([*control, "-l", f"{folder}/log", "-o", options, "start"])
            _run(
                [
                    *as_user,
                    str(bin_folder / "createdb"),
                    "-h",
                    folder,
                    "-p",
                    str(port),
                    "-U",
                    "tunesmith",
                    "tests",
                ]
            )
            yield f"postgresql+psycopg://tunesmith@127.0.0.1:{port}/tests"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], capture_output=True, check=False, cwd="/")


def main(command: Sequence[str]) -> int:
    """Run a command beside a server; returns its exit status. The server goes also where this process is told to."""
    signal.signal(signal.SIGTERM, _leave)
    with running() as address:
        return subprocess.run(command, env=os.environ | {ADDRESS: address}, check=False).returncode


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
