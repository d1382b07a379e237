"""What people read: whole views compared as text."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console, RenderableType

from tunesmith.cli import show
from tunesmith.cli.inventory import Usable
from tunesmith.errors import ConfigError, TunesmithError
from tunesmith.evaluating.comparing import Change, Compared, Comparison, Shared
from tunesmith.evaluating.statistics import Estimate, Paired
from tunesmith.records import Answer, Evidence


@dataclass(frozen=True)
class State:
    """A stage's state."""

    stage: str
    id: str | None
    state: Literal["done", "part", "to do"]
    seconds: float | None = None
    counts: Mapping[str, int] = ()  # type: ignore[assignment]
    made: str | None = None
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A way of training."""

    way: str
    tokens: int
    seconds: float
    memory_bytes: int
    price: float | None


@dataclass(frozen=True)
class Plan:
    """A plan of one way."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """What a call is worth."""

    verdict: str
    called: str | None
    reason: str = ""


@dataclass(frozen=True)
class Asked:
    """An answer."""

    question: str
    answer: Answer
    contender: str
    judgement: Judgement | None
    sources: tuple[Evidence, ...]
    version: str | None


DONE = State("collect", "c1", "done", 3.2, {"documents": 1213, "left_out": 136}, "2026-11-01T12:00:04+00:00")
TODO = State("train", None, "to do", None, {}, None, ("curate", "encoder"))


def text(view: RenderableType, width: int = 110) -> str:
    """Return a view as plain text, without the spaces at line ends."""
    console = Console(width=width, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(view)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7440, "2 h 4 min"),
    ],
)
def test_duration(seconds: float | None, words: str) -> None:
    """Lengths of time are said as people do, rounded without ever showing 60."""
    assert show.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(None, ""), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (269_100_000, "269.1 MB")]
)
def test_size(count: int | None, words: str) -> None:
    """Bytes are said in powers of ten."""
    assert show.size(count) == words


def test_error_has_rule_and_way_out() -> None:
    """An error shows its message and, set off, its hint; brackets in it are not markup."""
    assert text(show.error_view(ConfigError("[train] has no key", hint="Mend it."))) == (
        "Error: [train] has no key\n  → Mend it."
    )
    assert text(show.error_view(TunesmithError("Just so."))) == "Error: Just so."


def test_stages() -> None:
    """Each stage is a line: state in words, counts, work, time, artefact, and what it waits for."""
    assert text(show.stages_view([DONE, TODO])) == (
        "stage    state  counts                          time  made                 artefact\n"
        "collect  done   1,213 documents, 136 left out  3.2 s  2026-11-01 12:00:04  c1\n"
        "train    to do  needs curate, encoder"
    )


def test_next_command() -> None:
    """While a stage is not done the next thing is to run; after that, to read."""
    assert show.next_command([DONE, TODO]) == "tunesmith run"
    assert show.next_command([DONE]) == "tunesmith report"


def test_plan() -> None:
    """A plan shows each way's tokens, time, memory and price, known or not, and what the figures rest on."""
    rows = (
        Row("LoRA here", 289_434, 1080, 4_000_000_000, 0.0),
        Row("hosted", 300_000, 600, 0, 2.5),
        Row("elsewhere", 300_000, 600, 0, None),
    )
    assert text(show.plan_view(Plan(rows, ("measured on 2 cores",)))) == (
        "way of training   tokens        time  memory    price\n"
        "LoRA here        289,434  18 min 0 s  4.0 GB    $0.00\n"
        "hosted           300,000  10 min 0 s            $2.50\n"
        "elsewhere        300,000  10 min 0 s          unknown\n"
        "measured on 2 cores"
    )


ANSWER = "`networkx.shortest_path` computes paths [1].\n\n"
ANSWER += "```python\nimport networkx as nx\n\nnx.shortest_path(G)\n```"


