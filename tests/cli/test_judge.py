"""The command `judge`: a judge behind a socket, its verdicts shown, and one that says nothing of use."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunesmith.cli.app import app

run_cli = CliRunner()


@contextmanager
def _service(say: Callable[[str], str]) -> Iterator[str]:
    """A server in OpenAI's form that answers the last message; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = {"role": "assistant", "content": say(body["messages"][-1]["content"])}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
            data = json.dumps(answer | {"choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"openai:m@http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _rows(folder: Path, *rows: dict[str, str]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    """Two pairs, one with what a person said, in a field of its own, and one that is not read."""
    return _rows(
        tmp_path,
        {"question": "2 + 2?", "a": "four", "b": "five", "reference": "four", "rated": "a"},
        {"question": "2 + 3?", "a": "four", "b": "five", "reference": "five", "rated": "a", "by": "me"},
    )


def test_pairs_are_judged_and_shown(pairs: str) -> None:
    """Wins, the place's share, agreement with people, and what was not read."""

    def fair(prompt: str) -> str:
        reference = prompt.partition("<reference>\n")[2].partition("\n")[0]
        return "A" if f"<answer A>\n{reference}\n" in prompt else "B"

    with _service(fair) as address:
        shown = run_cli.invoke(app, ["judge", pairs, "--model", address, "--human", "rated"])
        told = run_cli.invoke(app, ["judge", pairs, "--model", address, "--human", "rated", "--json"])
    assert shown.exit_code == 0
    for said in ("a won 1, b won 1, 0 ties, 0 errors", "a wins, ties by half: 50.0 %", "alike in 1 of 2"):
        assert said in shown.stdout
    assert "Fields that no judge reads: by." in shown.stdout
    found = json.loads(told.stdout)
    assert found["judged"]["position_bias"] == 0
    assert found["judged"]["human"]["n"] == 2
    assert [one["winner"] for one in found["judged"]["verdicts"]] == ["a", "b"]
    assert found["not_read"] == {"by": 1}


def test_a_judge_of_whom_nothing_can_be_read_fails(pairs: str) -> None:
    """Its errors are shown, with the bounds that say that nothing is known; the exit code is 1."""
    with _service(lambda _: "Well.") as address:
        shown = run_cli.invoke(app, ["judge", pairs, "--model", address])
    assert shown.exit_code == 1
    assert "0 ties, 2 errors" in shown.stdout
    assert "with the errors either way: 0.0 to 100.0 %" in shown.stdout
    assert "no verdict can be read from the reply: 'Well.'" in shown.stdout


def test_answers_are_graded(tmp_path: Path) -> None:
    """Rows with one answer and a reference are graded right or wrong."""
    file = _rows(
        tmp_path,
        {"question": "2 + 2?", "answer": "four", "reference": "four", "human": "right"},
        {"question": "2 + 3?", "answer": "six", "reference": "five", "human": "wrong"},
    )
    with _service(lambda prompt: "wrong" if "six" in prompt else "right") as address:
        shown = run_cli.invoke(app, ["judge", file, "--model", address])
    assert shown.exit_code == 0
    assert "1 right, 1 wrong, 0 errors" in shown.stdout
    assert "Cohen's kappa 1.00" in shown.stdout


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """Before any model is loaded, with the line."""
    shown = run_cli.invoke(app, ["judge", _rows(tmp_path, {"q": "?"}), "--model", "smollm2"])
    assert shown.exit_code == 1
    assert "line 1: 'question' is missing" in shown.output
