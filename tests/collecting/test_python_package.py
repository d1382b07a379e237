"""Packages read without importing them."""

from __future__ import annotations

import importlib
import inspect
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

from tunesmith.catalogue import DocExample, Entry, Parameter, judge
from tunesmith.collecting.python_package import PackageRead, package_source, read_package
from tunesmith.errors import SourceError
from tunesmith.records import Document, Rejection

FILES = {
    "__init__.py": '''
"""A toy.

>>> import toypkg as tp
"""
import json
from collections import OrderedDict

from toypkg._core import join, Base
from toypkg.sub import *
from toypkg import tools
from toypkg.flip import flip
''',
    "_core.py": '''
raise RuntimeError("imported")

def join(a, b=1, /, *parts, sep=", ", **rest):
    """Join ``a`` and parts. More words.

    Parameters
    ----------
    a, b : str
        The *first* ones.
    sep : str
        What stands between.

    Returns
    -------
    text : str
        The joined text.

    See Also
    --------
    halve : the opposite
    Base.move
    nobody

    Examples
    --------
    >>> join(1, 2)
    '1, 2'
    """

def hidden():
    """Not offered by the package."""

class Base:
    """A base."""

    def __init__(self, size: int = 3):
        self.size = size

    @property
    def area(self):
        """The area."""

    def move(self, x):
        """Move it."""

    @staticmethod
    def make(x):
        """Make one."""

    def _inner(self):
        """Private."""

class _Mixin:
    def mixed(self, y):
        """Mix it in."""
''',
    "sub/__init__.py": '''
__all__ = ["halve", "Child", "old", "older", "bare", "broken", "half"]
from toypkg._core import Base, _Mixin

def halve(x, *, exact=False):
    """Halve it."""

half = halve

class Child(Base, _Mixin):
    """A child."""

class Ordered(dict):
    """Not offered."""

def old(x):
    """Do it.

    .. deprecated:: 1.0
    """

@deprecated("use halve")
def older(x):
    """Do it."""

def bare(x): ...

def broken(x):
    """Break.

    >>>broken(1)
    """

def left(x):
    """Not in __all__."""
''',
    "tools.py": '''
LIMIT = 3

class Strange(dict):
    """A strange one."""

def tool(x):
    """Use it."""
''',
    "flip.py": '''
def flip(x):
    """Flip it."""
''',
    "tests/__init__.py": "",
    "tests/test_join.py": "def test_join(): ...\n",
}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that packages can be written into and found in."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write(folder: Path, name: str, files: dict[str, str]) -> None:
    """Write a package's files."""
    for file, text in files.items():
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    importlib.invalidate_caches()


@pytest.fixture
def toy(packages: Path) -> PackageRead:
    """Read the toy package, whose import would fail."""
    write(packages, "toypkg", FILES)
    return read_package("toypkg")


def entry_of(read: PackageRead, path: str) -> Entry:
    """Return the entry at a path."""
    entry = read.catalogue.resolve(path)
    assert entry is not None, path
    return entry


def test_each_thing_is_listed_once_under_the_name_people_use(toy: PackageRead) -> None:
    """Re-exports, star imports and functions that replace their module have the short path as id."""
    assert {entry.id: entry.kind for entry in toy.catalogue.entries} == {
        "toypkg.Base": "class",
        "toypkg.Base.make": "method",
        "toypkg.Base.move": "method",
        "toypkg.Child": "class",
        "toypkg.Child.mixed": "method",
        "toypkg.broken": "function",
        "toypkg.flip": "function",
        "toypkg.halve": "function",
        "toypkg.join": "function",
        "toypkg.tools.Strange": "class",
        "toypkg.tools.tool": "function",
    }
    assert "toypkg" not in sys.modules
    assert toy.catalogue.conventional_alias == "tp"
    assert toy.catalogue.attributes == ("toypkg.tools.LIMIT",)


