"""Progress, tables and errors as people read them: data in, rich renderables out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tunesmith.cli.inventory import Usable
from tunesmith.cli.ports import Asked, Exported, Judgement, Parity, Plan, Scripted, Show, StageState, Topic
from tunesmith.errors import TunesmithError
from tunesmith.evaluating.advice import METHODS, Detectable, Mark, Rule

if TYPE_CHECKING:
    from tunesmith.evaluating.comparing import Compared, Comparison
    from tunesmith.evaluating.conditions import Held
    from tunesmith.evaluating.risks import Risks
    from tunesmith.guarding.trials import Trial
    from tunesmith.guards import Looks

# The set in users' own words first: the verdict rests on it.
_SETS = ("asked", "unseen", "seen")
_QUIET_SECONDS = 10.0


def to_json(value: object) -> str:
    """Return records, mappings, sequences and paths as one indented JSON document."""
    return json.dumps(_plain(value), ensure_ascii=False, indent=2)


def duration(seconds: float | None) -> str:
    """Return a length of time as people say it: "0.4 s", "12 s", "3 min 5 s", "2 h 4 min"."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: int | None) -> str:
    """Return a number of bytes as people say it, in powers of ten; nothing for None."""
    if count is None:
        return ""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"


def error_view(error: TunesmithError) -> RenderableType:
    """Return the rule that was broken, and the way out below it."""
    lines = [Text.assemble(("Error: ", "bold red"), error.message)]
    if error.hint is not None:
        lines.append(Text.assemble(("  → ", "bold"), error.hint))
    return Group(*lines)


def error_json(kind: str, message: str, hint: str | None) -> str:
    """Return an error as the JSON document that takes the result's place."""
    return to_json({"error": {"type": kind, "message": message, "hint": hint}})


def next_view(command: str) -> RenderableType:
    """Return the line that names the next command."""
    return Text.assemble(("\nNext: ", "dim"), (command, "bold"))


def next_command(states: Sequence[StageState]) -> str:
    """Return what to type next: go on while a stage is not done, then read the report."""
    return "tunesmith report" if all(each.state == "done" for each in states) else "tunesmith run"


def serve_command(made: Exported) -> str:
    """Return how to use an export."""
    if made.form == "gguf":
        return f"llama-server -m {made.folder / 'model.gguf'}"
    if made.form == "ollama":
        return f"ollama create {made.folder.name} -f {made.folder / 'Modelfile'}"
    return f'tunesmith ask "QUESTION" --model path:{made.folder}'


def stages_view(states: Sequence[StageState]) -> RenderableType:
    """Return each stage with its state, its counts, its work and its artefact."""
    table = _table("stage", "state", "counts", ">time", "made", "artefact")
    for each in states:
        waits = f"needs {', '.join(each.needs)}" if each.needs and each.state != "done" else ""
        table.add_row(
            Text(each.stage, style="bold"),
            Text(each.state, style={"done": "green", "part": "yellow"}.get(each.state, "dim")),
            Text(counted(each.counts) or waits),
            duration(each.seconds),
            Text((each.made or "").removesuffix("+00:00").replace("T", " ")),
            Text(each.id or "", style="dim"),
        )
    return table


def counted(counts: Mapping[str, int]) -> str:
    """Return counts in one line: "1,213 documents, 136 left out"."""
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


def plan_view(plan: Plan) -> RenderableType:
    """Return the ways of training with their tokens, time, memory and price, and what the figures rest on."""
    table = _table("way of training", ">tokens", ">time", ">memory", ">price")
    for row in plan.rows:
        price = "unknown" if row.price is None else f"${row.price:,.2f}"
        memory = size(row.memory_bytes) if row.memory_bytes else ""
        table.add_row(Text(row.way, style="bold"), f"{row.tokens:,}", duration(row.seconds), memory, price)
    return Group(table, *(Text(note, style="dim") for note in plan.notes))


