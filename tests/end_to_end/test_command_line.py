"""The real commands on a real, tiny project: exit codes, JSON on stdout, the next command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tunesmith.pipeline import STAGES
from tunesmith.project import Project

NAMES = [stage.name for stage in STAGES]


class Toolbox(Protocol):
    """What the fixture `toolbox` gives."""

    project: Project
    environment: Mapping[str, str]

    def copy(self, folder: Path) -> Project:
        """Return a copy of the project, finished work included."""
        ...


@dataclass(frozen=True)
class Shell:
    """Runs commands far from the project's folder."""

    toolbox: Toolbox
    here: Path

    def run(
        self, *words: str, code: int = 0, project: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `tunesmith WORDS --project PATH` and check the exit code."""
        place = project or self.toolbox.project.path
        done = subprocess.run(
            [sys.executable, "-m", "tunesmith", *words, "--project", str(place)],
            cwd=self.here,
            env={**self.toolbox.environment, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    def json(self, *words: str, code: int = 0, project: Path | None = None) -> Any:
        """Return the one JSON document that a command prints."""
        return json.loads(self.run(*words, "--json", code=code, project=project).stdout)


@pytest.fixture
def shell(toolbox: Toolbox, tmp_path: Path) -> Shell:
    """Return a shell in an empty folder."""
    return Shell(toolbox, tmp_path)


def test_run_finds_everything_done(shell: Shell) -> None:
    """The document names the project, each stage's folder and state, and the next command."""
    done = shell.json("run")
    assert done["project"] == "toolbox-assistant"
    assert list(done["result"]["artifacts"]) == NAMES
    assert [(one["stage"], one["state"]) for one in done["stages"]] == [(name, "done") for name in NAMES]
    assert done["next"].startswith("tunesmith ")


def test_status_says_how_far_it_is(shell: Shell, fresh: Project) -> None:
    """Done here, to do there; and a table for people."""
    assert [one["state"] for one in shell.json("status")["stages"]] == ["done"] * len(NAMES)
    new = shell.json("status", project=fresh.path)
    assert [one["state"] for one in new["stages"]] == ["to do"] * len(NAMES)
    assert new["next"] == "tunesmith run"
    assert "8 contenders, 18 questions, 144 answers" in shell.run("status").stdout


def test_estimate_and_report_are_the_projects(shell: Shell) -> None:
    """What the commands print is what the Python API returns."""
    project = shell.toolbox.project
    plan = shell.json("estimate")["plan"]
    assert [row["way"] for row in plan["rows"]] == [row.way for row in project.estimate().rows]
    assert shell.json("report") == project.report().json


def test_ask_answers_and_judges(shell: Shell) -> None:
    """An answer, who gave it, what its call is worth; nothing but JSON on stdout, no bars beside it."""
    done = shell.run("ask", "keep a number within bounds", "--model", "tuned+retrieval", "--json")
    asked = json.loads(done.stdout)["asked"]
    assert asked["contender"] == "tuned+retrieval"
    assert asked["answer"]["text"]
    assert len(asked["answer"]["retrieved"]) == 3
    assert asked["judgement"]["verdict"] in ("valid", "wrong_arguments", "hallucinated", "no_call")
    assert done.stderr == ""


def test_what_cannot_be_done_has_its_exit_code(shell: Shell, fresh: Project) -> None:
    """2 for a wrong stage, 2 for asking too early, 1 for a project at work elsewhere; the error is the document."""
    assert "there is no stage 'trian'" in json.dumps(shell.json("run", "trian", code=2))
    assert "has not got that far" in json.dumps(shell.json("ask", "how?", code=2, project=fresh.path))
    with fresh.store.lock("a notebook"):
        assert "a notebook" in json.dumps(shell.json("run", code=1, project=fresh.path))