def test_other_paths_are_aliases(toy: PackageRead) -> None:
    """The defining path, a second name and the subclasses' paths resolve to the same entry."""
    assert entry_of(toy, "toypkg.join").aliases == ("toypkg._core.join",)
    assert entry_of(toy, "toypkg.halve").aliases == ("toypkg.half", "toypkg.sub.half", "toypkg.sub.halve")
    assert entry_of(toy, "toypkg.flip").aliases == ("toypkg.flip.flip",)
    for path in ("toypkg.Child.move", "toypkg.sub.Child.move", "toypkg._core.Base.move"):
        assert entry_of(toy, path).id == "toypkg.Base.move"


def test_an_entry_holds_what_signature_and_docstring_say(toy: PackageRead) -> None:
    """Kinds, defaults, descriptions, doctests and see-also names are all read."""
    join = entry_of(toy, "toypkg.join")
    assert join == Entry(
        id="toypkg.join",
        kind="function",
        parameters=(
            Parameter("a", "positional_only", None, "str", "The first ones."),
            Parameter("b", "positional_only", "1", "str", "The first ones."),
            Parameter("parts", "var_positional"),
            Parameter("sep", "keyword_only", "', '", "str", "What stands between."),
            Parameter("rest", "var_keyword"),
        ),
        summary="Join a and parts.",
        description="More words.",
        examples=(DocExample("join(1, 2)", "'1, 2'"),),
        see_also=("toypkg.halve", "toypkg.Base.move"),
        returns="text : str: The joined text.",
        document="python:toypkg#toypkg.join",
        aliases=("toypkg._core.join",),
    )
    assert join.signature == "(a, b=1, /, *parts, sep=', ', **rest)"
    document = next(each for each in toy.documents if each.entry == "toypkg.flip")
    assert document == Document(
        id="python:toypkg#toypkg.flip",
        source="python:toypkg",
        title="toypkg.flip",
        text="toypkg.flip(x)\n\nFlip it.",
        kind="api",
        entry="toypkg.flip",
    )


def test_classes_have_their_constructors_signature_and_members(toy: PackageRead) -> None:
    """`self` is left out, constructors are inherited, and members are unknown below a foreign base."""
    assert entry_of(toy, "toypkg.Base").parameters == (Parameter("size", default="3", annotation="int"),)
    assert entry_of(toy, "toypkg.Base").members == ("_inner", "area", "make", "move", "size")
    assert entry_of(toy, "toypkg.Child").signature == "(size=3)"
    assert entry_of(toy, "toypkg.Base.make").signature == "(x)"
    assert entry_of(toy, "toypkg.tools.Strange").signature == "(*args, **kwargs)"
    assert entry_of(toy, "toypkg.tools.Strange").members == ()


def test_what_is_left_out_is_counted(toy: PackageRead) -> None:
    """Private, deprecated, undocumented, foreign and test code is counted by reason."""
    assert toy.left_out == {
        "deprecated": 2,
        "not the package's own": 2,
        "private": 5,
        "property": 1,
        "tests": 1,
        "undocumented": 1,
    }
    assert sorted(entry.id for entry in toy.catalogue.unlisted) == [
        "toypkg.bare",
        "toypkg.old",
        "toypkg.older",
        "toypkg.sub.Ordered",
        "toypkg.sub.left",
    ]
    assert sorted((each.rule, each.item) for each in toy.rejections) == [
        ("doctest", "toypkg.broken"),
        ("see_also", "toypkg.join"),
    ]
    assert Rejection("collect", "see_also", "toypkg.join", "nobody names nothing") in toy.rejections