def asked_view(asked: Asked) -> RenderableType:
    """Return the answer, whether its call is valid, who gave it, and where it comes from."""
    parts: list[RenderableType] = [*prose_and_code(asked.answer.text), Text()]
    if asked.judgement is not None:
        parts.append(judged(asked.judgement, asked.version))
    parts += [Text(f"Rails: {found}", style="yellow") for found in asked.answer.guard]
    if asked.answer.finish == "length":
        parts.append(Text("The answer was cut at its longest length.", style="yellow"))
    parts += [Text(f"Note: {note}", style="yellow") for note in asked.answer.notes]
    if asked.answer.confidence is not None:
        parts.append(Text(f"Sure of it: {100 * asked.answer.confidence:.0f} %", style="dim"))
    took = f"{duration(asked.answer.seconds)}, {asked.answer.completion_tokens:,} tokens"
    parts.append(Text(f"Answered by {asked.contender} ({took})", style="dim"))
    for source in asked.sources:
        quote = " ".join(source.quote.split())
        place = f"{source.document}, characters {source.start}-{source.end}"
        parts.append(Text.assemble(("Source: ", "dim"), place, (f": “{quote}”" if quote else "")))
    return Group(*parts)


def scripted_view(made: Scripted) -> RenderableType:
    """Return the script, where its values are from, and what it gave or why it did not run."""
    parts: list[RenderableType] = [
        *prose_and_code(f"```python\n{made.script.text}```"),
        Text(),
        Text.assemble(("✓ sound ", "green"), f"holds {made.script.call}, written by {made.script.writer}"),
    ]
    parts += [Text(f"{each.name} is from {each.origin}", style="dim") for each in made.script.assumed]
    result = made.result
    if result is None:
        parts.append(Text("Not run: --run runs it in a sandbox.", style="dim"))
        return Group(*parts)
    parts += [Text(f"Before it, another script failed: {error}", style="dim") for error in result.tried]
    if result.error is not None:
        parts.append(Text.assemble(("✗ it fails ", "red"), result.error))
    else:
        parts.append(Text.assemble(("✓ it runs ", "green"), f"result: {result.kind or 'printed'}"))
    parts.append(Text(result.printed.rstrip()))
    if not result.confined:
        parts.append(Text("The kernel did not confine it: only Python's own hooks did.", style="yellow"))
    return Group(*parts)


def topics_view(topics: Sequence[Topic]) -> Table:
    """Return the topics as a table, the largest first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("topic", overflow="fold")
    table.add_column("pieces", justify="right")
    table.add_column("of the text", justify="right")
    table.add_column("far from all others", overflow="fold")
    for topic in topics:
        more = f" and {len(topic.outliers) - _FAR_SHOWN} more" if len(topic.outliers) > _FAR_SHOWN else ""
        far = ", ".join(topic.outliers[:_FAR_SHOWN]) + more
        table.add_row(topic.label, f"{len(topic.chunks):,}", f"{100 * topic.share:.1f} %", far)
    return table


_FAR_SHOWN = 3


def export_view(made: Exported) -> RenderableType:
    """Return an export's files with their sizes, and what was proved of it."""
    table = _table("file", ">size")
    for name, count in made.files.items():
        table.add_row(Text(name), size(count))
    return Group(table, Text(), *_proof(made.parity))


def _proof(parity: Parity | None) -> Iterator[Text]:
    if parity is None:
        yield Text.assemble(
            ("✗ not proved ", "red"), "nobody compared this export with the model: --no-parity"
        )
        return
    found, allowed = parity.found, parity.allowed
    yield Text.assemble(
        ("✓ proved ", "green"),
        f"in {parity.engine}: {parity.prompts} prompts, {parity.tokens:,} tokens, {found.typical:.2g} nats off on "
        f"the whole and {found.largest:.2g} at worst; {parity.precision} explains {allowed.typical:.2g} and "
        f"{allowed.largest:.2g}",
    )
    yield Text(f"Rounding the weights to {parity.precision} changes {parity.changed:,} of these tokens.")
    for first in parity.divergences[:1]:
        yield Text(
            f"{len(parity.divergences)} more differ in the engine, each a near tie. The first: token "
            f"{first.position + 1} of the answer to “{first.question}” is {first.said!r} instead of "
            f"{first.expected!r}, preferred by {first.margin:.2g} nats; the gap is {first.gap:.2g}."
        )


