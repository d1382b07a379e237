"""A hosted job from examples to a model's name, over a real connection: made once, followed, its faults named."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.training.tuning_service import METRICS, STEPS, Fault, TuningService, serving

from tunesmith.errors import DatasetError, TrainingError
from tunesmith.models.address import load_chat
from tunesmith.models.base import Sampling
from tunesmith.records import Conversation, Message
from tunesmith.training.hosted import Hosted, HostedStep, estimate_hosted, train_hosted
from tunesmith.training.settings import TrainSettings

AWAY = 'curl -X POST {url}/fine_tuning/jobs/ftjob-1/cancel -H "Authorization: Bearer $OPENAI_API_KEY"'
LOGGED = (
    HostedStep(1, 2.5),
    HostedStep(2, 1.5, valid_loss=1.75),
    HostedStep(3, 1.25),
    HostedStep(4, 1.0, valid_loss=1.25),
)


def chat(question: str, answer: str) -> Conversation:
    """Return a system message, a question and its answer."""
    return (Message("system", "You help."), Message("user", question), Message("assistant", answer))


EXAMPLES = tuple(chat(f"What is number {number}?", f"It is {number}.") for number in range(10))
VALID = (chat("And number 99?", "It is 99."),)


@dataclass
class Told:
    """What a run told on its way, and how long it would have slept."""

    steps: list[tuple[int, int, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Note how far it is."""
        self.steps.append((done, total, note))


@pytest.fixture
def told() -> Told:
    """Return an empty notebook."""
    return Told()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningService]:
    """Serve OpenAI's wire format; the key is in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    with serving(TuningService()) as running:
        yield running


def settings(service: TuningService, **values: Any) -> TrainSettings:
    """Return settings that lead to the service."""
    return TrainSettings(base=f"openai:gpt-4.1-mini@{service.url}", epochs=2, seed=7, **values)


def tune(service: TuningService, folder: Path, told: Told, valid: tuple[Conversation, ...] = VALID) -> Hosted:
    """Run the job without waiting."""
    return train_hosted(
        EXAMPLES,
        valid,
        settings(service),
        name="Tool box!",
        out=folder / "out",
        work=folder / "work",
        on_progress=told.progress,
        say=told.said.append,
        sleep=told.slept.append,
    )


def test_a_job_becomes_a_model(service: TuningService, told: Told, tmp_path: Path) -> None:
    """Files, hyperparameters, suffix and seed travel; the model, its metrics and its bill come back."""
    made = tune(service, tmp_path, told)

    [job] = service.jobs.values()
    tag = job.asked["metadata"]["tunesmith"]
    assert job.asked == {
        "model": "gpt-4.1-mini",
        "training_file": "file-1",
        "validation_file": "file-2",
        "seed": 7,
        "suffix": "tool-box",
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        "metadata": {"tunesmith": tag},
    }
    assert made == Hosted(
        job="ftjob-1",
        model="ft:gpt-4.1-mini:org:tool-box:1",
        address=f"ft:gpt-4.1-mini:org:tool-box:1@{service.url}",
        base="gpt-4.1-mini",
        base_url=service.url,
        hyperparameters={"n_epochs": 2},
        seed=7,
        trained_tokens=1234,
        estimate=estimate_hosted(EXAMPLES, settings(service)),
        training_file="file-1",
        validation_file="file-2",
        result_files=("file-metrics",),
        seconds=90,
        steps=LOGGED,
    )
    assert service.keys == {"Bearer sk-of-the-environment"}


def test_what_is_sent_is_openais_chat_jsonl(service: TuningService, told: Told, tmp_path: Path) -> None:
    """Each conversation is a line of messages; what is sent stays beside the result."""
    tune(service, tmp_path, told)

    lines = [json.loads(line) for line in service.contents["file-1"].decode().splitlines()]
    assert lines[3] == {
        "messages": [
            {"role": "system", "content": "You help."},
            {"role": "user", "content": "What is number 3?"},
            {"role": "assistant", "content": "It is 3."},
        ]
    }
    assert len(lines) == 10
    assert [file["purpose"] for file in service.files.values()] == ["fine-tune", "fine-tune"]
    assert (tmp_path / "out" / "training.jsonl").read_bytes() == service.contents["file-1"]
    assert (tmp_path / "out" / "validation.jsonl").read_bytes() == service.contents["file-2"]


def test_what_comes_back_is_kept(service: TuningService, told: Told, tmp_path: Path) -> None:
    """The record, the metrics in the form of a local run, the service's own file and all events, oldest first."""
    made = tune(service, tmp_path, told)
    out = tmp_path / "out"

    assert json.loads((out / "hosted.json").read_text())["address"] == made.address
    assert (out / "step_metrics.csv").read_text().splitlines() == [
        "step,train_loss,learning_rate,tokens,seconds,valid_loss",
        "1,2.5,,,,",
        "2,1.5,,,,1.75",
        "3,1.25,,,,",
        "4,1.0,,,,1.25",
    ]
    assert (out / "results" / "file-metrics.csv").read_text() == METRICS
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert events == service.jobs["ftjob-1"].events


