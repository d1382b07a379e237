"""What the commands need of a project; tunesmith.project has it, a test passes a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from tunesmith.evaluating.risks import Risks
    from tunesmith.generating.running import Result
    from tunesmith.generating.script import Script
    from tunesmith.records import Answer, Evidence
    from tunesmith.reviewing.agreement import Summary
    from tunesmith.reviewing.decisions import Merged
    from tunesmith.reviewing.session import Session


Form = Literal["adapter", "merged", "gguf", "ollama"]
Precision = Literal["f16", "q8_0"]
Objective = Literal["answers", "text", "preferences"]
RowForm = Literal["openai", "sharegpt", "alpaca", "prompt-completion", "preferences", "question-answer"]
Private = Literal["report", "redact", "pseudonymise", "off"]
DatasetForm = Literal[
    "openai",
    "trl",
    "axolotl",
    "llama-factory",
    "sharegpt",
    "alpaca",
    "prompt-completion",
    "parquet",
    "huggingface",
]
Target = Literal["adapter", "merged", "gguf", "ollama", "axolotl", "litgpt", "trl", "unsloth"]
ResultForm = Literal["json", "lm-eval", "inspect"]
ReviewSet = Literal["train", "valid", "seen", "unseen", "asked", "all"]
Place = Literal["input", "retrieval", "output", "tools"]
ReviewOrder = Literal["risk", "topic", "random"]
# As in TrainSettings, which loads too much to be asked (a test compares).
MAX_LENGTH = 1024
# Not forms of a model but trainers, which get the rows and how to train on them.
TRAINERS = ("axolotl", "litgpt", "trl", "unsloth")


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


class StageState(Protocol):
    """One stage of a project, done or not; `seconds` of work, `made` when, `needs` what it waits for."""

    @property
    def stage(self) -> str: ...  # noqa: D102 - the class says it
    @property
    def id(self) -> str | None: ...  # noqa: D102
    @property
    def state(self) -> Literal["done", "part", "to do"]: ...  # noqa: D102
    @property
    def seconds(self) -> float | None: ...  # noqa: D102
    @property
    def counts(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def made(self) -> str | None: ...  # noqa: D102
    @property
    def needs(self) -> Sequence[str]: ...  # noqa: D102


class PlanRow(Protocol):
    """One way of training and what it would cost; `price` in US dollars, None where there is none."""

    @property
    def way(self) -> str: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def memory_bytes(self) -> int: ...  # noqa: D102
    @property
    def price(self) -> float | None: ...  # noqa: D102


class Plan(Protocol):
    """The ways of training side by side, and what the figures rest on."""

    @property
    def rows(self) -> Sequence[PlanRow]: ...  # noqa: D102
    @property
    def notes(self) -> Sequence[str]: ...  # noqa: D102


class Judgement(Protocol):
    """Whether an answer's call exists and binds."""

    @property
    def verdict(self) -> str: ...  # noqa: D102
    @property
    def called(self) -> str | None: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


class Asked(Protocol):
    """An answer, who gave it, whether its call is valid against `version`, and where it comes from."""

    @property
    def question(self) -> str: ...  # noqa: D102
    @property
    def answer(self) -> Answer: ...  # noqa: D102
    @property
    def contender(self) -> str: ...  # noqa: D102
    @property
    def judgement(self) -> Judgement | None: ...  # noqa: D102
    @property
    def sources(self) -> Sequence[Evidence]: ...  # noqa: D102
    @property
    def version(self) -> str | None: ...  # noqa: D102


class ReportFiles(Protocol):
    """The page of the report, and the same as JSON."""

    @property
    def html(self) -> Path: ...  # noqa: D102
    @property
    def json(self) -> Mapping[str, Any]: ...  # noqa: D102


class Distance(Protocol):
    """How far two replays are apart, in nats: at worst, and on the whole."""

    @property
    def largest(self) -> float: ...  # noqa: D102
    @property
    def typical(self) -> float: ...  # noqa: D102


class Divergence(Protocol):
    """A token that the engine would say otherwise, because the model itself was torn."""

    @property
    def question(self) -> str: ...  # noqa: D102
    @property
    def position(self) -> int: ...  # noqa: D102
    @property
    def expected(self) -> str: ...  # noqa: D102
    @property
    def said(self) -> str: ...  # noqa: D102
    @property
    def margin(self) -> float: ...  # noqa: D102
    @property
    def gap(self) -> float: ...  # noqa: D102


