"""One short command per verb: arguments in, one call, shown result, exit code."""

from __future__ import annotations

import glob
import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperCommand

from tunesmith.cli.ports import (
    MAX_LENGTH,
    TRAINERS,
    DatasetForm,
    Form,
    Objective,
    Place,
    Precision,
    Private,
    ResultForm,
    ReviewOrder,
    ReviewSet,
    RowForm,
    Target,
)
from tunesmith.errors import TrainingError, TunesmithError, UsageError
from tunesmith.progress import leads

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from tunesmith.cli.ports import Asked, Exported, Project, Show
    from tunesmith.reviewing.decisions import Merged
    from tunesmith.reviewing.session import Session
    from tunesmith.serving.store import Store

INTERRUPTED = 130

app = typer.Typer(
    name="tunesmith",
    help="Turn what a team knows into an assistant that it can prove.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document; progress goes to stderr.")]
At = Annotated[
    Path | None,
    typer.Option("--project", metavar="PATH", help="The project's folder; default: found from here."),
]

LogLevel = Literal["debug", "info", "warning", "error"]
Home = Annotated[
    Path | None,
    typer.Option(
        "--home", metavar="PATH", help="The server's folder; default: $TUNESMITH_HOME or the user's data."
    ),
]
Database = Annotated[
    str | None,
    typer.Option(metavar="URL", help="postgresql+psycopg://...; default: SQLite in the server's folder."),
]


def main() -> None:
    """Run the command line; a polite kill (SIGTERM) stops it as cleanly as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The folder to make; its name is the project's.")],
    more: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="")] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="SOURCE...",
            help="python:PACKAGE, openapi:FILE, mcp:FILE, a file, a folder or a glob.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a project folder with a commented tunesmith.toml."""
    with _edge(as_json) as edge:
        from tunesmith.artifacts import write_text_atomic
        from tunesmith.config import FILE_NAME, template

        # A shell turns `--from docs/*.md` into `--from docs/a.md docs/b.md`: the rest arrives as arguments.
        addresses = [*(sources or ()), *((more or ()) if sources else ())]
        folder = Path(name)
        path = folder / FILE_NAME
        _check_new(path, addresses, more)
        text = template(folder.resolve().name, [_from_folder(each, folder) for each in addresses])
        folder.mkdir(parents=True, exist_ok=True)
        _ignore_work(folder)
        write_text_atomic(path, text)
        command = "tunesmith run" if folder.resolve() == Path.cwd() else f"cd {name} && tunesmith run"
        edge.result({"project": folder.resolve().name, "config": str(path), "next": command})
        edge.say(f"Made {path}. Read it: each line says what it does.")
        edge.then(command)


