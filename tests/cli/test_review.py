"""The dialogue of a review, line by line and key by key, and its editor."""

from __future__ import annotations

import getpass
import io
import json
import os
import pty
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.cli.test_app import StandIn
from typer.testing import CliRunner

from tunesmith.cli import review
from tunesmith.cli.app import app
from tunesmith.errors import DatasetError, UsageError
from tunesmith.records import Evidence, Example, Message
from tunesmith.reviewing.decisions import Decision, key_of, quotes_of, text_key
from tunesmith.reviewing.sample import Risk
from tunesmith.reviewing.session import Candidate, Excerpt, Item

ANSWER = "Call `p.f`.\n\n```python\nimport p\n\np.f(1)\n```"


def example(number: int) -> Example:
    """Return an example about p.f."""
    return Example(
        f"e{number}",
        f"how do I do number {number}?",
        ANSWER,
        "written:train.jsonl:1",
        entry="p.f",
        acceptable=("p.f",),
        evidence=(Evidence("python:p", "d1", 6, 11, "quote"),),
        checks=("too long", "answer form"),
    )


def candidate(number: int) -> Candidate:
    """Return an example with all that is shown of it."""
    excerpt = Excerpt("p.f", "Some ", "quote", " in a page.…")
    return Candidate(example(number), "seen", Risk(3, ("written", "nothing quoted")), "paths", (excerpt,))


def decided(number: int, reviewer: str, verdict: str = "accept", **changed: object) -> Decision:
    """Return a decision about an example."""
    one = example(number)
    values: dict[str, object] = {
        "key": key_of(one),
        "verdict": verdict,
        "reviewer": reviewer,
        "time": f"2026-01-01T00:00:0{number}.000000+00:00",
        "question": one.question,
        "answer": one.answer,
        "example": one.id,
        "reason": "off topic" if verdict == "reject" else "",
        "quotes": quotes_of(one),
    }
    return Decision(**{**values, **changed})  # type: ignore[arg-type]


class Talk:
    """One review with a script in the place of a person."""

    def __init__(
        self, *lines: str, options: tuple[str, ...] = (), decisions: tuple[Decision, ...] = ()
    ) -> None:
        self.project = StandIn(
            decisions=list(decisions), candidates=[candidate(number) for number in range(3)]
        )
        result = CliRunner().invoke(
            app,
            ["review", "--reviewer", "ann", *options],
            obj=lambda path: self.project,
            input="".join(f"{line}\n" for line in lines),
            env={"COLUMNS": "120"},
        )
        assert result.exit_code == 0, result.stderr
        self.out, self.err = result.stdout, result.stderr

    @property
    def decisions(self) -> list[tuple[str, str, int | None]]:
        """What was decided: the example, the verdict, the rating."""
        return [(one.example, one.verdict, one.rating) for one in self.project.decisions]


def test_an_example_is_shown_with_all_that_one_needs() -> None:
    """Number, set, topic and risk; question, answer, the quote in its page, origin, checks, keys."""
    out = Talk("q").out
    for piece in (
        "1 of 3 · seen · paths · risk 3: written, nothing quoted",
        "how do I do number 0?",
        "Call `p.f`.",
        "  p.f(1)",
        "p.f\nSome »quote« in a page.…",
        "origin: written:train.jsonl:1",
        "checks: too long, answer form",
        review.KEYS,
        "Decided: none; 0 skipped, 3 left.",
        "Next: tunesmith run",
    ):
        assert piece in out
    assert "```" not in out
    assert "reviews/ann.jsonl" not in out


def test_lines_are_decisions() -> None:
    """A letter a line; a rating goes with the decision that follows; a reason is asked for."""
    talk = Talk("4", "a", "2", "r", "off topic", "", "f", "is it so?", "q")
    assert talk.decisions == [("e0", "accept", 4), ("e1", "reject", 2), ("e2", "flag", None)]
    assert [one.reason for one in talk.project.decisions] == ["", "off topic", "is it so?"]
    assert "Nothing is left to decide." in talk.out
    assert "Decided: 1 accept, 1 reject, 1 flag; 0 skipped, 0 left." in talk.out
    assert "Kept in reviews/ann.jsonl" in talk.out


