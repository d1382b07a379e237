"""The server under load: reading while a job trains, many answers at once, the first token, and plain generation.

    python benchmarks/serve_load.py [--quick] [--json]

A server of its own process, with the embedded model, driven over its socket.

- metadata_p99_ms, errors: while a fine-tuning job trains, 200 clients, each with a connection of its own, read a file,
  a job and the list of models in turn, each once a second, as code that waits for a job does. `metadata_p50_ms` is the
  median; `metadata_busy_requests_per_second` what the same clients get when they do not wait between requests.
- batching_gain_16: tokens/s of 16 clients that chat at once, as a multiple of one client's; everybody asks for 64
  tokens. Medians of repeats in turns.
- first_token_s: from sending a request to the first token of its stream, when nothing else is asked; the median.
- ratio_vs_generate: 48 chats with a shared system prompt that want 8 to 96 tokens, 16 at a time: tokens/s of the
  server, with HTTP, over those of transformers' generate, in batches of 16 as they come. Tokens that nobody asked for
  do not count. The order of both changes from repeat to repeat.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from hardware import as_json, versions_of
from openai import OpenAI

from tunesmith.models.address import locate

HERE = Path(__file__).resolve().parent
MODEL = "smollm2"
SYSTEM = (
    "You are an assistant for people who write programs that work on graphs. Answer in short sentences, name the "
    "function that does what is asked for, say what it returns and which errors it raises, and show a call of it. "
    "Do not speak of other libraries. When the question is not about graphs, say so and stop. "
) * 3
SUBJECTS = (
    "shortest paths",
    "spanning trees",
    "cliques",
    "colourings",
    "flows",
    "centrality",
    "matchings",
    "cycles",
)
BATCH = 16
TOKENS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    clients: int
    seconds: float
    repeats: int
    chats: int


FULL, QUICK = Plan(200, 20.0, 3, 48), Plan(50, 5.0, 1, 16)


@dataclass(frozen=True, slots=True)
class Chat:
    """One request: its question, and how many tokens it wants."""

    question: str
    tokens: int

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation as it travels."""
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": self.question}]


