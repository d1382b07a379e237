"""The tree of the package is the README's table of contents."""

import re
from pathlib import Path

import pytest
from tests.docs.tree import BEGIN, END, PACKAGE, caption, put_in, tree

ROOT = Path(__file__).parents[2]
MODULES = sorted(PACKAGE.rglob("*.py"))
TREE = tree()


def test_tree_of_the_readme_is_current() -> None:
    """README shows each file with its caption, as `make docs` writes it."""
    readme = ROOT.joinpath("README.md").read_text(encoding="utf-8")
    assert put_in(readme, TREE) == readme


@pytest.mark.parametrize("module", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_each_file_has_a_caption(module: Path) -> None:
    """The first line of a file's docstring is a whole sentence, and the tree shows it beside the file's name."""
    said = caption(module)
    name = f"{module.parent.name}/" if module.name == "__init__.py" else module.name
    assert re.fullmatch(r"\S.*\S\.", said)
    assert re.search(rf"^ *(?:src/)?{re.escape(name)}  +{re.escape(said)}$", TREE, re.MULTILINE)


def test_tree_shows_files_then_folders(tmp_path: Path) -> None:
    """Files stand before folders, each in alphabetical order, and a folder says what its __init__.py says."""
    package = tmp_path / "toolbox"
    for name, text in {
        "__init__.py": "Tools.",
        "zip.py": "Close.\n\nMore about it.",
        "inner/__init__.py": "Inside.",
        "inner/cut.py": "Cut.",
    }.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""{text}"""\n', encoding="utf-8")

    assert tree(package).split("\n") == [
        "```text",
        "src/toolbox/  Tools.",
        "  zip.py      Close.",
        "  inner/      Inside.",
        "    cut.py    Cut.",
        "```",
    ]


def test_tree_replaces_what_stood_between_the_markers() -> None:
    """Only the text between the two markers changes; a page that lacks one is refused."""
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert put_in(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="the page needs"):
        put_in("no markers", "new")