def test_asked() -> None:
    """An answer shows prose, code, whether the call is valid, by whom it is, and its sources."""
    asked = Asked(
        question="q",
        answer=Answer(ANSWER, completion_tokens=40, seconds=1.5),
        contender="tuned+retrieval",
        judgement=Judgement("valid", "networkx.shortest_path"),
        sources=(Evidence("python:networkx", "doc#1", 3, 9, "Compute\n  paths"),),
        version="networkx 3.6.1",
    )
    assert text(show.asked_view(asked)) == (
        "`networkx.shortest_path` computes paths [1].\n"
        "\n"
        "  import networkx as nx\n"
        "\n"
        "  nx.shortest_path(G)\n"
        "\n"
        "✓ valid networkx.shortest_path exists in networkx 3.6.1 and takes these arguments\n"
        "Answered by tuned+retrieval (1.5 s, 40 tokens)\n"
        "Source: doc#1, characters 3-9: “Compute paths”"
    )


def test_asked_without_catalogue_and_cut() -> None:
    """Without a catalogue nothing is said of validity; an answer that was cut says so."""
    asked = Asked("q", Answer("Because", finish="length"), "base", None, (), None)
    assert text(show.asked_view(asked)) == (
        "Because\n\nThe answer was cut at its longest length.\nAnswered by base (0.0 s, 0 tokens)"
    )


def test_asked_with_what_was_found_of_the_answer() -> None:
    """Notes stand below it, and how sure a classifier is."""
    answer = Answer("A tool.", confidence=0.664, notes=("cites [3], which is no passage: 2 were shown",))
    assert text(show.asked_view(Asked("q", answer, "classifier", None, (), None))) == (
        "A tool.\n\nNote: cites [3], which is no passage: 2 were shown\nSure of it: 66 %\n"
        "Answered by classifier (0.0 s, 0 tokens)"
    )


@pytest.mark.parametrize(
    ("judgement", "line"),
    [
        (Judgement("exact", "p.f"), "✓ valid p.f exists in p 1 and takes these arguments"),
        (
            Judgement("wrong_arguments", "p.f", "missing 'x'"),
            "✗ not valid p.f exists in p 1 but not with these arguments: missing 'x'",
        ),
        (Judgement("hallucinated", "p.g"), "✗ not valid p.g does not exist in p 1"),
        (Judgement("no_call", None), "– no call the answer makes none"),
    ],
)
def test_judged(judgement: Judgement, line: str) -> None:
    """A judgement is a sign, a word and a reason: never a colour alone."""
    assert show.judged(judgement, "p 1").plain == line


def figures(exact: float, low: float, high: float) -> dict[str, dict[str, float]]:
    """Return one set's figures as report --json has them."""
    return {
        "exact": {"value": exact, "low": low, "high": high, "n": 200},
        "valid": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 200},
        "hallucinated": {"value": 0.05, "low": 0.0, "high": 0.1, "n": 200},
    }


def test_verdict() -> None:
    """The verdict comes first; floors and ceilings stand apart; only the set it rests on is shown."""
    report = {
        "verdict": "Retrieval is enough.",
        "contenders": {
            "base": {"seen": figures(0.5, 0.4, 0.6), "asked": figures(0.005, 0.001, 0.028)},
            "tuned+retrieval": {"asked": figures(0.655, 0.587, 0.717)},
        },
        "floors": {"first_hit": {"asked": figures(0.6, 0.5, 0.7)}},
        "ceilings": {"oracle": {"asked": {"exact": figures(0.89, 0.8, 0.9)["exact"]}}, "odd": {"seen": {}}},
    }
    assert text(show.verdict_view(report)) == (
        "Retrieval is enough.\n"
        "\n"
        "on asked          exact       95 %   valid  hallucinated  questions\n"
        "base              0.5 %    0.1–2.8  90.0 %         5.0 %        200\n"
        "tuned+retrieval  65.5 %  58.7–71.7  90.0 %         5.0 %        200\n"
        "\n"
        "floors:\n"
        "first_hit        60.0 %  50.0–70.0  90.0 %         5.0 %        200\n"
        "\n"
        "ceilings:\n"
        "oracle           89.0 %  80.0–90.0                              200"
    )