def test_a_rejection_without_a_reason_is_none() -> None:
    """The same example is still asked about."""
    talk = Talk("r", " ", "a")
    assert talk.decisions == [("e0", "accept", None)]
    assert "A rejection needs a reason; nothing was decided." in talk.out


def test_skip_undo_and_what_is_no_key() -> None:
    """What is skipped is left, what is undone comes again, another key tells the keys."""
    talk = Talk("u", "x", "s", "a", "u", "r", "no")
    assert talk.decisions == [("e1", "accept", None), ("e1", "undo", None), ("e1", "reject", None)]
    assert "There is nothing to undo." in talk.out
    assert "↶ undone: accept of “how do I do number 1?”" in talk.out
    assert talk.out.count(review.KEYS) == 6  # five examples, and once for the x


def test_editing_by_lines() -> None:
    """What is left empty stays; what the checks will refuse is told at once."""
    talk = Talk("e", "how?", ".", "e", "", "Sing", "", "it.", ".", "e", "", ".", "q")
    first, second = talk.project.decisions
    assert (first.new_question, first.new_answer) == ("how?", ANSWER)
    assert (second.new_question, second.new_answer) == ("how do I do number 1?", "Sing\n\nit.")
    assert "✗ edited, but curate will leave it out: call not exact: no call (u undoes)" in talk.out
    assert "Nothing was changed; nothing was decided." in talk.out


def test_an_end_of_the_input_within_an_edit_changes_nothing() -> None:
    """A script that ends too early leaves the example as it is."""
    assert Talk("e").decisions == []


def test_options_reach_the_project() -> None:
    """The set, the order, how many, and a second opinion."""
    talk = Talk(
        "q", options=("--set", "valid", "--by", "topic", "--count", "2"), decisions=(decided(0, "ben"),)
    )
    assert "valid by topic" in talk.err
    assert "1 of 2" in talk.out
    assert "Decided before: 1." in talk.out
    assert "curate" not in talk.err  # it was made already
    second = Talk("q", options=("--second",), decisions=(decided(0, "ben"),))
    assert "number 0?" in second.out
    assert "ben" not in second.out


def test_what_is_open_says_who_said_what() -> None:
    """Both sides are shown, and the decision settles it."""
    talk = Talk("a", "q", decisions=(decided(0, "ben"), decided(0, "cem", "reject")))
    assert "ben: accept\ncem: reject · off topic" in talk.out
    assert len(talk.project.decisions[-1].settles) == 2


def test_what_is_stale_says_what_has_changed() -> None:
    """The old quote stands beside the new one."""
    talk = Talk("q", decisions=(decided(0, "ben", quotes=("old words",)),))
    assert "The source has changed since: was “old words”, now “quote”\nben: accept\n" in talk.out
    old = {"key": text_key(example(0).question, "Sing."), "answer": "Sing."}
    other = Talk("q", decisions=(decided(0, "ben", **old),)).out
    assert "The source has changed since: was “Sing.”, now “Call `p.f`." in other
    assert "“quote”" not in other


def test_json_is_the_result_and_the_dialogue_is_beside_it() -> None:
    """Stdout is one document; the examples are on stderr."""
    talk = Talk("a", "q", options=("--json",))
    assert json.loads(talk.out) == {
        "review": {
            "reviewer": "ann",
            "verdicts": {"accept": 1, "edit": 0, "reject": 0, "flag": 0},
            "skipped": 0,
            "left": 2,
        },
        "file": "reviews/ann.jsonl",
        "next": "tunesmith run",
    }
    assert "how do I do number 1?" in talk.err


def _summary(*decisions: Decision, words: tuple[str, ...] = ()) -> str:
    result = CliRunner().invoke(
        app, ["review", "--summary", *words], obj=lambda path: StandIn(decisions=list(decisions))
    )
    assert result.exit_code == 0
    return result.stdout


