"""The tree of the package is its table of contents: folders in the README, each file in docs/tree.md."""

import re
from pathlib import Path

import pytest
from tests.docs.tree import PACKAGE, caption, put_in, tree

ROOT = Path(__file__).parents[2]
MODULES = sorted(PACKAGE.rglob("*.py"))
TREE = tree()


@pytest.fixture
def toolbox_package(tmp_path: Path) -> Path:
    """Return a package of four files."""
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
    return package


@pytest.mark.parametrize("page", ["README.md", "docs/tree.md"])
def test_the_tree_is_current(page: str) -> None:
    """Both pages show what `make docs` writes."""
    text = ROOT.joinpath(page).read_text(encoding="utf-8")
    assert put_in(text) == text


@pytest.mark.parametrize("module", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_each_file_has_a_caption(module: Path) -> None:
    """The first line of a file's docstring is a whole sentence, and the tree shows it beside the file's name."""
    said = caption(module)
    name = f"{module.parent.name}/" if module.name == "__init__.py" else module.name
    assert re.fullmatch(r"\S.*\S\.", said)
    assert re.search(rf"^ *(?:src/)?{re.escape(name)}  +{re.escape(said)}$", TREE, re.MULTILINE)


def test_tree_shows_files_then_folders(toolbox_package: Path) -> None:
    """Files stand before folders, each in alphabetical order, and a folder says what its __init__.py says."""
    assert tree(toolbox_package).split("\n") == [
        "```text",
        "src/toolbox/  Tools.",
        "  zip.py      Close.",
        "  inner/      Inside.",
        "    cut.py    Cut.",
        "```",
    ]
    assert tree(toolbox_package, inside=False).split("\n")[2:] == [
        "  zip.py      Close.",
        "  inner/      Inside.",
        "```",
    ]


@pytest.mark.parametrize("kind", ["tree", "outline"])
def test_tree_replaces_what_stood_between_the_markers(toolbox_package: Path, kind: str) -> None:
    """Only the text between the two markers changes."""
    page = f"before\n<!-- {kind} -->\nold\n<!-- /{kind} -->\nafter\n"
    made = tree(toolbox_package, inside=kind == "tree")
    assert put_in(page, package=toolbox_package) == page.replace("old", made)


@pytest.mark.parametrize(
    "page",
    ["no markers", "<!-- tree -->", "<!-- /tree --><!-- tree -->", "<!-- tree --><!-- /tree -->" * 2,
     "<!-- tree --><!-- /tree --><!-- outline --><!-- /outline -->"],
)  # fmt: skip
def test_a_page_whose_markers_are_odd_is_refused(page: str) -> None:
    """What is missing, doubled or in the wrong order would lose text."""
    with pytest.raises(ValueError, match="a page needs"):
        put_in(page)
