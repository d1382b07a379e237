"""Fine-tune at a service that speaks OpenAI's fine-tuning API: upload, create a job, follow it, fetch what it left.

Whatever is made at the service costs money, so it is made once: files carry a digest of their bytes in their names and
a job one of all it was given in its metadata, and both are looked for before they are made, after a kill as after an
answer that was lost on its way. A service that keeps no metadata protects only from the moment the job's id is noted.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from tunesmith.errors import TrainingError
from tunesmith.models.address import parse, tuned_address
from tunesmith.models.remote import SECONDS, key_from_environment, service_error
from tunesmith.models.shelf import Say
from tunesmith.models.shelf import silent as unsaid
from tunesmith.progress import Progress, silent
from tunesmith.records import Conversation, fingerprint
from tunesmith.training.openai_chat import (
    TokenCount,
    chat_jsonl,
    check_chat,
    count_tokens,
    price_of,
    priced,
)
from tunesmith.training.settings import TrainSettings

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

# What a service reads of [train]; it chooses the other settings itself.
READ: Final = frozenset(
    {"base", "epochs", "examples", "retrieved_share", "doubt", "passages", "quotes", "seed"},
)
UNREAD: Final = frozenset(TrainSettings.model_fields) - READ

HOSTED: Final = "hosted.json"  # by which a stage's artefact is known as a service's work

_ENDED: Final = ("succeeded", "failed", "cancelled")
_TAG: Final = "tunesmith"
_POLL_SECONDS: Final = 5.0
_RETRIES: Final = 5  # of the SDK: half a minute in which a service may be away
_TRIES: Final = 4
_STEP: Final = re.compile(r"Step (?P<step>\d+)(?:/(?P<total>\d+))?:.*?\bloss=(?P<loss>[\d.]+(?:e-?\d+)?)")


@dataclass(frozen=True, slots=True)
class HostedStep:
    """One step as a service logs it, with the fields of a local one; what it does not say is None."""

    step: int
    train_loss: float
    learning_rate: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    valid_loss: float | None = None


@dataclass(frozen=True, slots=True)
class HostedEstimate:
    """What a job will be billed for: tokens over all epochs as the guide counts them, as bills do, and US dollars."""

    count: TokenCount
    epochs: int
    price: float | None

    @property
    def tokens(self) -> int:
        """Tokens over all epochs, as OpenAI's guide counts them."""
        return self.count.tokens * self.epochs

    @property
    def billed(self) -> int:
        """Tokens over all epochs, as bills count them."""
        return self.count.billed * self.epochs

    def in_words(self) -> str:
        """Return the figures and the price as one line."""
        return (
            f"{self.count.examples:,} examples, epochs: {self.epochs}; {self.tokens:,} tokens by OpenAI's guide, "
            f"{self.billed:,} on a bill ({self.count.encoding}); {priced(self.price)}"
        )


@dataclass(frozen=True, slots=True)
class Hosted:
    """A finished job: the model it made, its `address`, and what the service says of the way there.

    `seconds` run from the job's creation to its end, waiting included. `result_files` are the service's ids.
    """

    job: str
    model: str
    address: str
    base: str
    base_url: str
    hyperparameters: dict[str, Any]
    seed: int | None
    trained_tokens: int | None
    estimate: HostedEstimate
    training_file: str
    validation_file: str | None
    result_files: tuple[str, ...]
    seconds: int | None
    steps: tuple[HostedStep, ...]


def estimate_hosted(
    examples: Sequence[Conversation], settings: TrainSettings, *, base_url: str | None = None
) -> HostedEstimate:
    """Count a job's tokens and price them; raises DatasetError for examples that the service would refuse.

    `base_url` is where the address in `settings.base` leads, if that was found out already.
    """
    check_chat(examples, "the training file")
    address = parse(settings.base)
    count = count_tokens(examples, address.served_as)
    place = base_url or _base_url(_client(address.url))
    price = price_of(count.billed * settings.epochs, address.served_as, place)
    return HostedEstimate(count, settings.epochs, price)


