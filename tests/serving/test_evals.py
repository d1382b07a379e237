"""Evals over the wire, with the real SDK: made, run over items, graded, listed, cancelled, deleted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import openai
import pytest
from openai import OpenAI
from sqlalchemy import select

from tunesmith.serving.keys import new_key
from tunesmith.serving.options import Options
from tunesmith.serving.tables import EvalItem

from .running import Running, serving

SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
}
SAME = {
    "type": "string_check", "name": "same", "operation": "eq",
    "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
}  # fmt: skip
LONG = {
    "type": "python", "name": "long", "pass_threshold": 3,
    "source": "def grade(sample, item):\n    return len(sample['output_text'])",
}  # fmt: skip
TEMPLATE = {"type": "template", "template": [{"role": "user", "content": "{{ item.question }}"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, options: Options) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("evals") / "home", options) as running:
        yield running


def new_eval(client: OpenAI, *criteria: Any, schema: Any = SCHEMA, **more: Any) -> Any:
    """Describe an eval."""
    config: Any = {"type": "custom", "item_schema": schema, "include_sample_schema": True}
    graders: Any = list(criteria) or [SAME, LONG]
    return client.evals.create(name="e", data_source_config=config, testing_criteria=graders, **more)


def items(*pairs: tuple[str, str, str | None]) -> list[dict[str, Any]]:
    """Return items, with answers where there are any."""
    return [
        {"item": {"question": question, "answer": answer}}
        | ({} if said is None else {"sample": {"output_text": said}})
        for question, answer, said in pairs
    ]


def ended(client: OpenAI, run: Any) -> Any:
    """Wait for the end of a run."""
    deadline = time.monotonic() + 60
    while (found := client.evals.runs.retrieve(run.id, eval_id=run.eval_id)).status in (
        "queued",
        "in_progress",
    ):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_answers_that_are_there_are_graded(server: Running) -> None:
    client = server.client
    made = new_eval(client, metadata={"a": "b"})
    assert made.data_source_config.type == "custom"
    content = items(("a", "yes", "yes"), ("b", "yes", "no"), ("c", "no", "no"))
    source: Any = {"type": "jsonl", "source": {"type": "file_content", "content": content}}
    run = client.evals.runs.create(made.id, data_source=source, metadata={"c": "d"})
    assert (run.status, run.eval_id, run.metadata) == ("queued", made.id, {"c": "d"})
    done = ended(client, run)
    assert done.status == "completed"
    assert done.result_counts.model_dump() == {"total": 3, "passed": 1, "failed": 2, "errored": 0}
    by_name = {row.testing_criteria: (row.passed, row.failed) for row in done.per_testing_criteria_results}
    assert by_name == {"same": (2, 1), "long": (1, 2)}
    found = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=2))
    assert sorted(each.datasource_item_id for each in found) == [1, 2, 3]
    one = next(each for each in found if each.datasource_item_id == 1)
    assert one.status == "pass"
    assert {result.name: (result.passed, result.score) for result in one.results} == {
        "same": (True, 1), "long": (True, 3),
    }  # fmt: skip
    assert one.sample.output[0].content == "yes"
    failed = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, status="fail"))
    assert sorted(each.datasource_item_id for each in failed) == [2, 3]
    shown = client.evals.runs.output_items.retrieve(one.id, eval_id=made.id, run_id=run.id)
    assert shown.model_dump() == one.model_dump()


@pytest.mark.parametrize("kind", ["completions", "responses"])
def test_a_model_answers_and_is_graded(server: Running, kind: str) -> None:
    client = server.client
    asked: Any = [{"role": "user", "content": "find the node"}]
    expected = client.chat.completions.create(model="tiny", messages=asked, max_tokens=4, temperature=0)
    text = expected.choices[0].message.content or ""
    rows = "".join(
        json.dumps(row) + "\n" for row in items(("find the node", text, None), ("and?", "never", None))
    )
    file = client.files.create(file=("items.jsonl", BytesIO(rows.encode())), purpose="evals")
    made = new_eval(client, SAME)
    source: Any = {
        "type": kind,
        "model": "tiny",
        "source": {"type": "file_id", "id": file.id},
        "input_messages": TEMPLATE,
        "sampling_params": {"temperature": 0, "max_completion_tokens": 4},
    }
    run = client.evals.runs.create(made.id, data_source=source)
    # What is deleted after a run began is not missed by it.
    client.files.delete(file.id)
    done = ended(client, run)
    assert (done.status, done.result_counts.passed, done.result_counts.failed) == ("completed", 1, 1)
    [used] = done.per_model_usage
    assert (used.run_model_name, used.invocation_count, used.completion_tokens) == ("tiny", 2, 8)
    [good] = client.evals.runs.output_items.list(run.id, eval_id=made.id, status="pass")
    assert good.sample.input[0].content == "find the node"
    assert (good.sample.model, good.sample.usage.completion_tokens) == ("tiny", 4)
    assert list((server.services.home.root / "evals").iterdir()) == []


def test_messages_may_stand_in_the_item_and_a_model_may_grade(server: Running) -> None:
    client = server.client
    config: Any = {"type": "custom", "item_schema": {"type": "object"}}
    judge: Any = {
        "type": "label_model", "name": "judge", "model": "tiny", "labels": ["good", "bad"],
        "passing_labels": ["good", "bad"], "input": [{"role": "user", "content": "{{sample.output_text}}?"}],
    }  # fmt: skip
    made = client.evals.create(data_source_config=config, testing_criteria=[judge])
    content = [{"item": {"messages": [{"role": "user", "content": "find"}]}}, {"item": {"messages": "none"}}]
    source: Any = {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "file_content", "content": content},
        "input_messages": {"type": "item_reference", "item_reference": "item.messages"},
        "sampling_params": {"max_completion_tokens": 2, "temperature": 0},
    }
    done = ended(client, client.evals.runs.create(made.id, data_source=source))
    found = list(client.evals.runs.output_items.list(done.id, eval_id=made.id))
    assert (done.result_counts.passed, done.result_counts.errored) == (1, 1), [each.results for each in found]
    [bad] = client.evals.runs.output_items.list(done.id, eval_id=made.id, extra_query={"status": "error"})
    assert "is no list of messages" in bad.sample.error.message


def test_evals_are_listed_changed_and_deleted_with_their_runs(server: Running) -> None:
    client = server.client
    made = [new_eval(client) for _ in range(3)]
    listed = [each.id for each in client.evals.list(order="desc", limit=2)]
    assert listed[:3] == [each.id for each in reversed(made)]
    changed = client.evals.update(made[0].id, name="new", metadata={"x": "y"})
    assert (changed.name, changed.metadata) == ("new", {"x": "y"})
    source: Any = {"type": "jsonl", "source": {"type": "file_content", "content": items(("a", "b", "c"))}}
    runs = [client.evals.runs.create(made[0].id, data_source=source) for _ in range(2)]
    for run in runs:
        ended(client, run)
    assert [run.id for run in client.evals.runs.list(made[0].id, status="completed")] == [
        run.id for run in runs
    ]
    assert client.evals.runs.delete(runs[0].id, eval_id=made[0].id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.evals.runs.retrieve(runs[0].id, eval_id=made[0].id)
    with pytest.raises(openai.BadRequestError, match="is not of the eval"):
        client.evals.runs.retrieve(runs[1].id, eval_id=made[1].id)
    with pytest.raises(openai.ConflictError, match="is completed"):
        client.evals.runs.cancel(runs[1].id, eval_id=made[0].id)
    assert client.evals.delete(made[0].id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.evals.retrieve(made[0].id)
    assert server.services.store.all(select(EvalItem).where(EvalItem.run == runs[1].id)) == []


@pytest.mark.parametrize("old", [False, True])
def test_a_run_is_cancelled_and_keeps_what_it_has(server: Running, old: bool) -> None:
    client = server.client
    made = new_eval(client, SAME)
    source: Any = {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "file_content", "content": items(*[(f"find {n}", "x", None) for n in range(400)])},
        "input_messages": TEMPLATE,
        "sampling_params": {"max_completion_tokens": 40},
    }
    run = client.evals.runs.create(made.id, data_source=source)
    while client.evals.runs.retrieve(run.id, eval_id=made.id).result_counts.failed == 0:
        time.sleep(0.02)
    if old:
        # As SDKs up to 3.3 do.
        client.post(f"/evals/{made.id}/runs/{run.id}", cast_to=object)
    else:
        client.evals.runs.cancel(run.id, eval_id=made.id)
    done = ended(client, run)
    assert done.status == "canceled"
    assert 0 < done.result_counts.failed < 400


def test_a_run_goes_on_after_a_restart_without_grading_twice(tmp_path: Path, options: Options) -> None:
    source: Any = {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "file_content", "content": items(*[(f"find {n}", "x", None) for n in range(60)])},
        "input_messages": TEMPLATE,
        "sampling_params": {"max_completion_tokens": 20},
    }
    with serving(tmp_path / "home", options) as running:
        made = new_eval(running.client, SAME)
        run = running.client.evals.runs.create(made.id, data_source=source)
        while running.client.evals.runs.retrieve(run.id, eval_id=made.id).result_counts.failed == 0:
            time.sleep(0.02)
    with serving(tmp_path / "home", options) as running:
        done = ended(running.client, run)
        assert (done.status, done.result_counts.failed) == ("completed", 60)
        found = list(running.client.evals.runs.output_items.list(run.id, eval_id=made.id, limit=100))
        assert sorted(each.datasource_item_id for each in found) == list(range(1, 61))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "line 1: not JSON"),
        (b'{"item": {"question": "a", "answer": "b"}}\n{"items": {}}', "line 2: 'item' is missing"),
        (b'{"item": {"question": "a"}}', 'line 1: item: "answer" is a required property'),
        (b'{"item": {"question": "a", "answer": 3}}', 'line 1: item.answer: 3 is not of type "string"'),
        (b"\n\n", "there are no items"),
    ],
)
def test_a_faulty_item_fails_the_run_by_its_line(server: Running, content: bytes, said: str) -> None:
    client = server.client
    made = new_eval(client)
    file = client.files.create(file=("i.jsonl", BytesIO(content)), purpose="evals")
    source: Any = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    done = ended(client, client.evals.runs.create(made.id, data_source=source))
    assert done.status == "failed"
    assert done.error.message.startswith(said)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data_source_config": {"type": "logs"}}, "data_source_config"),
        ({"data_source_config": {"type": "custom", "item_schema": {"type": "thing"}}}, "schema cannot be used"),
        ({"testing_criteria": []}, "testing_criteria"),
        ({"testing_criteria": [LONG | {"source": "x"}]}, "Invalid criterion 'long'"),
        ({"testing_criteria": [SAME | {"type": "text_similarity", "evaluation_metric": "bleu"}]}, "operation"),
        (
            {"testing_criteria": [{"type": "text_similarity", "name": "t", "evaluation_metric": "bleu",
                                   "input": "", "reference": ""}]},
            "needs 'pass_threshold'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_graded_is_refused(server: Running, given: Any, said: str) -> None:
    asked: Any = {"data_source_config": {"type": "custom", "item_schema": SCHEMA}, "testing_criteria": [SAME]}
    with pytest.raises(openai.BadRequestError, match=said):
        server.client.evals.create(**asked | given)


def test_logs_are_no_source(server: Running) -> None:
    made = new_eval(server.client)
    source: Any = {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "stored_completions"},
        "input_messages": TEMPLATE,
    }
    with pytest.raises(openai.BadRequestError, match="answers are not logged here"):
        server.client.evals.runs.create(made.id, data_source=source)


def test_other_organisations_see_nothing(tmp_path: Path, options: Options) -> None:
    with serving(tmp_path / "home", options) as running:
        store = running.services.store
        keys = {
            name: new_key(store, organisation=name, name="", scopes=["inference"])
            for name in ("ours", "theirs")
        }
        ours, theirs = (running.as_key(keys[name]) for name in ("ours", "theirs"))
        made = new_eval(ours)
        source: Any = {"type": "jsonl", "source": {"type": "file_content", "content": items(("a", "b", "c"))}}
        run = ended(ours, ours.evals.runs.create(made.id, data_source=source))
        [item] = ours.evals.runs.output_items.list(run.id, eval_id=made.id)
        mine = new_eval(theirs)
        for call in (
            lambda: theirs.evals.retrieve(made.id),
            lambda: theirs.evals.update(made.id, name="x"),
            lambda: theirs.evals.delete(made.id),
            lambda: theirs.evals.runs.create(made.id, data_source=source),
            lambda: theirs.evals.runs.retrieve(run.id, eval_id=mine.id),
            lambda: theirs.evals.runs.output_items.list(run.id, eval_id=made.id),
            lambda: theirs.evals.runs.output_items.retrieve(item.id, eval_id=mine.id, run_id=run.id),
        ):
            with pytest.raises(openai.NotFoundError):
                call()
        assert [each.id for each in theirs.evals.list()] == [mine.id]


class Odd(BaseHTTPRequestHandler):
    """A service that speaks OpenAI's API badly: no usage, then another form, then an error in its own words."""

    answers: ClassVar[list[tuple[int, Any]]] = [
        (200, {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}),
        (200, {"result": "yes"}),
        (500, {"detail": "no GPU today"}),
    ]

    def do_POST(self) -> None:
        """Give the answer that the question asks for by its number."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, body = self.answers[int(asked["messages"][0]["content"])]
        told = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_a_service_that_answers_oddly_costs_its_items_and_not_the_run(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as odd:
        Thread(target=odd.serve_forever, daemon=True).start()
        far = f"openai:odd@http://127.0.0.1:{odd.server_address[1]}/v1"
        with serving(tmp_path / "home", Options(models={"far": far})) as running:
            made = new_eval(running.client, SAME)
            content = items(*[(str(number), "yes", None) for number in range(3)])
            source: Any = {
                "type": "completions",
                "model": "far",
                "source": {"type": "file_content", "content": content},
                "input_messages": TEMPLATE,
            }
            done = ended(running.client, running.client.evals.runs.create(made.id, data_source=source))
            assert (done.status, done.result_counts.passed, done.result_counts.errored) == ("completed", 1, 2)
            found = running.client.evals.runs.output_items.list(
                done.id, eval_id=made.id, extra_query={"status": "error"}
            )
            said = sorted(item.sample.error.message for item in found)
            assert "another form than the API's" in said[0]
            assert "no GPU today" in said[1]
        odd.shutdown()


def test_an_order_that_is_not_kept_is_refused(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="order_by"):
        server.client.evals.list(order_by="updated_at")


def test_a_folder_that_no_run_knows_is_taken_away(tmp_path: Path, options: Options) -> None:
    """A server was killed while it made the run; items of a run that is known stay."""
    with serving(tmp_path / "home", options) as running:
        made = new_eval(running.client)
        source: Any = {"type": "jsonl", "source": {"type": "file_content", "content": items(("a", "b", "b"))}}
        run = ended(running.client, running.client.evals.runs.create(made.id, data_source=source))
    folder = tmp_path / "home/evals"
    for name in (run.id, "evalrun_lost"):
        (folder / name).mkdir(exist_ok=True)
    with serving(tmp_path / "home", options):
        assert [each.name for each in folder.iterdir()] == [run.id]


def test_a_schema_fetches_nothing(server: Running) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as odd:
        Thread(target=odd.serve_forever, daemon=True).start()
        asked: list[str] = []
        Odd.do_GET = lambda self: asked.append(self.path)  # type: ignore[attr-defined]
        far = f"http://127.0.0.1:{odd.server_address[1]}/x"
        for ref, said in (
            (far, f"cannot fetch {far}"),
            ("file:///etc/hostname", "cannot fetch file:///etc/hostname"),
            ("#/$defs/x", "Pointer '/\\$defs/x' does not exist"),
        ):
            with pytest.raises(openai.BadRequestError, match=said):
                new_eval(server.client, schema={"$ref": ref})
        assert asked == []
        odd.shutdown()


def test_a_schema_costs_no_more_time_than_its_items_are_long(server: Running) -> None:
    """A circle ends, and a pattern on which backtracking takes forever is read in one pass or not at all."""
    source: Any = {
        "type": "jsonl",
        "source": {"type": "file_content", "content": items(("a" * 5_000 + "!", "b", "b"))},
    }
    for schema, status in (
        ({"properties": {"question": {"pattern": "^(a+)+$"}}}, "failed"),
        ({"$ref": "#"}, "completed"),
        ({"pattern": "(?=a)b"}, None),
    ):
        if status is None:
            with pytest.raises(openai.BadRequestError, match="look-around and back references are not"):
                new_eval(server.client, schema=schema)
            continue
        made = new_eval(server.client, SAME, schema=schema)
        done = ended(server.client, server.client.evals.runs.create(made.id, data_source=source))
        assert done.status == status
