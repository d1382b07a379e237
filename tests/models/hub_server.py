"""A hub on this machine: the part of its protocol that its client asks for to get a model, and what can go wrong."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_API = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/(?P<what>revision|tree)/(?P<revision>[^/]+)")
_RESOLVE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_STORE = re.compile(r"/store/(?P<sha256>\w+)")
CUT, SPOILT = 0, 1


@dataclass
class Repository:
    """A repository: each commit's files, where its branches stand, and whether one must be let in."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    gated: bool = False

    def commit(self, revision: str) -> str | None:
        """Return the commit that a branch, or the commit itself, names."""
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass
class Hub:
    """A running hub: what it holds, what it was asked, and which statuses it answers instead, by part of the path.

    Each fault is used once; `CUT` breaks the connection off in the middle of a file, `SPOILT` sends other bytes.
    """

    url: str
    store: str
    repositories: dict[str, Repository]
    asked: list[str] = field(default_factory=list)
    faults: dict[str, list[int]] = field(default_factory=dict)
    token: str = "let-me-in"

    def fetched(self) -> list[str]:
        """Return the names of the files that were downloaded, sorted."""
        got = [match["file"] for line in self.asked if (match := _RESOLVE.fullmatch(line.partition(" ")[2]))]
        return sorted(set(got))

    def fault(self, path: str) -> int | None:
        """Return the next thing that goes wrong with a path."""
        for part, statuses in self.faults.items():
            if part in path and statuses:
                return statuses.pop(0)
        return None

    def stored(self, sha256: str) -> bytes | None:
        """Return a large file by its digest, as the store behind the hub knows it."""
        for repository in self.repositories.values():
            for files in repository.commits.values():
                for data in files.values():
                    if hashlib.sha256(data).hexdigest() == sha256:
                        return data
        return None


@contextmanager
def serving(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """Run a hub with these repositories, by their names, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    port = server.server_address[1]
    # By another host's name, as the hub's own store has: the client follows a redirect there only to download.
    hub = Hub(f"http://127.0.0.1:{port}", f"http://localhost:{port}", repositories)
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    # One connection for each request: nothing answers any more once the server is shut.
    protocol_version = "HTTP/1.0"

    @property
    def hub(self) -> Hub:
        found = self.server.hub  # type: ignore[attr-defined]
        assert isinstance(found, Hub)
        return found

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self._answer()

    def do_GET(self) -> None:
        """Answer with the headers and the body."""
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {path}")
        fault = self.hub.fault(path)
        if fault and fault != SPOILT:
            self._refuse(fault)
        elif match := _STORE.fullmatch(path):
            data = self.hub.stored(match["sha256"]) or b""
            self._send_file(b"x" * len(data) if fault == SPOILT else data, {}, cut=fault == CUT)
        elif match := _API.fullmatch(path):
            self._answer_api(match["repository"], match["what"], unquote(match["revision"]))
        elif match := _RESOLVE.fullmatch(path):
            self._answer_file(match["repository"], unquote(match["revision"]), match["file"])
        else:
            self._refuse(404)

    def _answer_api(self, name: str, what: str, revision: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            # As the hub says it to somebody who is not logged in: it does not tell what is private.
            self._refuse(401, **{"X-Error-Message": "Invalid username or password."})
            return
        commit = repository.commit(revision)
        if commit is None:
            self._refuse(404, **{"X-Error-Code": "RevisionNotFound"})
            return
        files = repository.commits[commit]
        if what == "tree":
            self._send(json.dumps([_entry(path, data) for path, data in files.items()]).encode(), {})
        else:
            siblings = [_sibling(path, data) for path, data in files.items()]
            self._send(json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode(), {})

    def _answer_file(self, name: str, revision: str, path: str) -> None:
        repository = self.hub.repositories[name]
        commit = repository.commit(revision)
        assert commit is not None
        known = {"X-Repo-Commit": commit}
        data = repository.commits[commit].get(path)
        if repository.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._refuse(401, **known, **{"X-Error-Code": "GatedRepo"})
        elif data is None:
            self._refuse(404, **known, **{"X-Error-Code": "EntryNotFound"})
        elif _large(path):
            sha256 = hashlib.sha256(data).hexdigest()
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
            self._send(b"", {**known, **linked, "Location": f"{self.hub.store}/store/{sha256}"}, status=302)
        else:
            self._send_file(data, {**known, "ETag": f'"{_blob(data)}"'}, cut=False)

    def _send_file(self, data: bytes, headers: dict[str, str], *, cut: bool) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked is None:
            self._send(data, headers, cut=cut)
            return
        start = int(asked[1])
        span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self._send(data[start:], {**headers, **span}, status=206, cut=cut)

    def _send(self, data: bytes, headers: dict[str, str], *, status: int = 200, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if cut else data)

    def _refuse(self, status: int, **headers: str) -> None:
        self._send(b"", headers, status=status)


def _large(path: str) -> bool:
    """Tell whether the hub keeps a file in its store for large ones."""
    return path.endswith((".safetensors", ".bin", ".gguf"))


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
    if _large(path):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


def _sibling(path: str, data: bytes) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": _blob(data)}
    if _large(path):
        sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return sibling


def _blob(data: bytes) -> str:
    """Return the name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
