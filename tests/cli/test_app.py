"""The commands: arguments in, one call, shown result, exit code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from typer.testing import CliRunner

from tunesmith.artifacts import Store
from tunesmith.cli import inventory
from tunesmith.cli.app import app
from tunesmith.cli.ports import DatasetForm, Form, Precision, ResultForm, ReviewOrder, ReviewSet, Show
from tunesmith.config import load
from tunesmith.errors import DiskFull, TunesmithError, UsageError
from tunesmith.evaluating.risks import Risk, Risks, Unmeasured
from tunesmith.evaluating.risks.record import Change
from tunesmith.evaluating.statistics import Estimate
from tunesmith.generating.running import Result
from tunesmith.generating.script import Assumed, Script
from tunesmith.records import Answer, Evidence
from tunesmith.reviewing.agreement import Summary, summarise
from tunesmith.reviewing.decisions import Decision, Merged
from tunesmith.reviewing.ledger import ledger
from tunesmith.reviewing.session import Candidate, Session

run_cli = CliRunner()


@dataclass(frozen=True)
class State:
    """A stage's state."""

    stage: str = "collect"
    id: str | None = "c1"
    state: Literal["done", "part", "to do"] = "done"
    seconds: float | None = 3.2
    counts: Mapping[str, int] = field(default_factory=lambda: {"documents": 7})
    made: str | None = "2026-11-01T12:00:04+00:00"
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A way of training."""

    way: str = "LoRA here"
    tokens: int = 10
    seconds: float = 20.0
    memory_bytes: int = 30
    price: float | None = None


@dataclass(frozen=True)
class Plan:
    """A plan of one way."""

    rows: tuple[Row, ...] = (Row(),)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """What a call is worth."""

    verdict: str = "valid"
    called: str | None = "p.f"
    reason: str = ""


@dataclass(frozen=True)
class Asked:
    """An answer."""

    question: str
    answer: Answer
    contender: str
    judgement: Judgement | None = Judgement()
    sources: tuple[Evidence, ...] = ()
    version: str | None = "p 1"


@dataclass(frozen=True)
class Scripted:
    """A script."""

    asked: Asked
    script: Script
    result: Result | None


@dataclass(frozen=True)
class Gone:
    """A page that was not to be had."""

    address: str = "https://shop.example/gone"
    detail: str = "the server answers 404"


@dataclass(frozen=True)
class Fetched:
    """A site of two pages."""

    pages: tuple[int, ...] = (1, 2)
    missing: tuple[Gone, ...] = (Gone(),)


@dataclass(frozen=True)
class Cluster:
    """A topic of the material."""

    label: str = "paths"
    chunks: tuple[str, ...] = ("a", "b")
    share: float = 0.25
    outliers: tuple[str, ...] = ("b",)


@dataclass(frozen=True)
class Rows:
    """A dataset that was written."""

    folder: Path
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Files:
    """A written report."""

    html: Path
    json: Mapping[str, Any]


@dataclass(frozen=True)
class Ran:
    """What a run was for."""

    upto: str | None


@dataclass(frozen=True)
class Distance:
    """A distance in nats."""

    largest: float
    typical: float


@dataclass(frozen=True)
class Divergence:
    """A near tie."""

    question: str = "Why?"
    position: int = 2
    expected: str = " a"
    said: str = " the"
    margin: float = 0.01
    gap: float = 0.02


@dataclass(frozen=True)
class Proof:
    """A proof with one near tie."""

    precision: str
    engine: str = "llama.cpp"
    prompts: int = 32
    tokens: int = 512
    found: Distance = Distance(0.2, 0.1)
    allowed: Distance = Distance(0.4, 0.3)
    divergences: tuple[Divergence, ...] = (Divergence(),)
    changed: int = 5


@dataclass(frozen=True)
class Made:
    """A finished export."""

    form: Form
    folder: Path
    files: Mapping[str, int]
    parity: Proof | None


@dataclass(frozen=True)
class StandIn:
    """A project that answers at once, or fails."""

    path: Path = Path("shop")
    name: str = "shop"
    error: BaseException | None = None
    decisions: list[Decision] = field(default_factory=list)
    candidates: Sequence[Candidate] = ()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def run(self, upto: str | None, show: Show) -> Ran:
        """Run one stage."""
        show.stage_started("collect", "read the sources")
        self._fail()
        show.progress(1, 1)
        show.stage_done("collect", 3.2, False, {"documents": 7})
        return Ran(upto)

    def fetch(self, say: Callable[[str], None]) -> Mapping[str, Fetched]:
        """Fetch nothing."""
        say("1 page")
        return {"site:https://shop.example/": Fetched()}

    def status(self) -> tuple[State, ...]:
        """Return one stage that is done."""
        self._fail()
        return (State(),)

    def review(
        self,
        reviewer: str,
        *,
        chosen: ReviewSet,
        by: ReviewOrder,
        count: int | None,
        second: bool,
        show: Show,
    ) -> Session:
        """Return a session of three examples; its decisions are put into `decisions`."""
        self._fail()
        show.stage_started("curate", "check, deduplicate, split")
        show.stage_done("curate", 0.1, True, {})
        show.say(f"{chosen} by {by}")
        return Session(
            self.candidates,
            tuple(self.decisions),
            reviewer=reviewer,
            write=self.decisions.append,
            check=lambda example: None if "f(" in example.answer else "call not exact: no call",
            count=count,
            second=second,
        )

    def review_summary(self) -> Summary:
        """Return what was decided."""
        self._fail()
        return summarise(ledger(self.decisions), None)

    def merge_reviews(self, other: Path) -> Merged:
        """Say that two decisions came in."""
        return Merged(2, 1, ("ben",))

    def open_reviews(self) -> int:
        """Return that two are open."""
        return 2

    def estimate(self) -> Plan:
        """Return a plan."""
        self._fail()
        return Plan()

    def ask(self, question: str, model: str | None, policy: Path | None) -> Asked:
        """Repeat the question."""
        self._fail()
        return Asked(question, Answer(f"You ask: {question}"), model or "best")

    def script(
        self, question: str, model: str | None, *, writer: str | None, data: Mapping[str, Path], execute: bool
    ) -> Scripted:
        """Repeat the question, and what the values are from."""
        self._fail()
        assumed = tuple(Assumed(name, str(file)) for name, file in data.items())
        made = Script("import p\np.f()\n", "p.f", "p.f()", assumed, writer or "template")
        error = "ValueError: no" if "fail" in question else None
        result = Result("7\n", "int", error, confined=True) if execute else None
        return Scripted(self.ask(question, model, None), made, result)

    def report(self) -> Files:
        """Return a short report."""
        self._fail()
        figures = {"verdict": "Retrieval is enough.", "contenders": {"base": {"asked": {"no_call": 0.25}}}}
        return Files(self.path / "report.html", figures)

    def write_results(self, form: ResultForm, out: Path) -> tuple[Path, ...]:
        """Say what would be written."""
        self._fail()
        return (out / f"{form}.json",)

    def risks(self, show: Show) -> Risks:
        """Return one figure that became worse, and one that was not measured."""
        self._fail()
        figures = Estimate(0.5, 0.4, 0.6, 40), Estimate(0.25, 0.2, 0.3, 40), Change(-0.25, -0.4, -0.1)
        lost = Risk("forgetting", "arithmetic", "sums", "share", "lower", *figures, 40, "Long sums.")
        return Risks("smollm2", "tuned", (lost,), (Unmeasured("bias", "length", "Nobody was asked."),))

    def dataset(self, form: DatasetForm, folder: Path) -> Rows:
        """Say what would be written."""
        self._fail()
        return Rows(folder, {"train": 7, "valid": 1})

    def topics(self) -> tuple[Cluster, ...]:
        """Return the only topic."""
        self._fail()
        return (Cluster(),)

    def write_topics(self, file: Path) -> None:
        """Write it."""
        file.write_text("[[topic]]\n", encoding="utf-8")

    def hand_over(self, target: str, out: Path) -> Path:
        """Say where it would be written."""
        return out

    def export(
        self, form: Form, folder: Path, *, precision: Precision | None, proved: bool, show: Show
    ) -> Made:
        """Prove one prompt, or none."""
        self._fail()
        show.progress(1, 1)
        return Made(form, folder, {"model.gguf": 7}, Proof(precision or "f16") if proved else None)


Opener = Callable[[Path | None], StandIn]


def opener(error: BaseException | None = None) -> Opener:
    """Return what opens a stand-in."""
    return lambda path: StandIn(path or Path("shop"), error=error)


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=300, cwd=cwd
    )


def test_help_is_light() -> None:
    """`tunesmith --help` loads no model library, no settings library and no server."""
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from tunesmith.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'transformers', 'faiss', 'fastapi', 'pydantic', 'numpy', 'huggingface_hub'}\n"
        "print(heavy & set(sys.modules))"
    )
    assert python("-c", code).stdout == "set()\n"


@pytest.mark.parametrize(
    "command",
    [
        "new",
        "run",
        "status",
        "estimate",
        "ask",
        "script",
        "report",
        "risks",
        "advise",
        "compare",
        "judge",
        "export",
        "check",
        "train",
        "models",
        "review",
    ],
)
def test_every_command_has_help_and_json(command: str) -> None:
    """Each command says what it does and takes --json."""
    result = run_cli.invoke(app, [command, "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"})
    assert (result.exit_code, "--json" in result.stdout) == (0, True)


def test_run_shows_progress_on_stderr_and_the_next_command() -> None:
    """A run keeps stdout for its result and ends by naming the next command."""
    result = run_cli.invoke(app, ["run"], obj=opener())
    assert (result.exit_code, result.stdout) == (0, "\nNext: tunesmith report\n")
    assert result.stderr == "collect: read the sources\ncollect: done in 3.2 s: 7 documents\n"


def test_run_hands_on_the_stage_and_the_project(tmp_path: Path) -> None:
    """STAGE and --project reach the project; --json is one document with progress still on stderr."""
    result = run_cli.invoke(app, ["run", "collect", "--json", "--project", str(tmp_path)], obj=opener())
    assert json.loads(result.stdout) == {
        "project": "shop",
        "result": {"upto": "collect"},
        "stages": [
            {
                "stage": "collect",
                "id": "c1",
                "state": "done",
                "seconds": 3.2,
                "counts": {"documents": 7},
                "made": "2026-11-01T12:00:04+00:00",
                "needs": [],
            }
        ],
        "next": "tunesmith report",
    }
    assert result.stderr.startswith("collect: read the sources\n")


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        (
            ["status"],
            ["collect", "7 documents", "2 reviewed text(s) must be settled", "Next: tunesmith report"],
        ),
        (["estimate"], ["LoRA here", "Next: tunesmith run"]),
        (["fetch"], ["2 pages, 1 not fetched", "gone: the server answers 404", "Next: tunesmith run"]),
        (["topics"], ["paths", "25.0 %", "Next: tunesmith run generate"]),
        (
            ["dataset", "--out", "rows"],
            ["Written to rows: 7 train, 1 valid", "Next: tunesmith train rows/train.jsonl"],
        ),
        (["dataset", "--to", "parquet", "--out", "rows"], ["Next: ls rows"]),
        (["ask", "Why [1]?"], ["You ask: Why [1]?", "✓ valid p.f", "by best", "Next: tunesmith report"]),
        (["ask", "Why?", "--model", "base"], ["Answered by base"]),
        (
            ["script", "Why?", "--data", "G=towns.json"],
            ["import p", "holds p.f()", "G is from towns.json", "Next: tunesmith script 'Why?' --run"],
        ),
        (["script", "Why?", "--run", "--writer", "m"], ["written by m", "✓ it runs", "result: int", "7"]),
        (
            ["risks"],
            ["What it forgot", "50.0 %", "−25.0", "worse", "not measured: length", "Next: tunesmith report"],
        ),
        (["report"], ["Retrieval is enough.", "shop/report.html", "Next: tunesmith report --open"]),
        (
            ["export", "--to", "gguf", "--quantise", "q8_0"],
            [
                "✓ proved",
                "q8_0 explains 0.3",
                "' the' instead of",
                "Next: llama-server -m shop/exports/gguf-q8_0",
            ],
        ),
        (["export", "--to", "merged", "--no-parity"], ["✗ not proved", "--model path:shop/exports/merged"]),
        (["export", "--to", "ollama", "--out", "o"], ["Next: ollama create o -f o/Modelfile"]),
        (["export", "--to", "trl"], ["Written to shop/exports/trl", "Next: cat shop/exports/trl/README.md"]),
    ],
)
def test_commands_show_and_name_the_next(arguments: list[str], pieces: list[str]) -> None:
    """Each command shows its result and the next command, with exit code 0."""
    result = run_cli.invoke(app, arguments, obj=opener())
    assert result.exit_code == 0
    assert [piece for piece in pieces if piece not in result.stdout] == []


def test_advice_is_measured_where_there_is_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside a project and before its evaluation rules speak, after it the figures; each says which it is."""
    monkeypatch.chdir(tmp_path)
    outside = run_cli.invoke(app, ["advise", "--json"])
    assert json.loads(outside.stdout)["basis"] == "rules"
    before = run_cli.invoke(app, ["advise"], obj=opener())
    assert "From rules, before anything was measured" in before.stdout
    assert "Next: tunesmith run" in before.stdout
    monkeypatch.setattr(StandIn, "status", lambda self: (State("evaluate"),))
    after = run_cli.invoke(app, ["advise"], obj=opener())
    assert "By measurement" in after.stdout
    assert "Retrieval is enough." in after.stdout
    one = run_cli.invoke(app, ["advise", "classification"], obj=opener())
    assert "Tune when: Some hundred labelled rows" in one.stdout
    assert "Next: tunesmith advise" in one.stdout
    assert run_cli.invoke(app, ["advise", "poetry"], obj=opener()).exit_code == 2