def test_the_summary_says_what_is_open_and_how_far_reviewers_agree() -> None:
    """Counts, what to settle with who said what, kappa."""
    out = _summary(
        decided(0, "ann", rating=4),
        decided(1, "ann", "reject"),
        decided(0, "ben"),
        decided(1, "ben"),
    )
    assert "Together: 1 accept, 0 edit, 0 reject, 1 open" in out
    assert "to settle: “how do I do number 1?” (ann: reject · off topic; ben: accept)" in " ".join(
        out.split()
    )
    assert "ann and ben: 1 of 2 alike, Cohen's kappa 0.00" in out
    assert "judge" not in out
    assert "Next: tunesmith review" in out


def test_the_summary_leaves_out_what_is_not_there() -> None:
    """No reviewers, no kappa for one verdict only, a judge where there is one."""
    assert "Nobody has reviewed anything yet." in _summary()
    assert "no kappa, since both gave one verdict only" in _summary(decided(0, "ann"), decided(0, "ben"))
    judged = _summary(
        decided(0, "ann", checks=("judge:0.9",)), decided(1, "ann", "reject", checks=("judge:0.2",))
    )
    assert "in 100% of pairs (1 accepted, 1 edited or rejected; 50% is chance)" in " ".join(judged.split())
    document = json.loads(_summary(decided(0, "ann"), words=("--json",)))
    assert document["summary"]["outcomes"] == {"accept": 1, "edit": 0, "reject": 0, "open": 0}
    assert document["summary"]["judge"] is None


def test_merging_says_what_came_in() -> None:
    """And is not to be mixed with the summary."""
    result = CliRunner().invoke(app, ["review", "--merge", "b.jsonl"], obj=lambda path: StandIn())
    assert "b.jsonl: 2 new decisions of ben copied in, 1 were here already." in result.stdout
    both = CliRunner().invoke(app, ["review", "--merge", "b.jsonl", "--summary"], obj=lambda path: StandIn())
    assert (both.exit_code, "two things" in both.stderr) == (2, True)


def test_errors_are_calm() -> None:
    """A broken file of decisions is named, with the way out."""
    error = DatasetError("ann.jsonl, line 3: broken", hint="Mend it.")
    result = CliRunner().invoke(app, ["review"], obj=lambda path: StandIn(error=error))
    assert (result.exit_code, "→ Mend it." in result.stderr) == (1, True)


def test_a_machine_without_names_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the user may have none."""
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    assert review.login_name() == "ann"

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", nobody)
    with pytest.raises(UsageError, match="no name for you"):
        review.login_name()


def test_the_edited_text_is_read_back() -> None:
    """As it was, changed, and without its marks."""
    one = example(0)
    text = review.as_text(one)
    assert review.from_text(text) == (one.question, one.answer)
    assert review.from_text(text.replace("how do I", "may I")) == ("may I do number 0?", ANSWER)
    assert review.from_text(text.replace("=== answer ===", "")) is None
    assert review.from_text("=== question ===\n\n=== answer ===\nx") is None


def test_the_editor_is_any_command(tmp_path: Path) -> None:
    """With its options; what cannot be started or fails gives no text."""
    script = tmp_path / "editor.py"
    script.write_text(
        "import sys, pathlib\n"
        "page = pathlib.Path(sys.argv[2])\n"
        "page.write_text(page.read_text() + sys.argv[1])\n"
        "sys.exit(sys.argv[1] == 'fail')\n"
    )
    assert review.in_editor("a ", f"{sys.executable} {script} 'b c'") == "a b c"
    assert review.in_editor("a", f"{sys.executable} {script} fail") is None
    assert review.in_editor("a", "no-such-editor-here") is None
    assert review.in_editor("a", "unclosed 'quote") is None


class Fixed:
    """Hands that do one edit."""

    def __init__(self, text: str | None) -> None:
        self._keys, self._text = ["e", "q"], text

    def key(self) -> str:
        """Press the next key."""
        return self._keys.pop(0)

    def line(self, prompt: str) -> str | None:
        """Type nothing."""
        return None

    def edit(self, text: str) -> str | None:
        """Return the text."""
        return self._text


def test_an_edited_file_without_its_marks_changes_nothing() -> None:
    """The reviewer is told, and the example is still there."""
    project = StandIn(candidates=[candidate(0)])
    session = project.review(
        "ann", chosen="all", by="risk", count=None, second=False, show=review.OnlyWhatIsMade(_NoShow())
    )
    console = Console(record=True, width=120, file=io.StringIO())
    item = Item(candidate(0), 1, 1)
    dialogue = review.Dialogue(session, console, Fixed("gone"))
    assert not dialogue.decided(item)
    assert "must stay; nothing was decided" in console.export_text()
    review.Dialogue(session, console, Fixed(review.as_text(replace(example(0), question="f?")))).decided(item)
    assert [one.new_question for one in project.decisions] == ["f?"]


def test_what_was_said_before_the_question_is_shown() -> None:
    """An answer of several turns is judged with those before it."""
    before = (Message("user", "How do I walk?"), Message("assistant", "By paths."))
    several = replace(candidate(0), example=replace(example(0), messages=before))
    console = Console(record=True, width=120, file=io.StringIO())

    console.print(review.item_view(Item(several, 1, 1)))

    shown = console.export_text()
    assert shown.index("user: How do I walk?") < shown.index("assistant: By paths.")
    assert shown.index("assistant: By paths.") < shown.index(example(0).question)


class _NoShow:
    """A Show that remembers nothing."""

    def stage_started(self, name: str, caption: str) -> None:
        """Begin."""

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Go on."""

    def stage_done(self, name: str, seconds: float, reused: bool, counts: object) -> None:
        """End."""

    def say(self, text: str) -> None:
        """Say nothing."""


