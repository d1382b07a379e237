"""The fenced blocks of a Markdown page, and what its comments say about them.

`<!-- file: NAME -->` above a block: the block is that file. `<!-- stand-ins -->` in a page that says so in words: tiny
random models stand in for the embedded ones, and its console blocks are run. `<!-- continues: PAGE -->`: the page
goes on where PAGE, a path from the project's folder, ended.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(
    r"(?:^<!-- file: (?P<file>\S+) -->\n+)?"
    r"^(?P<fence>`{3,})(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)[ ]*$",
    re.DOTALL | re.MULTILINE,
)
_STAND_INS = "<!-- stand-ins -->"
_CONTINUES = re.compile(r"<!-- continues: (\S+) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is that of its first line of text, from 1; `file` the name it is to be saved as."""

    language: str
    text: str
    line: int
    file: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block, and the lines of output that are shown below it."""

    text: str
    shown: tuple[str, ...]


def blocks(page: Path) -> tuple[Block, ...]:
    """Return the page's blocks in order."""
    text = page.read_text(encoding="utf-8")
    return tuple(
        Block(found["language"], found["text"], text.count("\n", 0, found.start("text")) + 1, found["file"])
        for found in _FENCE.finditer(text)
    )


def commands(block: Block) -> tuple[Command, ...]:
    """Return the commands of a console block: what stands after a `$`, each with the output that follows.

    In a block without any `$` each line is a command.
    """
    if not re.search(r"^\$ ", block.text, flags=re.MULTILINE):
        return tuple(Command(line.strip(), ()) for line in block.text.split("\n") if line.strip())
    return tuple(
        Command(first.strip(), tuple(line for line in rest.split("\n") if line.strip()))
        for first, _, rest in (part.partition("\n") for part in re.split(r"^\$ ", block.text, flags=re.M)[1:])
    )


def has_stand_ins(page: Path) -> bool:
    """Tell whether the page says that models are stood in for."""
    return _STAND_INS in page.read_text(encoding="utf-8")


def continued(page: Path) -> str | None:
    """Return the page that this one goes on from, as it is named there."""
    found = _CONTINUES.search(page.read_text(encoding="utf-8"))
    return None if found is None else found[1]
