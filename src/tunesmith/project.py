"""A project folder as code and commands see it: run it, look at it, ask it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunesmith import cache_keys, finished, steps, workshops
from tunesmith.artifacts import Artifact, Store, artifact_at, disk_full_named
from tunesmith.catalogue import Catalogue, Judgement, judge
from tunesmith.config import FILE_NAME, Config, find_project, load
from tunesmith.errors import UsageError
from tunesmith.pipeline import Planned, Show, counts_of, needed_for, plan, run
from tunesmith.records import Answer, Evidence, Example, Message, Score, Topic, read_jsonl

if TYPE_CHECKING:
    from tunesmith.collecting.web import Snapshot
    from tunesmith.contenders import Workshop
    from tunesmith.dataset import DatasetForm, Written
    from tunesmith.evaluating.comparing import Comparison, Measured
    from tunesmith.evaluating.exchange.files import ResultForm
    from tunesmith.evaluating.exchange.results import Results
    from tunesmith.evaluating.risks import Risks
    from tunesmith.exporting.export import Exported, Form
    from tunesmith.exporting.gguf import Precision
    from tunesmith.generating.running import Result
    from tunesmith.generating.script import Script
    from tunesmith.models.base import ChatModel
    from tunesmith.reviewing.agreement import Summary
    from tunesmith.reviewing.decisions import Decision, Merged
    from tunesmith.reviewing.sample import Order
    from tunesmith.reviewing.session import Session
    from tunesmith.training.plan import Plan


@dataclass(frozen=True, slots=True)
class StageState:
    """One stage: done, begun or to do; `seconds` of work, when it was `made`, and the stages it `needs`."""

    stage: str
    id: str | None
    state: Literal["done", "part", "to do"]
    seconds: float | None
    counts: Mapping[str, int]
    made: str | None
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunResult:
    """The artefacts that a run made or found: stage to folder."""

    artifacts: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, which contender or model gave it, what its call is worth, and where it comes from.

    `version` is the package and its version against which the call was judged; outside a project nothing was.
    """

    question: str
    answer: Answer
    contender: str
    judgement: Judgement | None
    sources: tuple[Evidence, ...]
    version: str | None


@dataclass(frozen=True, slots=True)
class Scripted:
    """An answer, the script that was written around its call, and what it gave, if it was run."""

    asked: Asked
    script: Script
    result: Result | None


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """The report's page, and the same as JSON."""

    html: Path
    json: Mapping[str, Any]

    def _repr_html_(self) -> str:
        return self.html.read_text(encoding="utf-8")