@app.command()
def run(
    context: typer.Context,
    stage: Annotated[str | None, typer.Argument(help="Stop after this stage.")] = None,
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Run every stage, up to STAGE, that is not done yet; goes on where it was stopped."""
    with _edge(as_json, kept=True) as edge:
        from tunesmith.cli import show

        opened = _open(context, project)
        with show.showing(edge.progress) as screen:
            result = opened.run(stage, screen)
        states = opened.status()
        command = show.next_command(states)
        edge.result({"project": opened.name, "result": result, "stages": states, "next": command})
        edge.then(command)


@app.command()
def fetch(context: typer.Context, project: At = None, as_json: AsJson = False) -> None:
    """Fetch the web pages among the sources again; what has changed is collected by the next run."""
    with _edge(as_json) as edge:
        opened = _open(context, project)
        found = opened.fetch(edge.say)
        for address, each in found.items():
            edge.say(f"{address}: {len(each.pages)} pages, {len(each.missing)} not fetched")
            for missing in each.missing[:10]:
                edge.say(f"  {missing.address}: {missing.detail}")
        if not found:
            edge.say(
                "No source is on the web: write https://PAGE or site:https://PAGE into [collect] sources."
            )
        told = {
            address: {"pages": len(each.pages), "missing": each.missing} for address, each in found.items()
        }
        edge.result({"fetched": told, "next": "tunesmith run"})
        edge.then("tunesmith run")


@app.command()
def topics(
    context: typer.Context,
    *,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write them to a file, to be changed there."),
    ] = None,
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Show the topics of the material: how much of it each is, and what is far from all others in it."""
    with _edge(as_json) as edge:
        from tunesmith.cli import show

        opened = _open(context, project)
        found = opened.topics()
        command = "tunesmith run generate"
        if write is not None:
            opened.write_topics(write)
            command = f"edit {write}, and name it in tunesmith.toml: choices in [topics]"
        edge.result({"topics": found, "written": write, "next": command})
        edge.show(show.topics_view(found))
        edge.then(command)


@app.command()
def prompts(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the files go.")],
    as_json: AsJson = False,
) -> None:
    """Write the prompts that a teacher and a judge are given to a folder, to be changed there."""
    with _edge(as_json) as edge:
        from tunesmith.generating.prompts import write_prompts

        written = write_prompts(out)
        command = f"edit them, and name {out} in tunesmith.toml: prompts in [generate]"
        edge.result({"written": written, "next": command})
        edge.say("\n".join(map(str, written)) or f"All of them are in {out} already; nothing was changed.")
        edge.then(command)


@app.command()
def dataset(
    context: typer.Context,
    *,
    form: Annotated[DatasetForm, typer.Option("--to", help="Whose form.")] = "openai",
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A new folder.")],
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Write the curated examples as other tools read them, with a statement of what they are made from."""
    with _edge(as_json) as edge:
        made = _open(context, project).dataset(form, out)
        train = made.folder / "train.jsonl"
        command = f"tunesmith train {train} --out MODEL" if form == "openai" else f"ls {made.folder}"
        edge.result({"dataset": made, "next": command})
        counts = ", ".join(f"{count:,} {name}" for name, count in made.rows.items())
        edge.say(f"Written to {made.folder}: {counts}")
        edge.then(command)


@app.command()
def status(context: typer.Context, project: At = None, as_json: AsJson = False) -> None:
    """Show each stage: done or not, what it holds, how long it took."""
    with _edge(as_json) as edge:
        from tunesmith.cli import show

        opened = _open(context, project)
        states = opened.status()
        command = show.next_command(states)
        waiting = opened.open_reviews()
        edge.result(
            {
                "project": opened.name,
                "path": opened.path,
                "stages": states,
                "open_reviews": waiting,
                "next": command,
            }
        )
        edge.show(show.stages_view(states))
        if waiting:
            edge.say(f"\n{waiting} reviewed text(s) must be settled: tunesmith review shows them first.")
        edge.then(command)


@app.command()
def review(
    context: typer.Context,
    *,
    chosen: Annotated[ReviewSet, typer.Option("--set", help="Which examples.")] = "all",
    by: Annotated[
        ReviewOrder, typer.Option("--by", help="The riskiest first, topics in turn, or any.")
    ] = "risk",
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="So many; default: all that are left.")
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", metavar="NAME", help="Who decides; default: your login name.")
    ] = None,
    second: Annotated[
        bool, typer.Option("--second", help="Show what only others decided, too, without what they said.")
    ] = False,
    merge: Annotated[
        Path | None,
        typer.Option("--merge", metavar="FILE", help="Copy another person's decisions in, and end."),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Show what all decisions come to, and agreement, and end.")
    ] = False,
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Accept, edit, reject or flag examples, one after the other; decisions are kept in reviews/ and outlive a run."""
    with _edge(
        as_json, kept=True, way_on="So is each decision: `tunesmith review` goes on from there."
    ) as edge:
        from tunesmith.cli import review as dialogue
        from tunesmith.cli import show

        if merge is not None and summary:
            raise UsageError(
                "--merge and --summary are two things", hint="Merge first, then ask for the summary."
            )
        opened = _open(context, project)
        if merge is not None:
            _merged(edge, opened.merge_reviews(merge), merge)
            return
        if summary:
            found = opened.review_summary()
            edge.result({"summary": found, "next": "tunesmith review"})
            edge.show(dialogue.summary_view(found))
            edge.then("tunesmith review" if found.open or found.stale else "tunesmith run")
            return
        with show.showing(edge.progress) as screen:
            session = opened.review(
                reviewer or dialogue.login_name(),
                chosen=chosen,
                by=by,
                count=count,
                second=second,
                show=dialogue.OnlyWhatIsMade(screen),
            )
        dialogue.talk(session, edge.progress if as_json else edge.out)
        _reviewed(edge, session)


def _merged(edge: _Edge, merged: Merged, file: Path) -> None:
    edge.result({"merged": merged, "next": "tunesmith review --summary"})
    whose = ", ".join(merged.reviewers)
    edge.say(f"{file}: {merged.added} new decisions of {whose} copied in, {merged.known} were here already.")
    edge.then("tunesmith review --summary")


def _reviewed(edge: _Edge, session: Session) -> None:
    done = session.done()
    edge.result({"review": done, "file": f"reviews/{done.reviewer}.jsonl", "next": "tunesmith run"})
    said = ", ".join(f"{count} {verdict}" for verdict, count in done.verdicts.items() if count) or "none"
    edge.say(f"Decided: {said}; {done.skipped} skipped, {done.left} left.")
    if any(done.verdicts.values()):
        edge.say(f"Kept in reviews/{done.reviewer}.jsonl, which belongs into version control.")
    edge.then("tunesmith run")


@app.command()
def estimate(context: typer.Context, project: At = None, as_json: AsJson = False) -> None:
    """Show tokens, memory, time and price of training, before training."""
    with _edge(as_json, kept=True) as edge:
        from tunesmith.cli import show

        plan = _open(context, project).estimate()
        edge.result({"plan": plan, "next": "tunesmith run"})
        edge.show(show.plan_view(plan))
        edge.then("tunesmith run")


@app.command()
def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="In your own words.")],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="A contender or a model's address; default: the best."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="POLICY", help="The rails around the model.")
    ] = None,
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Answer QUESTION, say whether the call is valid and where it comes from."""
    with _edge(as_json) as edge:
        from tunesmith.cli import show

        if model is not None and _names_weights(model) and _outside(context, project):
            asked = _asked_alone(question, model, policy)
            command = f"tunesmith export --to merged --model {shlex.quote(model)}"
        else:
            asked = _open(context, project).ask(question, model, policy)
            command = "tunesmith report"
        edge.result({"asked": asked, "next": command})
        edge.show(show.asked_view(asked))
        edge.then(command)


@app.command()
def script(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="In your own words.")],
    *,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="The contender whose call it is; default: the best."),
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A second model that writes the script; default: a template."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="The value of a variable of the call: JSON, CSV or text."),
    ] = None,
    execute: Annotated[
        bool,
        typer.Option("--run", help="Run it, in a sandbox without network and files, and show the result."),
    ] = False,
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Write a runnable script around the call that answers QUESTION, and with --run show what it gives."""
    with _edge(as_json) as edge:
        from tunesmith.cli import show

        files = _named_files(data or ())
        made = _open(context, project).script(question, model, writer=writer, data=files, execute=execute)
        command = "tunesmith report" if execute else f"tunesmith script {shlex.quote(question)} --run"
        edge.result({"scripted": made, "next": command})
        edge.show(show.scripted_view(made))
        if made.result is not None and made.result.error is not None:
            raise typer.Exit(1)
        edge.then(command)


