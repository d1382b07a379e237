"""Files over the wire, with the real SDK."""

from __future__ import annotations

import errno
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tunesmith.serving.blobs import Incoming
from tunesmith.serving.files import sweep_files

from .running import Running

ROW = b'{"messages": []}\n'


def _blobs(running: Running) -> list[Path]:
    return [path for path in running.services.home.blobs.rglob("*") if path.is_file()]


def _incoming(running: Running) -> list[Path]:
    return list(running.services.home.incoming.iterdir())


def _upload(running: Running, content: bytes = ROW, name: str = "rows.jsonl", **more: Any) -> Any:
    return running.client.files.create(file=(name, BytesIO(content)), purpose="fine-tune", **more)


def test_a_file_is_uploaded_shown_read_back_and_deleted_for_real(running: Running) -> None:
    file = _upload(running)
    assert (file.filename, file.bytes, file.purpose, file.status) == (
        "rows.jsonl",
        len(ROW),
        "fine-tune",
        "processed",
    )
    assert running.client.files.retrieve(file.id) == file
    assert running.client.files.wait_for_processing(file.id) == file
    assert running.client.files.content(file.id).read() == ROW
    assert len(_blobs(running)) == 1
    deleted = running.client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)
    assert _blobs(running) == []
    for ask in (running.client.files.retrieve, running.client.files.content, running.client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No file found with id '{file.id}'"):
            ask(file.id)


def test_the_same_bytes_are_kept_once_until_the_last_file_goes(running: Running) -> None:
    first, second = _upload(running), _upload(running)
    assert len(_blobs(running)) == 1
    running.client.files.delete(first.id)
    assert running.client.files.content(second.id).read() == ROW
    running.client.files.delete(second.id)
    assert _blobs(running) == []


def test_lists_are_paged_ordered_and_filtered(running: Running) -> None:
    ids = [_upload(running, b"%d\n" % number).id for number in range(5)]
    batch = running.client.files.create(file=("b.jsonl", BytesIO(b"x")), purpose="batch")
    listed = [file.id for file in running.client.files.list(limit=2)]
    assert listed == [batch.id, *reversed(ids)]
    assert [file.id for file in running.client.files.list(limit=2, order="asc", purpose="fine-tune")] == ids
    page = running.client.files.list(limit=2, after=ids[2])
    assert [file.id for file in page.data] == [ids[1], ids[0]]
    assert page.has_more is False
    with pytest.raises(openai.BadRequestError, match="There is nothing with the id 'file-nope'"):
        running.client.files.list(after="file-nope")


@pytest.mark.parametrize(
    ("name", "kept"),
    [("../../etc/passwd", "passwd"), ("a\\b\\c.jsonl", "c.jsonl"), ("é ü.jsonl", "é ü.jsonl")],
)
def test_a_file_name_is_a_name_only(running: Running, name: str, kept: str) -> None:
    assert _upload(running, name=name).filename == kept


def test_a_file_expires_for_readers_at_once_and_on_the_disk_when_swept(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _upload(running, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    monkeypatch.setattr(running.services.store, "clock", lambda: file.expires_at)
    with pytest.raises(openai.NotFoundError):
        running.client.files.retrieve(file.id)
    assert list(running.client.files.list()) == []
    assert len(_blobs(running)) == 1
    sweep_files(running.services.store, running.services.blobs)
    assert _blobs(running) == []


@pytest.mark.parametrize("seconds", [3599, 30 * 24 * 3600 + 1])
def test_a_life_too_short_or_too_long_is_refused(running: Running, seconds: int) -> None:
    with pytest.raises(openai.BadRequestError, match="must be between 3600 and 2592000") as caught:
        _upload(running, expires_after={"anchor": "created_at", "seconds": seconds})
    assert caught.value.param == "expires_after[seconds]"


def _post(running: Running, body: bytes, boundary: str = "b") -> httpx.Response:
    return httpx.post(
        f"{running.url}/files",
        content=body,
        headers={"content-type": f"multipart/form-data; boundary={boundary}"},
    )


def _part(name: str, content: bytes, filename: str | None = None) -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"


PURPOSE = _part("purpose", b"fine-tune")
END = b"--b--\r\n"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (_part("file", b"x", "a.txt") + END, 400, "'purpose' is missing"),
        (_part("purpose", b"fun") + _part("file", b"x", "a.txt") + END, 400, "'purpose' cannot be 'fun'"),
        (PURPOSE + END, 400, "The form has no file"),
        (PURPOSE + _part("file", b"", "a.txt") + END, 400, "The file is empty."),
        (PURPOSE + _part("file", b"x", "a.txt"), 400, "The body ends before the form does."),
        (PURPOSE + _part("file", b"x", "a") + _part("file", b"y", "b") + END, 400, "more than one 'file'"),
        (PURPOSE + PURPOSE + END, 400, "a field too much: 'purpose'"),
        (PURPOSE + _part("colour", b"red") + _part("file", b"x", "a") + END, 400, "supplied: colour"),
        (_part("purpose", b"\xff") + END, 400, "bytes that are not UTF-8"),
        (_part("purpose", b"a\0b") + END, 400, "a NUL character"),
        (_part("purpose", b"x" * 70_000) + END, 400, "The field 'purpose' is too long."),
        (PURPOSE + _part("file", b"x", "") + END, 400, "no usable filename"),
        (b"nothing of the kind", 400, "The body is no multipart form"),
        (b"", 400, "The body ends before the form does."),
        (b"--b\r\n" + b"X" * 20_000 + b": y\r\n\r\n", 400, "Maximum header size exceeded"),
    ],
)
def test_a_broken_form_is_refused_and_leaves_nothing(
    running: Running, body: bytes, status: int, said: str
) -> None:
    response = _post(running, body)
    assert (response.status_code, said in response.json()["error"]["message"]) == (status, True), (
        response.text
    )
    assert (_blobs(running), _incoming(running)) == ([], [])


def test_another_kind_of_body_is_refused(running: Running) -> None:
    assert httpx.post(f"{running.url}/files", json={"purpose": "fine-tune"}).status_code == 415


def test_a_file_that_is_too_large_is_refused_while_it_comes(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.serving.files.most_bytes", lambda server, caller: 1000)
    with pytest.raises(openai.APIStatusError, match="larger than the 1,000 bytes") as caught:
        _upload(running, b"x" * 1001)
    assert caught.value.status_code == 413
    assert _incoming(running) == []


def test_a_full_disk_is_said_and_nothing_is_left(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = _upload(running, b"kept")

    def full(self: Incoming, chunk: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Incoming, "write", full)
    with pytest.raises(openai.APIStatusError, match="no room on the server's disk") as caught:
        _upload(running, b"lost")
    assert caught.value.status_code == 507
    assert _incoming(running) == []
    assert running.client.files.content(kept.id).read() == b"kept"


def test_what_a_kill_left_is_swept_when_a_server_starts(running: Running) -> None:
    from tunesmith.serving.blobs import Blobs

    file = _upload(running)
    home = running.services.home
    (home.incoming / "half").write_bytes(b"ha")
    (home.blobs / "ab").mkdir(exist_ok=True)
    (home.blobs / "ab" / "ab12").write_bytes(b"of nobody")
    Blobs(home, running.services.store)
    assert _incoming(running) == []
    assert len(_blobs(running)) == 1
    assert running.client.files.content(file.id).read() == ROW


def test_a_body_that_is_too_large_is_refused(running: Running) -> None:
    body = b" " * (running.services.options.max_body_bytes + 1)
    response = httpx.post(
        f"{running.url}/fine_tuning/jobs", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 413
    assert "bytes that are allowed" in response.json()["error"]["message"]
