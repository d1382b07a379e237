"""Bytes that no friend sends: each is a 4xx in OpenAI's form, and the server answers the next request."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tunesmith.serving import protocol
from tunesmith.serving.options import Options

from .running import Running, serving

CHAT = b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1%s}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, options: Options) -> Iterator[Running]:
    """A server that waits for nobody."""
    quick = replace(options, body_seconds=1.5, idle_seconds=1.0, max_body_bytes=100_000)
    with serving(tmp_path_factory.mktemp("hostile") / "home", quick) as running:
        yield running


def post(server: Running, body: bytes, path: str = "/chat/completions", **headers: str) -> httpx.Response:
    """Send bytes as JSON."""
    given = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx.post(server.url + path, content=body, headers=given, timeout=20)


def refused(response: httpx.Response) -> Any:
    """Return the error of a response, whose form is OpenAI's."""
    assert 400 <= response.status_code < 500, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert response.headers["x-request-id"].startswith("req_")
    return error


BODIES = {
    "nothing": b"",
    "words": b"hello",
    "half": b'{"model": "tiny"',
    "a list": b"[]",
    "a number": b"1",
    "not UTF-8": CHAT % b', "user": "\xff\xfe"',
    "half a surrogate pair": CHAT % b', "user": "\\ud800"',
    "NUL": CHAT % b', "user": "a\\u0000b"',
    "NaN": CHAT % b', "temperature": NaN',
    "infinity": CHAT % b', "temperature": 1e999',
    "NaN where anything goes": CHAT % b', "prediction": NaN',
    "a huge number": CHAT % (b', "seed": ' + b"9" * 5000),
    "deep": b"[" * 50_000,
    "deep objects": b'{"a":' * 20_000,
    "deep within": CHAT % (b', "prediction": ' + b"[" * 40_000 + b"]" * 40_000),
    "a deep schema": CHAT
    % (
        b', "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": '
        + b'{"type": "array", "items": ' * 150
        + b"{}"
        + b"}" * 150
        + b"}}"
    ),
    "UTF-16": (CHAT % b"").decode().encode("utf-16"),
    "too much": CHAT % (b', "user": "' + b"x" * 200_000 + b'"'),
    "wrong types": b'{"model": 3, "messages": {}, "stream": "maybe"}',
}


@pytest.mark.parametrize("name", BODIES)
def test_odd_bodies_are_refused(server: Running, name: str) -> None:
    response = post(server, BODIES[name])
    if name == "a deep schema" and response.status_code == 200:
        # The grammar may hold it.
        return
    refused(response)
    assert post(server, CHAT % b"").status_code == 200


def test_a_body_without_a_length_is_bounded_as_it_comes(server: Running) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"model": "'
        for _ in range(200):
            yield b"x" * 1000

    response = httpx.post(
        server.url + "/chat/completions", content=chunks(), headers={"content-type": "application/json"}
    )
    assert response.status_code == 413
    refused(response)


def test_what_is_no_json_says_where(server: Running) -> None:
    error = refused(post(server, b'{"model": "tiny", oops}'))
    assert error["code"] == "invalid_json"
    assert "column 19" in error["message"]


def test_a_compressed_body_is_refused_unread(server: Running) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    error = refused(post(server, bomb, content_encoding="gzip"))
    assert "Compressed" in error["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_content_type_is_refused(server: Running, kind: str) -> None:
    refused(post(server, CHAT % b"", content_type=kind))


@pytest.mark.parametrize(
    "path",
    [
        "/files/..%2f..%2fetc%2fpasswd", "/files/%2e%2e", "/files/a%00b", "/models/..%2f..%2fx", "/files/" + "x" * 5000,
        "/fine_tuning/jobs/%ff%fe", "/fine_tuning/jobs?limit=99999999999999999999", "/files?after=%00", "/nothing",
        "/responses/%F0%9F%A4%96", "/evals/'; DROP TABLE evals; --",
    ],
)  # fmt: skip
def test_odd_paths_are_refused(server: Running, path: str) -> None:
    refused(httpx.get(server.url + path))


def _talk(server: Running, *pieces: bytes, pause: float = 0.0, wait: float = 10.0) -> bytes:
    """Send pieces by hand; returns all that comes back until the server closes or nothing comes."""
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            got = b""
            while part := connection.recv(65536):
                got += part
                if b"\r\n\r\n" in got and b'"error"' in got:
                    break
        except (ConnectionError, TimeoutError):
            return b"closed"
        return got


def test_a_body_that_trickles_or_never_comes_is_given_up(server: Running) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    start = time.monotonic()
    silent = _talk(server, head + b"content-length: 1000\r\n\r\n{")
    assert silent.startswith(b"HTTP/1.1 408")
    assert json.loads(silent.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
    dripping = _talk(server, head + b"content-length: 1000\r\n\r\n", *[b" "] * 12, pause=0.3)
    assert dripping.startswith(b"HTTP/1.1 408") or dripping == b"closed"
    assert time.monotonic() - start < 15
    assert post(server, CHAT % b"").status_code == 200


def test_a_head_that_trickles_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    start = time.monotonic()
    got = _talk(server, *[b"GET /v1/models HTTP/1.1\r\n", *[b"x-a: b\r\n"] * 30], pause=0.1)
    assert got in (b"", b"closed")
    assert time.monotonic() - start < 5
    # A connection that was used, and then is held open by half a request.
    whole = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    got = _talk(server, whole, b"GET /healthz HTTP/1.1\r\nx: ", pause=0.2, wait=5)
    assert got.startswith(b"HTTP/1.1 200")
    assert post(server, CHAT % b"").status_code == 200


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS where there is none
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused(server: Running, bytes_sent: bytes) -> None:
    got = _talk(server, bytes_sent, wait=3)
    assert got in (b"", b"closed") or got.startswith(b"HTTP/1.1 4")
    assert post(server, CHAT % b"").status_code == 200


def test_many_idle_connections_leave_room(server: Running) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(300)]
    try:
        assert post(server, CHAT % b"").status_code == 200
    finally:
        for each in idle:
            each.close()


def test_the_figures_tell_counts_and_no_content(server: Running) -> None:
    post(server, CHAT % b', "user": "secret-user"')
    httpx.get(server.url + "/files/file-secret")
    for number in range(3):
        httpx.request(f"ODD{number}", server.url + "/files")
    text = httpx.get(server.url.removesuffix("/v1") + "/metrics").text
    assert 'method="other"' in text
    assert "ODD" not in text
    assert 'tunesmith_requests_total{method="POST",route="/v1/chat/completions",status="200"}' in text
    assert 'tunesmith_requests_total{method="GET",route="/v1/files/{file_id}",status="404"}' in text
    assert "tunesmith_request_seconds_bucket" in text
    assert 'kind="said"' in text
    assert "tunesmith_files_bytes 0" in text
    assert "secret" not in text
