"""Two gibibytes in one file, through a server of its own process whose memory is looked at."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

SIZE, BLOCK = 2 * 2**30, 2**20
BOUND = b"----bound"


def content() -> Iterator[bytes]:
    """Yield the file, block by block, each another."""
    for number in range(SIZE // BLOCK):
        yield (number.to_bytes(8, "little") * (BLOCK // 8))


def form() -> Iterator[bytes]:
    """Yield the file as a form, as the SDK sends it."""
    yield b"--" + BOUND + b'\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    yield b"--" + BOUND + b'\r\nContent-Disposition: form-data; name="file"; filename="large.jsonl"\r\n\r\n'
    yield from content()
    yield b"\r\n--" + BOUND + b"--\r\n"


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process's peak memory is read from /proc")
def test_a_file_of_two_gibibytes_takes_little_memory(tmp_path: Path) -> None:
    """Under 300 MiB at most, by one request and by parts of 64 MiB; what is read back is what was sent."""
    command = [
        sys.executable,
        "-m",
        "tunesmith",
        "serve",
        "--home",
        str(tmp_path / "home"),
        "--port",
        "0",
        "--json",
    ]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
    try:
        url = _address(tmp_path / "out")
        headers = {
            "content-type": f"multipart/form-data; boundary={BOUND.decode()}",
            "authorization": "Bearer any",
        }
        made = (
            httpx.post(f"{url}/files", content=form(), headers=headers, timeout=600).raise_for_status().json()
        )
        assert made["bytes"] == SIZE
        assert peak_bytes(process.pid) < 300 * 2**20
        digest = hashlib.sha256()
        for block in content():
            digest.update(block)
        read = hashlib.sha256()
        with httpx.stream("GET", f"{url}/files/{made['id']}/content", headers=headers, timeout=600) as answer:
            for block in answer.iter_bytes(BLOCK):
                read.update(block)
        assert read.digest() == digest.digest()
        client = OpenAI(base_url=url, api_key="any", max_retries=0, timeout=600)
        client.files.delete(made["id"])
        upload = client.uploads.create(
            bytes=4 * 64 * 2**20, filename="parts.jsonl", mime_type="application/jsonl", purpose="batch"
        )
        part = b"x" * (64 * 2**20)
        ids = [client.uploads.parts.create(upload.id, data=part).id for _ in range(4)]
        done = client.uploads.complete(upload.id, part_ids=ids)
        assert done.file is not None
        assert done.file.bytes == 4 * len(part)
        assert peak_bytes(process.pid) < 300 * 2**20
        client.files.delete(done.file.id)
        left = sum(path.stat().st_size for path in (tmp_path / "home").rglob("*") if path.is_file())
        assert left < 20 * 2**20
    finally:
        process.terminate()
        process.wait(30)


def _address(out: Path) -> str:
    """Return the URL at which a server says that it answers."""
    deadline = time.monotonic() + 60
    while not (said := out.read_text(encoding="utf-8")).strip().endswith("}"):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    return str(json.loads(said)["url"])
