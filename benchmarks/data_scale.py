"""How much data is a matter of minutes: checking, deduplicating, collecting, and keeping a teacher busy.

    python benchmarks/data_scale.py [--quick] [--only check dedupe pages teacher] [--repeats N] [--growth] [--json]

Texts are paragraphs of the documentation of installed packages, put together at random from a fixed seed. Each
measurement is a process of its own; memory is the sum over its processes of what each holds alone and its share of what
they share (PSS), looked at five times a second, the most. Times are medians over the repeats, `*_spread` the largest
less the smallest.

- check_1gb_s, check_1gb_mb: `tunesmith check` on a JSONL of chats of 10^9 bytes. check_vs_parsing: as a multiple of
  what parsing its lines takes one process with orjson. check_1gb_private_s: looking for private data as well, once.
- dedupe_1m_s, dedupe_1m_gb: `tunesmith dedupe --near 0.85` on 1,000,000 chats, a tenth of them repeated: half to the
  letter, half with one word changed. dedupe_recall: the share of those that is found.
- pages_10k_s: 10,000 HTML pages of a folder, collected and cut into chunks of a tokenizer's tokens.
- teacher_busy: 32 questions at once, each answered after 200 ms over HTTP: the time that the answers alone take, by 32,
  over the time that passes.

With --growth the first three are measured at a tenth and at a hundredth of the size as well, once, and a plot is
written to docs/stages/data-growth.svg.
"""

from __future__ import annotations

import argparse
import inspect
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import orjson
import psutil
from hardware import as_json, versions_of