def train_hosted(
    examples: Sequence[Conversation],
    valid: Sequence[Conversation],
    settings: TrainSettings,
    *,
    name: str,
    out: Path,
    work: Path,
    on_progress: Progress = silent,
    say: Say = unsaid,
    sleep: Callable[[float], None] = time.sleep,
    poll_seconds: float = _POLL_SECONDS,
) -> Hosted:
    """Tune the model of a remote address, `settings.base`, and return what its service made of it.

    `name` becomes a part of the model's name there. `out` gets training.jsonl, validation.jsonl, events.jsonl,
    step_metrics.csv, the service's own result files in `results/`, and hosted.json. The job's id is noted in `work`:
    called again with the same folder, the job is followed from where it is, and none is made beside it.
    Raises DatasetError for examples that the service would refuse, TrainingError with the service's words.
    """
    check_chat(valid, "the validation file", fewest=0)
    address = parse(settings.base)
    client = _client(address.url)
    place = _base_url(client)
    estimate = estimate_hosted(examples, settings, base_url=place)
    say(estimate.in_words())
    files = _written(examples, valid, out)
    request = _Request(address.served_as, place, settings.epochs, settings.seed, _suffix(name), files)
    note = work / "job.json"
    with _errors_named(place):
        job_id = _noted(note, request.tag) or _begun(client, request, note, say, sleep)
        job, events = _followed(
            client, job_id, _Telling(on_progress, say), note=note, sleep=sleep, poll_seconds=poll_seconds
        )
        if job.status != "succeeded" or not job.fine_tuned_model:
            note.unlink(missing_ok=True)
            raise _failure(job, place, out)
        results = {each: client.files.content(each).read() for each in job.result_files}
    _write_events(out / "events.jsonl", events)
    steps = _write_results(out, results) or _steps_of(events)
    _write_steps(out / "step_metrics.csv", steps)
    hosted = Hosted(
        job=job.id,
        model=job.fine_tuned_model,
        address=str(tuned_address(job.fine_tuned_model, place)),
        base=address.served_as,
        base_url=place,
        hyperparameters=_hyperparameters(job),
        seed=job.seed,
        trained_tokens=job.trained_tokens,
        estimate=estimate,
        training_file=job.training_file,
        validation_file=job.validation_file,
        result_files=tuple(job.result_files),
        seconds=None if job.finished_at is None else job.finished_at - job.created_at,
        steps=steps,
    )
    (out / HOSTED).write_text(json.dumps(asdict(hosted), ensure_ascii=False, indent=1), encoding="utf-8")
    return hosted


# --- what is sent


@dataclass(frozen=True, slots=True)
class _Request:
    """A job as it is asked for; `tag` is the same for the same model, data and settings, and for nothing else."""

    model: str
    place: str
    epochs: int
    seed: int
    suffix: str
    files: Mapping[str, Path]

    @property
    def tag(self) -> str:
        digests = {kind: _digest(path) for kind, path in self.files.items()}
        return fingerprint(self.model, self.place, self.epochs, self.seed, digests)


def _client(url: str | None) -> OpenAI:
    from openai import OpenAI

    return OpenAI(base_url=url, api_key=key_from_environment(), timeout=SECONDS, max_retries=_RETRIES)


def _base_url(client: OpenAI) -> str:
    return str(client.base_url).rstrip("/")