KEYBOARD = """
import os, sys
from rich.console import Console
from tests.cli.test_app import StandIn
from tests.cli.test_review import candidate, _NoShow
from tunesmith.cli import review
project = StandIn(candidates=[candidate(0), candidate(1), candidate(2)])
session = project.review("ann", chosen="all", by="risk", count=None, second=False, show=_NoShow())
review.talk(session, Console(file=sys.stderr))
print([(one.example, one.verdict, one.rating, one.reason, one.new_question) for one in project.decisions])
"""


def test_at_a_terminal_keys_need_no_enter(tmp_path: Path) -> None:
    """A real terminal: single keys, a line for a reason, the editor of the environment."""
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import sys, pathlib\npage = pathlib.Path(sys.argv[1])\n"
        "page.write_text(page.read_text().replace('how do I', 'may I'))\n"
    )
    keyboard, terminal = pty.openpty()
    environment = {**os.environ, "EDITOR": f"{sys.executable} {editor}", "VISUAL": ""}
    with subprocess.Popen(
        [sys.executable, "-c", KEYBOARD],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    ) as process:
        os.close(terminal)
        try:
            for awaited, keys in (("1 of 3", b"4"), ("4 of 5", b"a"), ("2 of 3", b"r")):
                _wait_for(process, awaited)
                _wait_for_mode(keyboard, keys_alone=True)
                os.write(keyboard, keys)
            _wait_for_mode(keyboard, keys_alone=False)
            os.write(keyboard, b"off\n")
            _wait_for(process, "3 of 3")
            _wait_for_mode(keyboard, keys_alone=True)
            os.write(keyboard, b"e")
            out, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    os.close(keyboard)
    assert out == (
        "[('e0', 'accept', 4, '', None), ('e1', 'reject', None, 'off', None), "
        "('e2', 'edit', None, '', 'may I do number 2?')]\n"
    ), errors


def _wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read until the text was written."""
    assert process.stderr is not None
    seen = ""
    while text not in seen:
        piece = process.stderr.read(1)
        assert piece, seen
        seen += piece


def _wait_for_mode(keyboard: int, *, keys_alone: bool) -> None:
    """Wait until the terminal gives keys alone, or whole lines: what is pressed too early is lost or taken together."""
    end = time.monotonic() + 60
    while bool(termios.tcgetattr(keyboard)[3] & termios.ICANON) == keys_alone:
        assert time.monotonic() < end
        time.sleep(0.01)
