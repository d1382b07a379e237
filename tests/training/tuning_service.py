"""A service on loopback with OpenAI's wire format for files, fine-tuning and chat, and faults that a test scripts."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

METRICS = (
    "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n"
    "1,2.5,0.25,,\n2,1.5,0.5,1.75,0.375\n3,1.25,0.625,,\n4,1.0,0.75,1.25,0.5\n"
)
STEPS = 4
USUAL = ("validating_files", "queued", "running", "running", "succeeded")


@dataclass(frozen=True)
class Fault:
    """What becomes of a request: a status with headers, or a cut connection (0), before or after it had its effect."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    after: bool = False


@dataclass
class Job:
    """A job as the service keeps it: what was asked for, what it goes through, and what has been said of it."""

    id: str
    asked: dict[str, Any]
    script: list[str]
    error: dict[str, Any] | None
    result_files: tuple[str, ...]
    status: str = "validating_files"
    events: list[dict[str, Any]] = field(default_factory=list)

    def step_on(self) -> None:
        """Go to the next status of the script; the last one stays."""
        if self.status in ("failed", "cancelled", "succeeded"):
            return
        self.status = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if self.status == "running":
            done = sum(event["type"] == "metrics" for event in self.events)
            for step in range(done + 1, min(done + 2, STEPS) + 1):
                self.tell(
                    f"Step {step}/{STEPS}: training loss={2 / step:.2f}",
                    {"step": step, "train_loss": 2 / step, "total_steps": STEPS},
                )
        elif not self.events or self.events[-1]["message"] != self.status:
            self.tell(self.status)

    def tell(self, message: str, data: dict[str, Any] | None = None) -> None:
        """Add an event."""
        number = len(self.events) + 1
        self.events.append(
            {
                "id": f"ftevent-{self.id}-{number}",
                "object": "fine_tuning.job.event",
                "created_at": 1_700_000_000 + number,
                "level": "info",
                "message": message,
                "type": "message" if data is None else "metrics",
                "data": data or {},
            }
        )

    def shown(self, *, keeps_metadata: bool) -> dict[str, Any]:
        """Return the job as OpenAI's reference shows it."""
        ended = self.status in ("failed", "cancelled", "succeeded")
        succeeded = self.status == "succeeded"
        hyperparameters = self.asked["method"]["supervised"]["hyperparameters"]
        return {
            "id": self.id,
            "object": "fine_tuning.job",
            "created_at": 1_700_000_000,
            "finished_at": 1_700_000_090 if ended else None,
            "estimated_finish": None,
            "error": self.error if self.status == "failed" else None,
            "fine_tuned_model": f"ft:{self.asked['model']}:org:{self.asked['suffix']}:1"
            if succeeded
            else None,
            "hyperparameters": hyperparameters,
            "method": self.asked["method"],
            "model": self.asked["model"],
            "organization_id": "org-1",
            "result_files": list(self.result_files) if succeeded else [],
            "seed": self.asked["seed"],
            "status": self.status,
            "trained_tokens": 1234 if succeeded else None,
            "training_file": self.asked["training_file"],
            "validation_file": self.asked.get("validation_file"),
            "integrations": [],
            "metadata": self.asked.get("metadata") if keeps_metadata else None,
        }


