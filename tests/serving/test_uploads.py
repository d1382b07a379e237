"""Files that come in parts, over the wire."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import httpx
import openai
import pytest

from tunesmith.serving.uploads import sweep_uploads

from .running import Running


def test_parts_become_a_file(running: Running, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "rows.jsonl").write_bytes(content)
    upload = running.client.uploads.upload_file_chunked(
        file=tmp_path / "rows.jsonl", mime_type="application/jsonl", purpose="fine-tune", part_size=300_000
    )
    assert upload.status == "completed"
    assert upload.file is not None
    assert (upload.file.bytes, upload.file.filename) == (len(content), "rows.jsonl")
    assert running.client.files.content(upload.file.id).read() == content
    blobs = [path for path in running.services.home.blobs.rglob("*") if path.is_file()]
    assert len(blobs) == 1


def _begin(running: Running, size: int) -> str:
    upload = running.client.uploads.create(
        bytes=size, filename="a.jsonl", mime_type="application/jsonl", purpose="batch"
    )
    return upload.id


def test_parts_are_put_in_their_order_and_checked(running: Running) -> None:
    uploads = running.client.uploads
    upload = _begin(running, 6)
    parts = [uploads.parts.create(upload, data=BytesIO(data)).id for data in (b"def", b"abc")]
    with pytest.raises(openai.BadRequestError, match="3 bytes, and 6 were announced"):
        uploads.complete(upload, part_ids=parts[:1])
    with pytest.raises(openai.BadRequestError, match="names a part that is not there"):
        uploads.complete(upload, part_ids=[parts[0], "part_nope"])
    with pytest.raises(openai.BadRequestError, match="another MD5"):
        uploads.complete(upload, part_ids=parts[::-1], md5="0" * 32)
    md5 = hashlib.md5(b"abcdef", usedforsecurity=False).hexdigest()
    done = uploads.complete(upload, part_ids=parts[::-1], md5=md5)
    assert done.file is not None
    assert running.client.files.content(done.file.id).read() == b"abcdef"
    with pytest.raises(openai.ConflictError, match="is completed"):
        uploads.parts.create(upload, data=BytesIO(b"x"))


def test_a_cancelled_or_expired_upload_leaves_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = running.client.uploads
    first, second = _begin(running, 3), _begin(running, 3)
    for upload, data in ((first, b"abc"), (second, b"xyz")):
        uploads.parts.create(upload, data=BytesIO(data))
    assert uploads.cancel(first).status == "cancelled"
    later = running.services.store.clock() + 3601
    monkeypatch.setattr(running.services.store, "clock", lambda: later)
    sweep_uploads(running.services.store, running.services.blobs)
    assert [path for path in running.services.home.blobs.rglob("*") if path.is_file()] == []
    with pytest.raises(openai.ConflictError, match="is expired"):
        uploads.parts.create(second, data=BytesIO(b"x"))


def test_an_upload_that_is_too_large_is_refused_before_it_comes(running: Running) -> None:
    response = httpx.post(
        f"{running.url}/uploads",
        json={"bytes": 2**40, "filename": "a", "mime_type": "text/plain", "purpose": "batch"},
    )
    assert response.status_code == 413
