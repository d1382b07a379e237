"""Call a function of somebody else's Python source, with limits, and take its result as JSON.

The process that runs it has an empty environment, but for a number of threads, and an empty folder. Before it looks at
the source it gives up:

- time on the processor, memory, file sizes, open files (setrlimit), and time by the clock, after which it is killed;
- new programs, processes, sockets, signals to others and debugging: a seccomp filter, on Linux (seccomp(2));
- all files but Python's own library and the packages that the caller names: Landlock, where the kernel has it
  (landlock(7));
- the same once more inside Python, by an audit hook (PEP 578), which is all there is on other systems.

An audit hook alone stops a mistake and not an attacker; `confined` in the result says whether the kernel held too.
Nothing here protects from a fault of the kernel: who runs hostile strangers' code wants a virtual machine around it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Failure = Literal["error", "time", "memory", "output", "died"]

_BOOT = Path(__file__).with_name("boot.py")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call may use: seconds by the clock and on the processor, bytes of memory, bytes of result."""

    seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 512 * 2**20
    result_bytes: int = 2**20


@dataclass(frozen=True, slots=True)
class Ran:
    """What a call gave: its value, or why there is none, in words that name the place in the source."""

    value: Any = None
    failure: Failure | None = None
    message: str = ""
    confined: bool = False


def call_function(
    source: str,
    function: str,
    arguments: Sequence[Any],
    limits: Limits | None = None,
    *,
    modules: Sequence[str] = (),
) -> Ran:
    """Run `source`, call its function with arguments that JSON can hold, and return what it gives.

    `modules` are installed packages that the source may import: they are imported before anything is given up, so
    they are trusted as an import of them anywhere is, and they stay readable. All else that is installed is not there.
    Whatever the source does, this returns, in about `limits.seconds` at most.
    """
    limits = limits or Limits()
    order: dict[str, Any] = {"source": source, "function": function, "arguments": list(arguments)}
    order |= {"modules": list(modules), "paths": [path for path in sys.path if path] if modules else []}
    order |= {"memory": limits.memory_bytes, "cpu": limits.cpu_seconds, "result": limits.result_bytes}
    with tempfile.TemporaryDirectory(prefix="tunesmith-sandbox-") as folder:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_BOOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            # Threads are refused, and libraries of linear algebra start one for each core.
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        timer = threading.Timer(limits.seconds, _kill, (child,))
        timer.start()
        try:
            said = _talk(child, json.dumps(order).encode(), limits.result_bytes + 4096)
        finally:
            ended_by_itself = timer.is_alive()
            timer.cancel()
            _kill(child)
            child.wait()
    return _read(said, child.returncode, ended_by_itself, limits)


def _talk(child: subprocess.Popen[bytes], order: bytes, most: int) -> bytes:
    """Send the order and return what is said back, at most so many bytes of it."""
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdout, child.stdin:
        try:
            child.stdin.write(order)
            child.stdin.close()
        except BrokenPipeError:
            # It died before it had read.
            return b""
        said = child.stdout.read(most + 1)
        if len(said) <= most:
            child.wait()
        return said


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _read(said: bytes, status: int, ended_by_itself: bool, limits: Limits) -> Ran:
    lines = said.splitlines()
    confined = bool(lines) and lines[0] == b'{"confined": true}'
    if len(said) > limits.result_bytes + 4096:
        return Ran(
            failure="output", message=f"it gave more than {limits.result_bytes:,} bytes", confined=confined
        )
    if not ended_by_itself:
        return Ran(failure="time", message=f"it took more than {limits.seconds:g} seconds", confined=confined)
    if status == -signal.SIGXCPU or (status == -signal.SIGKILL and len(lines) < 2):
        return Ran(
            failure="time",
            message=f"it took more than {limits.cpu_seconds} seconds of the processor",
            confined=confined,
        )
    if status != 0 or len(lines) != 2:
        return Ran(failure="died", message="its process ended without a result", confined=confined)
    try:
        told = json.loads(lines[1])
    except (ValueError, RecursionError):
        return Ran(failure="died", message="its process ended without a result", confined=confined)
    return Ran(told.get("value"), told.get("failure"), told.get("message", ""), confined)
