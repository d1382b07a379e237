"""Print the page of the command line, docs/commands.md, from what the commands say of themselves."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from tunesmith.cli.app import app

_HEAD = """# The command line

<!-- Written by `make docs` from the commands' own help: change it there. -->

Exit codes: 0 done, 1 a check failed, 2 wrong usage or config, 130 interrupted. With `--json` stdout is one
JSON document, for an error `{"error": {"type", "message", "hint"}}`; progress goes to stderr.
"""


def page() -> str:
    """Return the page as Markdown: each command with its arguments and options."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    sections = [_HEAD]
    for name, command in _commands(root):
        context = typer.Context(command, info_name=name)
        rows = [parameter.get_help_record(context) for parameter in command.get_params(context)]
        sections.append(f"## tunesmith {name}\n\n{command.help}\n\n{_listed(rows)}")
    return "\n".join(sections)


def _commands(group: TyperGroup, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command with its whole name, those of groups too."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def _listed(rows: Iterable[tuple[str, str] | None]) -> str:
    return "\n".join(f"- `{' '.join(row[0].split())}`: {row[1]}" for row in rows if row is not None) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