def _written(examples: Sequence[Conversation], valid: Sequence[Conversation], out: Path) -> dict[str, Path]:
    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for kind, rows in (("training", examples), ("validation", valid)):
        if rows:
            files[kind] = out / f"{kind}.jsonl"
            files[kind].write_bytes(chat_jsonl(rows))
    return files


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _suffix(name: str) -> str:
    """Return a project's name as services take it in a model's: letters, digits and hyphens, at most 64."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].rstrip("-") or _TAG


# --- made once


def _begun(client: OpenAI, request: _Request, note: Path, say: Say, sleep: Callable[[float], None]) -> str:
    """Upload what is not there, create the job unless it is there, and note its id."""
    _check_speaks(client)
    uploaded = {kind: _upload(client, path, sleep) for kind, path in request.files.items()}
    # The answer to a POST can be lost after it was heard: we look before we ask again, so the SDK must not.
    asking = client.with_options(max_retries=0).fine_tuning.jobs
    validation: dict[str, Any] = (
        {"validation_file": uploaded["validation"]} if "validation" in uploaded else {}
    )

    def create() -> str:
        made = asking.create(
            model=request.model,
            training_file=uploaded["training"],
            seed=request.seed,
            suffix=request.suffix,
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": request.epochs}}},
            # Not an argument of all the SDKs that we run with.
            extra_body={"metadata": {_TAG: request.tag}},
            **validation,
        )
        return _id_of(made, "job", request.place)

    job_id = _once(lambda: _find_job(client, request.tag), create, sleep)
    _note_down(note, {"made_for": request.tag, "job": job_id})
    say(f"Job {job_id} at {request.place}")
    return job_id


def _check_speaks(client: OpenAI) -> None:
    """Raise TrainingError unless the service lists files as OpenAI does; a page of HTML would confuse the SDK."""
    answer = client.files.with_raw_response.list(purpose="fine-tune", limit=1)
    try:
        found = json.loads(answer.text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        raise _no_such_service(_base_url(client), "list of files", answer.text)


def _upload(client: OpenAI, path: Path, sleep: Callable[[float], None]) -> str:
    name = f"{_TAG}-{_digest(path)}.jsonl"
    asking = client.with_options(max_retries=0).files

    def upload() -> str:
        with path.open("rb") as file:
            return _id_of(asking.create(file=(name, file), purpose="fine-tune"), "file", _base_url(client))

    return _once(lambda: _find_file(client, name), upload, sleep)


def _once(find: Callable[[], str | None], make: Callable[[], str], sleep: Callable[[float], None]) -> str:
    """Return the id of what is found or else made; where making fails in passing, look again and then try again."""
    from openai import APIConnectionError, APIStatusError

    attempt = 0
    while True:
        found = find()
        if found is not None:
            return found
        try:
            return make()
        except (APIConnectionError, APIStatusError) as error:
            response = getattr(error, "response", None)
            if attempt == _TRIES - 1 or (response is not None and not _passes(response)):
                raise
            sleep(_delay(response, attempt))
        attempt += 1


def _passes(response: Any) -> bool:
    if response.headers.get("x-should-retry") == "false":
        return False
    return response.status_code in (408, 409, 429) or response.status_code >= 500


def _delay(response: Any, attempt: int) -> float:
    """Return the seconds that a service asks to wait, at most two minutes; else twice as long each time."""
    with suppress(AttributeError, KeyError, ValueError):
        told = float(response.headers["retry-after"])
        if 0 <= told < math.inf:
            return min(told, 120.0)
    return 0.5 * 2.0**attempt


def _find_file(client: OpenAI, name: str) -> str | None:
    files = _each(client.files.list(purpose="fine-tune"))
    return next((file.id for file in files if file.filename == name and file.status != "error"), None)


def _find_job(client: OpenAI, tag: str) -> str | None:
    """Return the job that was made with this tag and did not fail."""
    for job in _each(client.fine_tuning.jobs.list(limit=100)):
        metadata = getattr(job, "metadata", None) or {}
        if metadata.get(_TAG) == tag and job.status not in ("failed", "cancelled"):
            return job.id
    return None


class _Listed(Protocol):
    id: str


_Thing = TypeVar("_Thing", bound=_Listed)


def _each(pages: Iterable[_Thing]) -> Iterator[_Thing]:
    """Yield what a list holds, page after page; a service that sends its first page again and again ends it."""
    seen: set[str] = set()
    for one in pages:
        if one.id in seen:
            return
        seen.add(one.id)
        yield one


def _id_of(made: Any, what: str, place: str) -> str:
    """Return the id of what a service says it made; the SDK hands on whatever is sent, a page of HTML too."""
    found = getattr(made, "id", None)
    if not isinstance(found, str) or not found:
        raise _no_such_service(place, what, made)
    return found


def _no_such_service(place: str, what: str, sent: object) -> TrainingError:
    return TrainingError(
        f"{place} sent no {what} in OpenAI's form: {str(sent)[:200]!r}",
        hint="Check the URL behind the @, which mostly ends in /v1, and that this service tunes models.",
    )


def _noted(note: Path, tag: str) -> str | None:
    """Return the id of the job that an earlier run noted; raises TrainingError if it was made for something else."""
    if not note.is_file():
        return None
    kept = json.loads(note.read_text(encoding="utf-8"))
    if kept["made_for"] != tag:
        raise TrainingError(
            f"the job {kept['job']} was made for another model, other examples or other settings",
            hint=f"Delete {note} to make a new job; the other one goes on until you cancel it.",
        )
    return str(kept["job"])


def _note_down(note: Path, kept: Mapping[str, str]) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    fresh = note.with_suffix(".new")
    fresh.write_text(json.dumps(kept), encoding="utf-8")
    fresh.replace(note)


# --- followed


@dataclass(frozen=True, slots=True)
class _Telling:
    """Whom to tell of what happens: the bar of steps, the others in words."""

    progress: Progress
    say: Say

    def event(self, event: FineTuningJobEvent) -> None:
        """Tell an event that is no step's: those move the bar."""
        if _step_of(event) is None:
            self.say(event.message)

    def standing(self, job: FineTuningJob, events: Sequence[FineTuningJobEvent]) -> None:
        """Move the bar to the last step that was logged, or let it say what the job waits for."""
        steps = _steps_of(events)
        if not steps:
            self.progress(0, 1, job.status)
            return
        last, total = steps[-1], max(_total(event) for event in events)
        losses = f"loss {last.train_loss:.3f}"
        if last.valid_loss is not None:
            losses += f", valid {last.valid_loss:.3f}"
        self.progress(last.step, max(total, last.step), f"{job.status}, {losses}")