def test_the_bar_moves_with_the_jobs_steps(service: TuningService, told: Told, tmp_path: Path) -> None:
    """What waits is named; then steps of all steps with the loss; between two looks it sleeps."""
    tune(service, tmp_path, told)

    assert told.steps == [
        (0, 1, "validating_files"),
        (0, 1, "queued"),
        (2, STEPS, "running, loss 1.000"),
        (4, STEPS, "running, loss 0.500"),
        (4, STEPS, "succeeded, loss 0.500"),
    ]
    assert told.slept == [5.0] * 4
    assert told.said[1:] == [f"Job ftjob-1 at {service.url}", "validating_files", "queued", "succeeded"]


def test_the_price_is_said_before_the_job_is_made(service: TuningService, told: Told, tmp_path: Path) -> None:
    """Tokens as counted and as billed; a service that is not OpenAI has a price that nobody knows."""
    estimate = estimate_hosted(EXAMPLES, settings(service))
    tune(service, tmp_path, told)

    assert estimate.billed == estimate.tokens - 2 * 10 * 2
    assert told.said[0] == (
        f"10 examples, epochs: 2; {estimate.tokens} tokens by OpenAI's guide, {estimate.billed} on a bill "
        "(o200k_base); price unknown"
    )


def test_at_openai_the_price_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL the SDK's own holds, and its list: 5 dollars a million tokens for gpt-4.1-mini."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    estimate = estimate_hosted(EXAMPLES, TrainSettings(base="openai:gpt-4.1-mini", epochs=2))
    assert estimate.price == pytest.approx(estimate.billed * 5e-6)


def test_a_job_without_validation_has_no_such_file(
    service: TuningService, told: Told, tmp_path: Path
) -> None:
    """An empty validation set is not sent."""
    made = tune(service, tmp_path, told, valid=())
    assert (made.validation_file, len(service.files)) == (None, 1)
    assert "validation_file" not in service.jobs["ftjob-1"].asked


def test_the_model_answers_by_its_address(service: TuningService, told: Told, tmp_path: Path) -> None:
    """The address that was made is one to ask, under the service's own name of the model."""
    made = tune(service, tmp_path, told)
    model = load_chat(made.address)
    [answer] = model.reply([(Message("user", "hello"),)], Sampling())
    assert model.name == made.address
    assert answer.text == service.says
    assert service.models_asked == {made.model}


@pytest.mark.parametrize("in_base64", [False, True])
def test_metrics_are_read_plain_and_in_base64(
    service: TuningService, told: Told, tmp_path: Path, in_base64: bool
) -> None:
    """Some services wrap the file."""
    service.metrics = base64.b64encode(METRICS.encode()) if in_base64 else METRICS.encode()
    assert tune(service, tmp_path, told).steps == LOGGED


@pytest.mark.parametrize("metrics", [b"<html>", b"step,loss\n1,2\n", b"step,train_loss\nx,2\n"])
def test_other_metrics_are_kept_and_the_events_stand_in(
    service: TuningService, told: Told, tmp_path: Path, metrics: bytes
) -> None:
    """A file that is no table of steps is kept as it is; the losses that were told on the way are the curve."""
    service.metrics = metrics
    made = tune(service, tmp_path, told)
    assert made.steps == tuple(HostedStep(step, 2 / step) for step in range(1, STEPS + 1))
    assert (tmp_path / "out" / "results" / "file-metrics.csv").read_bytes() == metrics


