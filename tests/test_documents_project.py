"""A project of documents alone: a teacher over the wire, a kill in the middle, people's topics, its dataset."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Record, Toolbox

from tunesmith.errors import SourceError
from tunesmith.pipeline import plan
from tunesmith.project import Project, compare_runs
from tunesmith.records import Chunk, Example, Score, Tally, read_jsonl

THINGS = ("kettle", "lamp", "oven", "radio", "clock", "fan", "scale", "iron")
PARTS = ("cord", "switch", "cover", "handle", "plug", "label")


def _page(thing: str) -> str:
    sections = "".join(
        f"## The {part} of the {thing}\n\nThe {part} of the {thing} is checked once a year by the shop in town. "
        f"Whoever finds the {part} of the {thing} broken sends it back in the box that it came in, with the receipt. "
        f"The {thing} works without its {part} for a while, and nobody should rely on that.\n\n"
        for part in PARTS
    )
    return f"# The {thing}\n\n{sections}"


class Teacher:
    """A service that writes one good example of each kind it is asked for, and says how often it was asked what."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.seconds = 0.0
        self.lock = threading.Lock()
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                said = request["messages"][-1]["content"]
                with teacher.lock:
                    teacher.asked[said] += 1
                time.sleep(teacher.seconds)
                reply = _completion(_written(said))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
                """Keep requests off the screen."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"openai:m@http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        """Stop."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def _completion(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    return json.dumps(body).encode()


