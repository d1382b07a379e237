"""The whole pipeline on a tiny project: what it leaves, what it makes again and what not, what survives a kill."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tunesmith import cache_keys, finished, steps
from tunesmith.artifacts import Artifact
from tunesmith.config import Config
from tunesmith.errors import DamagedArtifact, DatasetError, ModelError, ProjectBusy, SourceError, UsageError
from tunesmith.evaluating.names import USUAL
from tunesmith.evaluating.risks import Seen
from tunesmith.models.local import fast_dtype
from tunesmith.pipeline import STAGES, Show, needed_for, plan
from tunesmith.project import Project, Silent
from tunesmith.records import Example, Score, Tally, read_jsonl
from tunesmith.risks import material_of

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = [stage.name for stage in STAGES]
CONFIG = Config(Path("tunesmith.toml"), "shop", ("python:shop",))  # without a teacher, as the toolbox's
FILES = {
    "collect": {"catalogue.json", "documents.jsonl", "left_out.json", "rejections.jsonl", "sources.jsonl"},
    "chunk": {"chunks.jsonl", "topics.jsonl"},
    "generate": {"examples.jsonl", "rejections.jsonl", "tally.json"},
    "curate": {
        *(f"{name}.jsonl" for name in ("train", "valid", "seen", "unseen", "asked", "rejections", "leaks")),
        "bias.json",
        "distances.json",
        "remarks.jsonl",
        "tally.json",
    },
    "index": {
        *(f"index/{name}" for name in ("bank.npy", "entries.npy", "index.json", "probe.npy")),
        "passages.jsonl",
    },
    "estimate": {"plan.json"},
    "encoder": {
        *(f"encoder/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")),
        "encoder/tokenizer_config.json",
        *(f"tuned_index/{name}" for name in ("bank.npy", "entries.npy", "index.json", "probe.npy")),
        "arithmetic.json",
        "run.json",
    },
    "train": {
        "arithmetic.json",
        *(f"adapter/{name}" for name in ("adapter_config.json", "adapter_model.safetensors")),
        *(f"adapter/{name}" for name in ("chat_template.jinja", "tunesmith.json")),
        "adapter/step_metrics.csv",
        "loss.svg",
        "ranks.json",
        "run.json",
    },
    "curve": {"trainings.json"},
    "evaluate": {"ceilings.jsonl", "floors.jsonl", "latencies.json", "scores.jsonl"},
    "risks": {"base.jsonl", "risks.json", "tuned.jsonl"},
    "report": {"report.html", "report.json"},
}
STOP = Path(__file__).parent / "toolbox" / "stop.py"


class Record(Show, Protocol):
    """What the fixture `record` remembers of a run."""

    made: list[str]
    reused: list[str]
    counts: dict[str, dict[str, int]]
    steps: dict[str, list[tuple[int, int]]]
    said: list[str]


class Toolbox(Protocol):
    """What the fixture `toolbox` gives."""

    project: Project
    record: Any
    environment: Mapping[str, str]

    def copy(self, folder: Path) -> Project:
        """Return a copy of the project, finished work included."""
        ...


def stages_of(project: Project) -> dict[str, Artifact]:
    """Return the finished artefacts by stage; there is one of each."""
    found = project.store.list()
    assert len({one.stage for one in found}) == len(found)
    return {one.stage: one for one in found}


def newest(project: Project, stage: str) -> Artifact:
    """Return a stage's artefact that was made last."""
    return [one for one in project.store.list() if one.stage == stage][-1]


def with_settings(config: Config, table: str, **values: Any) -> Config:
    """Return the config with some of a stage's settings changed."""
    return replace(config, **{table: getattr(config, table).model_copy(update=values)})


def downstream(stage: str) -> set[str]:
    """Return a stage and all that hang on it."""
    return {name for name in NAMES if stage in needed_for(name, CONFIG)}


def forget(project: Project, stage: str) -> None:
    """Remove a stage's artefact, and those of all that hang on it."""
    for name in downstream(stage):
        for folder in project.store.root.glob(f"artifacts/{name}-*"):
            shutil.rmtree(folder)


# --- a whole run


def test_a_run_leaves_every_artefact_and_nothing_else(toolbox: Toolbox) -> None:
    """Each stage has its files, its counts, its manifest; drafts, journals and checkpoints are gone."""
    made = stages_of(toolbox.project)
    assert {name: set(one.manifest.files) for name, one in made.items()} == {
        name: files | {"counts.json"} for name, files in FILES.items()
    }
    assert toolbox.record.made == NAMES
    assert list(toolbox.project.store.root.glob("drafts/*")) == []
    assert {one.id for one in plan(toolbox.project.config)} == {one.id for one in made.values()}