def judged(judgement: Judgement, version: str | None) -> Text:
    """Return one line that says whether a call exists and binds, with a word as well as a colour."""
    against = f" in {version}" if version else ""
    called = judgement.called or "the call"
    reason = f": {judgement.reason}" if judgement.reason else ""
    if judgement.verdict in ("exact", "valid"):
        return Text.assemble(("✓ valid ", "green"), f"{called} exists{against} and takes these arguments")
    if judgement.verdict == "wrong_arguments":
        return Text.assemble(
            ("✗ not valid ", "red"), f"{called} exists{against} but not with these arguments{reason}"
        )
    if judgement.verdict == "hallucinated":
        return Text.assemble(("✗ not valid ", "red"), f"{called} does not exist{against}{reason}")
    return Text.assemble(("– no call ", "yellow"), f"the answer makes none{reason}")


def verdict_view(report: Mapping[str, Any]) -> RenderableType:
    """Return the verdict, and the main set's figures with their intervals, floors set apart."""
    return Group(Text(str(report["verdict"]), style="bold"), Text(), figures_view(report))


def figures_view(report: Mapping[str, Any]) -> RenderableType:
    """Return contenders, then floors, then ceilings, on the set that the verdict rests on."""
    main = _main_set(report)
    if main is None:
        return Text("Nothing was measured.", style="yellow")
    words = report.get("words")
    kinds = (_CALLS,) if words is None else (_CALLS, tuple(dict.fromkeys((words["metric"], *_WORDS))))
    shown = [kind for kind in kinds if _holds(report, main, kind[0])]
    return Group(*(_figures_table(report, main, kind) for kind in shown))


_CALLS, _WORDS = ("exact", "valid", "hallucinated"), ("f1", "exact_match", "rouge_l", "similarity")


def _holds(report: Mapping[str, Any], main: str, measure: str) -> bool:
    return any(measure in sets.get(main, {}) for sets in report["contenders"].values())


def _figures_table(report: Mapping[str, Any], main: str, measures: Sequence[str]) -> Table:
    first, *others = (name.replace("_", " ") for name in measures)
    table = _table(f"on {main}", f">{first}", ">95 %", *(f">{name}" for name in others), ">questions")
    for part in ("contenders", "floors", "ceilings"):
        sets_of = report.get(part, {}).items()
        rows = [(name, sets[main]) for name, sets in sets_of if measures[0] in sets.get(main, {})]
        if rows and part != "contenders":
            table.add_row()
            table.add_row(Text(f"{part}:", style="dim italic"))
        for name, figures in rows:
            table.add_row(
                Text(name, style="bold" if part == "contenders" else "dim"), *_figures(figures, measures)
            )
    return table


_MARKS: Mapping[Mark, str] = {"begin": "● begin", "add": "○ add", "little": "–"}


def rules_view(rules: Sequence[Rule], sizes: Sequence[Detectable]) -> RenderableType:
    """Return the methods for tasks, the reasons where there is one task only, and how many questions to ask."""
    table = _table("task", *METHODS)
    for rule in rules:
        table.add_row(Text(rule.task, style="bold"), *(_MARKS[mark] for mark in rule.marks))
    said = "begin: with this; add: where that falls short on your questions; –: does little here"
    parts: list[RenderableType] = [table, Text(), Text(said, style="dim")]
    if len(rules) == 1:
        [rule] = rules
        parts += [Text(), Text(rule.why), Text.assemble(("Tune when: ", "bold"), rule.tune_when)]
        parts.append(Text(f"Found by: {'; '.join(rule.sources)}", style="dim"))
        parts.append(Text(f"Measured with small models: {rule.example} in Tunesmith's sources", style="dim"))
    else:
        parts.append(Text("tunesmith advise TASK gives the reason, and when tuning pays.", style="dim"))
    asked = ", ".join(f"{size.questions:,} one of {100 * size.difference:.0f} points" for size in sizes)
    parts += [
        Text(),
        Text(f"Test questions, and the difference between two methods that they show: {asked}."),
    ]
    return Group(*parts)