HERE = Path(__file__).resolve().parent
PYTHON = [sys.executable, "-m", "tunesmith"]
GB = 10**9
CONCURRENCY, ANSWER_SECONDS = 32, 0.2
PARTS = ("check", "dedupe", "pages", "teacher")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is of what."""

    check_bytes: int = GB
    dedupe_rows: int = 1_000_000
    pages: int = 10_000
    questions: int = 1_600

    def scaled(self, share: float) -> Sizes:
        """Return a share of it."""
        return Sizes(
            int(self.check_bytes * share),
            int(self.dedupe_rows * share),
            int(self.pages * share),
            max(CONCURRENCY * 4, int(self.questions * share)),
        )


@dataclass(frozen=True, slots=True)
class Used:
    """What a process took: seconds, and bytes of memory at its peak."""

    seconds: float
    peak: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything, once")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        WORKERS[given.worker[0]](given.worker[1])
        return
    sizes, repeats = (Sizes().scaled(0.01), 1) if given.quick else (Sizes(), given.repeats)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in given.only:
            figures |= MEASURES[part](Path(folder), sizes, repeats)
    if given.growth:
        draw_growth({part: growth(part, sizes, figures) for part in given.only if part in SECONDS})
    report = as_json(
        "data_scale", figures, versions=versions_of(["tunesmith", "tokenizers", "rensa", "trafilatura"])
    )
    print(
        json.dumps(report)
        if given.json
        else "\n".join(f"{key}: {value:.4g}" for key, value in figures.items())
    )


# --- the material


def sentences() -> list[str]:
    """Return paragraphs of the documentation that is installed here."""
    import networkx

    texts = [
        str(each.metadata.get_payload() or each.metadata["Description"] or "") for each in distributions()
    ]
    texts += [inspect.getdoc(getattr(networkx, name)) or "" for name in dir(networkx)]
    found = {
        part.strip() for text in texts for part in re.split(r"\n\s*\n", text) if 60 < len(part.strip()) < 900
    }
    return sorted(found)


def write_chats(path: Path, size: int) -> None:
    """Write chats of one to three questions until the file has so many bytes."""
    parts, chance, written, number = sentences(), random.Random(0), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            turns = [{"role": "system", "content": "You answer questions about software."}] * (
                chance.random() < 0.5
            )
            for _ in range(chance.choice((1, 1, 1, 2, 3))):
                number += 1
                asked = f"{chance.choice(parts)[:160].strip()} ({number})"
                answer = "\n\n".join(chance.choices(parts, k=chance.choice((1, 1, 2, 3))))
                turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            line = json.dumps({"messages": turns}, ensure_ascii=False) + "\n"
            file.write(line)
            written += len(line.encode())


def write_rows(path: Path, count: int) -> int:
    """Write short chats, a tenth of which repeat others, and return how many do."""
    words = " ".join(sentences()).split()
    chance, earlier, repeated = random.Random(1), list[str](), 0
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            kind = chance.random() if number > 100 else 1.0
            if kind < 0.1:
                said = chance.choice(earlier).split(" ")
                repeated += 1
                if kind < 0.05:
                    said[chance.randrange(len(said))] = f"changed{number}"
                text = " ".join(said)
            else:
                text = " ".join(chance.choices(words, k=chance.randint(40, 90)))
                if len(earlier) < 50_000:
                    earlier.append(text)
            half = text.rfind(" ", 0, len(text) // 2)
            turns = [("user", text[:half]), ("assistant", text[half + 1 :])]
            row = {"messages": [{"role": role, "content": content} for role, content in turns]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return repeated


def write_pages(folder: Path, count: int) -> None:
    """Write pages with navigation, headings, paragraphs, code and a table."""
    parts, chance = sentences(), random.Random(2)
    links = "".join(f'<li><a href="/p{number}.html">Page {number}</a></li>' for number in range(30))
    escape = str.maketrans({"<": "&lt;", ">": "&gt;", "&": "&amp;"})
    folder.mkdir()
    for number in range(count):
        body = "".join(
            f"<h2>Section {section}</h2><p>{chance.choice(parts).translate(escape)}</p>"
            f"<p>{chance.choice(parts).translate(escape)}</p><pre><code>call({number}, {section})</code></pre>"
            for section in range(chance.randint(2, 6))
        )
        table = (
            "<table><tr><th>option</th><th>meaning</th></tr>"
            + "<tr><td>a</td><td>one</td></tr>" * 5
            + "</table>"
        )
        page = (
            f"<html><head><title>Page {number}</title></head><body><nav><ul>{links}</ul></nav><main>"
            f"<h1>Page {number}</h1>{body}{table}</main><footer>Copyright</footer></body></html>"
        )
        folder.joinpath(f"p{number}.html").write_text(page, encoding="utf-8")


# --- the measurements


def measure_check(folder: Path, sizes: Sizes, repeats: int) -> dict[str, float]:
    """Check a file."""
    path = folder / "chats.jsonl"
    write_chats(path, sizes.check_bytes)
    command = [*PYTHON, "check", str(path), "--json", "--max-length", "8192"]
    used = [watched(command) for _ in range(repeats)]
    private = watched([*command, "--private", "report"])
    begin = time.perf_counter()
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)
    parsing = time.perf_counter() - begin
    path.unlink()
    seconds = statistics.median(one.seconds for one in used)
    return {
        "check_1gb_s": seconds,
        "check_1gb_s_spread": spread([one.seconds for one in used]),
        "check_1gb_mb": max(one.peak for one in used) / 1e6,
        "check_vs_parsing": seconds / parsing,
        "check_1gb_private_s": private.seconds,
    }


def measure_dedupe(folder: Path, sizes: Sizes, repeats: int) -> dict[str, float]:
    """Leave out rows that repeat others."""
    path, out = folder / "rows.jsonl", folder / "left.jsonl"
    repeated, used, found = write_rows(path, sizes.dedupe_rows), list[Used](), 0
    for _ in range(repeats):
        out.unlink(missing_ok=True)
        out.with_name("left.jsonl.pairs.jsonl").unlink(missing_ok=True)
        used.append(watched([*PYTHON, "dedupe", str(path), "--near", "0.85", "--out", str(out), "--json"]))
        with out.open("rb") as file:
            found = sizes.dedupe_rows - sum(1 for _ in file)
    path.unlink()
    return {
        "dedupe_1m_s": statistics.median(one.seconds for one in used),
        "dedupe_1m_s_spread": spread([one.seconds for one in used]),
        "dedupe_1m_gb": max(one.peak for one in used) / 1e9,
        "dedupe_recall": found / repeated,
    }


def measure_pages(folder: Path, sizes: Sizes, repeats: int) -> dict[str, float]:
    """Collect pages and cut them."""
    site = folder / "site"
    write_pages(site, sizes.pages)
    used = [watched([sys.executable, __file__, "--worker", "pages", str(site)]) for _ in range(repeats)]
    return {
        "pages_10k_s": statistics.median(one.seconds for one in used),
        "pages_10k_s_spread": spread([one.seconds for one in used]),
        "pages_10k_gb": max(one.peak for one in used) / 1e9,
    }


def measure_teacher(folder: Path, sizes: Sizes, repeats: int) -> dict[str, float]:
    """Ask a service as fast as it answers."""
    shares = []
    with service() as url:
        for _ in range(repeats):
            command = [sys.executable, __file__, "--worker", "teacher", f"{url} {sizes.questions}"]
            shares.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return {"teacher_busy": statistics.median(shares), "teacher_busy_spread": spread(shares)}


MEASURES: Mapping[str, Callable[[Path, Sizes, int], dict[str, float]]] = {
    "check": measure_check,
    "dedupe": measure_dedupe,
    "pages": measure_pages,
    "teacher": measure_teacher,
}


SECONDS: Mapping[str, tuple[str, str]] = {
    "check": ("check_bytes", "check_1gb_s"),
    "dedupe": ("dedupe_rows", "dedupe_1m_s"),
    "pages": ("pages", "pages_10k_s"),
}


def growth(part: str, sizes: Sizes, figures: Mapping[str, float]) -> list[tuple[int, float]]:
    """Return the size and the seconds of a part at a hundredth, a tenth and all of it, which was measured before."""
    size, seconds = SECONDS[part]
    points = []
    for share in (0.01, 0.1):
        with tempfile.TemporaryDirectory() as folder:
            found = MEASURES[part](Path(folder), sizes.scaled(share), 1)
        points.append((int(getattr(sizes, size) * share), found[seconds]))
    return [*points, (getattr(sizes, size), figures[seconds])]


def draw_growth(points: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Draw seconds against size, both on logarithmic axes."""
    import altair
    import vl_convert

    rows = [
        {"what": part, "share of the largest": size / rows[-1][0], "seconds": seconds}
        for part, rows in points.items()
        for size, seconds in rows
    ]
    chart = (
        altair.Chart(altair.Data(values=rows))
        .mark_line(point=True)
        .encode(
            x=altair.X("share of the largest:Q", scale=altair.Scale(type="log")),
            y=altair.Y("seconds:Q", scale=altair.Scale(type="log")),
            color="what:N",
        )
        .properties(width=420, height=260)
    )
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    HERE.parent.joinpath("docs", "stages", "data-growth.svg").write_text(svg, encoding="utf-8")