def test_what_was_counted(toolbox: Toolbox) -> None:
    """Each stage says how much it made; the figures are those of its files."""
    seconds = ("estimate", "encoder")
    counts = {
        name: {key: value for key, value in of.items() if name not in seconds or key != "seconds"}
        for name, of in toolbox.record.counts.items()
    }
    made = stages_of(toolbox.project)
    run = json.loads(made["train"].file("run.json").read_text())
    plan_rows = json.loads(made["estimate"].file("plan.json").read_text())["rows"]
    assert counts == {
        "collect": {"documents": 12, "entries": 12, "left out": 0},
        "chunk": {"chunks": 12, "topics": 3},
        "generate": {"examples": 60, "written": 48, "rule": 12, "rejected": 0},
        "curate": {"train": 46, "valid": 5, "seen": 4, "unseen": 4, "asked": 10, "rejected": 1},
        "index": {"entries": 12, "passages": 0},
        "estimate": {"tokens": sum(row["tokens"] for row in plan_rows if row["price"] == 0)},
        "encoder": {"questions": counts["encoder"]["questions"], "epochs": 3},
        "train": {"examples": 46, "steps": 12, "best step": run["best_step"], "tokens": run["tokens"]},
        "curve": {"trainings": 0},
        "evaluate": {"contenders": 8, "questions": 18, "answers": 144},
        "risks": counts["risks"],
        "report": {"contenders": 8, "comparisons": counts["report"]["comparisons"]},
    }


def test_nothing_is_dropped_silently(toolbox: Toolbox) -> None:
    """Every generated and asked question is in exactly one set or among the rejections, with a rule."""
    made = stages_of(toolbox.project)
    sets = {
        name: tuple(read_jsonl(Example, made["curate"].file(f"{name}.jsonl")))
        for name in ("train", "valid", "seen", "unseen", "asked")
    }
    generated = tuple(read_jsonl(Example, made["generate"].file("examples.jsonl")))
    tally = Tally(**json.loads(made["curate"].file("tally.json").read_text()))
    kept = [example.id for rows in sets.values() for example in rows]
    assert tally == Tally(requested=70, accepted=69, rejected={"entry held out for unseen": 1})
    assert len(set(kept)) == len(kept) == 69
    assert {one.id for one in generated} - set(kept) == rejected_items(made["curate"])
    assert not {one.entry for one in sets["unseen"]} & {one.entry for one in sets["train"]}


def rejected_items(artifact: Artifact) -> set[str]:
    """Return what a stage refused."""
    lines = artifact.file("rejections.jsonl").read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["item"] for line in lines}


def test_every_contender_answers_every_question_once(toolbox: Toolbox) -> None:
    """The scores are the product of contenders and questions; floors and ceilings answer the same ones."""
    made = stages_of(toolbox.project)
    sets = {
        name: [one.id for one in read_jsonl(Example, made["curate"].file(f"{name}.jsonl"))]
        for name in ("seen", "unseen", "asked")
    }
    asked = [(name, example) for name, examples in sets.items() for example in examples]
    scored: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for kind in ("scores", "floors", "ceilings"):
        scored[kind] = {}
        for one in read_jsonl(Score, made["evaluate"].file(f"{kind}.jsonl")):
            scored[kind].setdefault(one.contender, []).append((one.set, one.example))
    assert scored == {
        "scores": dict.fromkeys(USUAL, asked),
        "floors": dict.fromkeys(("constant", "nearest", "first_hit", "tuned_first_hit"), asked),
        "ceilings": dict.fromkeys(("hit_in_3", "tuned_hit_in_3", f"oracle:{USUAL[-1]}"), asked),
    }


def test_the_bar_of_evaluating_runs_once_over_all_contenders(toolbox: Toolbox) -> None:
    """It goes up from batch to batch to the last answer of the last contender; then come the oracle and the timing."""
    told = toolbox.record.steps["evaluate"]
    bars = [[told[0]]]
    for before, now in pairwise(told):
        bars[-1].append(now) if now > before and now[1] == before[1] else bars.append([now])
    assert [bar[-1] for bar in bars] == [(total, total) for _, total in (bar[0] for bar in bars)]
    assert bars[0][-1] == (144, 144)
    oracle, timed = bars[1:]
    assert 0 < oracle[-1][0] < 20
    assert timed[-1] == (len(USUAL) * 8, len(USUAL) * 8)


def test_only_contenders_with_retrieval_see_passages(toolbox: Toolbox) -> None:
    """A retrieving contender's answers name three passages each, the others' none."""
    scores = read_jsonl(Score, stages_of(toolbox.project)["evaluate"].file("scores.jsonl"))
    shown = {(one.contender, len(one.answer.retrieved)) for one in scores}
    assert shown == {(name, 3 if "retrieval" in name else 0) for name in USUAL}


def test_the_oracle_shows_a_right_entry_first_and_asks_only_where_that_is_new(toolbox: Toolbox) -> None:
    """Each of its answers saw an acceptable entry first; where the contender's own did, the answer is the same one."""
    made = stages_of(toolbox.project)
    right = {
        one.id: one.acceptable
        for name in ("seen", "unseen", "asked")
        for one in read_jsonl(Example, made["curate"].file(f"{name}.jsonl"))
    }
    own = {
        (one.set, one.example): one.answer
        for one in read_jsonl(Score, made["evaluate"].file("scores.jsonl"))
        if one.contender == USUAL[-1]
    }
    oracle = [
        one
        for one in read_jsonl(Score, made["evaluate"].file("ceilings.jsonl"))
        if one.contender == f"oracle:{USUAL[-1]}"
    ]
    assert len(oracle) == 18
    for one in oracle:
        before = own[one.set, one.example]
        assert one.answer.retrieved[0] in right[one.example]
        assert (one.answer == before) == (before.retrieved[0] in right[one.example])


