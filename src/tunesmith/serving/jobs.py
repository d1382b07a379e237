"""The supervisor of fine-tuning jobs: a queue, a process per job, what the processes say taken into the database.

A process says what it does in the journal of its folder; the supervisor takes each line over exactly once, in the same
transaction that moves the job's count of lines. So nothing is lost or told twice, whoever is killed when.
"""

from __future__ import annotations

import base64
import csv
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tunesmith.serving.blobs import Blobs
from tunesmith.serving.errors import conflict
from tunesmith.serving.home import Home
from tunesmith.serving.ids import new_id
from tunesmith.serving.job import KEPT_CHECKPOINTS, Journal, Order, Phase, holder
from tunesmith.serving.store import Store
from tunesmith.serving.tables import File, Job, JobCheckpoint, JobEvent, Model, Organisation

_LOG = logging.getLogger("tunesmith.serving.jobs")

# What may follow what; nothing follows an end.
_NEXT: Final[Mapping[str, tuple[str, ...]]] = {
    "validating_files": ("queued", "failed", "cancelled"),
    "queued": ("running", "paused", "cancelled", "failed"),
    "running": ("succeeded", "failed", "cancelled", "pausing"),
    "pausing": ("paused", "succeeded", "failed", "cancelled"),
    "paused": ("queued", "cancelled"),
}
ENDED: Final = ("succeeded", "failed", "cancelled")
_WORKING: Final = ("validating_files", "queued", "running", "pausing")
_TRIES: Final = 3
# What a job's process sees of the environment: no keys.
_ENVIRONMENT: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "TUNESMITH_CACHE", "XDG_CACHE_HOME",
    "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE",
)  # fmt: skip


@dataclass(slots=True)
class _Process:
    """A job's process: our own child, or one that an earlier server has left (then `child` is None)."""

    folder: Path
    phase: Phase
    child: subprocess.Popen[bytes] | None

    def ended(self) -> bool:
        if self.child is not None:
            return self.child.poll() is not None
        return holder(self.folder) is None

    def signal(self, number: int) -> None:
        pid = holder(self.folder) if self.child is None else self.child.pid
        if pid is not None and not self.ended():
            os.killpg(pid, number)