@contextmanager
def running_server(home: Path) -> Iterator[str]:
    """Start a server in a process of its own; yields its base URL."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    command = [sys.executable, "-m", "tunesmith", "serve", "--home", str(home), "--port", str(port)]
    log = home.parent / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/healthz", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


def chats(count: int, seed: int) -> list[Chat]:
    """Return questions of differing lengths that want differing numbers of tokens."""
    rng = random.Random(seed)
    return [
        Chat(
            f"Question {seed}.{number}: how do I work with {', '.join(rng.sample(SUBJECTS, rng.randint(1, 5)))}?",
            rng.randint(8, 96),
        )
        for number in range(count)
    ]


# --- reading while a job trains


def training_set(path: Path, rows: int) -> Path:
    """Write a file of chats."""
    lines = (
        {"messages": [*chat.messages[1:], {"role": "assistant", "content": f"Answer {number}. " * 20}]}
        for number, chat in enumerate(chats(rows, seed=0))
    )
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return path


def start_job(client: OpenAI, path: Path) -> tuple[str, str]:
    """Upload a file and start a job on it; returns both ids once the job has taken a step."""
    with path.open("rb") as file:
        uploaded = client.files.create(file=file, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=uploaded.id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50, "batch_size": 4}}},
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        events = client.fine_tuning.jobs.list_events(job.id, limit=1)
        if any(event.type == "metrics" for event in events.data):
            return uploaded.id, job.id
        status = client.fine_tuning.jobs.retrieve(job.id)
        if status.status in ("failed", "cancelled", "succeeded"):
            raise SystemExit(f"the job ended too early: {status.status} {status.error}")
        time.sleep(0.5)
    raise SystemExit("the job did not take a step in five minutes")


async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str) -> int:
    """Ask for a path on an open connection; returns the status, 0 where the server has closed it.

    By hand: 200 clients of a whole HTTP library would keep one of two cores busy themselves.
    """
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer any\r\n\r\n".encode())
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length:")[2].partition("\r")[0]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    return int(head.split()[1])


async def read_metadata(
    url: str, paths: Sequence[str], plan: Plan, *, pause: float
) -> tuple[list[float], int]:
    """Let all clients read for a while; returns the seconds of each request, and how many failed."""
    seconds: list[float] = []
    errors, parts = 0, urlsplit(url)
    end = time.monotonic() + plan.seconds

    async def client(number: int) -> None:
        nonlocal errors
        rng = random.Random(number)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.sleep(rng.random() * pause)
        turn = number
        while time.monotonic() < end:
            start = time.perf_counter()
            errors += await get(reader, writer, parts.netloc, parts.path + paths[turn % len(paths)]) != 200
            seconds.append(time.perf_counter() - start)
            turn += 1
            await asyncio.sleep(pause * (0.5 + rng.random()))
        writer.close()

    await asyncio.gather(*(client(number) for number in range(plan.clients)))
    return seconds, errors


# --- answers


async def ask_all(url: str, asked: Sequence[Chat], at_once: int) -> float:
    """Ask all, so many at a time; returns the seconds that all took."""
    waiting = iter(asked)

    async with httpx.AsyncClient(
        headers={"Authorization": "Bearer any"}, timeout=600, limits=httpx.Limits(max_connections=at_once)
    ) as http:

        async def client() -> None:
            for chat in waiting:
                body = {
                    "model": MODEL,
                    "messages": chat.messages,
                    "max_tokens": chat.tokens,
                    "temperature": 0,
                    # Nothing ends early: each answer has the tokens that it wants.
                    "logit_bias": {str(token): -100 for token in END_TOKENS},
                }
                response = await http.post(f"{url}/chat/completions", json=body)
                response.raise_for_status()
                assert response.json()["usage"]["completion_tokens"] == chat.tokens

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(at_once)))
        return time.perf_counter() - start


def first_token(client: OpenAI, question: str) -> float:
    """Return the seconds to the first token of a stream."""
    start = time.perf_counter()
    stream: Any = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=4, stream=True
    )
    with stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                return time.perf_counter() - start
    raise SystemExit("a stream ended without a token")


class PlainGeneration:
    """transformers' generate on the same model, in batches as requests come."""

    def __init__(self) -> None:
        from tunesmith.models.local import load_model, load_tokenizer

        folder = locate(MODEL).folder
        self.tokenizer: Any = load_tokenizer(folder)
        self.tokenizer.padding_side = "left"
        self.model: Any = load_model(folder)

    def seconds(self, asked: Sequence[Chat]) -> float:
        """Answer all; returns the seconds that it took."""
        import torch

        start = time.perf_counter()
        for first in range(0, len(asked), BATCH):
            batch = asked[first : first + BATCH]
            texts = [
                self.tokenizer.apply_chat_template(chat.messages, tokenize=False, add_generation_prompt=True)
                for chat in batch
            ]
            inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            most = max(chat.tokens for chat in batch)
            with torch.inference_mode():
                self.model.generate(**inputs, max_new_tokens=most, min_new_tokens=most, do_sample=False)
        return time.perf_counter() - start


def end_tokens() -> list[int]:
    """Return the tokens that would end an answer."""
    from tunesmith.models.local import end_of_turn_ids, load_tokenizer

    return sorted(end_of_turn_ids(load_tokenizer(locate(MODEL).folder)) | {0, 1, 2})


END_TOKENS = end_tokens()


