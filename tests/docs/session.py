"""Run pages of the documentation, one after the other, in the current folder and one Python session.

    python -m tests.docs.session PAGE...

Blocks with a file's name are written, Python blocks run, and the console blocks of pages with stand-ins run too: each
command must end with exit code 0 and say what the page shows (a line that ends with "…" says more).
"""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.docs.blocks import Block, Command, blocks, commands, has_stand_ins


def _run(page: Path, session: dict[str, object]) -> None:
    with_console = has_stand_ins(page)
    for block in blocks(page):
        if block.file is not None:
            _write(Path(block.file), block.text)
        elif block.language == "python":
            # Line feeds in front, so that a traceback names the line of the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), session)
        elif block.language == "console" and with_console:
            _type_in(page, block)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _type_in(page: Path, block: Block) -> None:
    for command in commands(block):
        said = _execute(command)
        missing = [line for line in command.shown if not _says(said, line)]
        if missing:
            raise SystemExit(f"{page}, line {block.line}: {command.text} says no {missing}, but:\n{said}")


def _execute(command: Command) -> str:
    words = shlex.split(os.path.expandvars(command.text))
    match words:
        case ["cd", folder]:
            os.chdir(folder)
        case ["export", setting] if setting.startswith("PYTHONPATH="):
            sys.path.insert(0, setting.partition("=")[2])
        case ["tunesmith", *arguments]:
            return _tunesmith(arguments)
        case _:
            raise SystemExit(f"this is not a command that a page can be tested with: {command.text}")
    return ""


def _tunesmith(arguments: list[str]) -> str:
    from typer.testing import CliRunner

    from tunesmith.cli.app import app

    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}, catch_exceptions=False)
    if done.exit_code != 0:
        raise SystemExit(f"tunesmith {shlex.join(arguments)} ends with {done.exit_code}:\n{done.output}")
    return done.output


def _says(said: str, line: str) -> bool:
    told = " ".join(line.removesuffix("…").split())
    return told in " ".join(said.split())


def _main(pages: list[str], environment: Mapping[str, str]) -> None:
    os.environ["PWD"] = str(Path.cwd())
    if any(has_stand_ins(Path(page)) for page in pages):
        from tests.docs.standins import put_models

        words = "\n".join(Path(page).read_text(encoding="utf-8") for page in pages)
        put_models(Path(environment["TUNESMITH_CACHE"]), words)
    session: dict[str, object] = {"__name__": "__main__"}
    for page in map(Path, pages):
        _run(page, session)


if __name__ == "__main__":
    _main(sys.argv[1:], os.environ)