@pytest.mark.parametrize(
    ("style", "docstring"),
    [
        (
            "google",
            "Do it.\n\n    Args:\n        x (int): The number.\n\n    Returns:\n        int: The sum.\n    ",
        ),
        (
            "sphinx",
            "Do it.\n\n    :param x: The number.\n    :type x: int\n    :return: The sum.\n    :rtype: int\n",
        ),
    ],
)
def test_google_and_sphinx_docstrings_are_understood(packages: Path, style: str, docstring: str) -> None:
    """The package's own style gives descriptions, types and returns."""
    write(packages, f"pkg_{style}", {"__init__.py": f'def f(x):\n    """{docstring}"""\n'})
    (entry,) = read_package(f"pkg_{style}").catalogue.entries
    assert entry.parameters == (Parameter("x", annotation="int", description="The number."),)
    assert (entry.summary, entry.returns) == ("Do it.", "int: The sum.")


def test_dataclasses_have_their_fields_as_parameters(packages: Path) -> None:
    """A dataclass is called with its fields, keyword-only ones marked."""
    body = '    """A point."""\n    x: int\n    y: int = 0\n'
    code = f"from dataclasses import dataclass\n\n@dataclass(kw_only=True)\nclass P:\n{body}"
    write(packages, "pkg_data", {"__init__.py": code})
    (entry,) = read_package("pkg_data").catalogue.entries
    assert entry.signature == "(*, x, y=0)"


def test_a_package_that_cannot_be_read_is_named(packages: Path) -> None:
    """Not installed, compiled, without documentation or broken: each says so, with the nearest name."""
    with pytest.raises(SourceError, match="'netwrkx' is not installed") as caught:
        read_package("netwrkx")
    assert caught.value.hint == (
        "Install it: pip install netwrkx\n  The nearest that is installed: python:networkx"
    )
    with pytest.raises(SourceError, match="not the import name") as caught:
        read_package("scikit-learn")
    assert "scikit-learn is imported as sklearn" in str(caught.value.hint)
    with pytest.raises(SourceError, match="no Python source"):
        read_package("sys")
    write(packages, "pkg_bare", {"__init__.py": "def f(): ...\n"})
    with pytest.raises(SourceError, match="no documented public function"):
        read_package("pkg_bare")


def test_stubs_say_what_is_in_compiled_modules(packages: Path) -> None:
    """A function of overloads binds what one of them binds; described in the stub, it is an entry; its bytes count."""
    stub = '''
from typing import overload

@overload
def put(value: int) -> int:
    """Put a value."""
@overload
def put(value: int, place: str, *, often: bool = ...) -> str: ...

class Box:
    """A box."""
    @overload
    def take(self, number: int) -> int: ...
    @overload
    def take(self, number: int, *, name: str) -> int: ...

def bare(__first, second=...): ...
'''
    write(packages, "pkg_rust", {"__init__.py": "from ._rust import *\n__all__ = ['put', 'Box', 'bare']\n"})
    first = package_source("pkg_rust")
    write(packages, "pkg_rust", {"__init__.pyi": stub})

    read = read_package("pkg_rust")

    assert {entry.id: entry.signature for entry in read.catalogue.entries} == {
        "pkg_rust.Box": "()",
        "pkg_rust.put": "(value, place=..., *, often=...)",
    }
    assert {entry.id: entry.signature for entry in read.catalogue.unlisted} == {
        "pkg_rust.Box.take": "(number, *, name=...)",
        "pkg_rust.bare": "(first, /, second=...)",
    }
    assert read.source.digest != first.digest


def test_a_package_of_stubs_is_read_with_its_package(packages: Path) -> None:
    """PACKAGE-stubs adds annotations and functions; a compiled module has those of its stub, described or not."""
    write(packages, "pkg_typed", {"__init__.py": 'def f(x):\n    """Do it."""\n'})
    write(
        packages,
        "pkg_typed-stubs",
        {"__init__.pyi": "def f(x: int) -> int: ...\ndef g(y: int) -> int: ...\n"},
    )
    catalogue = read_package("pkg_typed").catalogue
    assert [(entry.id, entry.parameters[0].annotation) for entry in catalogue.entries] == [
        ("pkg_typed.f", "int")
    ]
    assert [entry.id for entry in catalogue.unlisted] == ["pkg_typed.g"]

    (packages / f"pkg_binary{EXTENSION_SUFFIXES[0]}").write_bytes(b"no module: it is never imported")
    packages.joinpath("pkg_binary.pyi").write_text("def f(x: int) -> int: ...\n")
    importlib.invalidate_caches()
    catalogue = read_package("pkg_binary").catalogue
    assert ([entry.id for entry in catalogue.unlisted], catalogue.entries) == (["pkg_binary.f"], ())


