"""The server as the SDKs see it, one of 2023 and today's, each in a process with nothing but two variables set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunesmith.serving.options import Options

from .running import serving

SCRIPT = Path(__file__).with_name("conformance.py")
# What 1.3.3 cannot call.
NEWER = {
    "raw_and_streamed_responses",
    "uploads",
    "checkpoints",
    "job_by_method",
    "responses",
    "batches",
    "evals",
    "graders",
}


@pytest.fixture(scope="session")
def old_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with openai 1.3.3, which needs an older httpx."""
    folder = tmp_path_factory.mktemp("old-sdk")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "openai==1.3.3", "httpx<0.28"],
        check=True,
        capture_output=True,
    )
    return python


def outcomes(python: Path, url: str) -> dict[str, dict[str, Any]]:
    """Run the calls with the SDK of a Python; returns what came of each."""
    done = subprocess.run(
        [python, SCRIPT],
        env={"PATH": os.environ["PATH"], "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "any"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return {line["call"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
def test_todays_sdk_gets_all_its_calls(tmp_path: Path, tiny: str, tiny_encoder: str) -> None:
    """Nothing is skipped."""
    models = {"tiny": tiny, "gpt-3.5-turbo": "tiny", "text-embedding-3-small": tiny_encoder}
    with serving(tmp_path / "home", Options(models=models)) as running:
        found = outcomes(Path(sys.executable), running.url)
    assert len(found) >= 20
    assert [line for line in found.values() if line["wrong"] or "skipped" in line] == []


@pytest.mark.slow
def test_the_first_sdk_gets_all_that_it_knows(
    tmp_path: Path, tiny: str, tiny_encoder: str, old_sdk: Path
) -> None:
    """Code of November 2023 runs unchanged."""
    models = {"tiny": tiny, "gpt-3.5-turbo": "tiny", "text-embedding-3-small": tiny_encoder}
    with serving(tmp_path / "home", Options(models=models)) as running:
        found = outcomes(old_sdk, running.url)
    assert {line["sdk"] for line in found.values()} == {"1.3.3"}
    assert [line for line in found.values() if line["wrong"]] == []
    assert {name for name, line in found.items() if "skipped" in line} <= NEWER
