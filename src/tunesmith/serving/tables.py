"""What a server remembers, as tables: organisations, keys, files, jobs with their events, models, batches.

A moment is kept in whole seconds since 1970, as the API shows it. What belongs to an organisation says so in
`organisation`; nothing is read without naming it. Ids are random, so a row's order is its `number`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]

_NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(DeclarativeBase):
    """The base of all tables."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar = {Json: JSON, list[Any]: JSON, list[str]: JSON, int: BigInteger}


# SQLite counts only its INTEGER primary keys up by itself.
Number = BigInteger().with_variant(Integer, "sqlite")


class Organisation(Table):
    """Who owns files, jobs and models; what one has, no other sees."""

    __tablename__ = "organisations"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[int]


class Key(Table):
    """An API key: of its secret only a salted hash."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    salt: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]]
    limits: Mapped[Json]
    created_at: Mapped[int]
    revoked_at: Mapped[int | None]


class File(Table):
    """A file as the API shows it; its bytes lie under their digest, which several files may share."""

    __tablename__ = "files"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    filename: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64), index=True)
    status: Mapped[str] = mapped_column(String(32))
    status_details: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[int]
    expires_at: Mapped[int | None] = mapped_column(index=True)


class Upload(Table):
    """A file that comes in parts."""

    __tablename__ = "uploads"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    filename: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(String(64))
    mime_type: Mapped[str] = mapped_column(String(200))
    bytes: Mapped[int]
    status: Mapped[str] = mapped_column(String(32))
    file: Mapped[str | None] = mapped_column(String(64))
    expires_after: Mapped[Json | None]
    created_at: Mapped[int]
    expires_at: Mapped[int] = mapped_column(index=True)


class Part(Table):
    """One part of an upload."""

    __tablename__ = "upload_parts"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    upload: Mapped[str] = mapped_column(ForeignKey("uploads.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int]
    created_at: Mapped[int]


class Job(Table):
    """A fine-tuning job: what was asked, what it was resolved to, and where it stands."""

    __tablename__ = "jobs"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    key: Mapped[str | None] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(Text)  # as it was asked for: a name, an alias
    base: Mapped[str] = mapped_column(Text)  # the address that this means
    training_file: Mapped[str] = mapped_column(String(64))
    validation_file: Mapped[str | None] = mapped_column(String(64))
    suffix: Mapped[str | None] = mapped_column(String(64))
    seed: Mapped[int]
    meta: Mapped[Json | None]
    method: Mapped[Json]
    hyperparameters: Mapped[Json]
    integrations: Mapped[list[Any]]
    status: Mapped[str] = mapped_column(String(32), index=True)
    error: Mapped[Json | None]
    created_at: Mapped[int]
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]
    estimated_finish: Mapped[int | None]
    trained_tokens: Mapped[int | None]
    fine_tuned_model: Mapped[str | None] = mapped_column(Text)
    result_files: Mapped[list[str]]
    journal: Mapped[int]  # lines of its journal that have been read


class JobEvent(Table):
    """What a job said; `sequence` counts from 1 without a gap."""

    __tablename__ = "job_events"
    __table_args__ = (UniqueConstraint("job", "sequence"),)

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    sequence: Mapped[int]
    level: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    type: Mapped[str] = mapped_column(String(16))
    data: Mapped[Json]
    created_at: Mapped[int]


class JobCheckpoint(Table):
    """A state of a job's model that can be used as a model of its own."""

    __tablename__ = "job_checkpoints"
    __table_args__ = (UniqueConstraint("job", "step"),)

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    step: Mapped[int]
    model: Mapped[str] = mapped_column(Text)
    metrics: Mapped[Json]
    created_at: Mapped[int]


class Model(Table):
    """A tuned model of an organisation: its name in the API, and the address of its folder."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("organisation", "name"),)

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    name: Mapped[str] = mapped_column(Text, index=True)
    address: Mapped[str] = mapped_column(Text)
    base: Mapped[str] = mapped_column(Text)
    job: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[int]


class Batch(Table):
    """A file of requests, answered one by one."""

    __tablename__ = "batches"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    key: Mapped[str | None] = mapped_column(String(64))
    endpoint: Mapped[str] = mapped_column(String(64))
    window: Mapped[str] = mapped_column(String(16))
    input_file: Mapped[str] = mapped_column(String(64))
    output_file: Mapped[str | None] = mapped_column(String(64))
    error_file: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(32), index=True)
    errors: Mapped[list[Any]]
    counts: Mapped[Json]
    usage: Mapped[Json]
    moments: Mapped[
        Json
    ]  # in_progress_at, finalizing_at, completed_at, failed_at, expired_at, cancelling_at, ...
    output_expires_after: Mapped[Json | None]
    meta: Mapped[Json | None]
    created_at: Mapped[int]
    expires_at: Mapped[int]


class Response(Table):
    """A response as the API shows it, what it was given to read, and the response before it."""

    __tablename__ = "responses"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    previous: Mapped[str | None] = mapped_column(String(64))
    input: Mapped[list[Any]]
    body: Mapped[Json]
    created_at: Mapped[int] = mapped_column(index=True)


class Eval(Table):
    """What is graded, and by what."""

    __tablename__ = "evals"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    config: Mapped[Json]
    criteria: Mapped[list[Any]]
    meta: Mapped[Json | None]
    created_at: Mapped[int]


class EvalRun(Table):
    """A run of an eval over its items."""

    __tablename__ = "eval_runs"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    key: Mapped[str | None] = mapped_column(String(64))
    eval: Mapped[str] = mapped_column(ForeignKey("evals.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    data_source: Mapped[Json]
    status: Mapped[str] = mapped_column(String(32), index=True)
    error: Mapped[Json | None]
    counts: Mapped[Json]
    by_criterion: Mapped[list[Any]]
    usage: Mapped[Json]
    meta: Mapped[Json | None]
    created_at: Mapped[int]


class EvalItem(Table):
    """One item of a run with its answer and grades; `place` counts a run's items from 1."""

    __tablename__ = "eval_items"
    __table_args__ = (UniqueConstraint("run", "place"),)

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    organisation: Mapped[str] = mapped_column(ForeignKey("organisations.id"), index=True)
    run: Mapped[str] = mapped_column(ForeignKey("eval_runs.id"), index=True)
    place: Mapped[int]
    status: Mapped[str] = mapped_column(String(16), index=True)
    item: Mapped[Json]
    sample: Mapped[Json]
    results: Mapped[list[Any]]
    created_at: Mapped[int]