def conditions_view(held: Sequence[Held]) -> RenderableType:
    """Return each condition of --fail-if with what was measured, a word beside the colour."""
    table = _table("fail if", ">is", ">against", "")
    for each in held:
        mark = Text("✗ holds", style="red") if each.true else Text("✓ does not hold", style="green")
        table.add_row(each.condition, f"{each.left:.4g}", f"{each.right:.4g}", mark)
    return Group(Text(), table)


def risks_view(found: Risks) -> RenderableType:
    """Return a table of figures before and after by check, what was not measured, and the worst items."""
    from tunesmith.evaluating.risks.page import TITLES, figure, plain

    if not found.risks and not found.unmeasured:
        return Text("Nothing was looked at: checks in [risks] is empty.", style="yellow")
    table = _table("", ">before", ">after", ">change", ">95 %", ">n", "")
    for check, title in TITLES.items():
        risks = [one for one in found.risks if one.check == check]
        if risks:
            table.add_row(Text(title, style="bold"))
        for one in risks:
            before, after = (
                "–" if each is None else figure(each.value, one.unit) for each in (one.before, one.after)
            )
            moved = one.change
            change = "" if moved is None else plain(moved.value, one.unit, signed=True)
            interval = (
                ""
                if moved is None
                else f"{plain(moved.low, one.unit, signed=True)} to {plain(moved.high, one.unit, signed=True)}"
            )
            unit = "" if one.unit in ("share", "perplexity") else f", {one.unit}"
            mark = Text("worse", style="red") if one.clear else ""
            table.add_row(f"  {one.name}{unit}", before, after, change, interval, f"{one.n:,}", mark)
    missing = [Text(f"not measured: {one.name}. {one.why}", style="dim") for one in found.unmeasured]
    notes = [Text(note, style="yellow") for note in found.notes]
    return Group(
        Text.assemble(("before: ", "dim"), found.before), Text.assemble(("after:  ", "dim"), found.after), table,
        *missing, *notes,
    )  # fmt: skip


def comparison_view(found: Comparison) -> RenderableType:
    """Return two evaluations side by side, and some of what was right before and is wrong now."""
    parts: list[RenderableType] = [
        Text.assemble(("first:  ", "dim"), found.first),
        Text.assemble(("second: ", "dim"), found.second),
    ]
    for each in found.sets:
        rows = [row for row in found.rows if row.set == each.set]
        shared = f"{each.shared:,} questions in both ({each.first:,} and {each.second:,} asked)"
        parts += [Text(), Text.assemble((f"on {each.set}: ", "bold"), shared)]
        if rows:
            parts.append(_comparison_table(rows))
    for which, names in (("first", found.only_first), ("second", found.only_second)):
        if names:
            parts.append(Text(f"\nOnly in the {which}: {', '.join(names)}", style="yellow"))
    parts += [Text(f"\n{note}", style="yellow") for note in found.notes]
    return Group(*parts, *_lost(found.rows))


def _comparison_table(rows: Sequence[Compared]) -> Table:
    table = _table("", "", ">first", ">second", ">points", ">95 %", ">p (Holm)", ">lost", ">won")
    for row in rows:
        paired = row.paired
        table.add_row(
            Text(row.contender, style="bold" if paired.clear else ""),
            Text(row.metric.replace("_", " "), style="dim"),
            f"{100 * row.first.value:.1f} %",
            f"{100 * row.second.value:.1f} %",
            f"{100 * paired.difference:+.1f}",
            f"{100 * paired.low:+.1f} to {100 * paired.high:+.1f}",
            f"{row.p_holm:.3f}",
            f"{len(row.lost):,}",
            f"{len(row.won):,}",
        )
    return table


_LOST_SHOWN = 5