# --- made once


def test_running_again_makes_nothing_again(service: TuningService, told: Told, tmp_path: Path) -> None:
    """With the same folder the job is followed; with another one it is found by what it was made for."""
    first = tune(service, tmp_path, told)
    again = tune(service, tmp_path, told)
    elsewhere = tune(service, tmp_path / "elsewhere", told)
    assert first == again == elsewhere
    assert (service.count("POST /files"), service.count("POST /fine_tuning/jobs")) == (2, 1)


def test_another_seed_is_another_job(service: TuningService, told: Told, tmp_path: Path) -> None:
    """The files are the same and not sent again; the job is made."""
    tune(service, tmp_path, told)
    other = settings(service).model_copy(update={"seed": 8})
    train_hosted(
        EXAMPLES, VALID, other, name="x", out=tmp_path / "b", work=tmp_path / "c", sleep=told.slept.append
    )
    assert (service.count("POST /files"), service.count("POST /fine_tuning/jobs")) == (2, 2)


def test_a_note_of_another_job_is_refused(service: TuningService, told: Told, tmp_path: Path) -> None:
    """A folder that holds the job of other examples is not taken for this one's."""
    tune(service, tmp_path, told)
    with pytest.raises(TrainingError, match="the job ftjob-1 was made for another model, other examples"):
        train_hosted(EXAMPLES, (), settings(service), name="x", out=tmp_path / "out", work=tmp_path / "work")


def test_a_kill_loses_nothing(service: TuningService, told: Told, tmp_path: Path) -> None:
    """Killed while it follows a job, a run is taken up by the next: one job, one upload of each file."""
    service.script = ("running",)
    program = (
        "import sys; from pathlib import Path; from tests.training import test_hosted as t\n"
        "from tunesmith.training.hosted import train_hosted\n"
        "url, folder = sys.argv[1], Path(sys.argv[2])\n"
        "train_hosted(t.EXAMPLES, t.VALID, t.settings(t.TuningService(url=url)), name='Tool box!',\n"
        "             out=folder / 'out', work=folder / 'work', poll_seconds=0.01)\n"
    )
    root = Path(__file__).parents[2]
    paths = os.pathsep.join((str(root / "src"), str(root)))
    process = subprocess.Popen(
        [sys.executable, "-c", program, service.url, str(tmp_path)], env={**os.environ, "PYTHONPATH": paths}
    )
    deadline = time.monotonic() + 120
    while service.count("GET /fine_tuning/jobs/ftjob-1") < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    service.jobs["ftjob-1"].script = ["running", "succeeded"]

    made = tune(service, tmp_path, told)

    assert made.job == "ftjob-1"
    assert (service.count("POST /files"), service.count("POST /fine_tuning/jobs")) == (2, 1)
    assert "Job ftjob-1" not in "".join(told.said)


def test_ctrl_c_says_that_the_job_goes_on(service: TuningService, told: Told, tmp_path: Path) -> None:
    """An interruption stops the following, not the job; the command that stops the job is shown, and works."""
    service.script = ("running",)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_hosted(
            EXAMPLES,
            VALID,
            settings(service),
            name="x",
            out=tmp_path / "out",
            work=tmp_path / "work",
            say=told.said.append,
            sleep=interrupt,
        )
    assert told.said[-2:] == [
        f"The job ftjob-1 goes on at {service.url}. Run again to follow it; to cancel it:",
        AWAY.format(url=service.url),
    ]
    assert service.jobs["ftjob-1"].status == "running"


# --- faults on the way

POSTS = ["POST /files", "POST /fine_tuning/jobs"]
GETS = [
    "GET /files",
    "GET /fine_tuning/jobs",
    "GET /fine_tuning/jobs/ftjob-1",
    "GET /fine_tuning/jobs/ftjob-1/events",
    "GET /files/file-metrics/content",
]
QUICK = (("retry-after-ms", "1"),)