def _named_files(words: Sequence[str]) -> dict[str, Path]:
    pairs = [word.partition("=") for word in words]
    wrong = [
        word for word, (name, _, file) in zip(words, pairs, strict=True) if not (name.isidentifier() and file)
    ]
    if wrong:
        raise UsageError(f"--data {wrong[0]} names no variable and file.", hint="Write --data NAME=FILE.")
    return {name: Path(file) for name, _, file in pairs}


@app.command()
def report(
    context: typer.Context,
    browse: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help='End with exit code 1 if it is true, as in "tuned.asked.exact < 0.6"; may be repeated.',
        ),
    ] = None,
    form: Annotated[
        ResultForm | None, typer.Option("--to", help="Write all answers and figures in this form, to --out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="A new file (json) or folder (the others).")
    ] = None,
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Show the verdict, and write it as one self-contained HTML page."""
    with _edge(as_json, kept=True) as edge:
        from tunesmith.cli import show
        from tunesmith.evaluating.conditions import hold, parse_condition

        conditions = [parse_condition(text) for text in fail_if or ()]
        if (form is None) != (out is None):
            raise UsageError("--to and --out belong together.", hint="tunesmith report --to json --out FILE")
        opened = _open(context, project)
        files = opened.report()
        written = () if form is None or out is None else opened.write_results(form, out)
        held = [hold(condition, files.json) for condition in conditions]
        told: dict[str, Any] = {"conditions": held} if held else {}
        if written:
            told |= {"written": [str(file) for file in written]}
        edge.result({**files.json, **told})
        edge.show(show.verdict_view(files.json))
        edge.say(f"\nThe whole story: {files.html}")
        if written:
            edge.say(f"All answers as {form}: {out}")
        if held:
            edge.show(show.conditions_view(held))
        if browse:
            typer.launch(files.html.resolve().as_uri())
        if any(each.true for each in held):
            raise typer.Exit(1)
        edge.then('tunesmith ask "QUESTION"' if browse else "tunesmith report --open")


@app.command()
def risks(
    context: typer.Context,
    *,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="ADDRESS", help="Without a project: the model before tuning."),
    ] = None,
    tuned: Annotated[
        str | None, typer.Option("--tuned", metavar="ADDRESS", help="Without a project: the model after it.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", metavar="FILE", help="With those: the chats it was trained on.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", metavar="FILE", help="With --rows: chats like those, not trained on."),
    ] = None,
    checks: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="NAME", help="With those: one check; several times. Default: all."),
    ] = None,
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Show what the tuning risks: forgetting, memorised rows, private data, bias, refusals, hidden orders obeyed."""
    with _edge(as_json, kept=True) as edge:
        from tunesmith.cli import show
        from tunesmith.evaluating.risks.page import to_json

        with show.showing(edge.progress) as screen:
            if base is not None and tuned is not None:
                from tunesmith.files import risks_of

                found = risks_of(base, tuned, rows, held_out=held_out, checks=checks or (), show=screen)
                command = f"tunesmith export --to merged --model {shlex.quote(tuned)}"
            else:
                _refuse_alone(
                    {
                        "--base": base,
                        "--tuned": tuned,
                        "--rows": rows,
                        "--held-out": held_out,
                        "--check": checks,
                    }
                )
                found = _open(context, project).risks(screen)
                command = "tunesmith report"
        edge.result({"risks": to_json(found), "next": command})
        edge.show(show.risks_view(found))
        edge.then(command)


@app.command()
def advise(
    context: typer.Context,
    task: Annotated[
        str | None, typer.Argument(help="A task's name, or a part of it; default: what was measured, or all.")
    ] = None,
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Say which method suits which task: by measurement where a project has one, from rules before that."""
    with _edge(as_json, kept=True) as edge:
        from tunesmith.cli import show
        from tunesmith.evaluating.advice import METHODS, detectable, rules_for

        rules = rules_for(task)
        here = None if _outside(context, project) else _open(context, project)
        measured = here is not None and any(
            each.stage == "evaluate" and each.state == "done" for each in here.status()
        )
        if here is not None and measured and task is None:
            found = here.report().json
            edge.result({"basis": "measurement", "advice": found, "next": "tunesmith report"})
            edge.say(f"By measurement, on {here.name}'s own questions:\n")
            edge.show(show.verdict_view(found))
            edge.then("tunesmith report")
            return
        then = "tunesmith new NAME --from SOURCE" if here is None else "tunesmith run"
        sizes = detectable()
        edge.result({"basis": "rules", "methods": METHODS, "rules": rules, "detectable": sizes, "next": then})
        edge.say("From rules, before anything was measured on your questions:\n")
        edge.show(show.rules_view(rules, sizes))
        edge.then("tunesmith advise" if measured else then)


@app.command()
def compare(
    first: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A project's folder, an evaluate-... in it, or results of report --to, lm-eval or inspect.",
        ),
    ],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another one, held against the first.")],
    as_json: AsJson = False,
) -> None:
    """Set two evaluations side by side: what each contender won and lost on the questions that both were asked."""
    with _edge(as_json) as edge:
        from tunesmith.cli import show
        from tunesmith.project import compare_runs

        found = compare_runs(first, second)
        edge.result({"comparison": found})
        edge.show(show.comparison_view(found))


@app.command()
def judge(
    file: Annotated[
        Path, typer.Argument(help="JSON lines of {question, a, b}, or of {question, answer, reference}.")
    ],
    *,
    model: Annotated[str, typer.Option("--model", metavar="ADDRESS", help="The model that judges.")],
    human: Annotated[
        str,
        typer.Option("--human", metavar="FIELD", help="The field with a person's verdict, if there is one."),
    ] = "human",
    as_json: AsJson = False,
) -> None:
    """Have a model judge pairs of answers in both orders, or grade answers; errors are counted, people compared."""
    with _edge(as_json) as edge:
        from tunesmith.cli import judge as views
        from tunesmith.cli import show
        from tunesmith.evaluating.judging import grade_answers, judge_pairs
        from tunesmith.evaluating.pairs import read_rows
        from tunesmith.models.address import load_chat

        rows = read_rows(file, human)
        judging = load_chat(model, say=edge.say)
        with show.showing(edge.progress) as screen:
            screen.stage_started("judge", f"asking {judging.name}")
            if rows.pairs:
                found = judge_pairs(judging, rows.pairs, on_progress=screen.progress)
                errors, view = found.errors, views.judged_view(found)
                edge.result({"judged": found, "not_read": rows.not_read})
            else:
                graded = grade_answers(judging, rows.answers, on_progress=screen.progress)
                errors, view = graded.errors, views.graded_view(graded)
                edge.result({"graded": graded, "not_read": rows.not_read})
        edge.show(view)
        if rows.not_read:
            edge.say(f"Fields that no judge reads: {', '.join(sorted(rows.not_read))}.")
        if errors == len(rows.pairs) + len(rows.answers):
            # A judge of whom nothing can be read has judged nothing.
            raise typer.Exit(1)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="Rows as JSON lines, a JSON list, or CSV with a head.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to; it must not be there yet.")],
    target: Annotated[RowForm, typer.Option("--to", help="The form of the rows.")] = "openai",
    as_json: AsJson = False,
) -> None:
    """Write a file of chats or preferences in another form (OpenAI, ShareGPT, Alpaca, ...): all rows or none."""
    with _edge(as_json) as edge:
        from tunesmith.files import convert_file

        done = convert_file(file, out, target)
        left = ", ".join(f"{key} ({count:,} rows)" for key, count in done.left_out.items())
        edge.say(f"{done.rows:,} rows of {done.source} written to {out} as {done.target}.")
        if left:
            edge.say(f"Left out, for no form has them: {left}.")
        command = f"tunesmith check {out}"
        edge.result({"converted": done, "out": str(out), "next": command})
        edge.then(command)


@app.command()
def export(
    context: typer.Context,
    *,
    form: Annotated[Target, typer.Option("--to", help="What to write, or another trainer to hand over to.")],
    quantise: Annotated[
        Precision | None, typer.Option("--quantise", help="GGUF's precision; default: f16.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="A new folder; default: exports/FORM.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="A model's or adapter's address; default: the tuned one."),
    ] = None,
    unproved: Annotated[
        bool, typer.Option("--no-parity", help="Go without the proof; the card says so.")
    ] = False,
    project: At = None,
    as_json: AsJson = False,
) -> None:
    """Write the tuned model for others to load, proved to say the same there; or what another trainer needs."""
    with _edge(as_json) as edge:
        from tunesmith.cli import show

        if form in TRAINERS:
            _refuse_of_models(form, quantise, model, unproved)
            whole = _open(context, project)
            handed = whole.hand_over(form, out or whole.path / "exports" / form)
            edge.result({"folder": handed, "next": f"cat {handed / 'README.md'}"})
            edge.say(f"Written to {handed}: rows, configuration, and a README.md with the commands")
            edge.then(f"cat {handed / 'README.md'}")
            return
        form = cast("Form", form)
        opened = None if model is not None else _open(context, project)
        folder = out or (Path() if opened is None else opened.path) / "exports" / (
            f"{form}-{quantise}" if quantise else form
        )
        with show.showing(edge.progress) as screen:
            screen.stage_started("export", f"to {form}")
            if opened is not None:
                made = opened.export(form, folder, precision=quantise, proved=not unproved, show=screen)
            else:
                made = _exported(
                    str(model), form, folder, precision=quantise, proved=not unproved, show=screen
                )
        command = show.serve_command(made)
        edge.result({"export": made, "next": command})
        edge.show(show.export_view(made))
        edge.say(f"\nWritten to {made.folder}")
        edge.then(command)


class _CountGiven(TyperCommand):
    """Lets `--show-mask` stand alone, for one row: an option's value cannot be left out otherwise."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the 1 behind an option that no number follows."""
        given: list[str] = []
        for word, following in zip(args, [*args[1:], ""], strict=True):
            given += [word, "1"] if word == "--show-mask" and not following.isdecimal() else [word]
        return super().parse_args(ctx, given)


@app.command(cls=_CountGiven)
def check(
    file: Annotated[Path, typer.Argument(help="Chats, preference pairs or texts as JSON lines, or a .txt.")],
    *,
    base: Annotated[
        str, typer.Option("--base", metavar="ADDRESS", help="Whose template renders.")
    ] = "smollm2",
    objective: Annotated[
        Objective | None, typer.Option("--objective", help="What is learned; default: what the first row is.")
    ] = None,
    max_length: Annotated[
        int, typer.Option("--max-length", metavar="N", help="The longest row, in tokens.")
    ] = MAX_LENGTH,
    show_mask: Annotated[
        int,
        typer.Option("--show-mask", metavar="[N]", min=0, help="Show what the first row, or N rows, teach."),
    ] = 0,
    line: Annotated[
        int | None, typer.Option("--line", metavar="L", min=1, help="Show what the row at this line teaches.")
    ] = None,
    price: Annotated[
        str | None,
        typer.Option("--price", metavar="MODEL", help="Say what training OpenAI's MODEL on it would cost."),
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", metavar="N", min=1, help="With --price: the epochs.")
    ] = 3,
    fix: Annotated[
        Path | None,
        typer.Option(
            "--fix", metavar="OUT", help="Write it anew, mended where that needs no guess, and a diff."
        ),
    ] = None,
    private: Annotated[
        Private | None,
        typer.Option(
            "--private", help="What becomes of private data; default: report, off for files over 256 MB."
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="VALUE", help="What may stay, such as '*@our.org'; several times."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            metavar="BENCHMARK",
            help="A file whose rows must not stand here; several times.",
        ),
    ] = None,
    bias: Annotated[
        bool,
        typer.Option("--bias", help="Show how groups of people are spoken of."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="SVG", help="Draw how many tokens and turns rows have, to a new file."
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 1 for findings as well that training would not stumble over."
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Processes; default: the processors.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Check it by this Ray cluster; auto: RAY_ADDRESS."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a file of examples: what training would refuse, what the rules find in it, tokens, lengths, price."""
    with _edge(as_json) as edge:
        from tunesmith.cli import rows, show
        from tunesmith.files import check_file

        with show.showing(edge.progress) as screen:
            screen.stage_started("check", str(file))
            found = check_file(
                file,
                base=base,
                objective=objective,
                max_length=max_length,
                masks=show_mask,
                line=line,
                price=price,
                epochs=epochs,
                fix=fix,
                private=private,
                allow=allow or (),
                against=against or (),
                bias=bias,
                plot=plot,
                workers=workers,
                ray=ray,
                on_progress=screen.progress,
                say=screen.say,
            )
        command = rows.after_check(found.inspection, base)
        told: dict[str, Any] = {"check": found.inspection, "quality": found.quality, "mended": found.mended}
        told |= {"looked_for_private": found.looked_for_private, "bias": found.bias}
        edge.result(told | {"masks": found.masks, "bill": found.bill, "next": command})
        if found.masks:
            edge.say(rows.masks_view(found.masks, coloured=edge.coloured))
        edge.say(rows.inspection_view(found.inspection, found.quality))
        if found.bias is not None:
            edge.say(rows.bias_view(found.bias))
        if private is None and found.quality is not None and not found.looked_for_private:
            edge.say("Private data was not looked for in a file this large: --private report does.")
        if found.mended is not None:
            edge.say(rows.mended_view(found.mended))
        if plot is not None:
            edge.say(f"How long its rows are is drawn in {plot}.")
        if found.bill is not None:
            edge.say(rows.bill_view(found.bill))
        edge.then(command)
        if not found.inspection.ready or (strict and found.quality is not None and found.quality.by_rule):
            raise typer.Exit(1)


@app.command()
def dedupe(
    file: Annotated[Path, typer.Argument(help="Chats, preference pairs or texts as JSON lines.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the rows go that are left.")],
    near: Annotated[
        float,
        typer.Option(
            "--near", metavar="X", help="The share of words in common, from 0.8; 1: exact ones only."
        ),
    ] = 0.9,
    meaning: Annotated[
        float | None,
        typer.Option(
            "--meaning", metavar="X", min=0.0, max=1.0, help="The cosine of embeddings, such as 0.95."
        ),
    ] = None,
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="ADDRESS", help="With --meaning: whose embeddings.")
    ] = "minilm",
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", help="Rows are hashed by this Ray cluster; auto: RAY_ADDRESS."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Leave out rows that repeat others, to the letter, nearly, or in meaning; every pair is written beside it."""
    with _edge(as_json) as edge:
        from tunesmith.cli import rows, show
        from tunesmith.files import dedupe_file

        with show.showing(edge.progress) as screen:
            screen.stage_started("dedupe", str(file))
            found = dedupe_file(
                file,
                out,
                near=near if near < 1 else None,
                meaning=meaning,
                encoder=encoder,
                ray=ray,
                on_progress=screen.progress,
                say=screen.say,
            )
        command = f"tunesmith check {shlex.quote(str(out))}"
        edge.result({"dedupe": found, "next": command})
        edge.say(rows.dedupe_view(found))
        edge.then(command)


@app.command()
def train(
    file: Annotated[Path, typer.Argument(help="Chats, preference pairs or texts as JSON lines, or a .txt.")],
    *,
    base: Annotated[
        str, typer.Option("--base", metavar="ADDRESS", help="The model to start from.")
    ] = "smollm2",
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the tuned model goes.")],
    valid: Annotated[
        Path | None,
        typer.Option(
            "--valid", metavar="FILE", help="Rows to validate with; default: 5 % of FILE are held out."
        ),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of [train], such as rank=8; several times."
        ),
    ] = None,
    work: Annotated[
        Path | None, typer.Option("--work", metavar="FOLDER", help="For checkpoints; default: OUT/.work.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train on a file of examples, outside a project; called again, it goes on where it was stopped."""
    with _edge(as_json, kept=True, way_on="The same command goes on from its last checkpoint.") as edge:
        from tunesmith.cli import rows, show
        from tunesmith.files import train_file
        from tunesmith.training.example_files import objective_in
        from tunesmith.training.settings import settings_from

        settings = settings_from(words or (), base=base, objective=objective_in(file))
        with show.showing(edge.progress) as screen, _settings_as_options():
            made = train_file(file, out, settings, valid=valid, work=work, show=screen)
        command = f'tunesmith ask "QUESTION" --model {shlex.quote(f"path:{out}")}'
        edge.result(rows.run_document(made) | {"next": command})
        edge.say(rows.run_view(made))
        edge.then(command)


@app.command()
def models(project: At = None, as_json: AsJson = False) -> None:
    """List the models that can be used here: bundled, cached, tuned, remote."""
    with _edge(as_json) as edge:
        from tunesmith.cli import inventory, show

        usable = (
            *inventory.bundled(_bundled()),
            *inventory.cached(),
            *_tuned(project),
            *inventory.remote(),
        )
        edge.result({"models": usable, "next": 'tunesmith ask "QUESTION" --model ADDRESS'})
        edge.show(show.models_view(usable))
        edge.then('tunesmith ask "QUESTION" --model ADDRESS')


@app.command()
def serve(
    project: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A project whose contenders are offered by their names."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; another than this machine's needs keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8000,
    home: Home = None,
    database: Database = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="[NAME=]ADDRESS", help="A model to offer; can be given several times."
        ),
    ] = None,
    aliases: Annotated[
        list[str] | None,
        typer.Option(
            "--alias", metavar="NAME=TARGET", help="Another name of a model, such as gpt-3.5-turbo=smollm2."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A limit, such as most_rows=64; docs/stages/serve.md has all."
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="POLICY", help="The rails around every chat model.")
    ] = None,
    log_level: Annotated[
        LogLevel, typer.Option(help="How much the log says: JSON lines on stderr.")
    ] = "info",
    as_json: AsJson = False,
) -> None:
    """Serve the OpenAI API, fine-tuning included, until stopped."""
    with _edge(as_json) as edge:
        from tunesmith.serving.home import default_home
        from tunesmith.serving.logs import log_to_stderr
        from tunesmith.serving.options import options_from
        from tunesmith.serving.server import serve as run_server

        options = options_from(
            models or (), aliases or (), settings or (), project=None if project is None else str(project)
        )
        folder = home or default_home()

        def ready(url: str) -> None:
            edge.result({"url": url, "home": str(folder), "models": dict(options.models)})
            edge.say(f"Serving {', '.join(options.models)} at {url}; everything is kept in {folder}.")
            if project is not None:
                edge.say(
                    f"The contenders of {project} answer chats by their names: GET {url}/models has them."
                )
            edge.say(f"  export OPENAI_BASE_URL={url}")
            edge.say("  export OPENAI_API_KEY=any   # until there are keys: tunesmith keys new")

        log_to_stderr(log_level)
        try:
            run_server(folder, options, host=host, port=port, database=database, policy=policy, ready=ready)
        except KeyboardInterrupt:
            # How a server is meant to end.
            edge.say("Stopped. Jobs that were running go on when the server is started again.")


guard = typer.Typer(
    help="Make a policy of rails around models, test it, and see what it does.", no_args_is_help=True
)
app.add_typer(guard, name="guard")


@guard.command("new")
def new_policy(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="The file to make, such as policy.toml.")],
    as_json: AsJson = False,
) -> None:
    """Write a commented policy with tests of its own, to be changed there."""
    with _edge(as_json) as edge:
        from tunesmith.artifacts import write_text_atomic
        from tunesmith.guarding.policy import template

        if policy.exists():
            raise UsageError(f"{policy} exists already.", hint="Edit it, or choose another name.")
        write_text_atomic(policy, template())
        command = f"tunesmith guard test {policy}"
        edge.result({"policy": policy, "next": command})
        edge.say(f"Made {policy}. Read it: each rail says what it does.")
        edge.then(command)


@guard.command("test")
def test_policy(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="A policy; its tests are in it.")],
    as_json: AsJson = False,
) -> None:
    """Run a policy's own tests; ends with exit code 1 if one fails."""
    with _edge(as_json) as edge:
        from tunesmith.cli import show
        from tunesmith.guards import try_policy

        trials = try_policy(policy)
        failed = [each for each in trials if not each.passed]
        command = f"tunesmith serve --policy {policy}"
        told = [each.told for each in failed]
        edge.result({"tests": len(trials), "failed": told, "next": command})
        edge.show(show.trials_view(trials))
        if failed:
            raise typer.Exit(1)
        edge.then(command)


