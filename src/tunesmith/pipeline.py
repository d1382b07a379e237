"""The whole product on one screen: collect, chunk, generate, curate, estimate, tune, evaluate, risks, report.

Each stage is a function of the artefacts before it. STAGES says which, in order; `run` makes what is not there yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from tunesmith import cache_keys as keys
from tunesmith import curves, measuring, reporting, risks, steps
from tunesmith.artifacts import Artifact, Store, artifact_id
from tunesmith.config import Config
from tunesmith.errors import UsageError
from tunesmith.steps import Work


class Show(Protocol):
    """Told what happens while a project runs."""

    def stage_started(self, name: str, caption: str) -> None:
        """Begin a stage."""

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Report `done` of `total` units of the stage that was begun last."""

    def stage_done(self, name: str, seconds: float, reused: bool, counts: Mapping[str, int]) -> None:
        """End a stage; `reused` if its artefact was there already."""

    def say(self, text: str) -> None:
        """Say something that a person should read."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: what it needs, the settings and outside files that its result hangs on, and how it is made.

    `also` are stages that it needs with some settings and not with others; `version` is raised when the same inputs
    would give another result than before.
    """

    name: str
    caption: str
    needs: tuple[str, ...]
    settings: Callable[[Config], Mapping[str, Any]]
    outside: Callable[[Config], tuple[str, ...]]
    build: Callable[[Work], Mapping[str, int]]
    version: int = 1
    also: Callable[[Config], tuple[str, ...]] = keys.nothing

    def needed(self, config: Config) -> tuple[str, ...]:
        """Return the stages that it needs with these settings."""
        return (*self.needs, *self.also(config))


STAGES: Final = (
    Stage("collect", "read the sources", (), keys.collect_settings, keys.source_digests, steps.collect),
    Stage("chunk", "cut documents, find topics", ("collect",), keys.chunk_settings, keys.chunk_digests, steps.chunk,
          2),
    Stage("generate", "make questions and answers", ("collect",), keys.generate_settings, keys.question_digests,
          steps.generate, 2, keys.pieces_asked_about),
    Stage("curate", "check, deduplicate, split", ("collect", "generate"), keys.curate_settings, keys.people_digests,
          steps.curate, 3),
    Stage("index", "embed the catalogue", ("collect",), keys.index_settings, keys.chunk_digests, steps.index, 3),
    Stage("estimate", "tokens, time, memory, price", ("collect", "curate", "index"), keys.estimate_settings,
          keys.both_digests, steps.estimate),
    Stage("encoder", "tune the retriever", ("collect", "curate", "index"), keys.encoder_settings, keys.encoder_digest,
          steps.encoder, 2),
    Stage("train", "tune the language model", ("collect", "curate", "index", "encoder"), keys.train_settings,
          keys.base_digest, steps.train, 2),
    Stage("curve", "tune on parts of the data, if wanted",
          ("collect", "generate", "curate", "index", "encoder", "train"),
          curves.settings, curves.outside, curves.curve),
    Stage("evaluate", "ask every contender", ("collect", "generate", "curate", "index", "encoder", "train"),
          keys.evaluate_settings, keys.contender_digests, measuring.evaluate, 4),
    Stage("risks", "what the tuning risks", ("collect", "curate", "train", "evaluate"), risks.settings,
          keys.nothing, risks.risks, 2),
    Stage("report", "the verdict",
          ("collect", "chunk", "generate", "curate", "estimate", "encoder", "train", "curve", "evaluate", "risks"),
          keys.report_settings, keys.nothing, reporting.report, 6),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """A stage with its artefact's id, and the artefact if it is finished."""

    stage: Stage
    id: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]


def plan(config: Config) -> tuple[Planned, ...]:
    """Return every stage with the id that its artefact has, or will have, for this config and these sources."""
    planned: dict[str, Planned] = {}
    for stage in STAGES:
        settings = stage.settings(config)
        inputs = (*stage.outside(config), *(planned[need].id for need in stage.needed(config)))
        planned[stage.name] = Planned(
            stage, artifact_id(stage.name, stage.version, settings, inputs), settings, inputs
        )
    return tuple(planned.values())


def run(config: Config, store: Store, upto: str | None, show: Show) -> dict[str, Artifact]:
    """Make every stage up to `upto` (None: the last) that is not finished yet; returns the artefacts by stage.

    Raises UsageError if started in several processes: a project is one process's work.
    """
    _check_alone()
    wanted = needed_for(upto, config)
    made: dict[str, Artifact] = {}
    with store.lock():
        # Before anything is planned: what a stage is called hangs on the pages.
        steps.fetch_sources(config, show.say)
        for one in plan(config):
            if one.stage.name in wanted:
                made[one.stage.name] = _make(one, config, store, made, show)
    return made


def _check_alone() -> None:
    from tunesmith.training.ranks import processes

    if processes() > 1:
        raise UsageError(
            f"a project is run by one process, and this is one of {processes()}",
            hint="Run it without torchrun or accelerate launch, or train on a file (docs/several-machines.md).",
        )


def needed_for(upto: str | None, config: Config) -> frozenset[str]:
    """Return a stage's name and those of all that it needs; raises UsageError if there is no such stage."""
    by_name = {stage.name: stage for stage in STAGES}
    last = STAGES[-1].name if upto is None else upto
    if last not in by_name:
        raise UsageError(f"there is no stage {last!r}", hint=f"The stages are {', '.join(by_name)}.")

    def names(name: str) -> Iterator[str]:
        yield name
        for need in by_name[name].needed(config):
            yield from names(need)

    return frozenset(names(last))


def _make(one: Planned, config: Config, store: Store, made: Mapping[str, Artifact], show: Show) -> Artifact:
    stage = one.stage
    show.stage_started(stage.name, stage.caption)
    reused = store.find(stage.name, one.id) is not None

    def build(draft: Path) -> None:
        inputs = {need: made[need] for need in stage.needed(config)}
        counts = stage.build(Work(config, inputs, draft, show.progress, show.say))
        draft.joinpath("counts.json").write_text(json.dumps(dict(counts)), encoding="utf-8")

    artifact = store.make(
        stage.name, one.id, settings=one.settings, inputs=one.inputs, build=build, version=stage.version
    )
    show.stage_done(stage.name, artifact.manifest.seconds, reused, counts_of(artifact))
    return artifact


def counts_of(artifact: Artifact) -> dict[str, int]:
    """Return what a finished stage counted."""
    counts: dict[str, int] = json.loads(artifact.file("counts.json").read_text(encoding="utf-8"))
    return counts
