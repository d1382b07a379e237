"""The example that knows nothing of Tunesmith, run against a server, with the embedded model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.serving.options import Options

from .running import serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "openai-notebook"


@pytest.mark.slow
def test_a_notebook_of_2023_runs_unchanged(tmp_path: Path) -> None:
    """Its loss falls, its plot is drawn, its model answers, and nothing of it is left."""
    options = Options(models={"smollm2": "smollm2", "gpt-3.5-turbo": "smollm2"})
    with serving(tmp_path / "home", options) as running:
        done = subprocess.run(
            [
                sys.executable,
                EXAMPLE / "fine_tune.py",
                EXAMPLE / "train.jsonl",
                EXAMPLE / "valid.jsonl",
                "losses.svg",
            ],
            env=os.environ | {"OPENAI_BASE_URL": running.url, "OPENAI_API_KEY": "any"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(running.client.files.list()) == []
        assert {model.id for model in running.client.models.list()} == set(options.models)
        assert list((tmp_path / "home").rglob("*.safetensors")) == []
    said = done.stdout
    assert "48 chats to learn from, 12 to look at" in said
    first, last = map(float, re.findall(r"validation loss from ([\d.]+) to ([\d.]+)", said)[0])
    assert last < first
    assert "ft:gpt-3.5-turbo:local:notebook:" in said
    assert said.strip().endswith("all is deleted")
    assert "<svg" in (tmp_path / "losses.svg").read_text(encoding="utf-8")