def _lost(rows: Sequence[Compared]) -> Iterator[Text]:
    """Yield questions that the best contender of the first set shown answered before, and does not now."""
    best = max((row for row in rows if row.set == rows[0].set), key=lambda row: row.first.value)
    losing = best if best.lost else max(rows, key=lambda row: len(row.lost))
    if losing.lost:
        yield Text(f"\nRight before and wrong now, {losing.contender} on {losing.set}:", style="bold")
    for change in losing.lost[:_LOST_SHOWN]:
        yield Text(f"  {change.question}\n    {change.before or 'no call'} → {change.after or 'no call'}")
    if len(losing.lost) > _LOST_SHOWN:
        yield Text(f"  and {len(losing.lost) - _LOST_SHOWN:,} more; --json has all", style="dim")


def models_view(models: Sequence[Usable]) -> RenderableType:
    """Return the models and encoders that can be used here, by where they come from."""
    table = _table("address", "kind", ">size", "what it is")
    for each in models:
        table.add_row(Text(each.address, style="bold"), each.kind, size(each.bytes), Text(each.note))
    return table


class LiveShow:
    """Draws a bar with rate and time left; for a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,}/{task.total:,}"),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            transient=True,
        )

    @contextmanager
    def showing(self) -> Iterator[LiveShow]:
        """Keep the bar on the screen while the block runs."""
        with self._bar:
            yield self

    def stage_started(self, name: str, caption: str) -> None:
        """Say what begins."""
        self._clear()
        self._console.print(Text.assemble((name, "bold"), (f"  {caption}", "dim")))

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Move the bar, or draw it."""
        if not self._bar.tasks:
            # Begun at `done`: what a resumed stage finds there is not this run's speed.
            self._bar.add_task("  ", total=total, completed=done, note=note)
        self._bar.update(self._bar.tasks[0].id, completed=done, total=total, note=note)

    def stage_done(self, name: str, seconds: float, reused: bool, counts: Mapping[str, int]) -> None:
        """Take the bar away and say what there is now."""
        self._clear()
        self._console.print(Text.assemble(("  ✓ ", "green"), _done(seconds, reused, counts)))

    def say(self, text: str) -> None:
        """Print a line above the bar; it is never broken, since it may hold a command to copy."""
        self._console.print(Text(f"  {text}"), soft_wrap=True)

    def _clear(self) -> None:
        for task in tuple(self._bar.task_ids):
            self._bar.remove_task(task)
        self._bar.refresh()  # or the next line printed would draw the old bar below itself once more


class PlainShow:
    """Writes lines, at most one every 10 seconds while a stage goes on; for logs and pipes.

    `clock` gives seconds that only grow.
    """

    def __init__(
        self, write: Callable[[str], object], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._stage = ""
        self._started = self._said = clock()
        self._first = 0

    @contextmanager
    def showing(self) -> Iterator[PlainShow]:
        """Do nothing: lines need no screen."""
        yield self

    def stage_started(self, name: str, caption: str) -> None:
        """Say what begins."""
        self._stage, self._first = name, -1
        self._started = self._said = self._clock()
        self._write(f"{name}: {caption}")

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Say how far it is, unless something was said within the last 10 seconds."""
        now = self._clock()
        if self._first < 0:  # what a resumed stage finds done is not this run's speed
            self._first, self._started = done, now
        if now - self._said < _QUIET_SECONDS:
            return
        self._said = now
        rate = (done - self._first) / (now - self._started) if now > self._started else 0.0
        left = f"{duration((total - done) / rate)} left" if rate > 0 else ""
        speed = f"{rate:.3g}/s" if rate > 0 else ""
        parts = (f"{done:,} of {total:,}", speed, left, note)
        self._write(f"{self._stage}: {' · '.join(part for part in parts if part)}")

    def stage_done(self, name: str, seconds: float, reused: bool, counts: Mapping[str, int]) -> None:
        """Say what there is now."""
        self._write(f"{name}: {_done(seconds, reused, counts)}")

    def say(self, text: str) -> None:
        """Write the line."""
        self._write(text)


@contextmanager
def showing(console: Console) -> Iterator[Show]:
    """Yield a bar where there is a terminal, lines where there is none."""
    if console.is_terminal:
        with LiveShow(console).showing() as live:
            yield live
    else:
        yield PlainShow(lambda line: console.print(Text(line), soft_wrap=True))


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s", style="dim")


@dataclass(frozen=True, slots=True)
class _Percent:
    """A share with its 95 % interval, as report --json gives it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.1%}".replace("%", " %")

    @property
    def interval(self) -> str:
        return f"{100 * self.low:.1f}–{100 * self.high:.1f}"