def test_a_report_can_fail_a_build() -> None:
    """A condition that holds ends with 1, after the report; one that cannot be told with 2; all are shown."""
    conditions = ["--fail-if", "base.asked.no_call > 20 %", "--fail-if", "base.asked.no_call > 0.5"]
    failed = run_cli.invoke(app, ["report", *conditions], obj=opener())
    assert failed.exit_code == 1
    assert "Retrieval is enough." in failed.stdout
    assert "✗ holds" in failed.stdout
    assert "✓ does not hold" in failed.stdout
    as_json = run_cli.invoke(app, ["report", "--json", *conditions], obj=opener())
    assert as_json.exit_code == 1
    assert [each["true"] for each in json.loads(as_json.stdout)["conditions"]] == [True, False]
    assert run_cli.invoke(app, ["report", *conditions[2:]], obj=opener()).exit_code == 0
    assert run_cli.invoke(app, ["report", "--fail-if", "best.asked.exact < 1"], obj=opener()).exit_code == 2


def test_results_are_written_in_a_form() -> None:
    """Beside the report, which is shown as ever; a form needs a place and a place a form."""
    shown = run_cli.invoke(app, ["report", "--to", "inspect", "--out", "logs"], obj=opener())
    assert (shown.exit_code, "All answers as inspect: logs" in shown.stdout) == (0, True)
    told = run_cli.invoke(app, ["report", "--json", "--to", "json", "--out", "runs"], obj=opener())
    assert json.loads(told.stdout)["written"] == [str(Path("runs") / "json.json")]
    assert run_cli.invoke(app, ["report", "--to", "inspect"], obj=opener()).exit_code == 2
    assert run_cli.invoke(app, ["report", "--out", "logs"], obj=opener()).exit_code == 2


