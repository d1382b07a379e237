"""What the pages say of settings and errors is what the code says, and no file names a machine."""

import ast
import fnmatch
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests.docs.settings import put_in, tables

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tunesmith"
PAGES = (ROOT / "docs" / "README.md", *sorted(ROOT.glob("docs/stages/*.md")))
DECISIONS = sorted(ROOT.glob("docs/decisions/*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_of_settings_are_current(page: Path) -> None:
    """Each table of settings shows the keys, defaults and meanings of `tunesmith new`, as `make docs` writes them."""
    text = page.read_text(encoding="utf-8")
    assert put_in(text) == text


def test_every_table_of_settings_is_on_a_page() -> None:
    """No table of tunesmith.toml is left without its place in the documentation."""
    shown = [
        name for page in PAGES for name in re.findall(r"<!-- settings: (\w+) -->", page.read_text("utf-8"))
    ]
    assert sorted(shown) == sorted(tables())


def test_no_table_is_torn() -> None:
    """Rows after an empty line would stand outside of their table, as words: what begins with a row is a header."""
    torn = [
        f"{page.name}: {first}"
        for page in sorted(ROOT.glob("docs/**/*.md"))
        for first, second in re.findall(
            r"(?:\A|\n)[ \t]*\n(\|[^\n]*)\n([^\n]*)", page.read_text(encoding="utf-8")
        )
        if not re.fullmatch(r"\|[ :|-]+\|", second)
    ]
    assert torn == []


@cache
def _said() -> str:
    """Return all texts in the package's source, one a line, with "…" for what is put into them."""
    return "\n".join(
        text.replace("\n", " ")
        for module in sorted(SOURCE.rglob("*.py"))
        for text in _texts(ast.parse(module.read_text(encoding="utf-8")))
    )


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_errors_on_the_pages_are_what_the_code_says(page: Path) -> None:
    """Each message in a table of errors begins a text of the source, with anything in the places of its "…"."""
    _, _, table = page.read_text(encoding="utf-8").partition("| the error says |")
    shown = re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)
    said = _said()
    assert shown
    assert [message for message in shown if not re.search(_pattern(message), said)] == []


def _pattern(message: str) -> str:
    return "(?m)^" + "[^\n]*".join(re.escape(part) for part in message.split("…"))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_three_parts(page: Path) -> None:
    """A decision is short, carries its number, and says context, decision and consequences."""
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.name[:4]}: ")
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, flags=re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequences",
    ]
    assert 10 <= sum(bool(line.strip()) for line in text.split("\n")) <= 25


def test_decisions_are_numbered_without_gaps() -> None:
    """The files' numbers count up from 0001."""
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def _files() -> Iterator[Path]:
    """Yield the project's files, without what .gitignore leaves out."""
    ignored = [line.rstrip("/") for line in ROOT.joinpath(".gitignore").read_text("utf-8").split()]
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [
            name
            for name in inner
            if name != ".git" and not any(fnmatch.fnmatch(name, each) for each in ignored)
        ]
        yield from (Path(folder, name) for name in names if name != ".git")


def test_no_file_names_a_path_of_a_machine() -> None:
    """No file holds a path of somebody's machine: this project's place on it, or a folder of a user's own."""
    own = "|".join(re.escape(str(place)) for place in {ROOT, Path.home()} if len(place.parts) > 1)
    somebody = re.compile(rf"(?:{own})\b" + r"|(?<![\w.:/-])/(?:home|Users|root|work|workspace)/\w")
    found = [
        f"{file.relative_to(ROOT)}: {place[0]}"
        for file in _files()
        for place in somebody.finditer(file.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
