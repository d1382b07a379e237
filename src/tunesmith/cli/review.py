"""The dialogue of a review: an example on the screen, a key or a line for a decision, until all are done."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import typer
from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tunesmith.cli.show import prose_and_code
from tunesmith.errors import UsageError

if TYPE_CHECKING:
    from tunesmith.cli.ports import Show
    from tunesmith.records import Example
    from tunesmith.reviewing.agreement import Agreement, Summary
    from tunesmith.reviewing.decisions import Decision
    from tunesmith.reviewing.session import Excerpt, Item, Session

KEYS: Final = "a accept · e edit · r reject · f flag · 1-5 rate · s skip · u undo · q quit"
_QUESTION, _ANSWER = "=== question ===", "=== answer ==="
_END = "."


class Hands(Protocol):
    """How a reviewer answers: with a key, a line, an edited text."""

    def key(self) -> str:
        """Return the key that was pressed, "" at the end of the input."""

    def line(self, prompt: str) -> str | None:
        """Return a line, None at the end of the input."""

    def edit(self, text: str) -> str | None:
        """Return the text as edited, None where there is no editor."""


class AtTerminal:
    """Single keys, and the user's editor."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def key(self) -> str:
        """Wait for a key."""
        try:
            return str(typer.getchar())
        except EOFError:
            return ""

    def line(self, prompt: str) -> str | None:
        """Wait for a line."""
        try:
            return self._console.input(Text(prompt))
        except EOFError:
            return None

    def edit(self, text: str) -> str | None:
        """Open the editor that $VISUAL or $EDITOR names."""
        command = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        return None if not command else in_editor(text, command)


class FromLines:
    """Lines of a pipe or a file: a key is a line, and there is no editor."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def key(self) -> str:
        """Read a line that is not empty."""
        line = " "
        while line and not line.strip():
            line = sys.stdin.readline()
        return line.strip()

    def line(self, prompt: str) -> str | None:
        """Read a line."""
        self._console.print(Text(prompt))
        line = sys.stdin.readline()
        return line.removesuffix("\n") if line else None

    def edit(self, text: str) -> str | None:
        """Return that there is no editor."""
        return None


class OnlyWhatIsMade:
    """A Show that is silent about stages that were done already: who reviews wants to see examples."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._waiting: tuple[str, str] | None = None

    def stage_started(self, name: str, caption: str) -> None:
        """Wait with the word."""
        self._waiting = (name, caption)

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Say that the stage has begun, and how far it is."""
        self._begin()
        self._show.progress(done, total, note)

    def stage_done(self, name: str, seconds: float, reused: bool, counts: Mapping[str, int]) -> None:
        """Say what was made, if it was."""
        if not reused:
            self._begin()
            self._show.stage_done(name, seconds, reused, counts)

    def say(self, text: str) -> None:
        """Say it."""
        self._show.say(text)

    def _begin(self) -> None:
        if self._waiting is not None:
            self._show.stage_started(*self._waiting)
            self._waiting = None


def login_name() -> str:
    """Return the user's name as the machine knows it; raises UsageError where it knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise UsageError(
            "this machine has no name for you", hint="Say who decides: --reviewer NAME."
        ) from error


def talk(session: Session, console: Console) -> None:
    """Show one example after the other and take decisions, until none is left or the reviewer quits."""
    hands: Hands = AtTerminal(console) if sys.stdin.isatty() else FromLines(console)
    if session.decided_before:
        console.print(Text(f"Decided before: {session.decided_before}.", style="dim"))
    dialogue = Dialogue(session, console, hands)
    while (item := session.next()) is not None:
        console.print(item_view(item))
        if not dialogue.decided(item):
            return
    console.print(Text("Nothing is left to decide.", style="dim"))