class Silent:
    """A Show that says nothing, for notebooks and tests."""

    def stage_started(self, name: str, caption: str) -> None:
        """Begin a stage."""

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Report progress."""

    def stage_done(self, name: str, seconds: float, reused: bool, counts: Mapping[str, int]) -> None:
        """End a stage."""

    def say(self, text: str) -> None:
        """Say something."""


class Project:
    """A folder with a tunesmith.toml; its finished work lies in its `.tunesmith` folder."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = Store(config.folder / ".tunesmith")

    @classmethod
    def open(cls, path: str | Path | None = None) -> Project:
        """Return the project in a folder, or above the current one (None); raises UsageError, ConfigError."""
        folder = find_project(Path.cwd()) if path is None else Path(path).absolute()
        return cls(load(folder if folder.suffix == ".toml" else folder / FILE_NAME))

    @property
    def name(self) -> str:
        """What the project is called."""
        return self.config.name

    @property
    def path(self) -> Path:
        """The project's folder."""
        return self.config.folder

    def _repr_html_(self) -> str:
        from tunesmith.evaluating.tables import Head, body, table

        heads = [Head(title) for title in ("stage", "state", "holds", "seconds")]
        return table(f"The stages of {self.name}", heads, [body(map(_row, self.status()))], caption=self.name)

    def run(self, upto: str | None = None, show: Show | None = None) -> RunResult:
        """Make every stage up to `upto` (None: all) that is not finished, going on where a run was stopped."""
        made = run(self.config, self.store, upto, show or Silent())
        return RunResult({stage: artifact.path for stage, artifact in made.items()})

    def fetch(self, say: Callable[[str], None] = lambda text: None) -> dict[str, Snapshot]:
        """Fetch the web pages among the sources again; what has changed is collected anew by the next run."""
        with self.store.lock("tunesmith fetch"):
            return steps.fetch_sources(self.config, say, again=True)

    def status(self) -> tuple[StageState, ...]:
        """Return every stage in order, as this config and these sources would have it."""
        return tuple(self._state(one) for one in plan(self.config))

    def estimate(self) -> Plan:
        """Return what training would cost, making the stages before it if they are not finished."""
        from tunesmith.training.plan import Plan, PlanRow

        made = run(self.config, self.store, "estimate", Silent())
        found = json.loads(made["estimate"].file("plan.json").read_text(encoding="utf-8"))
        return Plan(tuple(PlanRow(**row) for row in found["rows"]), tuple(found["notes"]))

    def report(self) -> ReportFiles:
        """Return the report, written anew where something has changed; raises UsageError while figures lack."""
        # All but the page itself: what takes long is never made without a word.
        inputs = self._finished("report", "tunesmith run", itself=False)
        made = inputs if "report" in inputs else run(self.config, self.store, "report", Silent())
        artifact = made["report"]
        figures = json.loads(artifact.file("report.json").read_text(encoding="utf-8"))
        return ReportFiles(artifact.file("report.html"), figures)

    @property
    def catalogue(self) -> Catalogue:
        """What may be called; raises UsageError before the sources are read."""
        return finished.catalogue_of(self._finished("collect", "tunesmith run"))

    @property
    def system(self) -> str:
        """The system message that every contender gets; raises UsageError before the sources are read."""
        return finished.system_for(self.catalogue, self.config)

    @property
    def contenders_from(self) -> Mapping[str, str]:
        """The ids of the finished stages that contenders are made from: where they differ, contenders may, too."""
        needed = needed_for("evaluate", self.config) - {"evaluate"}
        ids = {one.stage.name: one.id for one in plan(self.config) if one.stage.name in needed}
        return {stage: id_ for stage, id_ in ids.items() if self.store.find(stage, id_) is not None}

    def write_results(self, form: ResultForm, out: Path) -> tuple[Path, ...]:
        """Write the evaluation's answers, figures and settings in a form, and return the files.

        Raises UsageError before evaluation, and if `out` is there already.
        """
        from tunesmith.evaluating.exchange.files import write_results

        figures = self.report().json
        results = replace(_results(self.config.folder), figures=figures, versions=figures["environment"])
        return write_results(results, out, form)

    def risks(self, show: Show | None = None) -> Risks:
        """Return what the tuning risks, making the stages up to there if they are not finished."""
        from tunesmith.risks import risks_in

        return risks_in(run(self.config, self.store, "risks", show or Silent())["risks"])

    def ask(self, question: str, model: str | None = None, policy: Path | None = None) -> Asked:
        """Answer a question with a contender (None: the best one that was measured) or a model's address.

        With a policy within its rails; calls are held against the project's catalogue unless it names another.
        """
        from tunesmith.models.base import Sampling

        _check_question(question)
        inputs = self._finished("collect", "tunesmith run")
        name = model or self._best()
        catalogue = finished.catalogue_of(inputs)
        conversation = (
            Message("system", finished.system_for(catalogue, self.config)),
            Message("user", question),
        )
        settings = self.config.evaluate
        sampling = Sampling(max_tokens=settings.max_tokens, stop=settings.stop)
        answering = self.contender(name) if policy is None else self._guarded(name, policy, catalogue)
        [answer] = answering.reply([conversation], sampling)
        if not catalogue.entries:
            return Asked(question, answer, name, None, self._passages(answer), None)
        judgement = _judged(answer, catalogue)
        against = f"{catalogue.package} {catalogue.version}"
        return Asked(question, answer, name, judgement, self._sources(judgement, inputs), against)

    def script(
        self,
        question: str,
        model: str | None = None,
        *,
        writer: str | None = None,
        data: Mapping[str, Path] | None = None,
        execute: bool = False,
    ) -> Scripted:
        """Answer a question and write a script around the call: by a template, or by the model at `writer`.

        `data` has files of the user's own for variables of the call. Only with `execute` is anything run, in the
        sandbox. Raises UsageError for an answer without a call that can be run, and for a variable without a value.
        """
        from tunesmith.generating.running import first_that_runs, write_script
        from tunesmith.generating.script import checked_call, read_value, template_scripts
        from tunesmith.models.address import load_chat

        given = {name: read_value(file) for name, file in (data or {}).items()}
        if writer is not None and given:
            raise UsageError("--data is put in by the template.", hint="Leave --writer out, or --data.")
        asked = self.ask(question, model)
        catalogue = finished.catalogue_of(self._finished("collect", "tunesmith run"))
        judgement = checked_call(asked.answer.text, catalogue)
        if writer is not None:
            chat = load_chat(writer)
            return Scripted(asked, *write_script(chat, question, judgement, catalogue, run=execute))
        scripts = template_scripts(asked.answer.text, judgement, catalogue, given)
        if execute:
            found: tuple[Script, Result | None] | None = first_that_runs(scripts, catalogue)
        else:
            found = next(((each, None) for each in scripts), None)
        if found is None:
            raise UsageError(
                "no example in the documentation has values for all variables of the call "
                f"{'' if judgement.call is None else judgement.call.text}.",
                hint="Give them: --data NAME=FILE, once for each; or have a model write the script: --writer ADDRESS.",
            )
        return Scripted(asked, *found)

    def export(
        self,
        form: Form,
        folder: Path,
        *,
        precision: Precision | None = None,
        proved: bool = True,
        show: Show | None = None,
    ) -> Exported:
        """Write the tuned model to a new folder: adapter, merged weights, GGUF or what Ollama takes, and its card.

        Raises UsageError before training, and ParityError, keeping nothing, for an export that says something else
        than the model; without `proved` that is not looked at, and the card says so.
        """
        from tunesmith.exports import tuned_order, write

        inputs = self._finished("train", "tunesmith run train")
        order = tuned_order(inputs, self.config, form, precision, proved=proved)
        return write(order, folder, on_progress=(show or Silent()).progress)

    def dataset(self, form: DatasetForm, folder: Path) -> Written:
        """Write the curated examples in a form that other tools read to a new folder, with a statement of their data.

        Makes the stages up to curate first if they are not finished; raises UsageError for a folder that is there.
        """
        from tunesmith.dataset import write_dataset

        made = run(self.config, self.store, "curate", Silent())
        return write_dataset(made, self.config, form, folder)

    def topics(self) -> tuple[Topic, ...]:
        """Return the topics of the material, as the project's file of topics wants them; raises UsageError before."""
        return finished.chosen_topics(self._finished("chunk", "tunesmith run chunk"), self.config).topics

    def write_topics(self, file: Path) -> None:
        """Write the topics as they were found to a new file, to be named, weighted, dropped or joined there."""
        from tunesmith.chunking.choices import write_choices

        found = self._finished("chunk", "tunesmith run chunk")["chunk"]
        write_choices(file, tuple(read_jsonl(Topic, found.file("topics.jsonl"))))

    def contender(self, name: str) -> ChatModel:
        """Return a contender by its name ("tuned+tuned_retrieval"), or a model by its address."""
        from tunesmith.evaluating.names import PARTS
        from tunesmith.models.address import load_chat

        if name.partition("+")[0] not in (*PARTS, *self.config.adapters):
            return load_chat(name)
        return self.workshop(name).build(name)

    def workshop(self, name: str) -> Workshop:
        """Return what contenders are made of; raises UsageError where a stage that `name` needs is not done."""
        needed = _stage_before(name.split("+"))
        inputs = self._finished(needed, f"tunesmith run {needed}")
        return workshops.workshop(inputs, self.config, lambda text: None)

    def _guarded(self, name: str, policy: Path, catalogue: Catalogue) -> ChatModel:
        """Return a contender within a policy's rails, which look at the passages that it is shown, too."""
        from tunesmith.evaluating.names import PARTS, RETRIEVERS, retriever_of
        from tunesmith.guarding import guarded, load_policy, sifted
        from tunesmith.guards import guard_of

        guard = guard_of(load_policy(policy), policy.parent, catalogue=catalogue)
        parts = name.split("+")
        if parts[0] not in (*PARTS, *self.config.adapters) or retriever_of(name) is None:
            return guarded(self.contender(name), guard)
        shop = self.workshop(name)
        retriever = shop.retriever_for(name)
        if {"tools", "citations", "nearest_shots"} & set(parts):
            # These show passages in ways of their own, or read the question before passages stand around it.
            shows = sifted(retriever, guard)
            return guarded(shop.build(name, shows), guard, shows=shows)
        bare = "+".join(part for part in parts if part not in (*RETRIEVERS, "reranked")) or "base"
        return guarded(shop.build(bare), guard, retriever, count=shop.passages)

    def hand_over(self, target: str, out: Path) -> Path:
        """Write a folder from which another trainer trains what `run train` would: axolotl, litgpt, trl or unsloth.

        Raises UsageError for another target, before the retriever is tuned, and for a folder that holds something.
        """
        inputs = self._finished("encoder", "tunesmith run encoder")
        return steps.hand_over(inputs, self.config, target, out, lambda text: None)

    def review(
        self,
        reviewer: str,
        *,
        chosen: str = "all",
        by: Order = "risk",
        count: int | None = None,
        second: bool = False,
        show: Show | None = None,
    ) -> Session:
        """Return a reviewer's way through one set ("train", ...) or "all", making the sets first if they are not there.

        Each decision goes into reviews/REVIEWER.jsonl in the project's folder at once; the next run heeds it.
        """
        from tunesmith.reviewing.decisions import FOLDER, append, check_name, read_decisions
        from tunesmith.reviewing.session import Session

        check_name(reviewer)
        sets = _sets(chosen)
        inputs = run(self.config, self.store, "curate", show or Silent())
        if by == "topic":
            inputs |= run(self.config, self.store, "chunk", show or Silent())
        folder = self.path / FOLDER

        def write(decision: Decision) -> None:
            with disk_full_named(self.path):
                append(folder, [decision])

        return Session(
            finished.candidates_of(inputs, sets, by),
            read_decisions(folder),
            reviewer=reviewer,
            write=write,
            check=finished.fault_of(inputs),
            count=count,
            second=second,
        )

    def review_summary(self) -> Summary:
        """Return what all reviewers' decisions come to, what is open, and how far reviewers agree."""
        from tunesmith.reviewing.agreement import summarise

        return summarise(cache_keys.ledger_of(self.config), self._made_examples())

    def merge_reviews(self, other: Path) -> Merged:
        """Copy another person's file of decisions into the project's: all of it, or nothing if a line is broken."""
        from tunesmith.reviewing.decisions import FOLDER, merge_file

        with disk_full_named(self.path):
            return merge_file(self.path / FOLDER, other)

    def open_reviews(self) -> int:
        """Return how many texts reviewers disagree about or flagged."""
        from tunesmith.reviewing.agreement import summarise

        ledger = cache_keys.ledger_of(self.config)
        if not summarise(ledger, None).open:
            return 0  # as mostly, without reading all examples
        return len(summarise(ledger, self._made_examples()).open)

    def _made_examples(self) -> tuple[Example, ...] | None:
        """Return the examples of the sets and what is generated now, each text once; None if nothing is made.

        The newest sets do where those that heed the last decision are not made yet.
        """
        ids = {one.stage.name: one.id for one in plan(self.config)}
        generated = self.store.find("generate", ids["generate"])
        newest = next((one for one in reversed(self.store.list()) if one.stage == "curate"), None)
        curated = self.store.find("curate", ids["curate"]) or newest
        files = [] if generated is None else [generated.file("examples.jsonl")]
        if curated is not None:
            files += [curated.file(f"{name}.jsonl") for name in ("train", "valid", *finished.SETS)]
        found = {(one.question, one.answer): one for file in files for one in read_jsonl(Example, file)}
        return tuple(found.values()) if files else None

    def _best(self) -> str:
        return str(self.report().json["best"])

    def _passages(self, answer: Answer) -> tuple[Evidence, ...]:
        """Return the passages that the model was shown."""
        inputs = self._finished("index", "tunesmith run index") if answer.retrieved else {}
        if not inputs:
            return ()
        known = {passage.id: passage for passage in finished.passages_of(inputs)}
        source_of = {document.id: document.source for document in finished.documents_of(inputs)}
        shown = (known[one] for one in answer.retrieved if one in known)
        return tuple(
            Evidence(source_of[one.document], one.document, one.start, one.end, one.text) for one in shown
        )

    def _sources(self, judgement: Judgement, inputs: Mapping[str, Artifact]) -> tuple[Evidence, ...]:
        """Return where the called entry is documented."""
        from tunesmith.generating.derive import derive_answers

        catalogue = finished.catalogue_of(inputs)
        entry = None if judgement.called is None else catalogue.resolve(judgement.called)
        if entry is None:
            return ()
        answers = derive_answers(finished.documents_of(inputs), catalogue).answers
        return next((answer.evidence for answer in answers if answer.entry == entry.id), ())

    def _finished(self, stage: str, command: str, *, itself: bool = True) -> dict[str, Artifact]:
        """Return all finished artefacts; raises UsageError unless all that `stage` needs (and `itself`) is there."""
        found = {
            one.stage.name: artifact
            for one in plan(self.config)
            if (artifact := self.store.find(one.stage.name, one.id)) is not None
        }
        needed = needed_for(stage, self.config) - (frozenset() if itself else {stage})
        missing = [one for one in sorted(needed) if one not in found]
        if missing:
            raise UsageError(
                f"{self.name} has not got that far: {', '.join(missing)} must be run first.",
                hint=f"Run: {command}",
            )
        return found

    def _state(self, one: Planned) -> StageState:
        artifact = self.store.find(one.stage.name, one.id)
        if artifact is not None:
            counts = counts_of(artifact)
            made = artifact.manifest.created
            seconds = artifact.manifest.seconds
            return StageState(
                one.stage.name, one.id, "done", seconds, counts, made, one.stage.needed(self.config)
            )
        begun = self.store.draft(one.stage.name, one.id) is not None
        state: Literal["part", "to do"] = "part" if begun else "to do"
        return StageState(one.stage.name, one.id, state, None, {}, None, one.stage.needed(self.config))