def test_topics_and_prompts_are_written_to_be_changed(tmp_path: Path) -> None:
    """The next step is to change them and to name them; prompts that are there already stay as they are."""
    topics = run_cli.invoke(app, ["topics", "--write", str(tmp_path / "topics.toml")], obj=opener())
    assert topics.exit_code == 0
    assert "name it in tunesmith.toml" in topics.stdout
    assert (tmp_path / "topics.toml").is_file()
    for said in ("judge.md", "nothing was changed"):
        prompts = run_cli.invoke(app, ["prompts", "--out", str(tmp_path / "prompts")])
        assert prompts.exit_code == 0
        assert said in prompts.stdout


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["status"], {"project", "path", "stages", "open_reviews", "next"}),
        (["estimate"], {"plan", "next"}),
        (["fetch"], {"fetched", "next"}),
        (["review"], {"review", "file", "next"}),
        (["review", "--summary"], {"summary", "next"}),
        (["review", "--merge", "b.jsonl"], {"merged", "next"}),
        (["ask", "Why?"], {"asked", "next"}),
        (["script", "Why?"], {"scripted", "next"}),
        (["report"], {"verdict", "contenders"}),
        (["risks"], {"risks", "next"}),
        (["export", "--to", "gguf"], {"export", "next"}),
        (["export", "--to", "axolotl"], {"folder", "next"}),
    ],
)
def test_json_is_one_document(arguments: list[str], keys: set[str]) -> None:
    """With --json stdout is one JSON document and nothing else."""
    result = run_cli.invoke(app, [*arguments, "--json"], obj=opener())
    assert (result.exit_code, set(json.loads(result.stdout))) == (0, keys)


