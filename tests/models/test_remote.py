"""The remote model, asked over loopback: replies, streams, stop strings, errors with the server's words."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Toolbox

from tunesmith.errors import ModelBusy, ModelError, ModelRefused, UsageError
from tunesmith.generating.running import Result
from tunesmith.generating.script import Assumed
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.metering import metered
from tunesmith.models.remote import RemoteModel
from tunesmith.project import Project
from tunesmith.records import Answer, Conversation, Document, Example, Message, read_jsonl


@dataclass
class Service:
    """A server on loopback that answers with what `say` makes of a request: (status, type, body)."""

    say: Callable[[dict[str, Any]], tuple[int, str, str]]
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""


def completion(text: str | None, finish: str = "stop") -> tuple[int, str, str]:
    """Return a chat completion as OpenAI's reference shows it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    return 200, "application/json", json.dumps(body)


def events(*pieces: str) -> tuple[int, str, str]:
    """Return a stream of chunks as OpenAI's reference shows it."""
    chunks = [
        {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}],
        }
        for piece in pieces
    ]
    lines = [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"]
    return 200, "text/event-stream", "".join(lines)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A server that repeats the last message; a test sets `say` for anything else."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    state = Service(lambda request: completion(request["messages"][-1]["content"]))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(request | {"path": self.path})
            state.keys.append(self.headers["Authorization"])
            status, kind, body = state.say(request)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body.encode())))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
            """Keep requests off the screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def user(text: str) -> Conversation:
    """Return a conversation of one question."""
    return (Message("user", text),)


def test_replies_come_in_order_and_together(service: Service) -> None:
    """Eight questions that wait for each other are under way at once; answers keep the questions' order."""
    together = threading.Barrier(8, timeout=10)

    def say(request: dict[str, Any]) -> tuple[int, str, str]:
        together.wait()
        time.sleep(0.001 * (8 - int(request["messages"][-1]["content"])))
        return completion(request["messages"][-1]["content"])

    service.say = say
    model = RemoteModel("m", base_url=service.url)
    start = time.perf_counter()
    answers = model.reply([user(str(number)) for number in range(8)], Sampling())
    passed = time.perf_counter() - start

    assert isinstance(model, ChatModel)
    assert model.name == f"openai:m@{service.url}"
    assert [answer.text for answer in answers] == [str(number) for number in range(8)]
    assert {(answer.prompt_tokens, answer.completion_tokens, answer.finish) for answer in answers} == {
        (5, 2, "stop")
    }
    assert 0 < sum(answer.seconds for answer in answers) <= passed


def test_the_request_is_openais(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages, sampling and the key travel under the names of OpenAI's reference."""
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    conversation = (Message("system", "Be brief."), Message("user", "hello"))

    RemoteModel("m", base_url=service.url).reply(
        [conversation], Sampling(max_tokens=7, temperature=0.5, seed=3)
    )
    RemoteModel("m", base_url=service.url, api_key="given").reply([conversation], Sampling())
    monkeypatch.delenv("OPENAI_API_KEY")
    RemoteModel("m", base_url=service.url).reply([conversation], Sampling())

    assert service.keys == ["Bearer from-environment", "Bearer given", "Bearer none"]
    assert service.asked[0] == {
        "path": "/v1/chat/completions",
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
        "stream": False,
    }


def test_no_questions_ask_nothing(service: Service) -> None:
    """An empty batch has no answers."""
    assert RemoteModel("m", base_url=service.url).reply([], Sampling()) == []
    assert service.asked == []


def test_a_streams_tokens_are_counted_roughly(service: Service) -> None:
    """One for each piece that came, and for four characters of what was asked, rounded up; an answer's as told."""
    model, ask = RemoteModel("m", base_url=service.url), (Message("user", "hello"),)
    with metered() as whole:
        [answer] = model.reply([ask], Sampling())
    assert (whole.prompt_tokens, whole.completion_tokens) == (answer.prompt_tokens, answer.completion_tokens)
    service.say = lambda _: events("one", " two", "", " three")
    with metered() as meter:
        assert "".join(model.stream(ask, Sampling())) == "one two three"
    assert (meter.prompt_tokens, meter.completion_tokens) == (2, 3)


def test_an_answer_ends_after_its_stop_string(service: Service) -> None:
    """The stop string stays in the answer, and a cut answer is a finished one, in a batch and in a stream."""
    model = RemoteModel("m", base_url=service.url)
    service.say = lambda _: completion("one two three", "length")
    (cut,), (long,) = (model.reply([user("?")], Sampling(stop=stop)) for stop in (("o th", "wo"), ()))
    service.say = lambda _: events("one t", "w", "o thr", "ee")
    stopped = list(model.stream(user("?"), Sampling(stop=("two",))))
    unmet = list(model.stream(user("?"), Sampling(stop=("four",))))

    assert (cut.text, cut.finish) == ("one two", "stop")
    assert (long.text, long.finish) == ("one two three", "length")
    assert "".join(stopped) == "one two"
    assert "".join(unmet) == "one two three"


def test_a_stream_yields_pieces_as_they_come(service: Service) -> None:
    """Without stop strings each piece passes as it is."""
    service.say = lambda _: events("Hel", "lo", " there")

    assert list(RemoteModel("m", base_url=service.url).stream(user("?"), Sampling())) == [
        "Hel",
        "lo",
        " there",
    ]
    assert service.asked[0]["stream"] is True


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "Set OPENAI_API_KEY to a key of that service."), (404, "Check the model's name and the URL")],
)
def test_an_error_has_the_servers_words(service: Service, status: int, hint: str) -> None:
    """A refused question names the address, the status, what the server said, and the way out."""
    service.say = lambda _: (status, "application/json", json.dumps({"error": {"message": "no such thing"}}))
    model = RemoteModel("m", base_url=service.url)

    for ask in (
        lambda: model.reply([user("?")], Sampling()),
        lambda: list(model.stream(user("?"), Sampling())),
    ):
        with pytest.raises(ModelError) as caught:
            ask()
        assert caught.value.message == f"{model.name} answered {status}: no such thing"
        assert str(caught.value.hint).startswith(hint)