def ask_alone(question: str, address: str, policy: Path | None = None) -> Asked:
    """Answer a question with the model at an address, outside any project: nothing judges its call.

    With a policy within its rails.
    """
    from tunesmith.guarding import guarded, load_policy
    from tunesmith.guards import guard_of
    from tunesmith.models.address import load_chat
    from tunesmith.models.base import Sampling

    _check_question(question)
    guard = None if policy is None else guard_of(load_policy(policy), policy.parent)
    model = load_chat(address)
    [answer] = (model if guard is None else guarded(model, guard)).reply(
        [(Message("user", question),)], Sampling()
    )
    return Asked(question, answer, address, None, (), None)


def _sets(chosen: str) -> tuple[str, ...]:
    names = ("train", "valid", *finished.SETS)
    if chosen != "all" and chosen not in names:
        raise UsageError(f"there is no set {chosen!r}", hint=f"The sets are {', '.join(names)}, and all.")
    return names if chosen == "all" else (chosen,)


def _check_question(question: str) -> None:
    if not question.strip():
        raise UsageError("the question is empty", hint='Ask something: tunesmith ask "How do I ...?"')


def _judged(answer: Answer, catalogue: Catalogue) -> Judgement:
    """Judge an answer to a question of which nobody said what is right: its call exists and binds, or not."""
    judgement = judge(answer.text, (), catalogue)
    if judgement.verdict != "valid" or catalogue.resolve(judgement.called or "") is None:
        return judgement
    return replace(judgement, reason="exists and binds")