def test_models() -> None:
    """A model's line has its address, where it comes from, its size and what it is."""
    usable = [
        Usable("smollm2", "bundled", "in the cache", 269_100_000),
        Usable("openai:M@URL", "remote", "any"),
    ]
    assert text(show.models_view(usable)) == (
        "address       kind         size  what it is\n"
        "smollm2       bundled  269.1 MB  in the cache\n"
        "openai:M@URL  remote             any"
    )


def test_json_of_records() -> None:
    """Records, tuples, paths and numbers that JSON lacks become plain JSON."""
    value = {"a": Evidence("s", "d", 0, 1, "ü"), "b": (Path("x"), float("nan"), 1.5, None, True)}
    assert show.to_json(value) == (
        '{\n  "a": {\n    "source": "s",\n    "document": "d",\n    "start": 0,\n    "end": 1,\n'
        '    "quote": "ü"\n'
        '  },\n  "b": [\n    "x",\n    null,\n    1.5,\n    null,\n    true\n  ]\n}'
    )


def test_plain_lines_are_few() -> None:
    """Without a terminal a stage says at most one line in 10 seconds, with its rate since it was resumed."""
    now = 0.0
    lines: list[str] = []
    plain = show.PlainShow(lines.append, clock=lambda: now)
    plain.stage_started("train", "learn")
    for second in range(26):
        now = float(second)
        plain.progress(100 + 2 * second, 1000, "loss 1.5")
    plain.stage_done("train", 25.0, False, {"steps": 150})
    plain.stage_started("report", "write")
    plain.stage_done("report", 1.0, True, {})
    plain.say("That was it.")
    assert lines == [
        "train: learn",
        "train: 120 of 1,000 · 2/s · 7 min 20 s left · loss 1.5",
        "train: 140 of 1,000 · 2/s · 7 min 10 s left · loss 1.5",
        "train: done in 25 s: 150 steps",
        "report: write",
        "report: was done already",
        "That was it.",
    ]


def test_live_bar() -> None:
    """On a terminal each stage has its line, a bar while it goes on, and its end."""
    console = Console(force_terminal=True, color_system=None, width=100, legacy_windows=False)
    with console.capture() as captured, show.showing(console) as screen:
        screen.stage_started("train", "learn [well]")
        screen.progress(1, 4, "loss 2")
        screen.progress(3, 4, "loss 1")
        screen.stage_done("train", 2.0, False, {"steps": 4})
        screen.say("That was it.")
    shown = captured.get()
    assert "3/4" not in shown[shown.index("✓ done") :]
    for piece in ("train  learn [well]", "✓ done in 2.0 s: 4 steps", "That was it."):
        assert piece in shown


def test_two_evaluations_are_shown_side_by_side() -> None:
    """Names are whole however long, losses are named, and what only one measured is said."""
    same, lost = (
        Estimate(0.5, 0.4, 0.6, 40),
        tuple(Change(f"q{number}", "p.f", None, "") for number in range(7)),
    )
    paired = Paired("second", "first", "asked", "exact", -0.175, -0.3, -0.05, 40, 0.016)
    row = Compared("tuned+tuned_retrieval+constrained", "asked", "exact", same, same, paired, 0.032, lost, ())
    found = Comparison("a, 2026", "b, 2026", (row,), (Shared("asked", 41, 40, 40),), (), ("few_shot",))
    console = Console(record=True, width=80, file=io.StringIO())

    console.print(show.comparison_view(found))

    shown = console.export_text()
    assert "40 questions in both (41 and 40 asked)" in shown
    assert "-17.5" in shown
    assert "0.032" in shown
    assert "…" not in shown
    assert "Only in the second: few_shot" in shown
    assert "q4\n    p.f → no call" in shown
    assert "q5" not in shown
    assert "and 2 more" in shown