class Dialogue:
    """One question after the other; each answer does one thing to the session."""

    def __init__(self, session: Session, console: Console, hands: Hands) -> None:
        self._session, self._console, self._hands = session, console, hands

    def decided(self, item: Item) -> bool:
        """Ask until there is a decision, a skip or an undo; returns whether to go on."""
        rating: int | None = None
        while (key := self._hands.key()) not in ("q", ""):
            if key in tuple("12345"):
                rating = int(key)
                self._say(f"{rating} of 5, with the decision that follows")
            elif self._done(key, item, rating):
                return True
        return False

    def _done(self, key: str, item: Item, rating: int | None) -> bool:
        """Do what a key says; returns whether another example is to be shown."""
        actions: dict[str, Callable[[Item, int | None], bool]] = {
            "a": self._accept,
            "e": self._edit,
            "r": self._reject,
            "f": self._flag,
            "s": self._skip,
            "u": self._undo,
        }
        if key not in actions:
            self._say(KEYS)
            return False
        return actions[key](item, rating)

    def _accept(self, _: Item, rating: int | None) -> bool:
        self._session.decide("accept", rating=rating)
        self._say("✓ accepted")
        return True

    def _flag(self, _: Item, rating: int | None) -> bool:
        reason = self._hands.line("What should be looked at? ") or ""
        self._session.decide("flag", rating=rating, reason=reason)
        self._say("⚑ flagged")
        return True

    def _skip(self, _: Item, __: int | None) -> bool:
        self._session.skip()
        return True

    def _reject(self, _: Item, rating: int | None) -> bool:
        reason = (self._hands.line("Why? ") or "").strip()
        if not reason:
            self._say("A rejection needs a reason; nothing was decided.")
            return False
        self._session.decide("reject", rating=rating, reason=reason)
        self._say("✗ rejected")
        return True

    def _edit(self, item: Item, rating: int | None) -> bool:
        text = self._hands.edit(as_text(item.example))
        new = self._asked(item.example) if text is None else from_text(text)
        if new is None:
            self._say(f"The lines {_QUESTION!r} and {_ANSWER!r} must stay; nothing was decided.")
            return False
        if new == (item.example.question, item.example.answer):
            self._say("Nothing was changed; nothing was decided.")
            return False
        fault = self._session.decide("edit", rating=rating, question=new[0], answer=new[1])
        self._say(
            "✓ edited" if fault is None else f"✗ edited, but curate will leave it out: {fault} (u undoes)"
        )
        return True

    def _asked(self, example: Example) -> tuple[str, str]:
        """Return question and answer as typed in line by line; what is left empty stays."""
        question = self._hands.line("Question (empty: as it is): ") or ""
        lines = list(
            _until_end(self._hands, f"Answer, ended by a line of one {_END!r} (at once: as it is): ")
        )
        return question.strip() or example.question, "\n".join(lines).strip() or example.answer

    def _undo(self, _: Item, __: int | None) -> bool:
        undone = self._session.undo()
        if undone is None:
            self._say("There is nothing to undo.")
            return False
        self._say(f"↶ undone: {undone.verdict} of “{undone.question}”")
        return True

    def _say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def _until_end(hands: Hands, prompt: str) -> Iterator[str]:
    line = hands.line(prompt)
    while line is not None and line.strip() != _END:
        yield line
        line = hands.line("")


# --- the text in the editor


def as_text(example: Example) -> str:
    """Return question and answer as the small file that is edited."""
    return f"{_QUESTION}\n{example.question}\n{_ANSWER}\n{example.answer}\n"


def from_text(text: str) -> tuple[str, str] | None:
    """Return the question and the answer of an edited file, None if its marks are gone or a part is empty."""
    parts = re.fullmatch(rf"\s*{_QUESTION}\n(.*)\n{_ANSWER}\n(.*)", text, flags=re.DOTALL)
    if parts is None or not parts[1].strip() or not parts[2].strip():
        return None
    return parts[1].strip(), parts[2].strip()