def _stage_before(parts: Sequence[str]) -> str:
    """Return the stage that must be finished before a contender of these parts can be put together."""
    from tunesmith.evaluating.names import retriever_of

    if "tuned" in parts:
        return "train"
    return "encoder" if retriever_of("+".join(parts)) is not None else "curate"


def _row(one: StageState) -> str:
    """Return a stage as a row of a notebook's table."""
    from tunesmith.evaluating.tables import cell, code, row

    holds = ", ".join(f"{count:,} {name}" for name, count in one.counts.items())
    seconds = "" if one.seconds is None else f"{one.seconds:,.1f}"
    return row(code(one.stage), (cell(one.state), cell(holds), cell(seconds)))


def compare_runs(first: Path, second: Path) -> Comparison:
    """Compare two evaluations: each a project's folder, for its present one, or the folder of a finished one.

    Results in files are compared too: ours, lm-eval's and inspect's (evaluating.exchange.files). Raises UsageError for
    what is none of these, or a project that was not evaluated.
    """
    from tunesmith.evaluating.comparing import compare_measured

    return compare_measured(_measured(first), _measured(second))


def _measured(path: Path) -> Measured:
    from tunesmith.evaluating.comparing import Measured
    from tunesmith.evaluating.exchange.files import holds_results, read_results

    known = (path / "manifest.json").is_file() or (path / FILE_NAME).is_file()
    if not known and holds_results(path):
        found = read_results(path)
        unread = ", ".join(f"{name} ({count:,})" for name, count in sorted(found.unread.items()))
        notes = (f"Not read from {path.name}: {unread}",) if unread else ()
        return Measured(found.name, found.made, found.every, found.questions, notes)
    results = _results(path)
    return Measured(results.name, results.made, results.every, results.questions)