@pytest.mark.parametrize("request_line", [*POSTS, *GETS])
@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_a_passing_fault_is_got_over(
    service: TuningService, told: Told, tmp_path: Path, request_line: str, status: int
) -> None:
    """Too many requests, a broken server, a cut connection: the same model, one job, one upload of each file."""
    service.faults[request_line] = [Fault(status, QUICK)]
    assert tune(service, tmp_path, told).steps == LOGGED
    assert (len(service.files), len(service.jobs)) == (2, 1)
    assert service.faults[request_line] == []


@pytest.mark.parametrize("request_line", POSTS)
@pytest.mark.parametrize("status", [500, 0])
def test_what_was_made_before_its_answer_was_lost_is_not_made_again(
    service: TuningService, told: Told, tmp_path: Path, request_line: str, status: int
) -> None:
    """The request was heard and the answer never came: it is found by its name or its tag."""
    service.faults[request_line] = [Fault(status, after=True)]
    tune(service, tmp_path, told)
    assert (len(service.files), len(service.jobs)) == (2, 1)
    assert service.count(request_line) == {"POST /files": 2, "POST /fine_tuning/jobs": 1}[request_line]


@pytest.mark.parametrize(
    ("headers", "waited"), [((("retry-after", "7"),), 7.0), ((("retry-after", "soon"),), 0.5), ((), 0.5)]
)
def test_a_service_says_how_long_to_wait(
    service: TuningService, told: Told, tmp_path: Path, headers: tuple[tuple[str, str], ...], waited: float
) -> None:
    """retry-after is kept to where something is made; without it the wait begins with half a second."""
    service.faults["POST /fine_tuning/jobs"] = [Fault(429, headers)]
    tune(service, tmp_path, told)
    assert told.slept[0] == waited


def test_the_sdk_keeps_to_retry_after_where_something_is_read(
    service: TuningService, told: Told, tmp_path: Path
) -> None:
    """A look at the job that is one too many is made a second later."""
    service.faults["GET /fine_tuning/jobs/ftjob-1"] = [Fault(429, (("retry-after", "1"),))]
    start = time.monotonic()
    tune(service, tmp_path, told)
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize("request_line", POSTS)
def test_a_lasting_fault_ends_it(
    service: TuningService, told: Told, tmp_path: Path, request_line: str
) -> None:
    """After four tries, twice as long apart each time, the service's words are the error."""
    service.faults[request_line] = [Fault(503)] * 4
    with pytest.raises(TrainingError) as caught:
        tune(service, tmp_path, told)
    assert caught.value.message == f"{service.url} answered 503: not now"
    assert told.slept == [0.5, 1.0, 2.0]
    assert len(service.jobs) == 0


@pytest.mark.parametrize(
    ("status", "headers", "hint"),
    [
        (401, (), "Set OPENAI_API_KEY to a key of that service."),
        (400, (), None),
        (429, (("x-should-retry", "false"),), "The service says that it is asked too much"),
    ],
)
def test_a_refusal_is_not_tried_again(
    service: TuningService,
    told: Told,
    tmp_path: Path,
    *,
    status: int,
    headers: tuple[tuple[str, str], ...],
    hint: str | None,
) -> None:
    """What would be refused again ends at once, with the way out that the status has."""
    service.faults["POST /fine_tuning/jobs"] = [Fault(status, headers)]
    with pytest.raises(TrainingError) as caught:
        tune(service, tmp_path, told)
    assert caught.value.message == f"{service.url} answered {status}: not now"
    assert (caught.value.hint or "").startswith(hint or "")
    assert told.slept == []


def test_a_service_that_goes_away_leaves_the_job(service: TuningService, told: Told, tmp_path: Path) -> None:
    """While it is followed, an error says that the job goes on, and the next run follows it."""
    service.faults["GET /fine_tuning/jobs/ftjob-1"] = [Fault(500, QUICK)] * 6
    with pytest.raises(TrainingError) as caught:
        tune(service, tmp_path, told)
    assert caught.value.hint == "The job ftjob-1 goes on there; run again to follow it."
    assert tune(service, tmp_path, told).job == "ftjob-1"


def test_a_service_that_repeats_its_first_page_ends(
    service: TuningService, told: Told, tmp_path: Path
) -> None:
    """Lists that ignore `after` are read once, not for ever."""
    service.page, service.repeats_pages = 2, True
    tune(service, tmp_path, told)
    assert service.count("GET /files") <= 5


