"""What the documentation shows as code runs, and what it shows as a command is one."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.docs.blocks import Block, blocks, commands, continued, has_stand_ins
from typer.core import TyperGroup

from tunesmith.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = tuple(sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")]))


def _named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _sessions() -> list[object]:
    """Return the pages that are run together: each with those that go on from it; pages without code are not run."""
    followers: dict[str, list[Path]] = {}
    for page in PAGES:
        origin = continued(page)
        if origin is not None:
            followers.setdefault(origin, []).append(page)
    return [
        pytest.param(
            (page, *followers.get(_named(page), ())),
            id=_named(page),
            marks=[pytest.mark.slow] if has_stand_ins(page) else [],
        )
        for page in PAGES
        if continued(page) is None and any(block.language == "python" for block in blocks(page))
    ]


@pytest.mark.parametrize("pages", _sessions())
def test_code_of_a_page_runs(pages: tuple[Path, ...], tmp_path: Path) -> None:
    """Each Python block runs, after those before it; with stand-ins, each command too, and says what is shown."""
    project = tmp_path / "project"
    # Pages speak of the examples by their path from the project's root.
    shutil.copytree(ROOT / "examples", project / "examples", ignore=shutil.ignore_patterns(".tunesmith"))
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT))),
        "TUNESMITH_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.session", *map(str, pages)],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pages_go_on_from_pages_that_exist() -> None:
    """A page that continues another one is run with it, and so not lost."""
    origins = {origin for page in PAGES if (origin := continued(page)) is not None}
    assert origins <= {_named(page) for page in PAGES if continued(page) is None}


_COMMANDS = [
    pytest.param(command.text, id=f"{_named(page)}:{block.line} {command.text}")
    for page in PAGES
    for block in blocks(page)
    if block.language == "console"
    for command in commands(block)
]


@pytest.mark.parametrize("text", _COMMANDS)
def test_commands_are_real(text: str) -> None:
    """Each command that a page shows exists, with its options and its make targets."""
    for words in _simple_commands(text):
        match words:
            case ["tunesmith", *arguments]:
                _parse(arguments)
            case ["make", *targets]:
                makefile = ROOT.joinpath("Makefile").read_text(encoding="utf-8")
                assert [name for name in targets if f"\n{name}:" not in makefile and "=" not in name] == []
            case [program, *_]:
                assert program in ("cd", "export", "git", "pip", "python", "source")


def _simple_commands(text: str) -> list[list[str]]:
    words = shlex.split(text, comments=True)
    ends = [index for index, word in enumerate(words) if word in ("&&", "|")]
    starts = [0, *(end + 1 for end in ends)]
    return [words[start:end] for start, end in zip(starts, [*ends, len(words)], strict=True)]


def _parse(arguments: list[str]) -> None:
    """Let the command line read the arguments; it raises its usage error where they mean nothing."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    if arguments and not arguments[0].startswith("-"):
        name, *rest = arguments
        assert name in root.commands, f"there is no command {name}"
        root.commands[name].make_context(name, rest)


def test_a_page_is_cut_into_its_blocks(tmp_path: Path) -> None:
    """Blocks keep their language, their place and the file that the comment above them names."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n<!-- file: a/b.toml -->\n```toml\nx = 1\n```\n\n"
        "```console\n$ one\nsaid\n\n$ two\n```\n````python\n```\n````\n",
        encoding="utf-8",
    )

    found = blocks(page)

    assert found == (
        Block("toml", "x = 1\n", 5, "a/b.toml"),
        Block("console", "$ one\nsaid\n\n$ two\n", 9, None),
        Block("python", "```\n", 15, None),
    )
    assert [(one.text, one.shown) for one in commands(found[1])] == [("one", ("said",)), ("two", ())]


def test_a_console_block_without_prompts_is_all_commands() -> None:
    """Where no line begins with a prompt, each line is a command."""
    found = commands(Block("console", "one --two  # why\n\nthree\n", 1, None))
    assert [one.text for one in found] == ["one --two  # why", "three"]
