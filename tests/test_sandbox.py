"""What a sandboxed function can do, and what it tries in vain."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesmith.sandbox import run
from tunesmith.sandbox.run import Limits, Ran, call_function

SHORT = Limits(seconds=8, cpu_seconds=2, memory_bytes=256 * 2**20, result_bytes=10_000)


def ran(body: str, *arguments: object, limits: Limits = SHORT) -> Ran:
    """Run a function with this body."""
    source = "def f(*given):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return call_function(source, "f", arguments, limits)


def test_a_function_gives_its_value_and_may_use_the_library() -> None:
    """What is loaded later is found too."""
    got = call_function(
        "import re, math, difflib, statistics\n"
        "def grade(sample, item):\n"
        "    import textwrap\n"
        "    words = re.findall('[a-z]+', sample['output_text'])\n"
        "    return {'n': len(words), 'r': math.sqrt(item['n'])}\n",
        "grade",
        [{"output_text": "three small words"}, {"n": 4}],
    )
    assert (got.value, got.failure) == ({"n": 3, "r": 2.0}, None), got.message


def test_a_named_package_can_be_imported_and_read_and_nothing_else_that_is_installed() -> None:
    """It is loaded before anything is given up; what it loads of its own later is found too."""
    source = "def f():\n    from networkx.algorithms import bridges\n    return bridges.__name__\n"
    roomy = Limits(seconds=30, cpu_seconds=20, memory_bytes=2**30)
    got = call_function(source, "f", [], roomy, modules=["networkx"])
    assert (got.value, got.failure) == ("bridges", None), got.message
    other = call_function("def f():\n    import pydantic", "f", [], roomy, modules=["networkx"])
    assert "No module named 'pydantic'" in other.message
    missing = call_function("def f(): pass", "f", [], roomy, modules=["no_such_package"])
    assert (missing.failure, "no_such_package" in missing.message) == ("error", True)
    for opened in ("open('/etc/passwd')", "__import__('os').listdir('/')", "__import__('socket')"):
        tried = call_function(f"def f():\n    {opened}", "f", [], roomy, modules=["networkx"])
        assert "PermissionError" in tried.message


ATTEMPTS = {
    "socket": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "raw socket": "import _socket\n_socket.socket()",
    "subprocess": "import subprocess\nsubprocess.run(['id'])",
    "system": "import os\nos.system('id')",
    "fork": "import os\nreturn os.fork()",
    "exec": "import os\nos.execv('/bin/sh', ['sh'])",
    "spawn": "import os\nos.posix_spawn('/bin/sh', ['sh'], {})",
    "kill": "import os\nos.kill(os.getppid(), 9)",
    "read": "return open('/etc/passwd').read()",
    "read by descriptor": "import os\nreturn os.read(os.open('/etc/passwd', 0), 100).decode()",
    "read of this test": f"return open({str(Path(__file__))!r}).read()",
    "write": "open('x', 'w').write('x')",
    "list": "import os\nreturn os.listdir('/')",
    "remove": "import os\nos.remove('/tmp/x')",
    "ctypes": "import ctypes\nreturn ctypes.CDLL(None).getpid()",
    "environment": "import os\nreturn os.environ['HOME']",
    "server": "import http.server\nhttp.server.HTTPServer(('127.0.0.1', 0), None)",
    "exit": "import sys\nsys.exit(0)",
    "undefined": "return given[0].upper() + 1",
    "io": "import io\nreturn io.FileIO('/etc/passwd').read(10).decode()",
    "hidden posix": "import importlib\nreturn importlib.import_module('posix').open('/etc/passwd', 0)",
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_what_is_not_allowed_is_an_error_with_its_place(name: str) -> None:
    """Each attempt ends as an exception in the function, which names its line."""
    got = ran(ATTEMPTS[name])
    assert got.failure == "error", got
    assert "(line " in got.message


def test_the_hook_does_not_hang_on_names_that_can_be_changed() -> None:
    """Whatever the function gives other values, files stay shut to Python itself."""
    got = ran(
        "import builtins, os, __main__, sys\n"
        "__main__._FORBIDDEN, __main__._NOT_IMPORTED = (), frozenset()\n"
        "os.path.normpath = lambda path: __main__._LIBRARY + '/x'\n"
        "kept = builtins.str, builtins.PermissionError\n"
        "builtins.str, builtins.PermissionError = (lambda value: ''), ZeroDivisionError\n"
        "try:\n"
        "    return open('/etc/passwd').read()\n"
        "finally:\n"
        "    builtins.str, builtins.PermissionError = kept"
    )
    assert (got.failure, "root:" in got.message) == ("error", False)
    assert "files cannot be opened here" in got.message


KERNEL = """
import os, sys
sys.path.insert(0, sys.argv[1])
import boot
boot._limit(2**29, 5)
print(boot._confine(()), flush=True)
import socket
for attempt in (
    lambda: socket.socket(), lambda: os.fork(), lambda: os.execv("/bin/true", ["true"]),
    lambda: os.kill(os.getppid(), 0), lambda: os.rename(sys.argv[2], "b"),
    lambda: open("/etc/passwd").read(), lambda: os.open("new", os.O_CREAT | os.O_WRONLY), lambda: os.listdir("/"),
    lambda: os.mkdir("folder"), lambda: os.unlink(sys.argv[2]), lambda: os.symlink("a", "b"),
):
    try:
        print(attempt(), flush=True)
    except PermissionError:
        print("refused", flush=True)
