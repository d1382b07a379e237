"""Programs of answers: the first thing that is wrong is found, without importing what they name, and in the sandbox."""

from __future__ import annotations

import sys

import pytest

from tunesmith.catalogue import Catalogue
from tunesmith.errors import DatasetError
from tunesmith.evaluating.codes import Coded, check_code, check_codes, program, why_not_resolved
from tunesmith.sandbox.run import Limits

SHORT = Limits(seconds=10, cpu_seconds=3, memory_bytes=512 * 2**20)


def fenced(code: str, language: str = "python") -> str:
    """An answer: a sentence and a block."""
    return f"This does it.\n\n```{language}\n{code}\n```\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (fenced("x = 1"), "x = 1"),
        ("```python\nx = 1", "x = 1"),
        (
            "First:\n```python\nx = 1\n```\nand then:\n```py\nprint(x)\n```\ngives\n```\n1\n```",
            "x = 1\nprint(x)",
        ),
        ("```bash\npip install x\n```\n```\nx = 1\n```\n```\n1\n```", "x = 1"),
        (fenced(">>> x = [1,\n...      2]\n>>> x\n[1, 2]"), "x = [1,\n     2]\nx"),
        ("```json\n{}\n```", None),
        ("print(1)", "print(1)"),
        ("No code at all.", None),
        ("", None),
    ],
)
def test_the_program_is_all_python_blocks_together(text: str, code: str | None) -> None:
    """Those that say so, in order; else the first without a language; else a text that is code itself."""
    assert program(text) == code


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import json\njson.dumps({})", None),
        ("import json\njson.to_text({})", "line 2: json has no to_text"),
        ("import jsn", "line 1: there is no module jsn here"),
        ("from os.path import join, jion", None),  # os puts its path together while it is loaded
        ("from posixpath import join, jion", "line 1: posixpath has no jion"),
        ("import os\nos.path.join('a')\nos.getcwdd()", None),  # os takes names from a compiled module
        ("import xml.dom.minidom as m\nm.parse\nm.prase", "line 3: xml.dom.minidom has no prase"),
        ("from collections.abc import Mapping\nMapping.anything", None),
        ("import collections.abd", "line 1: collections has no abd"),
        ("import sklearn.metrics as m\nm.f1_score([], [])", None),
        ("from sklearn.metrics import f2_score", "line 1: sklearn.metrics has no f2_score"),
        ("import math\nmath.sqqrt(2)", None),  # compiled: running tells
        ("x = 1\nprint(x, y)", "line 2: y is used and defined nowhere"),
        ("def f(a, *b, c=1, **d):\n    return a, b, c, d, e\ne = 2", None),
        ("try:\n    pass\nexcept ValueError as error:\n    print(error)", None),
        ("match 1:\n    case [x, *y] | {'k': x, **y}:\n        print(x, y)", None),
        ("[i for i in range(3)]\nlambda z: z", None),
        ("from os.path import *\njoin('a')", None),
        ("import json\njson = object()\njson.anything", None),  # it stands for two things
    ],
)
def test_names_are_looked_up_without_importing(code: str, reason: str | None) -> None:
    """Names of the program, modules, their parts and their attributes."""
    assert why_not_resolved(code) == reason


def test_nothing_is_imported_to_look_a_name_up(tmp_path: object) -> None:
    """A module that is looked into is not loaded."""
    sys.modules.pop("antigravity", None)
    assert why_not_resolved("import antigravity\nantigravity.geohash(1, 2, b'')") is None
    assert why_not_resolved("import antigravity\nantigravity.fly()") == "line 2: antigravity has no fly"
    assert "antigravity" not in sys.modules


def test_calls_of_the_catalogue_are_its_own_affair(catalogue: Catalogue) -> None:
    """What it does not have does not exist, and what does not bind is said."""
    assert why_not_resolved("import networkx as nx\nnx.density(nx)", catalogue) is None
    said = why_not_resolved("import networkx as nx\nnx.dense(nx)", catalogue)
    assert said is not None
    assert said.startswith("networkx.dense does not exist")
    assert why_not_resolved("import networkx as nx\nnx.density()", catalogue) is not None
    assert why_not_resolved("nx.density(1)", catalogue) == "line 1: nx is used and defined nowhere"