def test_events_come_in_pages(service: TuningService, told: Told, tmp_path: Path) -> None:
    """However small a service's pages are, no event is lost and none comes twice."""
    service.page = 1
    tune(service, tmp_path, told)
    lines = (tmp_path / "out" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == service.jobs["ftjob-1"].events


def test_a_wrong_url_is_named(service: TuningService, tmp_path: Path) -> None:
    """A URL behind which there is no such service is an error before anything is made."""
    wrong = TrainSettings(base=f"openai:m@{service.url}/wrong")
    with pytest.raises(TrainingError, match=r"/wrong answered 404: no such thing"):
        train_hosted(EXAMPLES, (), wrong, name="x", out=tmp_path / "out", work=tmp_path / "work")


@pytest.mark.parametrize("page", [b"<html>Welcome</html>", b'{"data": "none"}', b"[]"])
def test_a_page_instead_of_a_service_is_named(
    service: TuningService, told: Told, tmp_path: Path, page: bytes
) -> None:
    """Something that answers and is no such service, mostly for want of /v1, is shown; nothing is sent to it."""
    service.pages["GET /files"] = page
    with pytest.raises(TrainingError) as caught:
        tune(service, tmp_path, told)
    assert caught.value.message == f"{service.url} sent no list of files in OpenAI's form: {page.decode()!r}"
    assert service.requests == ["GET /files"]


def test_a_job_without_an_id_is_named(service: TuningService, told: Told, tmp_path: Path) -> None:
    """What a service sends in place of a job is shown."""
    service.pages["POST /fine_tuning/jobs"] = b"soon"
    with pytest.raises(TrainingError, match=r"sent no job in OpenAI's form: 'soon'"):
        tune(service, tmp_path, told)


# --- jobs that end badly


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (
            {"code": "invalid", "message": "line 3: no assistant", "param": "training_file"},
            "line 3: no assistant",
            "What was sent is {out}/training.jsonl. "
            "Change what it is made from, in [curate] or [train], and run again.",
        ),
        (
            {"code": "server_error", "message": "a GPU is on fire", "param": None},
            "a GPU is on fire",
            "Run again to make a new one.",
        ),
        (None, "it gives no reason", "Run again to make a new one."),
    ],
)
def test_a_failed_job_has_the_services_words(
    service: TuningService, told: Told, tmp_path: Path, *, error: dict[str, Any] | None, said: str, hint: str
) -> None:
    """What the service says is the error; the next run makes a new job of the same files."""
    service.script, service.error = ("running", "failed"), error
    with pytest.raises(TrainingError) as caught:
        tune(service, tmp_path, told)
    assert caught.value.message == f"the job ftjob-1 failed at {service.url}: {said}"
    assert caught.value.hint == hint.format(out=tmp_path / "out")
    service.script = ("succeeded",)
    assert tune(service, tmp_path, told).job == "ftjob-2"
    assert len(service.files) == 2


def test_a_cancelled_job_is_named(service: TuningService, told: Told, tmp_path: Path) -> None:
    """Somebody cancelled it at the service: no model, and the way to another one."""
    service.script = ("queued", "cancelled")
    with pytest.raises(TrainingError, match=f"the job ftjob-1 was cancelled at {service.url}"):
        tune(service, tmp_path, told)


def test_a_job_that_the_service_forgot_is_named(service: TuningService, told: Told, tmp_path: Path) -> None:
    """A noted job that is not there is no reason to make another one unasked."""
    tune(service, tmp_path, told)
    service.jobs.clear()
    with pytest.raises(TrainingError) as caught:
        tune(service, tmp_path, told)
    assert caught.value.message == f"{service.url} does not know the job ftjob-1"
    assert f"delete {tmp_path / 'work' / 'job.json'}" in (caught.value.hint or "")


def test_examples_that_would_be_refused_are_not_sent(
    service: TuningService, told: Told, tmp_path: Path
) -> None:
    """The rules are checked before anything is asked of the service."""
    with pytest.raises(DatasetError, match="the training file holds 9 examples; a service wants at least 10"):
        train_hosted(EXAMPLES[1:], VALID, settings(service), name="x", out=tmp_path, work=tmp_path)
    assert service.requests == []
