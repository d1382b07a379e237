"""Print the captioned tree of the package: each file, and the first line of its docstring.

With pages' names, write it into these, instead of printing it: the whole between <!-- tree --> and <!-- /tree -->, or
between <!-- outline --> and <!-- /outline --> without what is inside the folders.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "tunesmith"
TREE, OUTLINE = "tree", "outline"


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the tree: a file or folder, indented, and its caption."""

    name: str
    caption: str


def caption(module: Path) -> str:
    """Return the first line of a module's docstring; "" if there is none."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def tree(package: Path = PACKAGE, *, inside: bool = True) -> str:
    """Return the tree as a fenced block: files before folders, a folder under its `__init__.py`'s caption.

    Without `inside`, folders are shown and what is in them is not.
    """
    found = list(_below(package, "  "))
    shown = found if inside else [line for line in found if not line.name.startswith("   ")]
    lines = [_Line(f"src/{package.name}/", caption(package / "__init__.py")), *shown]
    width = max(len(line.name) for line in lines)
    rows = [f"{line.name:<{width}}  {line.caption}" for line in lines]
    return "\n".join(["```text", *rows, "```"])


def _below(folder: Path, indent: str) -> Iterator[_Line]:
    for module in sorted(folder.glob("*.py")):
        if module.name != "__init__.py":
            yield _Line(f"{indent}{module.name}", caption(module))
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield _Line(f"{indent}{inner.name}/", caption(inner / "__init__.py"))
        yield from _below(inner, indent + "  ")


def put_in(page: str, *, package: Path = PACKAGE) -> str:
    """Return a page's text with what belongs between its markers; raises ValueError unless it has one pair of them."""
    found = re.findall(f"<!-- /?(?:{TREE}|{OUTLINE}) -->", page)
    kind = TREE if found == _marks(TREE) else OUTLINE
    begin, end = _marks(kind)
    if found != [begin, end]:
        raise ValueError(
            f"a page needs {' and '.join(_marks(TREE))}, or the same of {OUTLINE}, once and in this order"
        )
    before, _, rest = page.partition(begin)
    made = tree(package, inside=kind == TREE)
    return f"{before}{begin}\n{made}\n{end}{rest.partition(end)[2]}"


def _marks(kind: str) -> list[str]:
    return [f"<!-- {kind} -->", f"<!-- /{kind} -->"]


def _main(names: list[str]) -> None:
    if not names:
        sys.stdout.write(tree() + "\n")
    for page in map(Path, names):
        page.write_text(put_in(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    _main(sys.argv[1:])