def test_the_digest_is_of_the_code(packages: Path) -> None:
    """A changed byte or a renamed file changes it; reading and digesting give the same source."""
    write(packages, "pkg_digest", {"__init__.py": 'def f():\n    """F."""\n', "a.py": "x = 1\n"})
    first = package_source("pkg_digest")
    assert read_package("pkg_digest").source == first
    (packages / "pkg_digest" / "a.py").rename(packages / "pkg_digest" / "b.py")
    second = package_source("pkg_digest")
    assert (first.digest != second.digest, first.version, first.kind) == (True, None, "python")


@pytest.fixture(scope="module")
def networkx_read() -> PackageRead:
    """Read networkx once."""
    return read_package("networkx")


def test_networkx_has_the_names_people_use(networkx_read: PackageRead) -> None:
    """Functions, nested namespaces, classes and methods stand under their documented names."""
    catalogue = networkx_read.catalogue
    expected = [
        "networkx.shortest_path",
        "networkx.bridges",
        "networkx.community.louvain_communities",
        "networkx.approximation.traveling_salesman_problem",
        "networkx.bipartite.sets",
        "networkx.Graph",
        "networkx.Graph.add_edge",
        "networkx.nx_agraph.graphviz_layout",
    ]
    assert [path for path in expected if path not in catalogue.by_id] == []
    assert catalogue.conventional_alias == "nx"
    assert entry_of(networkx_read, "networkx.shortest_path").signature == (
        "(G, source=None, target=None, weight=None, method='dijkstra')"
    )
    assert len(catalogue) > 1000
    assert len({entry.id for entry in catalogue.entries}) == len(catalogue) == len(networkx_read.documents)
    answer = "```python\nimport networkx as nx\n\nnx.bipartite.maximum_matching(G)\n```"
    assert judge(answer, ["networkx.bipartite.hopcroft_karp_matching"], catalogue).verdict == "exact"


def reached(path: str) -> Any:
    """Return what a dotted path names at run time."""
    parts = path.split(".")
    found: Any = importlib.import_module(parts[0])
    for end, part in enumerate(parts[1:], 2):
        # A submodule that the package does not import by itself must be imported first.
        if not hasattr(found, part) and inspect.ismodule(found):
            importlib.import_module(".".join(parts[:end]))
        found = getattr(found, part)
    return found


def test_networkx_entries_are_what_python_finds(networkx_read: PackageRead) -> None:
    """Every id exists at run time, with the same parameters of the same kinds."""
    for entry in networkx_read.catalogue.entries:
        found = reached(entry.id)
        if entry.kind == "class":
            continue
        # networkx wraps functions for its backends; the wrapped one has the documented signature.
        function = inspect.unwrap(getattr(found, "orig_func", found))
        if not inspect.isfunction(function):
            continue
        parameters = list(inspect.signature(function).parameters.values())
        if entry.kind == "method" and not inspect.ismethod(found):
            parameters = parameters[1:]
        assert [(each.name, each.kind.name.lower()) for each in parameters] == [
            (each.name, each.kind) for each in entry.parameters
        ], entry.id


def test_networkx_aliases_exist(networkx_read: PackageRead) -> None:
    """No entry claims a path that Python does not know."""
    missing = []
    for entry in networkx_read.catalogue.entries:
        for alias in entry.aliases:
            # `from package.module import name` works also where a function hides the module's name.
            module, _, name = alias.rpartition(".")
            if module in sys.modules and hasattr(sys.modules[module], name):
                continue
            try:
                reached(alias)
            except (AttributeError, ImportError):
                missing.append(alias)
    assert missing == []
