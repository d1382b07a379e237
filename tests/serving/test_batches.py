"""Batches over the wire: answered, gone on with after a kill, cancelled, expired; and the reader of their files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.serving.jsonl import JsonLine, LineFault, read_lines
from tunesmith.serving.options import Options

from .running import Running, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, options: Options) -> Iterator[Running]:
    """A server that offers the tiny model."""
    with serving(tmp_path_factory.mktemp("server") / "home", options) as running:
        yield running


def line(number: int, **more: Any) -> dict[str, Any]:
    """Return a request."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": f"find {number}"}], "max_tokens": 4}
    asked = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return asked | more


def begin(running: Running, lines: list[dict[str, Any]] | bytes, **more: Any) -> Any:
    """Upload requests and begin a batch."""
    content = (
        lines if isinstance(lines, bytes) else "".join(json.dumps(each) + "\n" for each in lines).encode()
    )
    file = running.client.files.create(file=("b.jsonl", BytesIO(content)), purpose="batch")
    return running.client.batches.create(
        **{"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"} | more
    )


def wait(running: Running, id: str) -> Any:
    """Wait until a batch has ended."""
    deadline = time.monotonic() + 60
    while (batch := running.client.batches.retrieve(id)).status not in (
        "completed",
        "failed",
        "expired",
        "cancelled",
    ):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def answers(running: Running, file: str) -> dict[str, Any]:
    """Return a file's lines by their ids."""
    lines = map(json.loads, running.client.files.content(file).read().splitlines())
    return {each["custom_id"]: each for each in lines}


def test_each_request_is_answered_once(server: Running) -> None:
    batch = wait(server, begin(server, [line(number) for number in range(5)], metadata={"a": "b"}).id)
    assert (batch.status, batch.metadata) == ("completed", {"a": "b"})
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (
        5,
        5,
        0,
    )
    found = answers(server, batch.output_file_id)
    assert set(found) == {f"r{number}" for number in range(5)}
    response = found["r3"]["response"]
    assert (response["status_code"], response["body"]["object"]) == (200, "chat.completion")
    assert batch.usage.output_tokens == sum(
        each["response"]["body"]["usage"]["completion_tokens"] for each in found.values()
    )
    assert batch.error_file_id is None
    assert batch.id in [each.id for each in server.client.batches.list(limit=1)]


def test_what_fails_stands_in_the_file_of_errors(server: Running) -> None:
    bad = line(1)
    bad["body"] = bad["body"] | {"model": "nope"}
    batch = wait(server, begin(server, [line(0), bad]).id)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 1, 1)
    [error] = answers(server, batch.error_file_id).values()
    assert error["response"]["status_code"] == 404
    assert "nope" in error["response"]["body"]["error"]["message"]


@pytest.mark.parametrize(
    ("content", "code", "number"),
    [
        (b"{", "invalid_json_line", 1),
        (b"\n\n[1]\n", "invalid_json_line", 3),
        (json.dumps(line(0, custom_id="")).encode(), "missing_required_parameter", 1),
        (json.dumps(line(0, url="/v1/files")).encode(), "mismatched_endpoint", 1),
        (b"\n".join(json.dumps(line(0)).encode() for _ in range(2)), "duplicate_custom_id", 2),
        (b"\n \n", "empty_file", None),
    ],
)
def test_a_faulty_file_fails_the_batch_by_its_line(
    server: Running, content: bytes, code: str, number: int | None
) -> None:
    batch = wait(server, begin(server, content).id)
    assert batch.status == "failed"
    [error] = batch.errors.data
    assert (error.code, error.line) == (code, number)


def test_a_batch_goes_on_after_a_restart_without_asking_again(
    tmp_path: Path, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.serving import batches

    module: Any = batches
    asked: list[str] = []
    real = module.ask

    async def counting(app: Any, caller: Any, method: str, path: str, body: Any = None) -> Any:
        asked.append(body["messages"][0]["content"])
        if len(asked) == 4 and not (tmp_path / "again").exists():
            raise KeyError("as if killed")
        return await real(app, caller, method, path, body)

    monkeypatch.setattr(module, "ask", counting)
    monkeypatch.setattr("tunesmith.serving.working.AT_ONCE", 1)
    # What a kill does: nothing is noted of it.
    monkeypatch.setattr(module.Batches, "_fail", lambda self, id, errors: time.sleep(0.3))
    with serving(tmp_path / "home", options) as running:
        id = begin(running, [line(number) for number in range(6)]).id
        while len(asked) < 4:
            time.sleep(0.05)
    (tmp_path / "again").touch()
    with serving(tmp_path / "home", options) as running:
        batch = wait(running, id)
        assert (batch.status, batch.request_counts.completed) == ("completed", 6)
        assert len(answers(running, batch.output_file_id)) == 6
    assert asked.count("find 0") == asked.count("find 2") == 1


def test_a_batch_is_cancelled(server: Running) -> None:
    long = [line(number) for number in range(40)]
    for each in long:
        each["body"] = each["body"] | {"max_tokens": 400}
    batch = begin(server, long)
    assert server.client.batches.cancel(batch.id).status == "cancelling"
    ended = wait(server, batch.id)
    assert ended.status == "cancelled"
    with pytest.raises(openai.ConflictError, match="is cancelled"):
        server.client.batches.cancel(batch.id)


def test_a_batch_whose_time_is_over_expires(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    real = server.services.store.clock
    batch = begin(server, [line(number) for number in range(30)])
    monkeypatch.setattr(server.services.store, "clock", lambda: real() + 25 * 3600)
    ended = wait(server, batch.id)
    assert ended.status in ("expired", "completed")
    if ended.status == "expired":
        errors = answers(server, ended.error_file_id)
        assert all(each["error"]["code"] == "batch_expired" for each in errors.values())
        assert len(errors) + ended.request_counts.completed == 30


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode) | st.just(b'{"a":' * 5000))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_read_as_objects_or_faults(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "any").write_bytes(content)
    lines = content.split(b"\n")
    for each in read_lines(tmp_path / "any"):
        assert isinstance(each, JsonLine | LineFault)
        assert 1 <= each.number <= len(lines)


def test_odd_lines_are_named(tmp_path: Path) -> None:
    rows = [
        b'\xef\xbb\xbf{"a": 1}\r',
        b"{}",
        b"\xff",
        b"NaN",
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 9000 + b"}",
        b"[" * 9999,
    ]
    (tmp_path / "odd").write_bytes(b"\n".join([*rows, b'"' + b"x" * (17 * 2**20) + b'"', b"{}"]))
    found = list(read_lines(tmp_path / "odd"))
    good = [each.number for each in found if isinstance(each, JsonLine)]
    assert good[:2] == [1, 2]
    assert good[-1] == 9
    assert {each.number for each in found if isinstance(each, LineFault)} >= {3, 4, 7, 8}