# --- the processes


def watched(command: Sequence[str]) -> Used:
    """Run a command and return its time and memory; raises CalledProcessError unless it ends with 0 or 1."""
    begin, peak = time.perf_counter(), 0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while True:
        try:
            child.wait(0.2)
        except subprocess.TimeoutExpired:
            peak = max(peak, memory(child.pid))
        else:
            break
    if child.returncode not in (0, 1):
        raise subprocess.CalledProcessError(
            child.returncode, command, stderr=child.stderr and child.stderr.read()
        )
    return Used(time.perf_counter() - begin, peak)


def memory(pid: int) -> int:
    """Return what a process and those that it started hold, what they share counted once."""
    total = 0
    try:
        whole = psutil.Process(pid)
        for process in (whole, *whole.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:
        return total
    return total


def collect_pages(site: str) -> None:
    """Collect a folder of pages and cut them into chunks."""
    from transformers import AutoTokenizer

    from tunesmith.chunking.chunk import ChunkSettings, chunk
    from tunesmith.collecting.collect import collect
    from tunesmith.models.address import model_folder

    tokenizer = AutoTokenizer.from_pretrained(model_folder("smollm2"))

    def count(texts: Sequence[str]) -> list[int]:
        return (
            [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
            if texts
            else []
        )

    chunks = chunk(collect([site], base=Path()).documents, ChunkSettings(), count=count)
    print(len(chunks))


def ask(told: str) -> None:
    """Ask a service so many questions and print how busy it was kept."""
    from tunesmith.generating.asking import Asker
    from tunesmith.models.base import Sampling
    from tunesmith.models.remote import RemoteModel
    from tunesmith.records import Message

    url, count = told.split()
    asker = Asker(RemoteModel("m", base_url=url), concurrency=CONCURRENCY)
    asker.ask([(Message("user", "warm up"),)], Sampling())
    questions = [(Message("user", f"Question {number}? " * 40),) for number in range(int(count))]
    begin = time.perf_counter()
    asker.ask(questions, Sampling(max_tokens=64))
    print(int(count) * ANSWER_SECONDS / CONCURRENCY / (time.perf_counter() - begin))


def serve(_: str) -> None:
    """Answer chats after a fixed time, and print the port first."""
    import asyncio

    body = json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        }
    )
    reply = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            await asyncio.sleep(ANSWER_SECONDS)
            writer.write(reply)
            await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


class service:  # noqa: N801 - used like a function
    """A service in a process of its own; its URL."""

    def __enter__(self) -> str:
        command = [sys.executable, __file__, "--worker", "serve", "-"]
        self._child: subprocess.Popen[str] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._child.stdout is not None
        return f"http://127.0.0.1:{self._child.stdout.readline().strip()}/v1"

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()


WORKERS: Mapping[str, Callable[[str], Any]] = {"pages": collect_pages, "teacher": ask, "serve": serve}


def spread(numbers: Sequence[float]) -> float:
    """Return the largest less the smallest."""
    return max(numbers) - min(numbers)


if __name__ == "__main__":
    main()