def test_a_script_that_fails_is_shown_and_ends_with_1() -> None:
    """The error is the result, and --data names a variable and a file."""
    result = run_cli.invoke(app, ["script", "fail?", "--run"], obj=opener())
    assert (result.exit_code, "✗ it fails ValueError: no" in result.stdout) == (1, True)
    assert run_cli.invoke(app, ["script", "Why?", "--data", "towns.json"], obj=opener()).exit_code == 2


@pytest.mark.parametrize("option", ["--base", "--tuned", "--rows", "--held-out", "--check"])
def test_two_models_are_named_together_or_not_at_all(option: str) -> None:
    """An option about two models without both of them is refused, with the way out."""
    result = run_cli.invoke(app, ["risks", option, "bias"], obj=opener())
    assert result.exit_code == 2
    assert f"{option} is about two models outside a project" in result.stderr
    assert "Give --base and --tuned, or neither" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("No such stage.", hint="Look."), 2), (DiskFull("Full.", hint="Free."), 1)]
)
@pytest.mark.parametrize("arguments", [["run"], ["status"], ["estimate"], ["ask", "Why?"], ["report"]])
def test_errors_are_calm(arguments: list[str], error: TunesmithError, code: int) -> None:
    """An expected error is a rule and a way out on stderr, with its exit code and no traceback."""
    result = run_cli.invoke(app, arguments, obj=opener(error))
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.endswith(f"Error: {error.message}\n  → {error.hint}\n")
    as_json = run_cli.invoke(app, [*arguments, "--json"], obj=opener(error))
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout) == {
        "error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    }


def test_ctrl_c_says_what_is_kept() -> None:
    """An interrupted run says what is kept and how to go on, and exits with 130."""
    result = run_cli.invoke(app, ["run"], obj=opener(KeyboardInterrupt()))
    assert (result.exit_code, result.stdout) == (130, "")
    assert "Finished stages are kept" in result.stderr
    assert "`tunesmith run` goes on from there." in result.stderr
    as_json = run_cli.invoke(app, ["run", "--json"], obj=opener(KeyboardInterrupt()))
    assert (as_json.exit_code, json.loads(as_json.stdout)["error"]["type"]) == (130, "Interrupted")


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started without it
from tunesmith.cli import app as module
class Sleeper:
    def run(self, upto, show):
        print("in", flush=True)
        time.sleep(60)
module._open = lambda context, path: Sleeper()
sys.argv = ["tunesmith", "run"]
module.main()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_cleanly(sent: signal.Signals) -> None:
    """Ctrl-C and a polite kill end a real process with 130, a way on, and no traceback."""
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.send_signal(sent)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "goes on from there" in errors
    assert "Traceback" not in errors


def test_a_bug_keeps_its_traceback() -> None:
    """An error that nobody expected is not dressed up."""
    result = run_cli.invoke(app, ["status"], obj=opener(ZeroDivisionError("bug")))
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("arguments", [["sing"], ["ask"], ["run", "--loud"], ["new"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    """An unknown command or option, or a missing argument, is wrong usage."""
    assert run_cli.invoke(app, arguments, obj=opener()).exit_code == 2


def test_new_makes_a_project_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`new` writes a config whose paths are seen from the project's folder, and keeps work out of git."""
    monkeypatch.chdir(tmp_path)
    for name in ("docs", "a.md", "b.md"):
        tmp_path.joinpath(name).mkdir() if name == "docs" else tmp_path.joinpath(name).write_text("#")
    arguments = ["new", "shop", "--from", "python:networkx", "--from", "docs", "--from", "*.md"]
    result = run_cli.invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (
        0,
        "Made shop/tunesmith.toml. Read it: each line says what it does.\n\nNext: cd shop && tunesmith run\n",
    )
    loaded = load(tmp_path / "shop" / "tunesmith.toml")
    assert (loaded.name, loaded.sources) == ("shop", ("python:networkx", "../docs", "../*.md"))
    assert tmp_path.joinpath("shop", ".gitignore").read_text() == ".tunesmith/\n"


def test_new_takes_what_a_shell_makes_of_a_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several sources after one --from are all taken, absolute ones as they are."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.md", "b.md"):
        tmp_path.joinpath(name).write_text("#")
    absolute = str(tmp_path / "b.md")
    result = run_cli.invoke(app, ["new", "shop", "--from", "a.md", absolute, "--json"])
    assert json.loads(result.stdout) == {
        "project": "shop",
        "config": "shop/tunesmith.toml",
        "next": "cd shop && tunesmith run",
    }
    assert load(tmp_path / "shop" / "tunesmith.toml").sources == ("../a.md", absolute)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "shop"], "A project needs something to know."),
        (["new", "shop", "docs"], "A project needs something to know (docs stands there without --from)."),
        (["new", "shop", "--from", "nowhere/*.md"], "The source 'nowhere/*.md' does not exist."),
        (["new", "old", "--from", "python:x"], "old/tunesmith.toml exists already."),
        (["new", "file", "--from", "python:x"], "file is a file."),
    ],
)
def test_new_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """What cannot be a project is refused before anything is written."""
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("old").mkdir()
    tmp_path.joinpath("old", "tunesmith.toml").write_text("mine")
    tmp_path.joinpath("file").write_text("")
    result = run_cli.invoke(app, arguments)
    assert (result.exit_code, result.stderr.splitlines()[0]) == (2, f"Error: {message}")
    assert not tmp_path.joinpath("shop").exists()
    assert tmp_path.joinpath("old", "tunesmith.toml").read_text() == "mine"