def _followed(
    client: OpenAI,
    job_id: str,
    telling: _Telling,
    *,
    note: Path,
    sleep: Callable[[float], None],
    poll_seconds: float,
) -> tuple[FineTuningJob, tuple[FineTuningJobEvent, ...]]:
    """Ask after a job until it has ended; returns it with its events, oldest first."""
    place = _base_url(client)
    events: dict[str, FineTuningJobEvent] = {}
    try:
        with _errors_named(place, way_on=f"The job {job_id} goes on there; run again to follow it."):
            while True:
                job = _retrieved(client, job_id, note)
                for event in _fresh(client, job_id, events):
                    events[event.id] = event
                    telling.event(event)
                telling.standing(job, tuple(events.values()))
                if job.status in _ENDED:
                    return job, tuple(events.values())
                sleep(poll_seconds)
    except KeyboardInterrupt:
        telling.say(f"The job {job_id} goes on at {place}. Run again to follow it; to cancel it:")
        telling.say(
            f'curl -X POST {place}/fine_tuning/jobs/{job_id}/cancel -H "Authorization: Bearer $OPENAI_API_KEY"'
        )
        raise


def _retrieved(client: OpenAI, job_id: str, note: Path) -> FineTuningJob:
    from openai import NotFoundError

    place = _base_url(client)
    try:
        job = client.fine_tuning.jobs.retrieve(job_id)
    except NotFoundError as error:
        raise TrainingError(
            f"{place} does not know the job {job_id}",
            hint=f"Use the key that it was made with, or delete {note} to make a new one.",
        ) from error
    _id_of(job, "job", place)
    return job


def _fresh(client: OpenAI, job_id: str, known: Mapping[str, object]) -> list[FineTuningJobEvent]:
    """Return the events that are not known, oldest first; services send the newest first."""
    fresh = []
    for event in _each(client.fine_tuning.jobs.list_events(job_id, limit=100)):
        if event.id in known:
            break
        fresh.append(event)
    return fresh[::-1]


