"""A server that keeps Pinecone's wire format, of its data plane and of the lookup of an index, in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np

KEY = "pcsk_test"


@dataclass
class PineconeServer:
    """What a test sees of the server: its address, its vectors by namespace, and what was asked of it.

    `lag` is how many counts leave the last sent vectors out; `refusal` is a status that every request gets.
    """

    url: str = ""
    dimension: int = 256
    namespaces: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    lag: int = 0
    refusal: int | None = None

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the status and the body for a request."""
        self.asked.append(path)
        if self.refusal is not None:
            return self.refusal, {"code": 7, "message": "the index is paused", "details": []}
        if path.startswith("/indexes/"):
            return self._described(path.removeprefix("/indexes/"))
        operation = {
            "/vectors/upsert": self._upserted,
            "/query": self._queried,
            "/describe_index_stats": self._counted,
        }[path]
        return operation(body)

    def _described(self, name: str) -> tuple[int, dict[str, Any]]:
        if name != "docs":
            return 404, {
                "status": 404,
                "error": {"code": "NOT_FOUND", "message": f"Resource {name} not found"},
            }
        fields = {"_values": {"type": "dense_vector", "dimension": self.dimension, "metric": "dotproduct"}}
        return 200, {
            "name": name,
            "host": self.url,
            "status": {"ready": True, "state": "Ready"},
            "schema": {"fields": fields},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            "deletion_protection": "disabled",
        }

    def _upserted(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        vectors = body["vectors"]
        if any(len(one["values"]) != self.dimension for one in vectors):
            return 400, {
                "code": 3,
                "message": "Vector dimension does not match the dimension of the index",
                "details": [],
            }
        kept = self.namespaces.setdefault(body.get("namespace", ""), {})
        kept |= {one["id"]: one["values"] for one in vectors}
        return 200, {"upsertedCount": len(vectors)}

    def _counted(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        counts = {name: len(vectors) for name, vectors in self.namespaces.items()}
        if self.lag and counts:
            self.lag -= 1
            counts = {name: count - 1 for name, count in counts.items()}
        return 200, {
            "namespaces": {name: {"vectorCount": count} for name, count in counts.items()},
            "dimension": self.dimension,
            "indexFullness": 0,
            "totalVectorCount": sum(counts.values()),
        }

    def _queried(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        kept = self.namespaces.get(body.get("namespace", ""), {})
        scores = {name: float(np.dot(values, body["vector"])) for name, values in kept.items()}
        best = sorted(scores, key=lambda name: -scores[name])[: body["topK"]]
        return 200, {
            "results": [],
            "matches": [{"id": name, "score": scores[name], "values": []} for name in best],
            "namespace": body.get("namespace", ""),
            "usage": {"readUnits": 1},
        }


@contextmanager
def running() -> Iterator[PineconeServer]:
    """Yield a server that listens on a free port of this machine, empty and without refusals."""
    state = PineconeServer()

    class Handler(BaseHTTPRequestHandler):
        """Reads JSON, looks at the key, and answers with JSON."""

        def do_POST(self) -> None:
            """Answer a request with a body."""
            size = int(self.headers.get("content-length", 0))
            self._answer(json.loads(self.rfile.read(size) or b"{}"))

        def do_GET(self) -> None:
            """Answer a request without one."""
            self._answer({})

        def _answer(self, body: dict[str, Any]) -> None:
            if self.headers.get("api-key") != KEY:
                status, told = 401, {"code": 16, "message": "Invalid API Key", "details": []}
            else:
                status, told = state.answer(self.path, body)
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
