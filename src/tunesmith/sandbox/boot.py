"""The program that a sandboxed process runs; it imports nothing of Tunesmith. See run.py for what it gives up."""

from __future__ import annotations

# Some are for the functions: they are loaded while files can still be read everywhere.
import collections  # noqa: F401
import ctypes
import datetime  # noqa: F401
import decimal  # noqa: F401
import difflib  # noqa: F401
import fractions  # noqa: F401
import functools  # noqa: F401
import importlib
import itertools  # noqa: F401
import json
import math
import os
import platform
import random  # noqa: F401
import re  # noqa: F401
import resource
import statistics  # noqa: F401
import string  # noqa: F401
import struct
import sys
import types
import unicodedata  # noqa: F401
from typing import Any

# System calls that are refused, with their numbers on x86-64 and arm64 (asm/unistd_64.h, asm-generic/unistd.h); None
# where there is no such call.
_REFUSED = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "clone": (56, 220),
    "clone3": (435, 435), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280),
    "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "open_by_handle_at": (304, 265), "memfd_create": (319, 279), "userfaultfd": (323, 282),
    "init_module": (175, 105), "finit_module": (313, 273), "reboot": (169, 142), "swapon": (167, 224),
    "setuid": (105, 146), "setgid": (106, 144), "prlimit64": (302, 261), "setrlimit": (160, 164),
    "shmget": (29, 194), "msgget": (68, 186), "mq_open": (240, 180), "symlinkat": (266, 36), "linkat": (265, 37),
    "chmod": (90, None), "fchmodat": (268, 53), "chown": (92, None), "fchownat": (260, 54), "truncate": (76, 45),
}  # fmt: skip
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib would be one more thing to load
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_ERRNO_EPERM, _KILL, _ALLOW = 0x00050001, 0x80000000, 0x7FFF0000
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_O_PATH = 0o10000000

# What the audit hook lets through: reading source and bytecode of Python's own library is looked at by itself.
_FORBIDDEN = (
    "socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "os.system", "os.kill", "os.putenv",
    "ctypes.", "ftplib.", "http.", "urllib.", "smtplib.", "poplib.", "imaplib.", "telnetlib.", "nntplib.",
    "webbrowser.",
    "os.chmod", "os.chown", "os.link", "os.symlink", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate",
    "os.listdir", "os.scandir", "os.chdir", "os.listxattr", "os.getxattr", "os.setxattr", "os.removexattr", "os.utime",
    "shutil.", "tempfile.", "pty.", "fcntl.", "mmap.", "sqlite3.", "signal.", "resource.", "gc.", "winreg.", "msvcrt.",
    "pathlib.", "glob.", "syslog.", "cpython.run_", "sys._current", "sys.settrace", "sys.setprofile", "code.",
    "os.forkpty", "os.killpg", "os.startfile", "os.add_dll_directory", "os.unsetenv", "os.lockf",
)  # fmt: skip
_NOT_IMPORTED = frozenset(
    {"ctypes", "_ctypes", "socket", "_socket", "subprocess", "_posixsubprocess", "multiprocessing"}
)


def main() -> None:
    """Read the order, give up what is not needed, run the function and tell what it gave."""
    order = json.loads(sys.stdin.buffer.read())
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    source = order["source"]
    _limit(order["memory"], order["cpu"])
    try:
        places = _load(order["modules"], order["paths"])
    except BaseException as error:  # noqa: BLE001 - whatever a package raises while it is imported
        os.write(out, json.dumps({"confined": False}).encode() + b"\n")
        os.write(out, _line(failure="error", message=_worded(error)))
        return
    confined = _confine(places)
    os.write(out, json.dumps({"confined": confined}).encode() + b"\n")
    _watch(places)
    told = _told(source, order["function"], order["arguments"], order["result"])
    while told:
        told = told[os.write(out, told) :]


def _load(modules: list[str], paths: list[str]) -> tuple[str, ...]:
    """Import packages while files can be read, and return their folders, which stay readable for their parts.

    Nothing else in `paths` can be imported later: the function is not to look around among what is installed.
    """
    if not modules:
        return ()
    before = list(sys.path)
    sys.path[:] = [*before, *paths]
    loaded = [importlib.import_module(name) for name in modules]
    sys.path[:] = before
    return tuple(str(folder) for module in loaded for folder in getattr(module, "__path__", ()))