def in_editor(text: str, command: str) -> str | None:
    """Return a text as an editor's command left it, None if the editor cannot be started or failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "example.md"
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(command), str(path)], check=False)
        except (OSError, ValueError):  # no such program, or a command that no shell could read
            return None
        return path.read_text(encoding="utf-8") if done.returncode == 0 else None


# --- what is shown


def item_view(item: Item) -> RenderableType:
    """Return an example with all that a reviewer needs: text, evidence, origin, checks, and what others said."""
    example, candidate = item.example, item.candidate
    why = f": {', '.join(candidate.risk.reasons)}" if candidate.risk.reasons else ""
    head = (
        f"{item.number} of {item.total}",
        candidate.set,
        candidate.topic,
        f"risk {candidate.risk.points}{why}",
    )
    return Group(
        Text(),
        Rule(Text(" · ".join(part for part in head if part), style="dim"), align="left", style="dim"),
        *_said(item),
        *(Text(f"{turn.role}: {turn.content}", style="dim") for turn in example.messages),
        Text(example.question, style="bold"),
        Text(),
        *prose_and_code(example.answer),
        Text(),
        *(_excerpt(one) for one in candidate.excerpts),
        Text(f"origin: {example.origin}", style="dim"),
        Text(f"checks: {', '.join(example.checks) or 'none'}", style="dim"),
        Text(KEYS, style="dim"),
    )


def _said(item: Item) -> Iterator[Text]:
    """Yield why an example that was decided before is shown again."""
    if item.stale:
        before, now = item.said[-1], item.example
        quoted = (" / ".join(before.quotes), " / ".join(piece.quote for piece in now.evidence))
        for was, new in (quoted, (before.answer, now.answer)):
            if was != new:
                yield Text(f"The source has changed since: was “{was}”, now “{new}”", style="yellow")
    for one in item.said:
        yield Text(_told(one), style="yellow")


def _told(decision: Decision) -> str:
    parts = (f"{decision.reviewer}: {decision.verdict}", decision.reason, decision.new_question)
    return " · ".join(part for part in parts if part)


def _excerpt(excerpt: Excerpt) -> Text:
    """Return a quote within its document, marked by signs as well as by style."""
    return Text.assemble(
        (f"{excerpt.title}\n", "dim bold"),
        (excerpt.before, "dim"),
        (f"»{excerpt.quote}«", "reverse"),
        (excerpt.after, "dim"),
        "\n",
    )


def summary_view(summary: Summary) -> RenderableType:
    """Return the figures of all reviews, what is open, and agreement where there is any to measure."""
    if not summary.reviewers:
        return Text("Nobody has reviewed anything yet.")
    rows = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    rows.add_column("reviewer")
    for title in (*summary.reviewers[0].verdicts, "rated", "mean"):
        rows.add_column(title, justify="right")
    for one in summary.reviewers:
        mean = "" if one.mean_rating is None else f"{one.mean_rating:.1f}"
        rows.add_row(Text(one.name, style="bold"), *map(str, one.verdicts.values()), str(one.rated), mean)
    counts = ", ".join(f"{count} {state}" for state, count in summary.outcomes.items())
    return Group(rows, Text(), Text(f"Together: {counts}"), *_waiting(summary), *_agreement(summary))


def _waiting(summary: Summary) -> Iterator[Text]:
    for one in summary.open:
        yield Text(f"to settle: “{one.question}” ({'; '.join(map(_told, one.decisions))})", style="yellow")
    if summary.stale:
        yield Text(f"{summary.stale} to review again: their source has changed since", style="yellow")


def _agreement(summary: Summary) -> Iterator[Text]:
    for one in summary.agreements:
        yield Text(f"{one.one} and {one.other}: {one.same} of {one.both} alike, {_kappa(one)}")
    if summary.judge is not None:
        judge = summary.judge
        yield Text(
            f"The judge's score is higher for an accepted text than for another in {judge.order:.0%} of pairs "
            f"({judge.accepted} accepted, {judge.others} edited or rejected; 50% is chance)."
        )
        if judge.threshold is not None:
            yield Text(
                f"judge_threshold = {judge.threshold:g} parts these best: it keeps {judge.kept_accepted:.0%} of the "
                f"accepted and {judge.kept_others:.0%} of the others. What the judge stopped nobody saw: "
                "judge_threshold = 1 lets all through to a review.",
                style="dim",
            )


def _kappa(agreement: Agreement) -> str:
    if agreement.kappa is None:
        return "no kappa, since both gave one verdict only"
    return f"Cohen's kappa {agreement.kappa:.2f}"