@dataclass
class TuningService:
    """What a test sets and sees: the script of new jobs, faults and pages by "METHOD /path", all requests in order.

    `repeats_pages`: lists ignore `after`. A result file with the id `file-metrics` holds `metrics`.
    """

    url: str = ""
    script: tuple[str, ...] = USUAL
    error: dict[str, Any] | None = None
    metrics: bytes = METRICS.encode()
    result_files: tuple[str, ...] = ("file-metrics",)
    keeps_metadata: bool = True
    repeats_pages: bool = False
    page: int = 100
    says: str = "`toolbox.clamp`"
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    models_asked: set[str] = field(default_factory=set)

    def count(self, request: str) -> int:
        """Return how often a request came, such as "POST /files"."""
        return self.requests.count(request)

    # --- the routes

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes, kind: str) -> Any:
        """Return what the route says, bytes or JSON; None where there is none."""
        said: Any = None
        match (method, path.strip("/").split("/")):
            case ("POST", ["files"]):
                said = self._add_file(body, kind)
            case ("GET", ["files"]):
                said = self._page(list(self.files.values()), query)
            case ("GET", ["files", name, "content"]):
                said = self.metrics if name == "file-metrics" else self.contents.get(name)
            case ("POST", ["fine_tuning", "jobs"]):
                said = self._add_job(json.loads(body))
            case ("GET", ["fine_tuning", "jobs"]):
                said = self._page([self._shown(job) for job in reversed(self.jobs.values())], query)
            case (_, ["fine_tuning", "jobs", name, *action]) if name in self.jobs:
                said = self._of_job(self.jobs[name], method, action, query)
            case ("POST", ["chat", "completions"]):
                said = self._chat(json.loads(body))
        return said

    def _of_job(self, job: Job, method: str, action: list[str], query: dict[str, list[str]]) -> Any:
        match (method, action):
            case ("GET", []):
                job.step_on()
                return self._shown(job)
            case ("GET", ["events"]):
                return self._page(job.events[::-1], query)
            case ("POST", ["cancel"]):
                job.status = "cancelled"
                return self._shown(job)
        return None

    def _add_file(self, body: bytes, kind: str) -> dict[str, Any]:
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part
            for part in email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts()
        }
        content: Any = parts["file"].get_payload(decode=True)
        name = f"file-{len(self.files) + 1}"
        self.contents[name] = content
        self.files[name] = {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": 1_700_000_000,
            "filename": parts["file"].get_filename(),
            "purpose": parts["purpose"].get_payload(),
            "status": "processed",
        }
        return self.files[name]

    def _add_job(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"ftjob-{len(self.jobs) + 1}"
        self.jobs[name] = Job(name, asked, list(self.script), self.error, self.result_files)
        return self._shown(self.jobs[name])

    def _shown(self, job: Job) -> dict[str, Any]:
        return job.shown(keeps_metadata=self.keeps_metadata)

    def _page(self, all_of_it: list[dict[str, Any]], query: dict[str, list[str]]) -> dict[str, Any]:
        ids = [one["id"] for one in all_of_it]
        after = query.get("after", [""])[0]
        start = ids.index(after) + 1 if after in ids and not self.repeats_pages else 0
        data = all_of_it[start : start + self.page]
        has_more = start + self.page < len(all_of_it) or (self.repeats_pages and bool(data))
        return {"object": "list", "data": data, "has_more": has_more}

    def _chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.models_asked.add(asked["model"])
        choice = {"index": 0, "message": {"role": "assistant", "content": self.says}, "finish_reason": "stop"}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": asked["model"],
            "choices": [choice],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        }


class _Handler(BaseHTTPRequestHandler):
    service: TuningService

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path).removeprefix("/v1")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = f"{self.command} {path}"
        self.service.requests.append(request)
        self.service.keys.add(self.headers["Authorization"])
        waiting = self.service.faults.get(request, [])
        fault = waiting.pop(0) if waiting else None
        if fault is not None and not fault.after:
            self._fail(fault)
            return
        kind = self.headers.get("Content-Type") or ""
        said = self.service.pages.get(request) or self.service.answer(
            self.command, path, parse_qs(parts.query), body, kind
        )
        if fault is not None:
            self._fail(fault)
        elif said is None:
            self._send(404, _error(f"no such thing: {path}"))
        else:
            self._send(200, said)

    do_GET = do_POST = _serve

    def _fail(self, fault: Fault) -> None:
        if fault.status:
            self._send(fault.status, _error("not now"), fault.headers)
            return
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, said: Any, headers: tuple[tuple[str, str], ...] = ()) -> None:
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        kind = "application/octet-stream" if isinstance(said, bytes) else "application/json"
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(content))), *headers):
            self.send_header(name, value)
        self.send_header("x-request-id", "req-1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
        """Keep requests off the screen."""


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}


@contextmanager
def serving(service: TuningService) -> Iterator[TuningService]:
    """Serve on a free port of this machine while the block runs."""
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