def _results(path: Path) -> Results:
    """Return the evaluation of a project, or the one in a folder of artefacts, with its questions."""
    from tunesmith.evaluating.exchange.results import Results

    if (path / "manifest.json").is_file():
        artifact = artifact_at(path.absolute())
        if artifact.stage != "evaluate":
            raise UsageError(
                f"{path} is what the stage {artifact.stage} made, not an evaluation.",
                hint="Name a folder evaluate-..., or the project's.",
            )
        name = artifact.path.name
    else:
        project = Project.open(path)
        artifact = project._finished("evaluate", f"tunesmith run --project {path}")["evaluate"]
        name = project.name
    curated = [
        folder
        for key in artifact.manifest.inputs
        if (folder := artifact.path.parent / f"curate-{key}").is_dir()
    ]
    if not curated:
        raise UsageError(
            f"the questions of {artifact.path} are not beside it: the artefact of `curate` is missing.",
            hint="Name the evaluation where it was made, with its artefacts.",
        )
    questions = artifact_at(curated[0])
    scores, floors, ceilings = (
        tuple(read_jsonl(Score, artifact.file(f"{part}.jsonl"))) for part in ("scores", "floors", "ceilings")
    )
    return Results(
        name=name,
        made=artifact.manifest.created,
        scores=scores,
        floors=floors,
        ceilings=ceilings,
        questions={
            example.id: example
            for part in finished.SETS
            for example in read_jsonl(Example, questions.file(f"{part}.jsonl"))
        },
        settings=artifact.manifest.settings,
    )