def _figures(figures: Mapping[str, Mapping[str, Any]], measures: Sequence[str]) -> tuple[str, ...]:
    found = (figures.get(key) for key in measures)
    main, *others = (
        None if one is None else _Percent(one["value"], one["low"], one["high"], one["n"]) for one in found
    )
    return (
        "" if main is None else str(main),
        "" if main is None else main.interval,
        *("" if one is None else str(one) for one in others),
        "" if main is None else f"{main.n:,}",
    )


def _main_set(report: Mapping[str, Any]) -> str | None:
    measured = {name for sets in report.get("contenders", {}).values() for name in sets}
    return next((name for name in _SETS if name in measured), None)


def prose_and_code(answer: str) -> Iterable[RenderableType]:
    """Yield an answer's prose as text, as it is, and what stands between fences as highlighted code."""
    for number, piece in enumerate(answer.split("```")):
        if number % 2 == 0:
            if piece.strip():
                yield Text(piece.strip())
        else:
            language, _, code = piece.partition("\n")
            yield Text()
            yield Syntax(code.rstrip(), language.strip() or "python", theme="ansi_light", padding=(0, 2))


def _done(seconds: float, reused: bool, counts: Mapping[str, int]) -> str:
    """Say how a stage ended."""
    how = "was done already" if reused else f"done in {duration(seconds)}"
    return f"{how}: {counted(counts)}" if counts else how


def _table(*columns: str) -> Table:
    """Return an empty table; a column whose name starts with > is set right."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        right = column.startswith(">")
        # Two names may be alike up to their ends: folded, not cut.
        table.add_column(
            column.removeprefix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    return table


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    return value


def keys_view(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the keys of a server as a table."""
    if not rows:
        return Text("There are no keys: a server answers programs on its own machine, and nobody else.")
    table = Table(box=None, pad_edge=False)
    for title in ("id", "organisation", "name", "scopes", "limits", ""):
        table.add_column(title)
    for row in rows:
        limits = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in row["limits"].items())
        revoked = "revoked" if row["revoked"] else ""
        table.add_row(row["id"], row["organisation"], row["name"], ", ".join(row["scopes"]), limits, revoked)
    return table


def trials_view(trials: Sequence[Trial]) -> RenderableType:
    """Return which of a policy's tests fail, each with its text and why."""
    failed = [each for each in trials if not each.passed]
    lines = [Text(f"{len(trials) - len(failed)} of {len(trials)} tests pass.")]
    for each in failed:
        said = " ".join(each.test.text.split())
        lines.append(Text.assemble((f"test {each.number} ", "red"), f"({each.test.where}): {said[:100]}"))
        lines.append(Text(f"  {each.defect}"))
    return Group(*lines)


def looks_view(looks: Looks) -> RenderableType:
    """Return what a policy does to texts: counts, and each text in which something was found."""
    counts = ", ".join(f"{count:,} {action}" for action, count in looks.actions.items())
    parts: list[RenderableType] = [Text(f"{looks.texts:,} texts as {looks.where}: {counts}.")]
    for each in looks.found[:_LOOKS_SHOWN]:
        said = " ".join(each.text.split())
        parts.append(Text.assemble((f"{each.line}: ", "dim"), said[:100]))
        parts += [Text(f"  {found}", style="yellow") for found in each.outcome.findings]
        if each.outcome.action == "redact":
            parts.append(Text(f"  goes on as: {' '.join(each.outcome.text.split())[:100]}"))
    if len(looks.found) > _LOOKS_SHOWN:
        parts.append(Text(f"and {len(looks.found) - _LOOKS_SHOWN:,} more; --json has all of them"))
    return Group(*parts)


_LOOKS_SHOWN = 20
