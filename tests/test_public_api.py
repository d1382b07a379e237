"""The names that `import tunesmith` offers."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tunesmith

SOURCE = Path(tunesmith.__file__).read_text(encoding="utf-8")


def test_all_names_are_sorted_and_few() -> None:
    """`__all__` is in order, has no name twice, and fits on a screen."""
    assert list(tunesmith.__all__) == sorted(set(tunesmith.__all__))
    assert 15 <= len(tunesmith.__all__) <= 25


def test_type_checkers_see_the_same_names() -> None:
    """What is imported for type checkers, what is loaded lazily and `__all__` are one list from one place."""
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    typed = {
        (node.module, alias.asname or alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {(home, name) for home, names in tunesmith._HOMES.items() for name in names}
    assert typed == lazy
    assert sorted(name for _, name in lazy) == list(tunesmith.__all__)


def test_dir_lists_them() -> None:
    """A notebook completes every name."""
    assert set(tunesmith.__all__) <= set(dir(tunesmith))


def test_no_name_is_a_modules_name() -> None:
    """A module of the same name would take the name's place as soon as it is imported."""
    modules = {module.name for module in pkgutil.iter_modules(tunesmith.__path__)}
    assert modules & set(tunesmith.__all__) == set()


def test_other_names_are_no_attributes() -> None:
    """A name that is not offered fails as on any module."""
    with pytest.raises(AttributeError, match="module 'tunesmith' has no attribute 'tarin'"):
        tunesmith.tarin  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", tunesmith.__all__)
def test_each_name_is_documented_and_typed(name: str) -> None:
    """It has a docstring of its own, and a function's parameters and result have types."""
    found = getattr(tunesmith, name)
    assert found.__module__.startswith("tunesmith.")
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        annotations = [parameter.annotation for parameter in signature.parameters.values()]
        assert inspect.Signature.empty not in [*annotations, signature.return_annotation]


def test_importing_is_light() -> None:
    """`import tunesmith` loads nothing but the standard library; naming an error does not change that."""
    code = (
        "import sys, tunesmith; tunesmith.TunesmithError; "
        "print(sorted({'torch', 'pydantic', 'numpy', 'transformers', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