def test_the_report_has_the_promised_shape(toolbox: Toolbox) -> None:
    """report.json holds the verdict, each share with its interval on each set, and paired differences."""
    report = json.loads(stages_of(toolbox.project)["report"].file("report.json").read_text())
    sizes = {"seen": 4, "unseen": 4, "asked": 10}
    assert isinstance(report["verdict"], str)
    assert tuple(report["contenders"]) == USUAL
    assert set(report["floors"]) == {"constant", "nearest", "first_hit", "tuned_first_hit"}
    assert set(report["ceilings"]) == {"hit_in_3", "tuned_hit_in_3", f"oracle:{USUAL[-1]}"}
    for kind in ("contenders", "floors", "ceilings"):
        for figures in report[kind].values():
            assert list(figures) == list(sizes)
            for name, size in sizes.items():
                for metric in ("exact", "valid", "hallucinated"):
                    share = figures[name][metric]
                    assert set(share) == {"value", "low", "high", "n"}
                    assert share["n"] == size
                    assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1
    assert report["set"] == "asked"
    assert report["best"] in USUAL
    for row in report["paired"]:
        assert {"a", "b", "set", "metric", "difference", "low", "high"} <= set(row)
        assert row["low"] <= row["difference"] <= row["high"]


def test_the_reports_figures_are_those_of_the_scores(toolbox: Toolbox) -> None:
    """The share of exact answers in the report is the share of exact scores."""
    made = stages_of(toolbox.project)
    report = json.loads(made["report"].file("report.json").read_text())
    exact: Counter[tuple[str, str, str]] = Counter()
    for kind, file in (("contenders", "scores"), ("floors", "floors"), ("ceilings", "ceilings")):
        for one in read_jsonl(Score, made["evaluate"].file(f"{file}.jsonl")):
            exact[kind, one.contender, one.set] += one.exact
    assert {
        key: report[key[0]][key[1]][key[2]]["exact"]["value"] * report[key[0]][key[1]][key[2]]["exact"]["n"]
        for key in exact
    } == pytest.approx(dict(exact))


def test_training_learns(toolbox: Toolbox) -> None:
    """The validation loss and the encoder's loss fall, and the kept adapter is that of the best step."""
    made = stages_of(toolbox.project)
    run = json.loads(made["train"].file("run.json").read_text())
    epochs = json.loads(made["encoder"].file("run.json").read_text())["epochs"]
    valid = {step["step"]: step["valid_loss"] for step in run["steps"] if step["valid_loss"] is not None}
    assert list(valid) == [3, 6, 9, 12]
    assert run["best_valid_loss"] == min(valid.values()) == valid[run["best_step"]]
    assert run["best_valid_loss"] < run["first_valid_loss"]
    assert epochs[3]["loss"] < epochs[1]["loss"]


def test_lineage_leads_back_to_the_sources(toolbox: Toolbox) -> None:
    """The report's ancestors are all stages, each after what it was made from."""
    made = stages_of(toolbox.project)
    line = [one.stage for one in toolbox.project.store.lineage(made["report"])]
    assert sorted(line) == sorted(set(NAMES) - {"report"})
    for stage in STAGES[:-1]:
        assert all(line.index(need) < line.index(stage.name) for need in stage.needs)


# --- running again


def test_a_teacher_is_asked_about_pieces() -> None:
    """Then, and only then, what is generated hangs on how documents are cut."""
    assert "chunk" not in needed_for("generate", CONFIG)
    assert "chunk" in needed_for("generate", replace(CONFIG, teacher="smollm2"))


def test_a_second_run_makes_nothing_anew(toolbox: Toolbox, record: Record) -> None:
    """Every stage is found, with the same folders as before."""
    first = {one.path for one in toolbox.project.store.list()}
    again = toolbox.project.run(show=record)
    assert (record.made, record.reused) == ([], NAMES)
    assert set(again.artifacts.values()) == first
    assert list(again.artifacts) == NAMES


def test_running_up_to_a_stage_makes_only_what_it_needs(fresh: Project, record: Record) -> None:
    """The index needs the catalogue and nothing else."""
    assert list(fresh.run("index", record).artifacts) == ["collect", "index"]
    assert record.made == ["collect", "index"]