def test_a_busy_service_is_asked_again(service: Service) -> None:
    """One 503 is not the end."""
    replies = iter([(503, "text/plain", "busy"), completion("at last")])
    service.say = lambda _: next(replies)

    (answer,) = RemoteModel("m", base_url=service.url).reply([user("?")], Sampling())

    assert answer == Answer("at last", 5, 2, seconds=answer.seconds)


def test_a_page_instead_of_an_answer_is_shown(service: Service) -> None:
    """A URL that leads to a web page, mostly for want of /v1, is named."""
    service.say = lambda _: (200, "text/html", "<html>Welcome</html>")

    with pytest.raises(ModelError, match=r"sent no answer in OpenAI's form: '<html>Welcome</html>'"):
        RemoteModel("m", base_url=service.url).reply([user("?")], Sampling())


def test_a_filtered_answer_is_an_error(service: Service) -> None:
    """An answer that a content filter stopped is not taken for an empty one."""
    service.say = lambda _: completion(None, "content_filter")

    with pytest.raises(ModelError, match="content filter stopped it at 'what'"):
        RemoteModel("m", base_url=service.url).reply([user("what")], Sampling())


def test_a_remote_teacher_writes_questions_that_are_verified(service: Service, fresh: Project) -> None:
    """Over the wire, in the pipeline: a true quote is kept as evidence, a false one and a missing one are counted."""

    def teach(request: dict[str, Any]) -> tuple[int, str, str]:
        document = request["messages"][-1]["content"].partition("<document>")[2]
        words = re.findall(r"[A-Z]\w+ [^.\n]*\.", document)[0]
        lines = [
            {"question": f"somebody asks number {len(service.asked)}, which call?", "quote": words},
            {
                "question": f"another asks number {len(service.asked)}, what then?",
                "quote": "It is not there.",
            },
        ]
        return completion("\n".join(map(json.dumps, lines)))

    service.say = teach
    generate = fresh.config.generate.model_copy(update={"questions_per_entry": 3, "rules_per_entry": 0})
    config = replace(fresh.config, teacher=f"openai:m@{service.url}", generate=generate, written=())
    made = Project(config).run("generate").artifacts["generate"]
    tally = json.loads((made / "tally.json").read_text())
    assert tally == {
        "requested": 36,
        "accepted": 12,
        "rejected": {"quote not in the document": 12},
        "failed": 12,
    }
    assert len(service.asked) == 12
    assert {request["model"] for request in service.asked} == {"m"}
    examples = list(read_jsonl(Example, made / "examples.jsonl"))
    documents = {
        one.id: one.text for one in read_jsonl(Document, made.parent / next_to(made) / "documents.jsonl")
    }
    for example in examples:
        assert example.origin == f"teacher:openai:m@{service.url}"
        quoted = example.evidence[0]
        assert documents[quoted.document][quoted.start : quoted.end] == quoted.quote


