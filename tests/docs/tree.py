"""Print the captioned tree of the package: each file, and the first line of its docstring.

With a file's name, write the tree into that file, between its two markers, instead of printing it.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "tunesmith"
BEGIN, END = "<!-- tree -->", "<!-- /tree -->"


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the tree: a file or folder, indented, and its caption."""

    name: str
    caption: str


def caption(module: Path) -> str:
    """Return the first line of a module's docstring; "" if there is none."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def tree(package: Path = PACKAGE) -> str:
    """Return the tree as a fenced block: files before folders, a folder under its `__init__.py`'s caption."""
    lines = [_Line(f"src/{package.name}/", caption(package / "__init__.py")), *_below(package, "  ")]
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


def put_in(text: str, made: str) -> str:
    """Return a page's text with the tree between its markers; raises ValueError unless it has both, once."""
    if (text.count(BEGIN), text.count(END)) != (1, 1) or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the page needs {BEGIN} and {END}, once each and in this order")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}"


def _main(names: list[str]) -> None:
    if not names:
        sys.stdout.write(tree() + "\n")
    for page in map(Path, names):
        page.write_text(put_in(page.read_text(encoding="utf-8"), tree()), encoding="utf-8")


if __name__ == "__main__":
    _main(sys.argv[1:])