@pytest.mark.parametrize(
    ("table", "values", "first"),
    [
        ("chunk", {"max_tokens": 300}, {"chunk"}),
        ("topics", {"count": 2}, {"chunk"}),
        ("generate", {"seed": 1}, {"generate"}),
        ("curate", {"seed": 1}, {"curate"}),
        ("retrieve", {"count": 2}, {"evaluate"}),
        ("retrieve", {"bank_weight": 0.1}, {"encoder"}),
        ("retrieve", {"passage_tokens": 64}, {"index"}),
        ("curve", {"fractions": (0.5,)}, {"curve"}),
        ("report", {"usd_per_hour": 1.0}, {"report"}),
        ("encoder", {"base": "minilm"}, {"chunk", "index"}),
        ("encoder", {"epochs": 1}, {"estimate", "encoder"}),
        ("train", {"rank": 2}, {"estimate", "train"}),
        ("train", {"base": "smollm2"}, {"estimate", "train"}),
        ("evaluate", {"max_tokens": 8}, {"evaluate"}),
        ("train", {"canaries": 2}, {"estimate", "train"}),
        ("risks", {"rows": 4}, {"risks"}),
    ],
)
def test_a_setting_moves_only_what_hangs_on_it(
    toolbox: Toolbox, table: str, values: Mapping[str, Any], first: set[str]
) -> None:
    """Other ids are those of the stages that read the setting and of what is made from these."""
    before = toolbox.project.config
    after = with_settings(before, table, **values)
    assert moved(before, after) == set().union(*map(downstream, first))


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"name": "another"}, "report"),
        ({"contenders": ("base",)}, "evaluate"),
        ({"asked": None}, "curate"),
        ({"written": ()}, "generate"),
        ({"teacher": "openai:m"}, "generate"),
        ({"sources": ("python:toolbox", "questions/train.jsonl")}, "collect"),
    ],
)
def test_what_is_worked_on_moves_what_hangs_on_it(
    toolbox: Toolbox, change: Mapping[str, Any], first: str
) -> None:
    """The same for names, contenders, files and addresses."""
    before = toolbox.project.config
    assert moved(before, replace(before, **change)) == downstream(first)


def moved(before: Config, after: Config) -> set[str]:
    """Return the stages whose artefacts have other ids."""
    pairs = zip(plan(before), plan(after), strict=True)
    return {one.stage.name for one, other in pairs if one.id != other.id}


@pytest.mark.parametrize(
    ("folder", "first"),
    [("encoder", {"chunk", "index"}), ("chat", {"estimate", "train"})],
)
def test_a_models_folder_counts_by_its_bytes(fresh: Project, folder: str, first: set[str]) -> None:
    """Other weights under the same address move what is made with them; their time of change moves nothing."""
    before = plan(fresh.config)
    weights = fresh.path / "models" / folder / "model.safetensors"
    os.utime(weights, (0, 0))
    assert plan(fresh.config) == before
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    pairs = zip(before, plan(fresh.config), strict=True)
    changed = {one.stage.name for one, other in pairs if one.id != other.id}
    assert changed == set().union(*map(downstream, first))


def test_a_gguf_files_bytes_count(fresh: Project) -> None:
    """Another file under the same name moves what is made with it; one that is not there is named."""
    (fresh.path / "tiny.gguf").write_bytes(b"GGUF one")
    base = fresh.config.train.model_copy(update={"base": "gguf:tiny.gguf"})
    config = replace(fresh.config, train=base)
    before = plan(config)
    (fresh.path / "tiny.gguf").write_bytes(b"GGUF two")

    changed = {one.stage.name for one, other in zip(before, plan(config), strict=True) if one.id != other.id}
    assert changed == downstream("estimate") | downstream("train")
    (fresh.path / "tiny.gguf").unlink()
    with pytest.raises(
        SourceError, match=r"tiny\.gguf, of the model that tunesmith\.toml names, cannot be read"
    ):
        plan(config)


def test_a_models_folder_that_is_not_there_is_named(fresh: Project) -> None:
    """Before anything is made."""
    shutil.rmtree(fresh.path / "models" / "chat")
    with pytest.raises(
        SourceError, match=r"models/chat, which tunesmith\.toml names, is no folder of a model"
    ):
        fresh.run("collect")
    assert fresh.store.list() == ()


# --- adapters from elsewhere


@pytest.fixture
def with_adapter(toolbox: Toolbox, tmp_path: Path) -> Project:
    """Copy the finished project, its own adapter registered as one that was trained elsewhere."""
    project = toolbox.copy(tmp_path / "copy")
    shutil.copytree(stages_of(project)["train"].file("adapter"), project.path / "adapters" / "mine")
    path = project.config.path
    keys = '[evaluate]\nadapters = { mine = "path:adapters/mine" }\ncontenders = ["base", "mine"]\n'
    path.write_text(path.read_text(encoding="utf-8").replace("[evaluate]\n", keys), encoding="utf-8")
    return Project.open(project.path)


def test_an_adapter_from_elsewhere_is_evaluated_beside_the_others(
    with_adapter: Project, record: Record
) -> None:
    """Only evaluating and the report are made again; the adapter answers every question, and the report names it."""
    with_adapter.run(show=record)

    assert record.made == ["evaluate", "risks", "report"]
    scores = tuple(read_jsonl(Score, newest(with_adapter, "evaluate").file("scores.jsonl")))
    asked = {name: [one.example for one in scores if one.contender == name] for name in ("base", "mine")}
    assert asked["mine"] == asked["base"] != []
    report = with_adapter.report()
    assert set(report.json["contenders"]) == {"base", "mine"}
    assert "the model with the adapter mine" in report.html.read_text(encoding="utf-8")


def test_an_adapter_counts_by_its_bytes(with_adapter: Project) -> None:
    """Trained again, it is another contender: evaluating and the report are to be made anew."""
    before = {one.stage.name: one.id for one in plan(with_adapter.config)}
    weights = with_adapter.path / "adapters" / "mine" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")

    after = {one.stage.name: one.id for one in plan(with_adapter.config)}

    assert {name for name in after if after[name] != before[name]} == {"evaluate", "risks", "report"}