def next_to(made: Path) -> str:
    """Return the name of the collect artefact beside this one."""
    return next(path.name for path in made.parent.glob("collect-*"))


def test_nobody_there_is_an_error() -> None:
    """A closed port is named with the address."""
    with pytest.raises(ModelError, match=r"openai:m@http://127.0.0.1:9/v1 cannot be reached"):
        RemoteModel("m", base_url="http://127.0.0.1:9/v1").reply([user("?")], Sampling())


# --- asked once, by who knows how to wait


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, '{"error": {"message": "slow down"}}', ModelBusy),
        (503, "overloaded", ModelBusy),
        (429, '{"error": {"message": "nothing left", "code": "insufficient_quota"}}', ModelError),
        (401, '{"error": {"message": "no key"}}', ModelError),
        (404, '{"error": {"message": "no such model"}}', ModelError),
    ],
)
def test_what_passes_is_told_from_what_does_not(
    service: Service, status: int, body: str, kind: type[ModelError]
) -> None:
    """One request, and an error that says whether another one makes sense, and when."""
    service.say = lambda request: (status, "application/json", body)
    model = RemoteModel("m", base_url=service.url)

    with pytest.raises(ModelError) as error:
        model.ask(user("a"), Sampling())

    assert type(error.value) is kind
    assert len(service.asked) == 1
    if isinstance(error.value, ModelBusy):
        assert error.value.retry_after == 0.001


def test_a_service_that_is_gone_may_come_back() -> None:
    """Nothing listens: that passes."""
    with pytest.raises(ModelBusy, match="cannot be reached"):
        RemoteModel("m", base_url="http://127.0.0.1:9/v1").ask(user("a"), Sampling())


def test_a_refusal_is_about_one_question(service: Service) -> None:
    """Others may be answered."""
    service.say = lambda request: completion(None, "content_filter")

    with pytest.raises(ModelRefused, match="content filter"):
        RemoteModel("m", base_url=service.url).ask(user("a"), Sampling())


def test_a_schema_is_sent_where_it_is_known(service: Service) -> None:
    """A service that refuses it is asked without, then and from then on."""
    schema = '{"type": "object"}'
    model = RemoteModel("m", base_url=service.url)
    model.ask(user("a"), Sampling(schema=schema))
    assert service.asked[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}

    def say(request: dict[str, Any]) -> tuple[int, str, str]:
        if "response_format" in request:
            return 400, "application/json", '{"error": {"message": "unknown field response_format"}}'
        return completion("fine")

    service.say = say
    service.asked.clear()
    assert [model.ask(user(text), Sampling(schema=schema)).text for text in "bc"] == ["fine", "fine"]
    assert ["response_format" in request for request in service.asked] == [True, False, False]


def test_a_project_writes_and_runs_a_script(toolbox: Toolbox, tmp_path: Path, service: Service) -> None:
    """The model's call is kept; data may be the user's; without `execute` nothing runs."""
    project = toolbox.copy(tmp_path / "project")
    text = "So:\n```python\nimport toolbox\n\ntoolbox.clamp(value, low, high)\n```"
    service.say = lambda request: completion(text)
    model = f"openai:m@{service.url}"
    made = project.script("Keep a number in bounds", model, execute=True)
    assert made.result == Result("10\n", "int", None, confined=made.result.confined if made.result else False)
    assert project.script("Keep a number in bounds", model).result is None
    (tmp_path / "mine.json").write_text("99")
    mine = project.script("?", model, data={"high": tmp_path / "mine.json"}, execute=True)
    assert (Assumed("high", "yours") in mine.script.assumed, mine.result and mine.result.printed) == (
        True,
        "12\n",
    )
    with pytest.raises(UsageError, match="no variable nothing"):
        project.script("?", model, data={"nothing": tmp_path / "mine.json"})
    with pytest.raises(UsageError, match="put in by the template"):
        project.script("?", model, data={"high": tmp_path / "mine.json"}, writer=model)
    with pytest.raises(ModelError, match="uses value, low, high"):
        project.script("?", model, writer=model)