def write_weights(draft: Path) -> None:
    """Build an artefact of three bytes."""
    draft.joinpath("weights").write_bytes(b"123")


def test_inventory_of_bundled_and_tuned(tmp_path: Path) -> None:
    """Bundled models say whether they are here; what the project tuned is listed with its size."""
    tmp_path.joinpath("smollm2").mkdir()
    tmp_path.joinpath("smollm2", "model").write_bytes(b"1234")
    places = {"smollm2": tmp_path / "smollm2", "minilm": tmp_path / "minilm"}
    assert tuple(inventory.bundled(places)) == (
        inventory.Usable("smollm2", "bundled", "in the cache", 4),
        inventory.Usable("minilm", "bundled", "fetched when it is first used", None),
    )
    store = Store(tmp_path / ".tunesmith")
    for stage in ("chunk", "train"):
        made = store.make(stage, "1", settings={}, inputs=(), build=write_weights)
    (only,) = inventory.tuned(store)
    assert (only.address, only.kind, only.bytes) == (f"path:{made.path}", "tuned", 3)


def test_inventory_without_a_cache(tmp_path: Path) -> None:
    """A machine that never fetched anything has nothing cached, and that is no error."""
    code = "from tunesmith.cli import inventory; print(tuple(inventory.cached()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | {"HF_HOME": str(tmp_path / "none"), "HF_HUB_CACHE": str(tmp_path / "none" / "hub")},
    )
    assert done.stdout == "()\n"


def test_choices_of_the_command_line_are_the_ones_that_the_parts_know() -> None:
    """The command line names them itself, so that help loads nothing; here both are compared."""
    from tunesmith.cli.ports import DatasetForm, Private
    from tunesmith.curating.privacy.examples import Handling
    from tunesmith.dataset import FORMS

    assert get_args(DatasetForm) == FORMS
    assert set(get_args(Private)) == set(get_args(Handling)) - {
        "reject"
    }  # a file's rows are mended, not rejected


def test_python_m_tunesmith() -> None:
    """`python -m tunesmith` is the command."""
    done = python("-m", "tunesmith", "--help")
    assert (done.returncode, "assistant that it can prove" in done.stdout) == (0, True)


def test_what_is_about_a_model_is_refused_for_a_trainer() -> None:
    """A trainer gets rows: a precision or another model means nothing to it."""
    for option in (["--quantise", "f16"], ["--model", "smollm2"], ["--no-parity"]):
        result = run_cli.invoke(app, ["export", "--to", "trl", *option], obj=opener())
        assert result.exit_code == 2
        assert f"{option[0]} is about a model, and --to trl writes" in result.stderr
