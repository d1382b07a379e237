"""A project whose base a service keeps: priced, tuned there, evaluated by the address it got, and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.training.tuning_service import TuningService, serving

from tunesmith.artifacts import Artifact
from tunesmith.cli.inventory import Usable, tuned
from tunesmith.config import Config
from tunesmith.errors import AddressError, DatasetError
from tunesmith.project import Project
from tunesmith.records import Example, Score, read_jsonl

CONTENDERS = ("base", "tuned", "tuned+tuned_retrieval")
TUNED = "ft:gpt-4.1-mini:org:toolbox:1"


class Toolbox(Protocol):
    """What the fixture `toolbox` gives."""

    def copy(self, folder: Path) -> Project:
        """Return a copy of the project, finished work included."""
        ...


@pytest.fixture(scope="module")
def service() -> Iterator[TuningService]:
    """Serve OpenAI's wire format; a job is done as soon as it is looked at."""
    with serving(TuningService(script=("succeeded",), result_files=("file-metrics",))) as running:
        yield running


@pytest.fixture(scope="module")
def project(toolbox: Toolbox, service: TuningService, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Run a copy of the toolbox whose base is at the service, to the report."""
    copied = toolbox.copy(tmp_path_factory.mktemp("hosted") / "project")
    hosted = Project(at(service, copied.config))
    hosted.run()
    return hosted


def at(service: TuningService, config: Config, **changes: Any) -> Config:
    """Return the config with the service's model as its base."""
    train = config.train.model_copy(update={"base": f"openai:gpt-4.1-mini@{service.url}", "epochs": 2})
    return replace(config, train=train, contenders=CONTENDERS, name="toolbox", **changes)


def artefact(project: Project, stage: str) -> Artifact:
    """Return a stage's artefact: the newest, the older ones being those of the local base."""
    return [one for one in project.store.list() if one.stage == stage][-1]


def test_the_service_gets_the_curated_examples(project: Project, service: TuningService) -> None:
    """Every training example is a line, the question last before the answer, some with retrieved entries."""
    rows = list(read_jsonl(Example, artefact(project, "curate").file("train.jsonl")))
    lines = [json.loads(line)["messages"] for line in service.contents["file-1"].decode().splitlines()]
    assert {line[-1]["content"] for line in lines} == {row.answer for row in rows}
    assert len(lines) == len(rows) == 46
    shown = sum("Entries that may help" in line[1]["content"] for line in lines)
    assert 0 < shown < len(rows)
    assert [line[0]["role"] for line in lines] == ["system"] * 46


def test_the_artefact_holds_what_the_service_made(project: Project, service: TuningService) -> None:
    """The record, the metrics, the files that were sent and the events; no adapter."""
    made = artefact(project, "train")
    assert set(made.manifest.files) == {
        *("counts.json", "events.jsonl", "hosted.json", "loss.svg", "ranks.json", "step_metrics.csv"),
        *("training.jsonl", "validation.jsonl", "results/file-metrics.csv"),
    }
    assert json.loads(made.file("hosted.json").read_text())["address"] == f"{TUNED}@{service.url}"
    assert json.loads(made.file("counts.json").read_text()) == {"examples": 46, "steps": 4, "tokens": 1234}


def test_contenders_are_asked_at_the_service(project: Project, service: TuningService) -> None:
    """`base` is the model as it was, `tuned` the one that the job made; each answer is a score."""
    scores = list(read_jsonl(Score, artefact(project, "evaluate").file("scores.jsonl")))
    assert {one.contender for one in scores} == set(CONTENDERS)
    assert {one.answer.text for one in scores} == {service.says}
    assert service.models_asked == {"gpt-4.1-mini", TUNED}
    assert project.contender("tuned").name == f"{TUNED}@{service.url}"


def test_the_estimate_prices_what_will_be_billed(project: Project, service: TuningService) -> None:
    """One row for the encoder here and one for the service, whose price only OpenAI's list could know."""
    plan = project.estimate()
    assert [row.way.split()[0] for row in plan.rows] == ["encoder", "hosted"]
    assert plan.rows[1].price is None
    assert "price unknown" in plan.notes[1]
    assert f"{plan.rows[1].tokens:,} on a bill" in plan.notes[1]


def test_the_report_tells_of_the_service(project: Project, service: TuningService) -> None:
    """Its curve is the service's, its bill what was trained there, its environment where."""
    report = project.report().json
    assert [(one["step"], one["tokens_per_second"]) for one in report["training"]] == [
        (step, None) for step in (1, 2, 3, 4)
    ]
    assert report["environment"]["tuned by"] == service.url
    tokens = next(one for one in report["cost"] if one["unit"] == "tokens")
    assert tokens["actual"] == 1234
    making = {name: bill["making"] for name, bill in report["bills"].items()}
    assert {making[name] for name in making if "tuned" in name.split("+")} == {None}
    assert making["base"] == 0


def test_the_model_is_listed_by_its_address(project: Project, service: TuningService) -> None:
    """What a service made is among the models that can be used, and weighs nothing here."""
    made = artefact(project, "train")
    note = f"tuned from gpt-4.1-mini at {service.url}, {made.manifest.created[:10]}"
    assert Usable(f"{TUNED}@{service.url}", "tuned", note) in list(tuned(project.store))


def test_a_second_run_asks_the_service_nothing(project: Project, service: TuningService) -> None:
    """The finished artefacts are found."""
    before = len(service.requests)
    project.run()
    assert len(service.requests) == before


def test_calls_cannot_be_constrained_there(project: Project) -> None:
    """A grammar needs weights; the error says whose are missing."""
    with pytest.raises(AddressError, match=r"'tuned\+constrained' needs the weights of ft:gpt-4\.1-mini:org"):
        project.contender("tuned+constrained")


def test_too_few_examples_are_refused_by_the_estimate(
    toolbox: Toolbox, service: TuningService, tmp_path: Path
) -> None:
    """What the service would refuse is known before anything is trained."""
    copied = toolbox.copy(tmp_path / "copy")
    few = at(service, copied.config)
    before = len(service.requests)
    with pytest.raises(DatasetError, match="holds 3 examples; a service wants at least 10"):
        Project(replace(few, train=few.train.model_copy(update={"examples": 3}))).run("estimate")
    assert len(service.requests) == before