print(len(os.listdir(boot._LIBRARY)) > 100, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines so")
def test_the_kernel_refuses_by_itself(tmp_path: Path) -> None:
    """Without any hook: sockets, processes, signals and files; Python's own library can still be read."""
    kept = tmp_path / "kept"
    kept.write_text("kept", encoding="utf-8")
    boot = Path(run.__file__).parent
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", KERNEL, str(boot), str(kept)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    confined, *attempts, library = done.stdout.splitlines()
    if confined == "False":
        pytest.skip("this kernel has no Landlock or no seccomp")
    assert attempts == ["refused"] * 11, done.stdout + done.stderr
    assert library == "True"
    assert kept.read_text(encoding="utf-8") == "kept"


def test_limits_end_what_does_not_end() -> None:
    """Each limit has a name of its own, and nothing runs much longer than it may."""
    for body, failure in (
        ("while True: pass", "time"),
        ("import time\ntime.sleep(100)", "time"),
        ("return len(bytearray(10 * 2**30))", "memory"),
        ("x = []\nwhile True: x.append('x' * 2**20)", "memory"),
        ("return 'x' * 1_000_000", "output"),
        ("import os\nos._exit(0)", "died"),
        ("return f()", "error"),
    ):
        start = time.monotonic()
        got = ran(
            body, limits=Limits(seconds=4, cpu_seconds=2, memory_bytes=256 * 2**20, result_bytes=10_000)
        )
        assert got.failure == failure, (body, got)
        assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return float('nan')", "no number"),
        ("return object()", "JSON cannot hold"),
        ("raise ValueError('the line\\nis broken')", "ValueError: the line (line 2)"),
    ],
)
def test_what_json_cannot_hold_is_an_error(body: str, said: str) -> None:
    """A value that is no JSON says what it was."""
    got = ran(body)
    assert got.failure == "error"
    assert said in got.message


def test_a_source_without_the_function_or_without_sense_says_so() -> None:
    """So does a source that is no Python; what it prints goes nowhere."""
    assert "no function grade" in call_function("x = 1", "grade", [], SHORT).message
    assert "SyntaxError" in call_function("def grade(:\n", "grade", [], SHORT).message
    assert call_function("print('x' * 10**6)\ndef grade():\n    return 1", "grade", [], SHORT).value == 1
