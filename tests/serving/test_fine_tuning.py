"""Fine-tuning jobs over the wire, with the real SDK and real processes."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tunesmith.serving.options import Options

from .running import Running, serving

WORDS = ("node", "edge", "tree", "cycle", "flow", "graph")


def rows(count: int) -> bytes:
    """Return so many chats."""
    lines = (
        {
            "messages": [
                {"role": "user", "content": f"find the {WORDS[number % 6]}"},
                {"role": "assistant", "content": f"the {WORDS[number % 6]} is near the {WORDS[number % 5]}"},
            ]
        }
        for number in range(count)
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload(client: OpenAI, content: bytes) -> str:
    """Upload a training file; returns its id."""
    return client.files.create(file=("rows.jsonl", BytesIO(content)), purpose="fine-tune").id


def wait(client: OpenAI, job: str, *statuses: str) -> Any:
    """Wait until a job has one of the statuses."""
    deadline = time.monotonic() + 120
    while (found := client.fine_tuning.jobs.retrieve(job)).status not in statuses:
        assert time.monotonic() < deadline, found
        assert found.status not in ("failed", "cancelled"), found
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, options: Options) -> Iterator[Running]:
    """A server that offers the tiny model."""
    with serving(tmp_path_factory.mktemp("server") / "home", options) as running:
        yield running


@pytest.fixture(scope="module")
def finished(server: Running) -> Any:
    """A job that has run to its end: four steps in each of two epochs."""
    client = server.client
    job = client.fine_tuning.jobs.create(
        model="gpt-3.5-turbo",
        training_file=upload(client, rows(8)),
        validation_file=upload(client, rows(2)),
        suffix="graphs",
        seed=7,
        metadata={"team": "graphs"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 2}},
        },
    )
    assert (job.status, job.model, job.seed) == ("validating_files", "gpt-3.5-turbo", 7)
    assert job.hyperparameters.n_epochs == 2
    assert job.hyperparameters.learning_rate_multiplier == "auto"
    return wait(client, job.id, "succeeded")


def test_a_job_that_succeeded_says_what_it_did(finished: Any) -> None:
    assert finished.fine_tuned_model == f"ft:gpt-3.5-turbo:local:graphs:{finished.id[-8:]}"
    assert finished.error is None
    assert finished.trained_tokens > 0
    assert finished.finished_at >= finished.created_at
    assert finished.hyperparameters.model_dump() == {
        "n_epochs": 2,
        "batch_size": 2,
        "learning_rate_multiplier": 1.0,
    }
    assert finished.method.supervised.hyperparameters.n_epochs == 2
    assert finished.metadata == {"team": "graphs"}


def test_its_events_tell_each_step_once_and_in_order(server: Running, finished: Any) -> None:
    events = list(server.client.fine_tuning.jobs.list_events(finished.id, limit=3))
    messages = [event.message for event in reversed(events)]
    steps: list[Any] = [event for event in reversed(events) if event.type == "metrics"]
    assert [event.data["step"] for event in steps] == list(range(1, 9))
    assert messages[0] == f"Created fine-tuning job: {finished.id}"
    assert messages[-1] == "The job has successfully completed"
    assert "Files validated, moving job to queued state" in messages
    assert steps[0].message.startswith("Step 1/8: training loss=")
    assert {"train_loss", "train_mean_token_accuracy", "total_steps"} <= steps[0].data.keys()
    assert "valid_loss" in steps[3].data
    assert "valid_loss" in steps[7].data


def test_its_checkpoints_are_models(server: Running, finished: Any) -> None:
    checkpoints = list(server.client.fine_tuning.jobs.checkpoints.list(finished.id))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [8, 4]
    assert checkpoints[1].fine_tuned_model_checkpoint == f"{finished.fine_tuned_model}:ckpt-step-4"
    assert checkpoints[1].metrics.full_valid_loss is not None
    folder = server.services.jobs.models(finished.id)
    assert sorted(path.name for path in folder.iterdir()) == ["final", "step-4", "step-8"]
    weights = [
        (folder / name / "adapter_model.safetensors").read_bytes() for name in ("final", "step-8", "step-4")
    ]
    assert weights[0] == weights[1] != weights[2]


def test_its_result_file_has_a_line_per_step(server: Running, finished: Any) -> None:
    [file] = finished.result_files
    lines = server.client.files.content(file).read().decode().splitlines()
    assert lines[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert [line.split(",")[0] for line in lines[1:]] == [str(step) for step in range(1, 9)]
    assert [bool(line.split(",")[3]) for line in lines[1:]] == [False, False, False, True] * 2
    assert server.client.files.retrieve(file).purpose == "fine-tune-results"


@pytest.mark.slow
def test_rows_with_tools_and_weights_are_learned_and_metrics_may_be_base64(
    tmp_path: Path, options: Options
) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "find", "arguments": '{"node": "root"}'}}
    row = {
        "messages": [
            {"role": "user", "name": "Ann", "content": "find the node"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "near"},
            {"role": "assistant", "content": "it is near", "weight": 0},
        ],
        "tools": [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}],
    }
    with serving(tmp_path / "home", replace(options, metrics_in_base64=True)) as running:
        client = running.client
        wrong = json.loads(json.dumps(row).replace('"find"', '"seek"', 1))
        job = client.fine_tuning.jobs.create(
            model="tiny", training_file=upload(client, json.dumps(wrong).encode())
        )
        while (failed := client.fine_tuning.jobs.retrieve(job.id)).status == "validating_files":
            time.sleep(0.1)
        assert failed.status == "failed"
        assert failed.error is not None
        assert "line 1, shape: 'seek' is called and is not among the tools" in failed.error.message
        content = "".join(json.dumps(row) + "\n" for _ in range(2)).encode()
        job = client.fine_tuning.jobs.create(
            model="tiny", training_file=upload(client, content), hyperparameters={"n_epochs": 1}
        )
        done = wait(client, job.id, "succeeded")
        table = base64.b64decode(client.files.content(done.result_files[0]).read()).decode()
    assert table.startswith("step,train_loss,")
    assert len(table.splitlines()) == 3


def test_events_are_streamed_as_server_sent_events(server: Running, finished: Any) -> None:
    import httpx

    response = httpx.get(f"{server.url}/fine_tuning/jobs/{finished.id}/events", params={"stream": "true"})
    said = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert said[-1] == "[DONE]"
    assert json.loads(said[0])["message"] == f"Created fine-tuning job: {finished.id}"


def test_jobs_are_listed_paged_and_filtered_by_metadata(server: Running, finished: Any) -> None:
    jobs = server.client.fine_tuning.jobs
    assert finished.id in [job.id for job in jobs.list(limit=1)]
    assert [job.id for job in jobs.list(metadata={"team": "graphs"})] == [finished.id]
    assert list(jobs.list(metadata={"team": "none"})) == []


def test_a_finished_job_cannot_be_moved(server: Running, finished: Any) -> None:
    jobs = server.client.fine_tuning.jobs
    for move, word in ((jobs.cancel, "cancelled"), (jobs.pause, "paused"), (jobs.resume, "not paused")):
        with pytest.raises(openai.ConflictError, match=word):
            move(finished.id)


def test_a_faulty_file_fails_the_job_by_its_line(server: Running) -> None:
    content = rows(2) + b'{"messages": [{"role": "user"}]}\n' + rows(1)
    job = server.client.fine_tuning.jobs.create(model="tiny", training_file=upload(server.client, content))
    deadline = time.monotonic() + 60
    while (found := server.client.fine_tuning.jobs.retrieve(job.id)).status == "validating_files":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found.status == "failed"
    assert found.error is not None
    assert (found.error.code, found.error.param) == ("invalid_training_file", "training_file")
    assert "line 3" in found.error.message
    assert found.trained_tokens is None


@pytest.mark.parametrize(
    ("given", "param", "said"),
    [
        ({"model": "gpt-nope"}, "model", "No model found with id 'gpt-nope'"),
        ({"training_file": "file-nope"}, "training_file", "No file found with id 'file-nope'"),
        ({"suffix": "x" * 65}, "suffix", "at most 64 characters"),
        ({"suffix": "../x"}, "suffix", "should match pattern"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata", "at most 16 items"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "greater than or equal to 1"),
        ({"method": {"type": "reinforcement"}}, "method", "reinforcement is not trained here"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method", "settings of 'supervised' are given"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations", "not served here"),
        ({"extra_body": {"colour": "red"}}, "colour", "Unrecognized request argument supplied: colour"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(
    server: Running, given: dict[str, Any], param: str, said: str
) -> None:
    asked: dict[str, Any] = {"model": "tiny", "training_file": upload(server.client, rows(1))} | given
    with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=said) as caught:
        server.client.fine_tuning.jobs.create(**asked)
    assert str(caught.value.param).startswith(param)


@pytest.mark.slow
def test_a_job_is_paused_resumed_and_cancelled(server: Running, tmp_path: Path) -> None:
    client = server.client
    job = client.fine_tuning.jobs.create(
        model="tiny",
        # Too many for an epoch to end, and to leave a checkpoint that is kept.
        training_file=upload(client, rows(5000)),
        hyperparameters={"n_epochs": 2, "batch_size": 1},
    )
    wait(client, job.id, "running")
    deadline = time.monotonic() + 60
    while not any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job.id).data):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert str(client.fine_tuning.jobs.pause(job.id).status) == "pausing"
    wait(client, job.id, "paused")
    told = _steps(client, job.id)
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    wait(client, job.id, "running")
    while len(_steps(client, job.id)) <= len(told):
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    steps = _steps(client, job.id)
    assert steps == list(range(1, len(steps) + 1))
    while server.services.jobs.models(job.id).exists():
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)


def _steps(client: OpenAI, job: str) -> list[int]:
    events = client.fine_tuning.jobs.list_events(job, limit=1000)
    return sorted(int(event.data["step"]) for event in events if event.type == "metrics")  # type: ignore[index]


@pytest.mark.slow
def test_preferences_are_learned_on_top_of_a_tuned_model(server: Running, finished: Any) -> None:
    pairs = (
        {
            "input": {"messages": [{"role": "user", "content": f"find the {WORDS[number % 6]}"}]},
            "preferred_output": [{"role": "assistant", "content": "near the edge"}],
            "non_preferred_output": [{"role": "assistant", "content": "the soup"}],
        }
        for number in range(4)
    )
    content = "".join(json.dumps(pair) + "\n" for pair in pairs).encode()
    job = server.client.fine_tuning.jobs.create(
        model=finished.fine_tuned_model,
        training_file=upload(server.client, content),
        method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "batch_size": 2}}},
    )
    done = wait(server.client, job.id, "succeeded")
    assert done.method.dpo.hyperparameters.beta == 0.1
    assert done.fine_tuned_model == f"ft:gpt-3.5-turbo:local::{job.id[-8:]}"
    answer = server.client.chat.completions.create(
        model=done.fine_tuned_model, messages=[{"role": "user", "content": "find the node"}], max_tokens=3
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_a_job_that_was_cancelled_before_its_turn_leaves_nothing(server: Running) -> None:
    client = server.client
    job = client.fine_tuning.jobs.create(model="tiny", training_file=upload(client, rows(2)))
    client.fine_tuning.jobs.cancel(job.id)
    deadline = time.monotonic() + 30
    folder = server.services.jobs.folder(job.id)
    while (folder / "train.jsonl").exists() or server.services.jobs.models(job.id).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_tuned_model_and_its_checkpoint_answer_until_deleted(server: Running, finished: Any) -> None:
    client = server.client
    names = [finished.fine_tuned_model, f"{finished.fine_tuned_model}:ckpt-step-4"]
    for name in names:
        assert client.models.retrieve(name).id == name
        answer = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "find the node"}], max_tokens=5, temperature=0
        )
        assert (answer.model, answer.object) == (name, "chat.completion")
    # One base in memory, both adapters beside each other.
    base = Path(server.services.options.models["tiny"].removeprefix("path:")).name
    assert [name for name, _ in server.services.roster.loads()].count(base) == 1
    assert client.models.delete(names[0]).deleted is True
    with pytest.raises(openai.NotFoundError, match="No model found"):
        client.chat.completions.create(model=names[0], messages=[{"role": "user", "content": "find"}])
    folder = server.services.jobs.models(finished.id)
    assert sorted(path.name for path in folder.iterdir()) == ["step-4", "step-8"]
