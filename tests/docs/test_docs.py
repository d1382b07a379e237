"""The documentation says what is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/*.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
)


def test_page_of_the_command_line_is_current() -> None:
    """docs/commands.md is what `make docs` writes."""
    script = Path(__file__).with_name("commands.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60)
    assert ROOT.joinpath("docs", "commands.md").read_text(encoding="utf-8") == done.stdout


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link and picture of a page is a file or folder of the project."""
    links = re.findall(
        r"\]\(([^)\s#]+)[^)]*\)", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    )
    broken = [link for link in links if "://" not in link and not page.parent.joinpath(link).exists()]
    assert broken == []


def test_make_targets_in_the_pages_exist() -> None:
    """What the documentation tells people to `make` is a target."""
    targets = set(
        re.findall(r"^([a-z-]+):", ROOT.joinpath("Makefile").read_text("utf-8"), flags=re.MULTILINE)
    )
    told = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)`", page.read_text("utf-8"))}
    assert told <= targets