class Parity(Protocol):
    """What was proved of an export, in which engine, and how far it was allowed to be off."""

    @property
    def engine(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def prompts(self) -> int: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102
    @property
    def found(self) -> Distance: ...  # noqa: D102
    @property
    def allowed(self) -> Distance: ...  # noqa: D102
    @property
    def divergences(self) -> Sequence[Divergence]: ...  # noqa: D102
    @property
    def changed(self) -> int: ...  # noqa: D102


class Exported(Protocol):
    """A finished export: its form, its folder, each file's bytes, and the proof, if there is one."""

    @property
    def form(self) -> Form: ...  # noqa: D102
    @property
    def folder(self) -> Path: ...  # noqa: D102
    @property
    def files(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def parity(self) -> Parity | None: ...  # noqa: D102


class Missing(Protocol):
    """A page that was not fetched, and why."""

    @property
    def address(self) -> str: ...  # noqa: D102
    @property
    def detail(self) -> str: ...  # noqa: D102


class Snapshot(Protocol):
    """What an address of the web gave."""

    @property
    def pages(self) -> Sequence[object]: ...  # noqa: D102
    @property
    def missing(self) -> Sequence[Missing]: ...  # noqa: D102


class Topic(Protocol):
    """A cluster of chunks: its label, its chunks, the share of the text that they hold, those that are far off."""

    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def chunks(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def share(self) -> float: ...  # noqa: D102
    @property
    def outliers(self) -> Sequence[str]: ...  # noqa: D102


class Dataset(Protocol):
    """A dataset that was written: its folder, and the rows of each set."""

    @property
    def folder(self) -> Path: ...  # noqa: D102
    @property
    def rows(self) -> Mapping[str, int]: ...  # noqa: D102


class Scripted(Protocol):
    """An answer, the script around its call, and what it gave, if it was run."""

    @property
    def asked(self) -> Asked: ...  # noqa: D102
    @property
    def script(self) -> Script: ...  # noqa: D102
    @property
    def result(self) -> Result | None: ...  # noqa: D102


class Project(Protocol):
    """A project that commands work on."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def path(self) -> Path: ...  # noqa: D102

    def run(self, upto: str | None, show: Show) -> object:
        """Make every stage up to one that is not done yet."""

    def fetch(self, say: Callable[[str], None]) -> Mapping[str, Snapshot]:
        """Fetch the web pages among the sources again; by their addresses."""
        ...

    def status(self) -> Sequence[StageState]:
        """Return every stage in order."""

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
        """Return a reviewer's way through the examples."""
        ...

    def review_summary(self) -> Summary:
        """Return what all decisions come to."""
        ...

    def merge_reviews(self, other: Path) -> Merged:
        """Copy another person's decisions in."""
        ...

    def open_reviews(self) -> int:
        """Return how many texts wait for somebody to settle them."""
        ...

    def estimate(self) -> Plan:
        """Return what training would cost."""

    def ask(self, question: str, model: str | None, policy: Path | None) -> Asked:
        """Answer a question, within the rails of a policy if one is named."""

    def script(
        self, question: str, model: str | None, *, writer: str | None, data: Mapping[str, Path], execute: bool
    ) -> Scripted:
        """Write a script around the call of an answer."""
        ...

    def report(self) -> ReportFiles:
        """Write the report."""

    def write_results(self, form: ResultForm, out: Path) -> Sequence[Path]:
        """Write all answers and figures in a form."""
        ...

    def risks(self, show: Show) -> Risks:
        """Return what the tuning risks."""
        ...

    def export(
        self, form: Form, folder: Path, *, precision: Precision | None, proved: bool, show: Show
    ) -> Exported:
        """Write the tuned model to a new folder."""
        ...

    def dataset(self, form: DatasetForm, folder: Path) -> Dataset:
        """Write the curated examples to a new folder."""
        ...

    def topics(self) -> Sequence[Topic]:
        """Return the topics of the material."""
        ...

    def write_topics(self, file: Path) -> None:
        """Write the topics to a new file, to be changed there."""

    def hand_over(self, target: str, out: Path) -> Path:
        """Write what another trainer needs to a new folder."""
