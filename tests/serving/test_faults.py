"""Servers and jobs that are killed: what they were doing goes on, nothing is told twice or lost."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from .test_fine_tuning import rows

EPOCHS, ROWS = 3, 24


@contextmanager
def process(home: Path, tiny: str) -> Iterator[tuple[subprocess.Popen[bytes], OpenAI]]:
    """Run `tunesmith serve` in a process of its own."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    command = [sys.executable, "-m", "tunesmith", "serve", "--home", str(home), "--port", str(port)]
    with (home.parent / "log").open("ab") as log:
        server = subprocess.Popen([*command, "--model", f"tiny={tiny}"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert server.poll() is None, (home.parent / "log").read_text()
            assert time.monotonic() < deadline
            try:
                if httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
        with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as client:
            yield server, client
    finally:
        server.kill()
        server.wait()


def create(client: OpenAI) -> str:
    """Create a job of 36 steps."""
    file = client.files.create(file=("rows.jsonl", BytesIO(rows(ROWS))), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        seed=1,
        hyperparameters={"n_epochs": EPOCHS, "batch_size": 2},
    )
    return job.id


def wait(client: OpenAI, job: str) -> Any:
    """Wait until a job has ended."""
    deadline = time.monotonic() + 120
    while (found := client.fine_tuning.jobs.retrieve(job)).status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def kill_job(home: Path, job: str) -> None:
    """Kill the process of a job, if it has one."""
    from tunesmith.serving.job import holder

    pid = holder(home / "jobs" / job)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def check(client: OpenAI, home: Path, job: str, undisturbed: bytes) -> None:
    """Check that a job has ended as if nothing had happened."""
    found = wait(client, job)
    assert found.status == "succeeded", found.error
    events = list(client.fine_tuning.jobs.list_events(job, limit=100))
    steps: list[Any] = [event for event in reversed(events) if event.type == "metrics"]
    assert [event.data["step"] for event in steps] == list(range(1, EPOCHS * ROWS // 2 + 1))
    messages = [event.message for event in events]
    for once in ("Files validated, moving job to queued state", "The job has successfully completed"):
        assert messages.count(once) == 1
    assert len(list(client.fine_tuning.jobs.checkpoints.list(job))) == EPOCHS
    assert (home / "models" / job / "final" / "adapter_model.safetensors").read_bytes() == undisturbed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> tuple[bytes, float]:
    """The weights of an undisturbed job, and the seconds that it takes."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    with process(home, tiny) as (_, client):
        start = time.monotonic()
        job = create(client)
        assert wait(client, job).status == "succeeded"
        seconds = time.monotonic() - start
    return (home / "models" / job / "final" / "adapter_model.safetensors").read_bytes(), seconds


def disturb(home: Path, tiny: str, moment: float, victim: str, undisturbed: bytes) -> None:
    """Kill server, job or both a while after a job was created; then let it end."""
    with process(home, tiny) as (server, client):
        job = create(client)
        time.sleep(moment)
        if victim in ("job", "both"):
            kill_job(home, job)
        if victim in ("server", "both"):
            server.kill()
            server.wait()
        else:
            check(client, home, job, undisturbed)
            return
    with process(home, tiny) as (_, client):
        check(client, home, job, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_a_kill_at_a_random_moment_costs_nothing(
    number: int, tmp_path: Path, tiny: str, undisturbed: tuple[bytes, float]
) -> None:
    weights, seconds = undisturbed
    moment = random.Random(number).random() * seconds
    disturb(tmp_path / "home", tiny, moment, ("server", "job", "both")[number % 3], weights)


@pytest.mark.slow
def test_a_polite_stop_lets_a_job_go_on_later(
    tmp_path: Path, tiny: str, undisturbed: tuple[bytes, float]
) -> None:
    weights, seconds = undisturbed
    home = tmp_path / "home"
    with process(home, tiny) as (server, client):
        job = create(client)
        time.sleep(0.8 * seconds)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    with process(home, tiny) as (_, client):
        check(client, home, job, weights)


def test_a_second_server_in_the_same_folder_refuses(tmp_path: Path, tiny: str) -> None:
    from tunesmith.errors import ServerBusy
    from tunesmith.serving.home import Home

    from .running import serving

    with (
        serving(tmp_path / "home"),
        pytest.raises(ServerBusy, match="Another server works in"),
        Home.open(tmp_path / "home").lock(),
    ):
        pass