def _failure(job: FineTuningJob, place: str, out: Path) -> TrainingError:
    if job.status == "cancelled":
        return TrainingError(
            f"the job {job.id} was cancelled at {place}", hint="Run again to make a new one."
        )
    if job.status == "succeeded":
        return TrainingError(
            f"{place} says that the job {job.id} succeeded, and names no model that it made",
            hint="Ask the service; running again makes a new job.",
        )
    error = job.error
    said = error.message if error is not None and error.message else "it gives no reason"
    if error is not None and error.param in ("training_file", "validation_file"):
        file = out / f"{error.param.removesuffix('_file')}.jsonl"
        return TrainingError(
            f"the job {job.id} failed at {place}: {said}",
            hint=f"What was sent is {file}. Change what it is made from, in [curate] or [train], and run again.",
        )
    return TrainingError(f"the job {job.id} failed at {place}: {said}", hint="Run again to make a new one.")


@contextmanager
def _errors_named(place: str, *, way_on: str | None = None) -> Iterator[None]:
    """Turn the SDK's errors into ours, with `way_on` after what their hints say."""
    from openai import OpenAIError

    try:
        yield
    except OpenAIError as error:
        named = service_error(place, error, TrainingError)
        hints = [hint for hint in (named.hint, way_on) if hint is not None]
        raise TrainingError(named.message, hint=" ".join(hints) or None) from error


# --- what came of it


def _step_of(event: FineTuningJobEvent) -> HostedStep | None:
    """Return the step that an event logs, in its data or only in its message."""
    data = event.data if isinstance(event.data, dict) else {}
    if "step" in data and "train_loss" in data:
        return _step(data)
    found = _STEP.search(event.message)
    return None if found is None else HostedStep(int(found["step"]), float(found["loss"]))


def _total(event: FineTuningJobEvent) -> int:
    """Return how many steps there will be, or 0 where an event does not say."""
    data = event.data if isinstance(event.data, dict) else {}
    found = _STEP.search(event.message)
    return int(data.get("total_steps") or (found and found["total"]) or 0)


def _steps_of(events: Iterable[FineTuningJobEvent]) -> tuple[HostedStep, ...]:
    steps: dict[int, HostedStep] = {}
    for event in events:
        step = _step_of(event)
        # A step is told in words and in figures; the figures know more.
        if step is not None and (step.step not in steps or step.valid_loss is not None):
            steps[step.step] = step
    return tuple(steps[number] for number in sorted(steps))


def _step(row: Mapping[str, Any]) -> HostedStep:
    valid = row.get("valid_loss")
    return HostedStep(
        int(row["step"]), float(row["train_loss"]), valid_loss=None if valid in (None, "") else float(valid)
    )


def _write_results(out: Path, results: Mapping[str, bytes]) -> tuple[HostedStep, ...]:
    """Keep the service's files as they are, and return the steps that are in them."""
    steps: tuple[HostedStep, ...] = ()
    for name, content in results.items():
        path = out / "results" / (re.sub(r"[^\w-]", "_", name) + ".csv")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        steps = steps or _steps_in(content)
    return steps


def _steps_in(content: bytes) -> tuple[HostedStep, ...]:
    """Return the steps of a file of metrics, plain or in base64; none, if it is something else."""
    try:
        plain = content if content.startswith(b"step,") else base64.b64decode(content, validate=True)
        rows = csv.DictReader(io.StringIO(plain.decode()))
        return tuple(_step(row) for row in rows if row["train_loss"])
    except (KeyError, ValueError):
        return ()


def _write_steps(path: Path, steps: Iterable[HostedStep]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(HostedStep))
        for step in steps:
            writer.writerow("" if value is None else value for value in asdict(step).values())


def _write_events(path: Path, events: Iterable[FineTuningJobEvent]) -> None:
    lines = (json.dumps(event.to_dict(mode="json"), ensure_ascii=False) for event in events)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _hyperparameters(job: FineTuningJob) -> dict[str, Any]:
    """Return what a job was trained with, as newer services nest it or as older ones do not."""
    supervised = job.method.supervised if job.method is not None else None
    found = (supervised and supervised.hyperparameters) or job.hyperparameters
    return {} if found is None else found.to_dict(mode="json")