@pytest.mark.parametrize(
    ("text", "expected", "failed", "reason"),
    [
        ("Use json.", "", "code", "the answer has no Python code"),
        (fenced("x = ("), "", "parses", "line 1: '(' was never closed"),
        (fenced("import nowhere_at_all"), "", "resolves", "line 1: there is no module nowhere_at_all here"),
        (fenced("x = 1\nx / 0"), "", "runs", "ZeroDivisionError: division by zero (line 2)"),
        (
            fenced("import socket\nsocket.socket()"),
            "",
            "runs",
            "PermissionError: socket cannot be imported here (line 1)",
        ),
        (fenced("sum([1, 2])"), "3", None, ""),
        (fenced("print('a')\nsum([1, 2])"), "a\n3", None, ""),
        (fenced("sum([1, 3])"), "3", "doctest", "the program: printed '4' and not '3'"),
        (fenced("def f(x):\n    return 2 * x"), ">>> f(2)\n4\n>>> f('a')\n'aa'\n", None, ""),
        (fenced("def f(x):\n    return x"), ">>> f(2)\n4\n", "doctest", "f(2): printed '2' and not '4'"),
        (
            fenced("def f(x):\n    return x"),
            ">>> g(2)\n4\n",
            "doctest",
            "g(2): NameError: name 'g' is not defined",
        ),
        (
            fenced("def f(x):\n    raise ValueError('no')"),
            ">>> f(2)\nTraceback (most recent call last):\nValueError: no\n",
            None,
            "",
        ),
        (fenced("print(list(range(50)))"), "[0, 1, ..., 49]", None, ""),
    ],
)
def test_the_first_thing_that_fails_is_kept(
    text: str, expected: str, failed: str | None, reason: str
) -> None:
    """No code, no Python, no such name, an error, another output; or nothing."""
    found = check_code(Coded("1", text, expected), limits=SHORT)
    assert (found.failed, found.reason) == (failed, reason)
    assert found.passed("doctest") is ((failed is None) if expected else None)


def test_what_a_program_shows_is_kept() -> None:
    """What it printed before it failed too; memory and long output are bounded."""
    found = check_code(Coded("1", fenced("print('so far')\n1 / 0")), limits=SHORT)
    assert (found.shown, found.failed) == ("so far\n", "runs")
    assert len(check_code(Coded("1", fenced("print('x' * 10**6)")), limits=SHORT).shown) == 2000
    found = check_code(Coded("1", fenced("x = 'x' * 10**10")), limits=SHORT)
    assert (found.failed, found.reason) == ("runs", "it needed more memory than it may have")
    found = check_code(Coded("1", fenced("while True: pass")), limits=SHORT)
    assert found.failed == "runs"
    assert found.reason.startswith("it took more than")


def test_packages_of_the_catalogue_and_those_named_can_be_used(catalogue: Catalogue) -> None:
    """Others are not there; a call that exists runs, and what it gives is compared."""
    code = fenced("import networkx as nx\n\nnx.density(nx.complete_graph(4))")
    known = Catalogue("networkx", "3", (*catalogue.entries,), "nx", attributes=("networkx.complete_graph",))
    found = check_code(Coded("1", code, "1.0"), known)
    assert (found.failed, found.reason, found.shown) == (None, "", "1.0\n")
    told = check_code(
        Coded("1", fenced("import tomlkit\ntomlkit.parse('a = 1')['a']"), "1"), modules=("tomlkit",)
    )
    assert (told.failed, told.reason) == (None, "")
    alone = check_code(Coded("1", fenced("import tomlkit")))
    assert alone.failed == "runs"
    assert "tomlkit" in alone.reason


def test_all_answers_are_counted() -> None:
    """Each step's share is over those that it was asked for of; failures add up."""
    answers = [
        Coded("1", fenced("1 + 1"), "2"),
        Coded("2", fenced("1 + 2"), "2"),
        Coded("3", fenced("1 +")),
        Coded("4", "none"),
    ]
    found = check_codes(answers, limits=SHORT)
    assert {step: (share.value, share.n) for step, share in found.shares.items()} == {
        "code": (0.75, 4),
        "parses": (0.5, 4),
        "resolves": (0.5, 4),
        "runs": (0.5, 4),
        "doctest": (0.5, 2),
    }
    assert found.failures == {"code": 1, "parses": 1, "doctest": 1}
    seen = check_codes(answers, execute=False)
    assert set(seen.shares) == {"code", "parses", "resolves"}
    assert all(one.confined is None for one in seen.checked)


def test_what_cannot_be_checked_is_an_error() -> None:
    """No answers, and a doctest that is none."""
    with pytest.raises(DatasetError):
        check_codes([])
    with pytest.raises(DatasetError, match="doctest of 1 cannot be read"):
        check_code(Coded("1", fenced("1"), ">>>1\n1\n"))