@guard.command("check")
def check_texts(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="A policy.")],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Texts a line, or JSON lines with text, question or messages."),
    ] = None,
    *,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text; several times.")] = None,
    where: Annotated[Place, typer.Option("--where", help="Where the texts are met.")] = "input",
    as_json: AsJson = False,
) -> None:
    """Show what a policy would do to texts: how many pass, and what is found in the others."""
    with _edge(as_json) as edge:
        from tunesmith.cli import show
        from tunesmith.guards import check_policy

        found = check_policy(policy, file, text or (), where)
        edge.result(found)
        edge.show(show.looks_view(found))


keys = typer.Typer(help="Make, list and revoke the API keys of a server.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command("new")
def new_key(
    organisation: Annotated[
        str, typer.Option(help="Whose key it is; what organisations have is kept apart.")
    ] = "default",
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="inference, fine-tuning or admin; several times. Default: the first two."
        ),
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    upload_bytes: Annotated[
        int | None, typer.Option(min=1, help="The largest file that may be uploaded.")
    ] = None,
    queued_jobs: Annotated[int | None, typer.Option(min=0, help="Fine-tuning jobs at once.")] = None,
    home: Home = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown once, and from the first one on a server asks for keys."""
    with _edge(as_json) as edge, _server_store(home, database) as store:
        from tunesmith.serving.keys import Limits
        from tunesmith.serving.keys import new_key as make

        limits = Limits(requests_per_minute, tokens_per_minute, upload_bytes, queued_jobs)
        given = scopes or ["inference", "fine-tuning"]
        key = make(store, organisation=organisation, name=name, scopes=given, limits=limits)
        edge.result({"key": key, "organisation": organisation, "scopes": given})
        edge.say(f"{key}\nIt is not shown again. Scopes: {', '.join(given)}; organisation: {organisation}.")
        edge.then("export OPENAI_API_KEY=...")


@keys.command("list")
def list_keys(home: Home = None, database: Database = None, as_json: AsJson = False) -> None:
    """List the keys, without what makes them keys."""
    with _edge(as_json) as edge, _server_store(home, database) as store:
        from tunesmith.cli.show import keys_view
        from tunesmith.serving.keys import list_keys as kept

        rows = [
            {
                "id": key.id,
                "organisation": owner,
                "name": key.name,
                "scopes": key.scopes,
                "limits": {limit: value for limit, value in key.limits.items() if value is not None},
                "revoked": key.revoked_at is not None,
            }
            for key, owner in kept(store)
        ]
        edge.result({"keys": rows})
        edge.show(keys_view(rows))
        edge.then("tunesmith keys revoke ID" if rows else "tunesmith keys new")


@keys.command("revoke")
def revoke_key(
    key: Annotated[
        str, typer.Argument(metavar="ID", help="The key's id, as `tunesmith keys list` shows it.")
    ],
    home: Home = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a key worthless; a running server notices within a second."""
    with _edge(as_json) as edge, _server_store(home, database) as store:
        from tunesmith.serving.keys import revoke_key as revoke

        revoke(store, key)
        edge.result({"revoked": key})
        edge.say(f"The key {key} is revoked.")
        edge.then("tunesmith keys list")


@contextmanager
def _server_store(home: Path | None, database: str | None) -> Iterator[Store]:
    from contextlib import closing

    from tunesmith.serving.home import Home as ServerHome
    from tunesmith.serving.home import default_home
    from tunesmith.serving.server import open_store

    with closing(open_store(ServerHome.open(home or default_home()), database)) as store:
        yield store


class _Edge:
    """Where a command's result goes: for people to stdout, or as one JSON document instead."""

    def __init__(self, *, as_json: bool) -> None:
        from rich.console import Console

        self.as_json = as_json
        # Of several processes that train together one speaks; where another one fails, it says so itself.
        self.out = Console(quiet=not leads())
        self.progress: Console = Console(stderr=True, quiet=not leads())

    @property
    def coloured(self) -> bool:
        """Whether what is printed keeps its colours."""
        return self.out.color_system is not None and not self.out.no_color

    def result(self, document: Any) -> None:
        """Print the JSON document, if that was asked for."""
        if self.as_json and leads():
            from tunesmith.cli.show import to_json

            typer.echo(to_json(document))

    def show(self, view: RenderableType) -> None:
        """Print what people read, unless JSON was asked for."""
        if not self.as_json:
            self.out.print(view)

    def say(self, text: str | Text) -> None:
        """Print a line that people read and may copy from: never broken, unless JSON was asked for."""
        if not self.as_json:
            self.out.print(text, soft_wrap=True, markup=False, highlight=False)

    def then(self, command: str) -> None:
        """Name the next command."""
        from tunesmith.cli.show import next_view

        self.show(next_view(command))

    def refuse(self, error: TunesmithError, *, kind: str) -> None:
        """Show an error: on stderr, or as the JSON document."""
        from tunesmith.cli.show import error_json, error_view

        if not leads():
            typer.echo(f"process {os.environ['RANK']}: {error}", err=True)
        elif self.as_json:
            typer.echo(error_json(kind, error.message, error.hint))
        else:
            self.progress.print(error_view(error), soft_wrap=True)


_RUN_AGAIN = "`tunesmith run` goes on from there."


@contextmanager
def _edge(as_json: bool, *, kept: bool = False, way_on: str = _RUN_AGAIN) -> Iterator[_Edge]:
    """Turn what can go wrong into a calm message and an exit code; an unexpected error keeps its traceback.

    `kept`: whether the command does long work, of which an interruption keeps what is finished; `way_on` says how.
    """
    edge = _Edge(as_json=as_json)
    try:
        yield edge
    except TunesmithError as error:
        edge.refuse(error, kind=type(error).__name__)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        edge.refuse(_stopped(kept, way_on), kind="Interrupted")
        raise typer.Exit(INTERRUPTED) from error


def _stopped(kept: bool, way_on: str) -> TunesmithError:
    if not kept:
        return TunesmithError("Stopped. Nothing was changed.")
    return TunesmithError(
        "Stopped. Finished stages are kept, and so is the begun one up to its last finished unit.",
        hint=way_on,
    )


def _open(context: typer.Context, path: Path | None) -> Project:
    opener: Callable[[Path | None], Project] | None = context.obj
    if opener is None:
        from tunesmith.project import Project as Real

        opener = Real.open
    return opener(path)


def _outside(context: typer.Context, path: Path | None) -> bool:
    """Tell whether no project is meant: none is named, and none is found from here."""
    from tunesmith.config import find_project

    if context.obj is not None or path is not None:
        return False
    try:
        find_project(Path.cwd())
    except UsageError:
        return True
    return False


def _names_weights(model: str) -> bool:
    return _is_address(model) or model in _bundled()


def _asked_alone(question: str, address: str, policy: Path | None) -> Asked:
    from tunesmith.project import ask_alone

    return ask_alone(question, address, policy)


@contextmanager
def _settings_as_options() -> Iterator[None]:
    """Say, where an error speaks of the table [train], how its settings are given outside a project."""
    try:
        yield
    except TrainingError as error:
        if "[train]" not in str(error):
            raise
        way = "Without a project, a setting of [train] is given as --set KEY=VALUE."
        raise TrainingError(error.message, hint=f"{error.hint} {way}" if error.hint else way) from error


def _exported(
    address: str, form: Form, folder: Path, *, precision: Precision | None, proved: bool, show: Show
) -> Exported:
    from tunesmith.exports import address_order, write

    order = address_order(address, form, precision, proved=proved, say=show.say)
    return write(order, folder, on_progress=show.progress)


def _refuse_alone(given: dict[str, object]) -> None:
    named = [option for option, value in given.items() if value is not None]
    if named:
        raise UsageError(
            f"{named[0]} is about two models outside a project, and both must be named.",
            hint="Give --base and --tuned, or neither: in a project its own models are looked at.",
        )


def _refuse_of_models(target: str, quantise: str | None, model: str | None, unproved: bool) -> None:
    given = {"--quantise": quantise, "--model": model, "--no-parity": unproved or None}
    named = [option for option, value in given.items() if value is not None]
    if named:
        raise UsageError(
            f"{named[0]} is about a model, and --to {target} writes what a trainer makes one from.",
            hint=f"Leave {named[0]} out.",
        )


def _check_new(path: Path, addresses: list[str], more: list[str] | None) -> None:
    if not addresses:
        what = f" ({' '.join(more)} stands there without --from)" if more else ""
        raise UsageError(
            f"A project needs something to know{what}.",
            hint=f"Name it: tunesmith new {path.parent} --from python:PACKAGE, or --from docs/",
        )
    if path.exists():
        raise UsageError(f"{path} exists already.", hint="Edit it, or choose another name.")
    if path.parent.exists() and not path.parent.is_dir():
        raise UsageError(f"{path.parent} is a file.", hint="Choose another name.")
    for each in addresses:
        if not _is_address(each) and not glob.glob(each, recursive=True):  # noqa: PTH207 - absolute patterns too
            raise UsageError(
                f"The source {each!r} does not exist.",
                hint="Give a path, a glob that matches something, or python:PACKAGE for an installed one.",
            )


def _is_address(source: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]+:", source) is not None


def _from_folder(source: str, folder: Path) -> str:
    """Return a source as the project's folder sees it; addresses and absolute paths stay."""
    if _is_address(source) or Path(source).is_absolute():
        return source
    return Path(os.path.relpath(source, folder)).as_posix()


def _ignore_work(folder: Path) -> None:
    """Keep what runs make out of version control, unless the folder has its own word on that."""
    path = folder / ".gitignore"
    if not path.exists():
        path.write_text(".tunesmith/\n", encoding="utf-8")


def _bundled() -> dict[str, Path]:
    from tunesmith.models.fetch import BUNDLED
    from tunesmith.models.shelf import cache_dir

    return {name: cache_dir() / name for name in BUNDLED}


def _tuned(project: Path | None) -> Iterator[Any]:
    from tunesmith.artifacts import Store
    from tunesmith.cli.inventory import tuned
    from tunesmith.config import find_project

    try:
        folder = project or find_project(Path.cwd())
    except UsageError:  # outside a project there is nothing tuned to list
        return
    yield from tuned(Store(folder / ".tunesmith"))