def measure(plan: Plan) -> dict[str, float]:
    """Run it all; returns the figures."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place, running_server(Path(place) / "home") as url:
        client = OpenAI(base_url=url, api_key="any", timeout=600)
        first_token(client, "Warm up, please.")
        firsts = [first_token(client, f"Question {i}: what is a graph?") for i in range(3 * plan.repeats)]
        figures["first_token_s"] = statistics.median(firsts)
        say(f"first token after {figures['first_token_s']:.3f} s")
        figures |= answer_figures(url, plan)
        figures |= metadata_figures(client, url, Path(place), plan)
    return figures


def answer_figures(url: str, plan: Plan) -> dict[str, float]:
    """Compare many clients with one, and the server with plain generation."""
    one, many, served, plain = [], [], [], []
    generation = PlainGeneration()
    for repeat in range(plan.repeats):
        same = [Chat(chat.question, TOKENS) for chat in chats(BATCH, seed=10 + repeat)]
        one.append(3 * TOKENS / asyncio.run(ask_all(url, same[:3], 1)))
        many.append(BATCH * TOKENS / asyncio.run(ask_all(url, same, BATCH)))
        asked = chats(plan.chats, seed=20 + repeat)
        wanted = sum(chat.tokens for chat in asked)

        def by_server(asked: Sequence[Chat] = asked, wanted: int = wanted) -> None:
            served.append(wanted / asyncio.run(ask_all(url, asked, BATCH)))

        def by_generate(asked: Sequence[Chat] = asked, wanted: int = wanted) -> None:
            plain.append(wanted / generation.seconds(asked))

        for run in (by_server, by_generate) if repeat % 2 == 0 else (by_generate, by_server):
            run()
        say(
            f"{repeat + 1}/{plan.repeats}: one client {one[-1]:.1f} tokens/s, {BATCH} clients {many[-1]:.1f}; "
            f"mixed load: server {served[-1]:.1f}, generate {plain[-1]:.1f}"
        )
    gains = [b / a for a, b in zip(one, many, strict=True)]
    ratios = [a / b for a, b in zip(served, plain, strict=True)]
    return {
        "batching_gain_16": statistics.median(gains),
        "batching_gain_spread": max(gains) - min(gains),
        "one_tokens_per_second": statistics.median(one),
        "many_tokens_per_second": statistics.median(many),
        "ratio_vs_generate": statistics.median(ratios),
        "ratio_spread": max(ratios) - min(ratios),
        "generate_tokens_per_second": statistics.median(plain),
    }


def metadata_figures(client: OpenAI, url: str, place: Path, plan: Plan) -> dict[str, float]:
    """Read files, jobs and models while a job trains."""
    # Collections of garbage look through all that this process has imported: pauses that are not the server's.
    gc.collect()
    gc.freeze()
    file, job = start_job(client, training_set(place / "chats.jsonl", 400))
    paths = (f"/files/{file}", f"/fine_tuning/jobs/{job}", "/models")
    seconds, errors = asyncio.run(read_metadata(url, paths, plan, pause=1.0))
    busy, more = asyncio.run(read_metadata(url, paths, plan, pause=0.0))
    status = client.fine_tuning.jobs.retrieve(job).status
    if status != "running":
        raise SystemExit(f"the job did not train while it was measured: {status}")
    client.fine_tuning.jobs.cancel(job)
    return {
        "metadata_p99_ms": 1000 * statistics.quantiles(seconds, n=100)[98],
        "metadata_p50_ms": 1000 * statistics.median(seconds),
        "metadata_busy_requests_per_second": len(busy) / plan.seconds,
        "metadata_busy_p99_ms": 1000 * statistics.quantiles(busy, n=100)[98],
        "errors": errors + more,
    }


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    os.environ.setdefault("PYTHONPATH", str(HERE.parent / "src"))
    figures = measure(QUICK if arguments.quick else FULL)
    versions = versions_of(("torch", "transformers", "fastapi", "uvicorn", "openai"))
    if arguments.json:
        print(json.dumps(as_json("serve_load", figures, versions=versions)))
        return
    for key, value in figures.items():
        print(f"{key:36} {value:12.4g}")


if __name__ == "__main__":
    main()