def _written(prompt: str) -> str:
    found = re.findall(r"## The (\w+) of the (\w+)", prompt)
    styles = re.findall(r"^- (factual|how-to): ", prompt, re.MULTILINE)
    rows = [
        {
            "style": style,
            "question": f"What becomes of the {thing} when its {part} is broken, {style} now?",
            "answer": f"The {part} of the {thing} is sent back in its box, with the receipt.",
            "quotes": [f"Whoever finds the {part} of the {thing} broken sends it back in the box"],
        }
        for style, (part, thing) in zip(styles, found, strict=False)
    ]
    return "\n".join(map(json.dumps, rows))


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    """Start a teacher."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    started = Teacher()
    yield started
    started.close()


def _project(
    folder: Path, toolbox_folder: Path, teacher: str | None, more: str = "", topics: str = ""
) -> Project:
    (folder / "docs").mkdir(parents=True)
    for thing in THINGS:
        (folder / "docs" / f"{thing}.md").write_text(_page(thing), encoding="utf-8")
    shutil.copytree(toolbox_folder / "models", folder / "models")
    named = "" if teacher is None else f'teacher = "{teacher}"'
    (folder / "tunesmith.toml").write_text(
        f'[project]\nname = "shop"\n[collect]\nsources = ["docs"]\n[chunk]\nmax_tokens = 160\n'
        f'[topics]\ncount = 4\n{topics}\n[encoder]\nbase = "path:models/encoder"\n[train]\nbase = "path:models/chat"\n'
        f"[generate]\n{named}\n"
        f'gates = []\nstyles = ["factual", "how-to"]\nexamples_per_chunk = 2\nconcurrency = 4\n{more}\n',
        encoding="utf-8",
    )
    return Project.open(folder)


def _examples(project: Project) -> list[Example]:
    [folder] = project.store.root.glob("artifacts/generate-*")
    return list(read_jsonl(Example, folder / "examples.jsonl"))


def _tally(project: Project) -> Tally:
    [folder] = project.store.root.glob("artifacts/generate-*")
    return Tally(**json.loads((folder / "tally.json").read_text(encoding="utf-8")))


def test_documents_become_a_dataset(
    tmp_path: Path, toolbox_folder: Path, teacher: Teacher, record: Record
) -> None:
    """Every example is grounded in its document; what is left out is told."""
    project = _project(tmp_path / "shop", toolbox_folder, teacher.address)

    project.run("curate", record)

    examples, tally = _examples(project), _tally(project)
    assert len(examples) == tally.accepted > 40
    assert {example.origin for example in examples} == {f"teacher:{teacher.address}"}
    texts = {f"file:docs/{thing}.md": _page(thing) for thing in THINGS}
    for example in examples:
        [piece] = example.evidence
        assert texts[piece.document][piece.start : piece.end] == piece.quote
    made = project.dataset("openai", tmp_path / "rows")
    assert made.rows["train"] > made.rows["seen"] > 0


def test_documents_come_to_a_verdict(
    tmp_path: Path, toolbox_folder: Path, teacher: Teacher, record: Record
) -> None:
    """Passages are found, contenders answer in words, and each figure stands with its interval, floor and ceiling."""
    few = "[train]\nexamples = 24\nepochs = 1\n[evaluate]\nmax_tokens = 8\nbatch_size = 32\n"
    project = _project(tmp_path / "shop", toolbox_folder, teacher.address)
    toml = project.path / "tunesmith.toml"
    base = '[train]\nbase = "path:models/chat"\n'
    text = toml.read_text(encoding="utf-8")
    toml.write_text(text.replace(base, few.replace("[train]\n", base)), encoding="utf-8")
    project = Project.open(project.path)

    project.run(None, record)

    figures = project.report().json
    assert figures["metric"] == "f1"
    assert figures["words"]["verdict"] == figures["verdict"]
    assert set(figures["contenders"]) == {
        name for name in project.config.contenders if "constrained" not in name
    }
    assert any("constrained" in said for said in record.said)
    for name in ("seen", "unseen"):
        ceiling = figures["ceilings"]["hit_in_5"][name]["found"]
        assert ceiling["n"] == figures["contenders"]["base"][name]["f1"]["n"] > 0
        # The template of the teacher's answers: copying one gets most words right, a random model none.
        copied, base_f1 = figures["floors"]["nearest"][name]["f1"], figures["contenders"]["base"][name]["f1"]
        assert copied["value"] > base_f1["value"]
    assert "token F1" in project.report().html.read_text(encoding="utf-8")
    [scored] = project.store.root.glob("artifacts/evaluate-*/scores.jsonl")
    shown = {one for score in read_jsonl(Score, scored) for one in score.answer.retrieved}
    [passages] = project.store.root.glob("artifacts/index-*/passages.jsonl")
    assert shown <= {passage.id for passage in read_jsonl(Chunk, passages)}
    asked = project.ask("Who checks the cord of the kettle?", "retrieval")
    assert asked.judgement is None
    assert [source.quote for source in asked.sources]
    renamed = Project(replace(project.config, name="another"))
    ids, others = ({one.stage.name: one.id for one in plan(each.config)} for each in (project, renamed))
    # The prompt names the project: what was trained under it is trained again.
    moved = {stage for stage in ids if ids[stage] != others[stage]}
    assert moved == {"estimate", "train", "curve", "evaluate", "risks", "report"}
    project.export("adapter", tmp_path / "adapter", proved=False)
    assert "| f1 |" in (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    same = compare_runs(project.path, project.path)
    assert {(row.metric, row.paired.difference) for row in same.rows} <= {("f1", 0.0), ("found", 0.0)}
    for form in ("json", "lm-eval", "inspect"):
        assert project.write_results(form, tmp_path / form)
    assert compare_runs(project.path, tmp_path / "json").rows


def test_a_kill_costs_nothing_and_nothing_is_asked_twice(
    tmp_path: Path, toolbox: Toolbox, toolbox_folder: Path, teacher: Teacher
) -> None:
    """But for the questions that were on their way: the next run goes on, and its counts are an unbroken run's."""
    project = _project(tmp_path / "shop", toolbox_folder, teacher.address)
    teacher.seconds = 0.1
    command = [sys.executable, "-m", "tunesmith", "run", "curate"]
    child = subprocess.Popen(
        command,
        cwd=project.path,
        env=dict(toolbox.environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while sum(teacher.asked.values()) < 12 and time.monotonic() < until:
        time.sleep(0.02)
    child.kill()
    child.wait()
    before = sum(teacher.asked.values())
    teacher.seconds = 0.0

    project.run("curate")

    whole = _project(tmp_path / "whole", toolbox_folder, teacher.address)
    asked = Counter(teacher.asked)
    whole.run("curate")
    assert before >= 12
    assert sum(count - 1 for count in asked.values()) <= 4
    assert _tally(project) == _tally(whole)
    assert [example.id for example in _examples(project)] == [example.id for example in _examples(whole)]


def test_another_setting_asks_nothing_that_was_answered(
    tmp_path: Path, toolbox_folder: Path, teacher: Teacher
) -> None:
    """Replies are kept beside the artefacts: a gate more, and the same replies are read again."""
    project = _project(tmp_path / "shop", toolbox_folder, teacher.address)
    project.run("generate")
    asked = sum(teacher.asked.values())
    toml = project.path / "tunesmith.toml"
    toml.write_text(
        toml.read_text(encoding="utf-8").replace("gates = []", 'gates = ["doctest"]'), encoding="utf-8"
    )

    again = Project.open(project.path)
    again.run("generate")

    assert sum(teacher.asked.values()) == asked
    assert len(list(project.store.root.glob("artifacts/generate-*"))) == 2


def test_a_ceiling_stops_asking_and_accounts_for_the_rest(
    tmp_path: Path, toolbox_folder: Path, teacher: Teacher, record: Record
) -> None:
    """What was not asked is a rejection with that reason."""
    ceiling = "usd_per_million = [1000.0, 1000.0]\nmax_cost_usd = 12.0"
    project = _project(tmp_path / "shop", toolbox_folder, teacher.address, ceiling)

    project.run("generate", record)

    spent = sum(teacher.asked.values()) * 1.1
    assert 5.0 < spent <= 12.0
    assert _tally(project).rejected["over the price ceiling"] > 0
    assert any("US dollars" in said for said in record.said)


def test_a_persons_topics_move_the_budget(tmp_path: Path, toolbox_folder: Path, teacher: Teacher) -> None:
    """A dropped topic gets no example; the others share the budget."""
    first = _project(tmp_path / "first", toolbox_folder, teacher.address)
    first.run("chunk")
    first.write_topics(tmp_path / "topics.toml")
    dropped = first.topics()[0]
    text = (tmp_path / "topics.toml").read_text(encoding="utf-8")
    label = f"label = {json.dumps(dropped.label)}"
    assert label in text

    second = _project(
        tmp_path / "second", toolbox_folder, teacher.address, "budget = 20", 'choices = "topics.toml"'
    )
    (second.path / "topics.toml").write_text(text.replace(label, f"{label}\ndrop = true"), encoding="utf-8")
    second.run("generate")

    assert len(second.topics()) == len(first.topics()) - 1
    [folder] = second.store.root.glob("artifacts/chunk-*")
    chunks = read_jsonl(Chunk, folder / "chunks.jsonl")
    of_dropped = [chunk for chunk in chunks if chunk.id in dropped.chunks]
    assert of_dropped
    assert 0 < _tally(second).requested <= 20
    places = {(chunk.document, chunk.start, chunk.end) for chunk in of_dropped}
    for example in _examples(second):
        [piece] = example.evidence
        assert not any(
            piece.document == document and start <= piece.start < end for document, start, end in places
        )


def test_documents_without_a_teacher_say_what_is_missing(tmp_path: Path, toolbox_folder: Path) -> None:
    """Nothing can be made of them by rule."""
    project = _project(tmp_path / "shop", toolbox_folder, None)

    with pytest.raises(SourceError) as error:
        project.run("generate")

    assert error.value.hint is not None
    assert "teacher in [generate]" in error.value.hint