def test_an_adapter_that_is_not_there_is_named(with_adapter: Project) -> None:
    """The folder, its name in tunesmith.toml and the missing file are in the error, before any work."""
    weights = with_adapter.path / "adapters" / "mine" / "adapter_model.safetensors"
    weights.unlink()
    with pytest.raises(SourceError) as caught:
        with_adapter.status()
    assert caught.value.message == (
        f"{weights.parent}, the adapter mine in tunesmith.toml, holds no adapter_model.safetensors"
    )


def test_an_adapter_for_another_base_is_refused_before_anyone_is_asked(
    with_adapter: Project, record: Record
) -> None:
    """It is named with the base, and no question has been answered yet."""
    from safetensors.torch import load_file, save_file

    weights = with_adapter.path / "adapters" / "mine" / "adapter_model.safetensors"
    wider = {
        name: tensor.repeat(1, 2) if "lora_A" in name else tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(wider, weights)

    with pytest.raises(ModelError) as caught:
        with_adapter.run(show=record)
    assert caught.value.message.startswith(
        "the adapter mine in [evaluate] does not go with path:models/chat: the adapter in "
    )
    assert caught.value.hint == "Name in [train] the base model that it was trained on."
    assert record.said == []


# --- digests and arithmetic


def test_of_a_large_file_samples_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size, its ends and what lies between count; no command reads gigabytes to say what is done."""
    monkeypatch.setattr(cache_keys, "_READ_WHOLE", 1000)
    monkeypatch.setattr(cache_keys, "_SAMPLE", 10)
    found = set()
    for number, content in enumerate([b"a" * 5000, b"a" * 4999 + b"b", b"b" + b"a" * 4999, b"a" * 5001]):
        path = tmp_path / f"{number}" / "model.safetensors"
        path.parent.mkdir()
        path.write_bytes(content)
        found.add(cache_keys._digest_of_files(((str(path), len(content), 0),)))
    assert len(found) == 4


def test_the_arithmetic_of_a_begun_stage_stays(tmp_path: Path) -> None:
    """What was measured when a stage was begun is what it goes on with, whatever is faster now."""
    assert steps.arithmetic(tmp_path) == fast_dtype()
    for name in ("float32", "bfloat16"):
        tmp_path.joinpath("arithmetic.json").write_text(json.dumps({"dtype": name}))
        assert str(steps.arithmetic(tmp_path)) == f"torch.{name}"


def test_a_file_of_questions_counts_by_its_bytes(fresh: Project) -> None:
    """A question more moves what is made from the file, its time of change moves nothing."""
    before = plan(fresh.config)
    written = fresh.path / "questions" / "train.jsonl"
    os.utime(written, (0, 0))
    assert plan(fresh.config) == before
    written.write_text(written.read_text() + '{"entry": "toolbox.clamp", "question": "not below zero"}\n')
    pairs = zip(before, plan(fresh.config), strict=True)
    assert {one.stage.name for one, other in pairs if one.id != other.id} == downstream("generate")


def test_a_changed_setting_makes_only_those_stages_again(
    toolbox: Toolbox, tmp_path: Path, record: Record
) -> None:
    """Fewer contenders: they are asked and reported anew, all else is reused, the old work stays."""
    project = toolbox.copy(tmp_path / "copy")
    before = {one.path.name for one in project.store.list()}
    changed = Project(replace(project.config, contenders=("base", "tuned+tuned_retrieval")))
    changed.run(show=record)
    assert (record.made, record.reused) == (["evaluate", "risks", "report"], NAMES[:-3])
    assert before < {one.path.name for one in changed.store.list()}
    assert list(changed.report().json["contenders"]) == ["base", "tuned+tuned_retrieval"]


def test_models_are_found_from_the_projects_folder(toolbox: Toolbox, tmp_path: Path) -> None:
    """A relative path: address means the same wherever the project lies and the command is given."""
    moved_away = toolbox.copy(tmp_path / "elsewhere")
    assert not Path("models").exists()
    assert moved_away.config.train.base == "path:models/chat"
    assert [one.id for one in plan(moved_away.config)] == [one.id for one in plan(toolbox.project.config)]


# --- killed


def kill_at(toolbox: Toolbox, project: Project, stage: str, count: int) -> None:
    """Run a stage in a process of its own that is killed at the `count`-th progress."""
    forget(project, stage)
    command = [sys.executable, str(STOP), str(project.path), stage, str(count)]
    done = subprocess.run(
        command, env=dict(toolbox.environment), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [folder.name for folder in project.store.root.glob("drafts/*")] == [
        f"{stage}-{stages_of(toolbox.project)[stage].id}"
    ]


def digests(artifact: Artifact, *, but: Sequence[str]) -> dict[str, str]:
    """Return the digests of an artefact's files."""
    return {name: one.sha256 for name, one in artifact.manifest.files.items() if name not in but}


def timeless(value: Any) -> Any:
    """Return JSON without what hangs on the clock or on the process."""
    if isinstance(value, list):
        return [timeless(one) for one in value]
    if not isinstance(value, dict):
        return value
    clock = ("seconds", "valid_seconds", "peak_bytes")
    return {key: timeless(one) for key, one in value.items() if key not in clock}


def run_of(artifact: Artifact) -> Any:
    """Return what a training says of itself, timings aside."""
    return timeless(json.loads(artifact.file("run.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "goes_on_at"), [(3, 1), (7, 6), (15, 11)])
def test_a_killed_encoder_goes_on_to_the_same_weights(
    toolbox: Toolbox, tmp_path: Path, record: Record, count: int, goes_on_at: int
) -> None:
    """At most one pass is repeated, and every byte is that of an unbroken run."""
    project = toolbox.copy(tmp_path / "copy")
    kill_at(toolbox, project, "encoder", count)
    project.run("encoder", record)
    whole, resumed = (stages_of(one)["encoder"] for one in (toolbox.project, project))
    assert record.made == ["encoder"]
    assert record.steps["encoder"] == [(step, 15) for step in range(goes_on_at, 16)]
    assert resumed.id == whole.id
    assert digests(resumed, but=["run.json", "counts.json"]) == digests(
        whole, but=["run.json", "counts.json"]
    )
    assert run_of(resumed) == run_of(whole)


@pytest.mark.parametrize(
    ("count", "goes_on_at"),
    [
        pytest.param(2, 1, marks=pytest.mark.slow),
        (8, 7),
        pytest.param(12, 13, marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_goes_on_to_the_same_weights(
    toolbox: Toolbox, tmp_path: Path, record: Record, count: int, goes_on_at: int
) -> None:
    """It goes on at the last checkpoint, and the adapter and every loss are those of an unbroken run."""
    project = toolbox.copy(tmp_path / "copy")
    kill_at(toolbox, project, "train", count)
    project.run("train", record)
    whole, resumed = (stages_of(one)["train"] for one in (toolbox.project, project))
    timed = ["adapter/step_metrics.csv", "loss.svg", "run.json"]
    assert record.made == ["train"]
    assert record.steps["train"] == [(step, 12) for step in range(goes_on_at, 13)]
    assert resumed.id == whole.id
    assert digests(resumed, but=timed) == digests(whole, but=timed)
    assert run_of(resumed) == run_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 18, 32])
def test_a_killed_evaluation_asks_nothing_twice(
    toolbox: Toolbox, tmp_path: Path, record: Record, count: int
) -> None:
    """What was answered stays, to the microsecond that it took, and the scores are those of an unbroken run."""
    project = toolbox.copy(tmp_path / "copy")
    kill_at(toolbox, project, "evaluate", count)
    kept = [
        line
        for file in project.store.root.glob("drafts/*/scratch/answers-*.jsonl")
        for line in lines_of(file)
    ]
    project.run(show=record)
    whole, resumed = stages_of(toolbox.project), stages_of(project)
    assert record.made == ["evaluate", "risks", "report"]
    assert len(kept) == sum((4, 4, 8, 2)[place % 4] for place in range(count))
    assert set(kept) <= set(lines_of(resumed["evaluate"].file("scores.jsonl")))
    assert [one.id for one in resumed.values()] == [resumed[name].id for name in resumed]
    assert {name: one.id for name, one in resumed.items()} == {name: one.id for name, one in whole.items()}
    for name in ("scores", "floors", "ceilings"):
        assert answers_of(resumed["evaluate"], name) == answers_of(whole["evaluate"], name)


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file."""
    return path.read_text(encoding="utf-8").splitlines()


def answers_of(artifact: Artifact, name: str) -> Any:
    """Return scores, timings aside."""
    return [timeless(json.loads(line)) for line in lines_of(artifact.file(f"{name}.jsonl"))]


# --- what goes wrong


def test_a_stage_that_does_not_exist_is_named(fresh: Project) -> None:
    """The message says which stages there are; nothing is made."""
    with pytest.raises(UsageError) as caught:
        fresh.run("trian")
    assert caught.value.message == "there is no stage 'trian'"
    assert caught.value.hint == f"The stages are {', '.join(NAMES)}."
    assert not fresh.store.root.exists()


def test_two_runs_at_once_are_refused(fresh: Project) -> None:
    """The second says which process is at work, and leaves everything as it is."""
    with fresh.store.lock("tunesmith run"), pytest.raises(ProjectBusy) as caught:
        fresh.run("collect")
    assert caught.value.message == f"Process {os.getpid()} works on {fresh.path}: tunesmith run"
    assert fresh.store.list() == ()


def test_a_damaged_artefact_is_named(toolbox: Toolbox, tmp_path: Path) -> None:
    """A byte changed in a finished file stops the next run, with the file's name; deleting it mends it."""
    project = toolbox.copy(tmp_path / "copy")
    documents = stages_of(project)["collect"].file("documents.jsonl")
    documents.write_bytes(documents.read_bytes().replace(b"circle", b"square"))
    with pytest.raises(DamagedArtifact, match=r"documents\.jsonl is damaged"):
        project.run()
    shutil.rmtree(documents.parent)
    project.run()
    assert b"circle" in documents.read_bytes()


@pytest.mark.parametrize("name", ["train.jsonl", "asked.jsonl"])
def test_a_missing_file_of_questions_is_named(fresh: Project, name: str) -> None:
    """Before anything is made: the first run would otherwise fail after minutes."""
    missing = fresh.path / "questions" / name
    missing.unlink()
    with pytest.raises(SourceError) as caught:
        fresh.run()
    assert caught.value.message == (
        f"{missing}, which tunesmith.toml names, cannot be read: No such file or directory"
    )
    assert fresh.store.list() == ()


def test_a_package_that_is_not_installed_is_named(fresh: Project) -> None:
    """The source's package is looked for first."""
    project = Project(replace(fresh.config, sources=("python:toolbax",)))
    with pytest.raises(SourceError, match="the package 'toolbax' is not installed"):
        project.run()


def test_sources_without_anything_to_call_are_refused(fresh: Project) -> None:
    """Files alone give no catalogue, so no answers could be derived."""
    project = Project(replace(fresh.config, sources=("questions/train.jsonl",), written=()))
    with pytest.raises(SourceError):
        project.run("collect")


def test_too_few_examples_are_refused(fresh: Project) -> None:
    """Twelve questions by rule are no training set; what is finished stays."""
    project = Project(replace(fresh.config, written=(), asked=None))
    with pytest.raises(DatasetError, match="too little to split: 12 examples about 12 entries"):
        project.run()
    assert [state.state for state in project.status()[:4]] == ["done", "done", "done", "part"]


@pytest.mark.slow
def test_a_project_without_written_questions_runs(fresh: Project, record: Record) -> None:
    """Rules alone are enough to get to a verdict, which says that it says little."""
    config = with_settings(fresh.config, "generate", rules_per_entry=4)
    config = with_settings(config, "encoder", epochs=1)
    config = replace(config, written=(), asked=None, contenders=("base", "tuned"))
    report = Project(config)
    report.run(show=record)
    assert record.made == NAMES
    assert any("hold questions made by rule" in text for text in record.said)
    assert "There are no questions in users' own words" in report.report().json["verdict"]


def test_a_retriever_can_be_left_as_it_is(fresh: Project, record: Record) -> None:
    """With epochs = 0 nothing is tuned and nothing estimated for it, and the encoder's bytes stay."""
    project = Project(with_settings(fresh.config, "encoder", epochs=0))
    project.run("encoder", record)
    tuned = stages_of(project)["encoder"]
    before = fresh.path / "models" / "encoder" / "model.safetensors"
    assert record.counts["encoder"]["epochs"] == 0
    assert tuned.file("encoder/model.safetensors").read_bytes() == before.read_bytes()
    project.run("estimate", record)
    assert [row.way.split()[0] for row in project.estimate().rows] == ["LoRA", "gpt-3.5-turbo,"]


def test_a_project_is_not_run_by_several_processes(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a launcher of several processes nothing is begun, and what to do is said."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="a project is run by one process, and this is one of 2") as caught:
        fresh.run()
    assert "docs/several-machines.md" in (caught.value.hint or "")
    assert {state.state for state in fresh.status()} == {"to do"}


# --- risks


def test_risks_are_looked_for_and_shown(toolbox: Toolbox) -> None:
    """The stage leaves what was seen of both models and the figures; the report shows them, and has them as JSON."""
    made = stages_of(toolbox.project)["risks"]
    found = json.loads(made.file("risks.json").read_text(encoding="utf-8"))
    seen = {
        name: {one.what for one in read_jsonl(Seen, made.file(f"{name}.jsonl"))} for name in ("base", "tuned")
    }

    assert set(found["checks"]) == {"memorisation", "refusal"}
    assert seen["base"] == seen["tuned"]
    assert {"loss of training rows", "loss of held-out rows", "hidden orders obeyed"} <= seen["base"]
    assert found["checks"]["memorisation"]["membership by loss"]["n"] == 8 + 4
    assert next(one["name"] for one in found["unmeasured"]) == "exposure of planted secrets"
    report = toolbox.project.report()
    assert report.json["risks"] == found
    assert "What the tuning risks" in report.html.read_text(encoding="utf-8")


def test_held_out_rows_have_answers_that_were_not_trained_on(toolbox: Toolbox) -> None:
    """Questions about one entry share its answer: a control whose answer was learned would be none."""
    made = stages_of(toolbox.project)
    trained = {one.answer for one in read_jsonl(Example, made["curate"].file("train.jsonl"))}
    kept = {one.answer for one in read_jsonl(Example, made["curate"].file("seen.jsonl"))}
    assert kept & trained

    material = material_of(made, toolbox.project.config)

    assert material.others
    assert not trained & {row[-1].content for row in material.others}
    assert {row[-1].content for row in material.members} <= trained


def test_what_stands_in_retrieved_documents_was_seen_in_training(toolbox: Toolbox) -> None:
    """A private value of a passage is not made up; where no prompt shows passages it is."""
    made, config = stages_of(toolbox.project), toolbox.project.config
    [document, *_] = finished.documents_of(made)

    assert document.text in material_of(made, config).trained
    assert document.text not in material_of(made, with_settings(config, "train", retrieved_share=0)).trained


def test_without_checks_no_model_is_loaded(toolbox: Toolbox, tmp_path: Path, record: Record) -> None:
    """The stage is made, holds nothing, and the report has no section on it."""
    project = toolbox.copy(tmp_path / "copy")
    path = project.config.path
    text = path.read_text(encoding="utf-8").replace('["memorisation", "refusal"]', "[]")
    path.write_text(text, encoding="utf-8")
    project = Project.open(project.path)

    project.run(show=record)

    assert record.made == ["risks", "report"]
    assert record.counts["risks"] == {"figures": 0, "worse": 0, "not measured": 0}
    assert record.steps["risks"] == []
    assert "What the tuning risks" not in project.report().html.read_text(encoding="utf-8")


@pytest.mark.slow
def test_planted_secrets_are_trained_on_and_their_exposure_is_told(
    toolbox: Toolbox, tmp_path: Path, record: Record
) -> None:
    """Secrets that [train] plants are counted where training says what it did, and ranked where risks are told."""
    project = toolbox.copy(tmp_path / "copy")
    path = project.config.path
    text = path.read_text(encoding="utf-8").replace("[train]\n", "[train]\ncanaries = 2\n")
    path.write_text(text, encoding="utf-8")
    project = Project.open(project.path)

    found = project.risks(show=record)

    notes = json.loads(newest(project, "train").file("run.json").read_text(encoding="utf-8"))["notes"]
    assert "2 made-up secrets were planted in 3 rows: canaries in [train]" in notes
    [exposed] = [one for one in found.risks if one.name == "exposure of planted secrets"]
    assert exposed.n == 2
    assert "2 secrets were planted in 3 rows: [train] canaries." in record.said


class StoppingAtSecond(Silent):
    """A Show that interrupts when the second check of a model is done."""

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Interrupt, or go on."""
        if done == 2:
            raise KeyboardInterrupt


def test_a_kill_between_two_checks_costs_none_of_them(toolbox: Toolbox, tmp_path: Path) -> None:
    """What was seen of a model is kept check by check, and read instead of looked for again."""
    project = toolbox.copy(tmp_path / "copy")
    shutil.rmtree(newest(project, "risks").path)
    with pytest.raises(KeyboardInterrupt):
        project.run("risks", show=StoppingAtSecond())
    [kept] = project.store.root.glob("drafts/risks-*/**/base-refusal.jsonl")
    kept.write_text(
        re.sub(r'"said": ?"', '"said":"KEPT ', kept.read_text(encoding="utf-8")), encoding="utf-8"
    )

    project.run("risks")

    seen = read_jsonl(Seen, newest(project, "risks").file("base.jsonl"))
    assert [one.said[:5] for one in seen if one.what == "hidden orders obeyed"] == ["KEPT "] * 20


@pytest.mark.slow
def test_a_learning_curve_trains_on_parts_and_with_other_seeds(
    toolbox: Toolbox, fresh: Project, record: Record
) -> None:
    """Half of the examples and another seed are trained anew; the whole is the project's own training."""
    config = with_settings(fresh.config, "curve", fractions=(0.5,), seeds=(0, 1))
    project = Project(config)

    project.run(None, record)

    found = project.report().json["learning_curve"]
    points = [(one["examples"], one["fraction"], one["seed"]) for one in found["points"]]
    assert points == [(23, 0.5, 0), (46, 1.0, 0), (46, 1.0, 1)]
    assert record.counts["curve"] == {"trainings": 2}
    [half, whole, other] = found["points"]
    assert whole["gain"] is None
    assert half["gain"]["difference"] == pytest.approx(whole["score"]["value"] - half["score"]["value"])
    assert other["score"]["n"] == 10
    own = project.report().json["contenders"][found["contender"]]["asked"]["exact"]
    assert whole["score"] == own
    changes = " ".join(project.report().json["change"])
    assert "From 23 to 46 examples" in changes
    assert "2 seeds" in changes
    assert "With fewer examples" in project.report().html.read_text(encoding="utf-8")


def test_costs_are_told_in_seconds_or_money(toolbox: Toolbox) -> None:
    """Making and asking stand apart; the dearer one to make is held against each cheaper one."""
    report = toolbox.project.report().json
    bills = report["bills"]
    assert set(bills) == set(report["contenders"])
    assert {bill["unit"] for bill in bills.values()} == {"s"}
    assert bills["base"]["making"] == 0 < bills["tuned"]["making"] < bills["tuned+tuned_retrieval"]["making"]
    assert all(bill["per_thousand"] > 0 for bill in bills.values())
    alone = report["latency_alone_s"]["base"]
    assert 0 < alone["p50"] <= alone["p95"]
    assert alone["n"] == toolbox.project.config.evaluate.timed


def test_another_contender_asks_nothing_again(toolbox: Toolbox, tmp_path: Path) -> None:
    """What the others said in an earlier run stands, with the seconds that it took then."""
    shutil.copytree(toolbox.project.path, tmp_path / "copy")
    copy = Project.open(tmp_path / "copy")
    before = list(read_jsonl(Score, stages_of(copy)["evaluate"].file("scores.jsonl")))
    more = Project(replace(copy.config, contenders=(*copy.config.contenders, "bm25")))

    more.run("evaluate")

    after = list(read_jsonl(Score, newest(more, "evaluate").file("scores.jsonl")))
    assert [one for one in after if one.contender != "bm25"] == before
    assert len(after) == len(before) + 18