def _told(source: str, name: str, arguments: list[Any], most: int) -> bytes:
    """Return one line of JSON with the value, or with why there is none."""
    try:
        module = types.ModuleType("grader")
        exec(compile(source, "grader", "exec"), module.__dict__)
        function = getattr(module, name, None)
        if not callable(function):
            return _line(failure="error", message=f"the source defines no function {name}")
        value = function(*arguments)
        line = _line(value=value)
    except MemoryError:
        return _line(failure="memory", message="it needed more memory than it may have")
    except RecursionError as error:
        return _line(failure="error", message=f"RecursionError: {error}")
    except BaseException as error:  # noqa: BLE001 - whatever it raises, SystemExit too, is its answer
        return _line(failure="error", message=_worded(error))
    if len(line) > most:
        return _line(failure="output", message=f"it gave more than {most:,} bytes")
    return line


def _worded(error: BaseException) -> str:
    """Return an error in one line, with the last line of the source that it passed through."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "grader":
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno
    where = "" if line is None else f" (line {line})"
    said = f"{type(error).__name__}: {error}".splitlines()[0][:1000]
    return said + where


def _line(**told: Any) -> bytes:
    try:
        text = json.dumps(told, allow_nan=False)
    except (TypeError, ValueError) as error:
        value = told.get("value")
        if isinstance(value, float) and not math.isfinite(value):
            said = f"it gave {value}, which is no number"
        else:
            said = f"it gave a {type(value).__name__}, which JSON cannot hold: {error}"
        text = json.dumps({"failure": "error", "message": said[:1000]})
    return text.encode("utf-8", "replace") + b"\n"


# --- what is given up


def _limit(memory: int, cpu: int) -> None:
    """Bound time on the processor, memory and files."""
    for what, most in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):
            # macOS knows no bound on address space.
            continue


def _confine(places: tuple[str, ...]) -> bool:
    """Give up all files but the library's and those in `places`; returns whether the kernel refuses by itself."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    files = _hide_files(libc, places)
    return _filter_calls(libc) and files


def _hide_files(libc: Any, places: tuple[str, ...]) -> bool:
    """Let the process read Python's library, the packages in `places` and nothing else, by Landlock."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return False
    # All rights of the first version, and those that later ones added.
    rights = (1 << 13) - 1
    rights |= (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    handled = struct.pack("=Q", rights)
    rules = libc.syscall(_LANDLOCK_CREATE, handled, len(handled), 0)
    if rules < 0:
        return False
    read = (1 << 2) | (1 << 3)
    for place in {_LIBRARY, sys.base_exec_prefix + "/lib", *places}:
        try:
            opened = os.open(place, _O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        libc.syscall(_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", read, opened), 0)
        os.close(opened)
    done = libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0
    os.close(rules)
    return bool(done)


def _filter_calls(libc: Any) -> bool:
    """Have the kernel refuse the calls above, by a program in classic BPF."""
    found = _ARCHITECTURES.get(platform.machine())
    if found is None:
        return False
    architecture, column = found
    numbers = [pair[column] for pair in _REFUSED.values() if pair[column] is not None]

    def step(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    program = [
        step(load, 0, 0, 4),
        step(equal, 1, 0, architecture),
        step(give, 0, 0, _KILL),
        step(load, 0, 0, 0),
    ]
    if column == 0:
        # x32 calls would have the same numbers with this bit.
        program += [step(at_least, 0, 1, 0x40000000), step(give, 0, 0, _KILL)]
    for number in numbers:
        program += [step(equal, 0, 1, int(number or 0)), step(give, 0, 0, _ERRNO_EPERM)]
    program.append(step(give, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))
    whole = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, whole, 0, 0) == 0)


def _watch(places: tuple[str, ...]) -> None:
    """Refuse inside Python what is refused outside, and take away what reaches around it.

    The hook uses names of its own alone: those of modules can be given other values by the function that is watched.
    """
    library = tuple(place + os.sep for place in (_LIBRARY, sys.base_exec_prefix + os.sep + "lib", *places))
    forbidden, hidden, refused = _FORBIDDEN, _NOT_IMPORTED, PermissionError
    normal, is_a, text, number, listing = os.path.normpath, isinstance, str, int, ("os.listdir", "os.scandir")
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    for name in list(sys.modules):
        if name.partition(".")[0] in hidden or name in ("resource", "posix"):
            del sys.modules[name]

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = (*given, None, None, None)[:3]
            reads = not is_a(flags, number) or not flags & writing
            if not (reads and is_a(path, text) and normal(path).startswith(library)):
                raise refused("files cannot be opened here")
        elif event == "import":
            if text(given[0]).partition(".")[0] in hidden:
                raise refused(f"{given[0]} cannot be imported here")
        elif event in listing:
            if not (given and is_a(given[0], text) and (normal(given[0]) + "/").startswith(library)):
                raise refused("folders cannot be listed here")
        elif event.startswith(forbidden):
            raise refused(f"{event} is not allowed here")

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
