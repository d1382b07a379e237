"""Checked files, masks and runs as people read them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from tunesmith.cli.ports import MAX_LENGTH
from tunesmith.cli.rows import after_check, inspection_view, masks_view, run_view
from tunesmith.files import FileRun, Part
from tunesmith.training.example_files import Fault
from tunesmith.training.inspect import Inspection, LongRow, Mask, Span
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import Trained

MASK = Mask(
    line=3,
    title="",
    tokens=9,
    learned=3,
    spans=(
        Span("<s>", "read", special=True, cut=False),
        Span("why? ", "read", special=False, cut=False),
        Span("so it is", "learned", special=False, cut=False),
        Span("</s>", "end", special=True, cut=False),
    ),
    padding=2,
    pad="<pad>",
)
CUT = (Span("so", "learned", special=False, cut=False), Span(" it is</s>", "read", special=False, cut=True))


def inspection(*faults: Fault, rows: int = 3, max_length: int = 1024) -> Inspection:
    """Return what was found in a file."""
    path = Path("my rows.jsonl")
    return Inspection(
        path, "answers", max_length, rows, 1200, 300, (LongRow(2, 700),), 0, len(faults), faults
    )


def test_a_file_without_fault() -> None:
    """Counts, tokens, the longest row, and that it is ready."""
    assert inspection_view(inspection()).plain.split("\n") == [
        "3 chats in my rows.jsonl",
        "tokens: 1,200, of them learned: 300 (25 %)",
        "longest: 700 (line 2)",
        "longer than 1,024 tokens: 0",
        "",
        "✓ ready: each row teaches what it says",
    ]


def test_faults_come_with_their_way_out() -> None:
    """The first twenty; the others are counted."""
    faults = [Fault(number, "shape", "messages is missing", "Mend it.") for number in range(1, 23)]
    lines = inspection_view(inspection(*faults, rows=30)).plain.split("\n")
    assert lines[5:7] == ["line 1  shape: messages is missing", "  → Mend it."]
    assert lines[-3:] == [
        "and 2 more: --json lists them all",
        "",
        "✗ not ready: 22 of 30 rows are faulty",
    ]


def test_an_empty_file() -> None:
    """It is not ready, and says why."""
    assert inspection_view(inspection(rows=0)).plain.endswith("✗ not ready: there is no row")


def test_the_next_command_can_be_pasted() -> None:
    """It keeps base and length, and a name with a space is quoted."""
    assert after_check(inspection(), "smollm2") == "tunesmith train 'my rows.jsonl' --out FOLDER"
    long = inspection(max_length=2048)
    assert after_check(long, "path:m") == (
        "tunesmith train 'my rows.jsonl' --base path:m --out FOLDER --set max_length=2048"
    )
    faulty = inspection(Fault(1, "shape", "a", None), max_length=2048)
    assert after_check(faulty, "smollm2") == "tunesmith check 'my rows.jsonl' --max-length 2048"


def test_the_default_length_is_that_of_training() -> None:
    """What `check` lets through is what `train` takes."""
    assert TrainSettings().max_length == MAX_LENGTH


def test_a_mask_without_colours() -> None:
    """Learned words stand in brackets, their end is marked, what is cut off and padding too."""
    assert masks_view([MASK], coloured=False).plain.split("\n")[2:] == [
        "line 3: 9 tokens, 3 learned",
        "<s>why? ⟦so it is■</s>⟧",
        "· 2 × <pad> as padding, neither read nor learned",
        "",
    ]
    cut = Mask(4, "not preferred", 9, 1, CUT, 0, "<pad>")
    assert masks_view([cut], coloured=False).plain.split("\n")[2:4] == [
        "line 4, not preferred: 9 tokens, 1 made less likely",
        "⟦so⟧✂ it is</s>",
    ]


def styles(view: Text) -> dict[str, str]:
    """Return each styled stretch's style."""
    return {view.plain[span.start : span.end]: str(span.style) for span in view.spans}


def test_a_mask_with_colours() -> None:
    """Colours say it: dim is read, green is learned, the end of turn stands out, what is cut off is struck."""
    view = masks_view([MASK], coloured=True)
    assert "<s>why? so it is</s>" in view.plain
    found = styles(view)
    assert (found["why? "], found["so it is"], found["</s>"]) == ("dim", "green", "bold reverse green")
    cut = masks_view([Mask(4, "", 9, 1, CUT, 0, "")], coloured=True)
    assert styles(cut)[" it is</s>"] == "strike red"
    console = Console(force_terminal=True, color_system="standard", legacy_windows=False)
    with console.capture() as captured:
        console.print(view)
    assert "\x1b[32mso it is\x1b[0m" in captured.get()


def run(**changes: object) -> FileRun:
    """Return a finished run."""
    values: dict[str, object] = {
        "steps": (),
        "best_step": 7,
        "best_valid_loss": 0.5,
        "first_valid_loss": 2.25,
        "stopped_early": True,
        "tokens": 1200,
        "labelled_tokens": 300,
        "truncated": 0,
        "dropped": 0,
        "seconds": 11.0,
        "valid_seconds": 1.0,
        "peak_bytes": 10**9,
        "dtype": "float32",
        "method": "lora",
    }
    trained = Trained(**values | changes)  # type: ignore[arg-type]
    part = Part("rows.jsonl", "d", 9)
    return FileRun(Path("out"), TrainSettings().model_dump(), part, part, True, trained, "b")


def test_a_run_says_what_it_came_to() -> None:
    """The loss before and now, which step is kept, and what it took."""
    assert run_view(run()).plain.split("\n") == [
        "validation loss: 2.250 before, 0.500 now, nats per learned token",
        "steps: 0 (stopped early), the best 7",
        "took: 12 s, 1.0 GB, 1,200 tokens, lora in float32",
        "Written to out, with run.json",
    ]


def test_a_run_that_learned_nothing_says_so() -> None:
    """What is written then is the model as it was."""
    assert "No step made the validation loss better" in run_view(run(best_step=0)).plain