class Jobs:
    """Runs the jobs of one server, `slots` at a time; call `tick` again and again, from one thread at a time.

    `in_base64` says how step_metrics.csv is written.
    """

    def __init__(
        self, home: Home, store: Store, blobs: Blobs, *, slots: int = 1, in_base64: bool = False
    ) -> None:
        self._home, self._store, self._blobs, self._slots = home, store, blobs, slots
        self._in_base64 = in_base64
        self._processes: dict[str, _Process] = {}
        self._tries: dict[str, tuple[int, int]] = {}
        self._taken: dict[str, int] = {}
        self._started: Counter[str] = Counter()
        self._turn = threading.Lock()
        self._adopt()

    def folder(self, job: str) -> Path:
        """Return a job's folder."""
        return self._home.jobs / job

    def models(self, job: str) -> Path:
        """Return where a job's models lie."""
        return self._home.models / job

    def prepare(self, job: Job, train: File, valid: File | None, objective: str) -> None:
        """Make a job's folder; the files are linked into it, so that they may be deleted while it runs."""
        folder = self.folder(job.id)
        folder.mkdir()
        for file, name in ((train, "train.jsonl"), (valid, "valid.jsonl")):
            if file is not None:
                link(self._blobs.path(file.digest), folder / name)
        models = self.models(job.id)
        Order(
            base=job.base,
            objective="preferences" if objective == "preferences" else "answers",
            hyperparameters=job.hyperparameters,
            seed=job.seed,
            validated=valid is not None,
            models=str(models),
        ).write(folder)
        models.mkdir()

    def tick(self) -> None:
        """Take over what was said, note who has ended, start whose turn it is."""
        with self._turn:
            for job in self._store.all(select(Job).where(Job.status.in_(_WORKING)).order_by(Job.number)):
                self._absorb(job.id)
            for id, process in list(self._processes.items()):
                if process.ended():
                    del self._processes[id]
                    self._absorb(id)
                    self._after(id, process)
            self._start_next()

    def stop(self, seconds: float = 30.0) -> None:
        """Let all processes end after the step that they are in; they go on when a server starts again."""
        with self._turn:
            for process in self._processes.values():
                process.signal(signal.SIGTERM)
            for process in self._processes.values():
                if process.child is not None:
                    try:
                        process.child.wait(seconds)
                    except subprocess.TimeoutExpired:
                        # Its last checkpoint is whole.
                        process.signal(signal.SIGKILL)
                        process.child.wait()
            for id in list(self._processes):
                self._absorb(id)
            self._processes.clear()

    def cancel(self, organisation: str, id: str) -> Job:
        """Cancel a job of an organisation; raises ApiError where it has ended."""
        with self._turn:
            with self._store.write() as session:
                job = _locked(session, organisation, id)
                self._ask(job, "cancelled")
                job.finished_at, job.estimated_finish = self._store.clock(), None
                self._tell(session, job, "The job was cancelled")
            process = self._processes.get(id)
            if process is None:
                self._clear(job)
            else:
                process.signal(signal.SIGKILL)
        return job

    def pause(self, organisation: str, id: str) -> Job:
        """Pause a job: one that runs leaves a checkpoint first."""
        with self._turn:
            with self._store.write() as session:
                job = _locked(session, organisation, id)
                self._ask(job, "pausing" if job.status == "running" else "paused")
                said = "The job is being paused" if job.status == "pausing" else "The job is paused"
                self._tell(session, job, said)
            process = self._processes.get(id)
            if process is not None:
                process.signal(signal.SIGTERM)
        return job

    def resume(self, organisation: str, id: str) -> Job:
        """Let a paused job go on when its turn comes."""
        with self._store.write() as session:
            job = _locked(session, organisation, id)
            if job.status != "paused":
                raise conflict(f"The job {id} is {job.status}, not paused.", code="invalid_status")
            self._ask(job, "queued")
            self._tell(session, job, "The job is resumed and queued")
        return job

    def begin(self, session: Session, job: Job) -> None:
        """Say what is said when a job is created."""
        self._tell(session, job, f"Created fine-tuning job: {job.id}")
        self._tell(session, job, f"Validating training file: {job.training_file}")
        if job.validation_file is not None:
            self._tell(session, job, f"Validating validation file: {job.validation_file}")

    # --- processes

    def _adopt(self) -> None:
        """Find the processes that an earlier server has left, and take away folders that no job knows."""
        known = set(self._store.all(select(Job.id)))
        for folder in self._home.jobs.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder)
            elif holder(folder) is not None:
                validated = any(line["kind"] == "validated" for line in Journal(folder).lines())
                self._processes[folder.name] = _Process(folder, "train" if validated else "validate", None)

    def _start_next(self) -> None:
        jobs = self._store.all(select(Job).where(Job.status.in_(_WORKING)).order_by(Job.number))
        busy = Counter(process.phase for process in self._processes.values())
        waiting = [job for job in jobs if job.id not in self._processes]
        for job in waiting:
            if job.status == "pausing":
                # Its process has ended already.
                self._after(job.id, None)
            elif job.status == "validating_files" and busy["validate"] == 0:
                busy["validate"] += 1
                self._start(job, "validate")
        # A job that was running goes on first; then the organisation that has had the fewest turns.
        ready = [job for job in waiting if job.status in ("queued", "running")]
        ready.sort(key=lambda job: (job.status != "running", self._started[job.organisation], job.number))
        for job in ready[: max(0, self._slots - busy["train"])]:
            if job.status == "queued" and not self._run(job):
                continue
            self._start(job, "train")

    def _run(self, job: Job) -> bool:
        """Note that a job runs; returns whether nobody has cancelled or paused it meanwhile."""
        with self._store.write() as session:
            row = _locked(session, job.organisation, job.id)
            if row.status != "queued":
                return False
            row.status = "running"
            again = row.started_at is not None
            row.started_at = row.started_at or self._store.clock()
            self._tell(session, row, "The job goes on" if again else "Fine-tuning job started")
        self._started[job.organisation] += 1
        return True

    def _start(self, job: Job, phase: Phase) -> None:
        folder = self.folder(job.id)
        environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
        with (folder / "log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "tunesmith.serving.job", str(folder), phase],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        self._processes[job.id] = _Process(folder, phase, child)
        _LOG.info("job started", extra={"job": job.id, "phase": phase, "pid": child.pid})

    def _after(self, id: str, process: _Process | None) -> None:
        """Go on where a process has ended: paused, cancelled, or to be started again."""
        with self._store.write() as session:
            job = session.scalars(select(Job).where(Job.id == id).with_for_update()).one()
            if job.status == "pausing":
                job.status = "paused"
                self._tell(session, job, "The job is paused")
            elif job.status in ENDED:
                self._clear(job)
            elif process is not None:
                self._count_try(session, job, process)

    def _count_try(self, session: Session, job: Job, process: _Process) -> None:
        """Give a job up whose process ends again and again without having got anywhere."""
        expected = "validating_files" if process.phase == "validate" else "running"
        lines = Journal(process.folder).lines()
        if job.status != expected or (lines and lines[-1]["kind"] == "stopped"):
            return
        before, tries = self._tries.get(job.id, (-1, 0))
        tries = 1 if len(lines) > before else tries + 1
        self._tries[job.id] = (len(lines), tries)
        _LOG.warning("job's process died", extra={"job": job.id, "tries": tries})
        if tries < _TRIES:
            self._tell(
                session, job, "The job's process died; it goes on from its last checkpoint", level="warn"
            )
            return
        self._fail(
            session,
            job,
            code="server_error",
            message=f"The job's process died {tries} times without getting further. Its log is on the server.",
            param=None,
        )

    def _clear(self, job: Job) -> None:
        """Delete what a job that has ended no longer needs; its journal and log stay."""
        shutil.rmtree(self.folder(job.id) / "work", ignore_errors=True)
        for name in ("train.jsonl", "valid.jsonl"):
            (self.folder(job.id) / name).unlink(missing_ok=True)
        if job.status != "succeeded":
            self.drop_models(job.id)

    def drop_models(self, id: str) -> None:
        """Delete the models of a job that nobody can use: those without a row."""
        kept = {Path(address.removeprefix("path:")) for address in self._addresses(id)}
        if not self.models(id).is_dir():
            return
        for folder in self.models(id).iterdir():
            if folder not in kept and not (folder.name == "base" and kept):
                shutil.rmtree(folder)
        if not kept:
            self.models(id).rmdir()

    def _addresses(self, id: str) -> list[str]:
        return self._store.all(select(Model.address).where(Model.job == id))

    # --- what processes say

    def _absorb(self, id: str) -> None:
        """Take the new lines of a job's journal over."""
        journal = Journal(self.folder(id))
        size = journal.path.stat().st_size if journal.path.is_file() else 0
        job = self._store.one(select(Job).where(Job.id == id))
        if job is None or self._taken.get(id) == size:
            return
        lines = journal.lines(job.journal)
        if lines and lines[-1]["kind"] == "done":
            self._finish(job, journal)
        elif lines:
            with self._store.write() as session:
                job = session.scalars(select(Job).where(Job.id == id).with_for_update()).one()
                self._take(session, job, journal.lines(job.journal))
        # Only now that it is kept; and the size of before, for a line that came meanwhile makes another.
        self._taken[id] = size
        if job.status in ENDED and id not in self._processes:
            self._clear(job)

    def _finish(self, job: Job, journal: Journal) -> None:
        """Take the last lines over, together with the file of metrics that they come with."""
        steps = [line["metrics"] for line in journal.lines() if line["kind"] == "step"]
        table = step_metrics(steps).encode()
        with self._blobs.receive() as incoming:
            incoming.write(base64.b64encode(table) if self._in_base64 else table)

            def name(digest: str) -> None:
                with self._store.write() as session:
                    row = session.scalars(select(Job).where(Job.id == job.id).with_for_update()).one()
                    file = File(
                        id=new_id("file-"),
                        organisation=row.organisation,
                        filename="step_metrics.csv",
                        purpose="fine-tune-results",
                        bytes=incoming.bytes,
                        digest=digest,
                        status="processed",
                        status_details=None,
                        created_at=self._store.clock(),
                        expires_at=None,
                    )
                    self._take(session, row, journal.lines(row.journal))
                    if row.status == "succeeded":
                        row.result_files = [file.id]
                        session.add(file)

            self._blobs.keep(incoming, name)

    def _take(self, session: Session, job: Job, lines: Iterable[dict[str, Any]]) -> None:
        for line in lines:
            job.journal += 1
            if job.status in ENDED:
                continue
            kind = line["kind"]
            if kind == "validated":
                self._take_validated(session, job, line)
            elif kind == "step":
                self._take_step(session, job, line)
            elif kind == "checkpoint":
                self._take_checkpoint(session, job, line)
            elif kind == "failed":
                self._fail(session, job, code=line["code"], message=line["message"], param=line["param"])
            elif kind == "done":
                self._take_done(session, job, line)

    def _take_validated(self, session: Session, job: Job, line: dict[str, Any]) -> None:
        resolved = line["resolved"]
        job.hyperparameters = {key: value for key, value in resolved.items() if key != "beta"}
        kind = job.method["type"]
        job.method = {"type": kind, kind: {"hyperparameters": resolved}}
        if line["over"]:
            self._tell(
                session,
                job,
                f"{line['over']} of {line['rows']} examples are too long and are cut",
                level="warn",
            )
        self._tell(session, job, "Files validated, moving job to queued state")
        if job.status == "validating_files":
            job.status = "queued"

    def _take_step(self, session: Session, job: Job, line: dict[str, Any]) -> None:
        metrics, total = line["metrics"], line["total"]
        step = metrics["step"]
        valid = "" if metrics["valid_loss"] is None else f", validation loss={metrics['valid_loss']:.2f}"
        names = {
            "step": "step",
            "train_loss": "train_loss",
            "train_accuracy": "train_mean_token_accuracy",
            "valid_loss": "valid_loss",
            "valid_accuracy": "valid_mean_token_accuracy",
        }
        data = {shown: metrics[key] for key, shown in names.items() if metrics[key] is not None}
        message = f"Step {step}/{total}: training loss={metrics['train_loss']:.2f}{valid}"
        self._tell(session, job, message, type="metrics", data=data | {"total_steps": total})
        job.estimated_finish = self._store.clock() + round(metrics["seconds"] * (total - step))

    def _take_checkpoint(self, session: Session, job: Job, line: dict[str, Any]) -> None:
        step, metrics = line["step"], line["metrics"]
        name = f"{_model_name(session, job)}:ckpt-step-{step}"
        shown = {
            "step": step,
            "train_loss": metrics["train_loss"],
            "train_mean_token_accuracy": metrics["train_accuracy"],
            "valid_loss": metrics["valid_loss"],
            "valid_mean_token_accuracy": metrics["valid_accuracy"],
            "full_valid_loss": metrics["valid_loss"],
            "full_valid_mean_token_accuracy": metrics["valid_accuracy"],
        }
        now = self._store.clock()
        kept = {key: value for key, value in shown.items() if value is not None}
        session.add(
            JobCheckpoint(
                id=new_id("ftckpt_"), job=job.id, step=step, model=name, metrics=kept, created_at=now
            )
        )
        self._add_model(session, job, name, self.models(job.id) / f"step-{step}")
        session.flush()
        old = session.scalars(
            select(JobCheckpoint).where(JobCheckpoint.job == job.id).order_by(JobCheckpoint.step.desc())
        ).all()[KEPT_CHECKPOINTS:]
        for checkpoint in old:
            model = session.scalars(select(Model).where(Model.job == job.id, Model.name == checkpoint.model))
            for row in model:
                session.delete(row)
            session.delete(checkpoint)
            shutil.rmtree(self.models(job.id) / f"step-{checkpoint.step}", ignore_errors=True)
        self._tell(session, job, f"Checkpoint created at step {step}")

    def _take_done(self, session: Session, job: Job, line: dict[str, Any]) -> None:
        job.fine_tuned_model = _model_name(session, job)
        self._add_model(session, job, job.fine_tuned_model, self.models(job.id) / "final")
        job.trained_tokens = line["tokens"]
        job.finished_at = self._store.clock()
        job.estimated_finish = None
        for note in line["notes"]:
            self._tell(session, job, note, level="warn")
        self._tell(session, job, f"New fine-tuned model created: {job.fine_tuned_model}")
        self._tell(session, job, "The job has successfully completed")
        job.status = "succeeded"

    def _add_model(self, session: Session, job: Job, name: str, folder: Path) -> None:
        session.add(
            Model(
                organisation=job.organisation,
                name=name,
                address=f"path:{folder}",
                base=job.base,
                job=job.id,
                created_at=self._store.clock(),
            )
        )

    def _fail(self, session: Session, job: Job, *, code: str, message: str, param: str | None) -> None:
        job.status, job.finished_at, job.estimated_finish = "failed", self._store.clock(), None
        job.error = {"code": code, "message": message, "param": param}
        self._tell(session, job, f"The job failed: {message}", level="error")

    def _ask(self, job: Job, status: str) -> None:
        """Move a job as its owner asks; raises ApiError (409) where that cannot be."""
        if status not in _NEXT.get(job.status, ()):
            doing = {"cancelled": "cancelled", "queued": "resumed"}.get(status, "paused")
            raise conflict(f"The job {job.id} is {job.status} and cannot be {doing}.", code="invalid_status")
        job.status = status

    def _tell(
        self,
        session: Session,
        job: Job,
        message: str,
        *,
        level: str = "info",
        type: str = "message",
        data: dict[str, Any] | None = None,
    ) -> None:
        last = session.scalar(select(func.max(JobEvent.sequence)).where(JobEvent.job == job.id)) or 0
        session.add(
            JobEvent(
                id=new_id("ftevent-"),
                job=job.id,
                sequence=last + 1,
                level=level,
                message=message,
                type=type,
                data=data or {},
                created_at=self._store.clock(),
            )
        )
        session.flush()


def step_metrics(steps: Iterable[Mapping[str, Any]]) -> str:
    """Return the result file: a line per step, as OpenAI's has it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    writer.writerow((*names[:4], "valid_mean_token_accuracy"))
    for step in steps:
        writer.writerow(["" if step[name] is None else step[name] for name in names])
    return out.getvalue()


def _model_name(session: Session, job: Job) -> str:
    """Return the name of a job's model: ft:BASE:ORGANISATION:SUFFIX:ID."""
    owner = session.get(Organisation, job.organisation)
    assert owner is not None
    base = job.model.split(":")[1] if job.model.startswith("ft:") else job.model
    return f"ft:{base}:{owner.name}:{job.suffix or ''}:{job.id[-8:]}"


def _locked(session: Session, organisation: str, id: str) -> Job:
    from tunesmith.serving.errors import not_found

    query = select(Job).where(Job.organisation == organisation, Job.id == id).with_for_update()
    job = session.scalars(query).one_or_none()
    if job is None:
        raise not_found("fine-tuning job", id)
    return job


def link(source: Path, target: Path) -> None:
    """Give bytes another name, or copy them where that cannot be."""
    try:
        target.hardlink_to(source)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, target)
