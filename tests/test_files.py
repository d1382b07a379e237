"""A file of examples, checked and trained on outside any project, from Python and from the command line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from typer.testing import CliRunner, Result

from tunesmith.cli.app import app
from tunesmith.errors import DatasetError, ModelError, UsageError
from tunesmith.files import RUN, WORK, check_file, train_file
from tunesmith.models.address import load_chat
from tunesmith.models.base import Sampling
from tunesmith.pipeline import Show
from tunesmith.records import Message
from tunesmith.training import checkpoint
from tunesmith.training.settings import TrainSettings, settings_from

WORDS = ("the path", "the user", "this", "system", "a short", "is it", "function", "xyz", "abc", "word")
SMALL = ["batch_size=4", "rank=4", "evaluate_every=1", "learning_rate=0.01"]


class Record(Show, Protocol):
    """What the fixture `record` gives."""

    made: list[str]
    counts: dict[str, dict[str, int]]
    steps: dict[str, list[tuple[int, int]]]
    said: list[str]


def turns(*words: str) -> list[dict[str, str]]:
    """Return messages of user and assistant in turn."""
    return [{"role": ("user", "assistant")[number % 2], "content": each} for number, each in enumerate(words)]


ROWS: dict[str, list[object]] = {
    "answers": [{"messages": turns(f"where is {word}?", "it is found")} for word in WORDS],
    "preferences": [
        {
            "input": {"messages": turns(f"where is {word}?")},
            "preferred_output": turns("", "it is found")[1:],
            "non_preferred_output": turns("", word)[1:],
        }
        for word in WORDS
    ],
    "text": [{"text": f"here is {word}, found by {word}"} for word in WORDS],
}


def written(folder: Path, rows: list[object], name: str = "rows.jsonl") -> Path:
    """Write rows as JSON lines."""
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def small(folder: Path, objective: Any = "answers", *words: str) -> TrainSettings:
    """Return settings of a run of seconds on the tiny model."""
    return settings_from([*SMALL, *words], base=f"path:{folder}", objective=objective)


def cli(*words: object) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.mark.parametrize("objective", ["answers", "preferences", "text"])
def test_each_objective_trains_from_the_command_line(
    tmp_path: Path, chat_folder: Path, objective: str
) -> None:
    """The file says what is learned; the loss falls, an adapter stands there, and it can be asked as is said."""
    path, out = written(tmp_path, ROWS[objective]), tmp_path / "out"
    base = f"path:{chat_folder}"
    done = cli(
        "train", path, "--base", base, "--out", out, *[w for each in SMALL for w in ("--set", each)], "--json"
    )
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["settings"]["objective"] == objective
    assert (made["train"]["rows"], made["valid"]["rows"], made["held_out"]) == (9, 1, True)
    assert made["run"]["steps"] == 3
    assert made["run"]["best_valid_loss"] < made["run"]["first_valid_loss"]
    assert made["next"] == f'tunesmith ask "QUESTION" --model path:{out}'
    assert {"adapter_model.safetensors", "adapter_config.json", RUN} <= {each.name for each in out.iterdir()}
    assert not (out / WORK).exists()
    answer = load_chat(f"path:{out}").reply([(Message("user", "where is it?"),)], Sampling(max_tokens=4))
    assert answer[0].completion_tokens > 0


def test_a_whole_model_is_written(tmp_path: Path, chat_folder: Path) -> None:
    """With method = full the folder is a model of its own, and so can be trained on further."""
    settings = settings_from(["method=full", "batch_size=4"], base=f"path:{chat_folder}", objective="answers")
    made = train_file(written(tmp_path, ROWS["answers"]), tmp_path / "out", settings)
    assert made.run.method == "full"
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert check_file(written(tmp_path, ROWS["answers"]), base=f"path:{tmp_path / 'out'}").inspection.ready


def test_rows_for_validation_can_be_given(tmp_path: Path, chat_folder: Path, record: Record) -> None:
    """Then none is held out, and run.json says where they come from."""
    path = written(tmp_path, ROWS["answers"][:8])
    valid = written(tmp_path, ROWS["answers"][8:], "valid.jsonl")
    made = train_file(path, tmp_path / "out", small(chat_folder), valid=valid, show=record)
    assert (made.train.rows, made.valid.rows, made.held_out) == (8, 2, False)
    assert json.loads((tmp_path / "out" / RUN).read_text())["valid"]["path"] == str(valid)
    assert record.made == ["read", "prepare", "train"]
    assert record.said == []
    assert record.steps["prepare"][-1] == (10, 10)
    assert record.steps["train"][-1] == (2, 2)


def test_what_is_held_out_is_said(tmp_path: Path, chat_folder: Path, record: Record) -> None:
    """How many rows, and how to take others."""
    train_file(written(tmp_path, ROWS["answers"]), tmp_path / "out", small(chat_folder), show=record)
    assert record.said == [
        "1 of 10 rows are held out for validation, the same ones each time; --valid takes others."
    ]


def test_a_stopped_run_goes_on_and_a_finished_one_is_found(
    tmp_path: Path, chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its second checkpoint, the run ends with the weights of an unbroken one; then it is not repeated."""
    path, settings = written(tmp_path, ROWS["answers"]), small(chat_folder)
    whole = train_file(path, tmp_path / "whole", settings)
    saved = []
    save = checkpoint.save

    def killed(*given: Any, **named: Any) -> None:
        save(*given, **named)
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train_file(path, tmp_path / "out", settings)
    assert [each.name for each in (tmp_path / "out").iterdir()] == [WORK]
    made = train_file(path, tmp_path / "out", settings)
    weights = [tmp_path / name / "adapter_model.safetensors" for name in ("out", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert [step.train_loss for step in made.run.steps] == [step.train_loss for step in whole.run.steps]
    assert train_file(path, tmp_path / "out", settings) == replace(made, reused=True)


def test_checkpoints_may_lie_elsewhere_and_stay(tmp_path: Path, chat_folder: Path) -> None:
    """A work folder that was named is its owner's: nothing is deleted there."""
    path = written(tmp_path, ROWS["answers"])
    train_file(path, tmp_path / "out", small(chat_folder), work=tmp_path / "work")
    assert (tmp_path / "work" / "checkpoint").is_dir()


def test_what_stands_in_a_folder_is_not_overwritten(tmp_path: Path, chat_folder: Path) -> None:
    """Neither another run nor anything else; nothing is read or trained before that is known."""
    path, out = written(tmp_path, ROWS["answers"]), tmp_path / "out"
    train_file(path, out, small(chat_folder))
    before = {each.name: each.read_bytes() for each in out.iterdir()}
    for other in (small(chat_folder, "answers", "seed=1"), small(chat_folder)):
        rows = ROWS["answers"] if other.seed else ROWS["answers"][1:]
        with pytest.raises(
            UsageError, match="holds what other settings, other examples or another base made"
        ):
            train_file(written(tmp_path, rows), out, other)
    with pytest.raises(UsageError, match="holds something else"):
        train_file(path, tmp_path, small(chat_folder))
    assert {each.name: each.read_bytes() for each in out.iterdir()} == before


def test_faulty_rows_are_named_by_their_lines(tmp_path: Path, chat_folder: Path) -> None:
    """What cannot be rendered is found in training, and then told like what cannot be read: all of it, by line."""
    rows = [*ROWS["answers"], {"messages": turns("a?", "b", "c?")}, {"messages": turns("a?", "long " * 60)}]
    with pytest.raises(DatasetError) as caught:
        train_file(written(tmp_path, rows), tmp_path / "out", small(chat_folder, "answers", "max_length=64"))
    assert "line 11, turns: a conversation goes from user to user" in caught.value.message
    assert "line 12, length: " in caught.value.message
    assert str(caught.value.hint).endswith(
        f"tunesmith check {tmp_path / 'rows.jsonl'} --base path:{chat_folder} --max-length 64"
    )
    with pytest.raises(DatasetError, match="line 1, shape: messages is missing"):
        train_file(written(tmp_path, [{"a": 1}]), tmp_path / "other", small(chat_folder))


def test_what_cannot_be_trained_here_is_refused_first(tmp_path: Path, chat_folder: Path) -> None:
    """A service's model, an encoder and an adapter are no base; nothing is written for them."""
    path = written(tmp_path, ROWS["answers"])
    remote = TrainSettings(base="openai:gpt-4o@http://127.0.0.1:9/v1")
    with pytest.raises(UsageError, match=r"is tuned by its service") as caught:
        train_file(path, tmp_path / "out", remote)
    assert "tunesmith run train" in str(caught.value.hint)
    train_file(path, tmp_path / "adapter", small(chat_folder))
    with pytest.raises(ModelError, match="is an adapter"):
        train_file(path, tmp_path / "out", small(tmp_path / "adapter"))


def test_a_relative_base_is_found_from_elsewhere(
    tmp_path: Path, chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter names its base by its whole path."""
    shutil.copytree(chat_folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, ROWS["answers"])
    train_file(path, Path("out"), settings_from(SMALL, base="path:model", objective="answers"))
    monkeypatch.chdir("/")
    assert load_chat(f"path:{tmp_path / 'out'}").name == f"path:{tmp_path / 'out'}"


# --- the commands


def test_check_exits_with_0_or_1(tmp_path: Path, chat_folder: Path) -> None:
    """A file without fault is ready, and the next command trains on it; another one is to be mended first."""
    path, base = written(tmp_path, ROWS["answers"]), f"path:{chat_folder}"
    ready = cli("check", path, "--base", base)
    assert ready.exit_code == 0, ready.output
    assert "10 chats in" in ready.stdout
    assert ready.stdout.endswith(f"Next: tunesmith train {path} --base {base} --out FOLDER\n")
    path = written(tmp_path, [*ROWS["answers"], {"messages": turns("a?")}])
    faulty = cli("check", path, "--base", base)
    assert (faulty.exit_code, faulty.stdout.startswith("11 chats in")) == (1, True)
    assert "line 11  turns: a conversation without an assistant turn teaches nothing\n  → " in faulty.stdout
    assert "✗ not ready: 1 of 11 rows are faulty" in faulty.stdout


def test_lengths_are_drawn(tmp_path: Path, chat_folder: Path) -> None:
    """Each bin of tokens and of turns is a bar with its number; no file is overwritten, none drawn of nothing."""
    file, out = written(tmp_path, ROWS["answers"]), tmp_path / "lengths.svg"
    base = f"path:{chat_folder}"

    found = check_file(file, base=base, plot=out)

    drawn = out.read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert found.inspection.lengths is not None
    for most, _ in found.inspection.lengths.bins:
        assert f"up to {most:,} tokens" in drawn
    assert "up to 2 turns" in drawn
    with pytest.raises(UsageError, match="is there already"):
        check_file(file, base=base, plot=out)
    with pytest.raises(UsageError, match="is no folder"):
        check_file(file, base=base, plot=tmp_path / "none" / "lengths.svg")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(UsageError, match="no row that could be drawn"):
        check_file(empty, base=base, objective="answers", plot=tmp_path / "none.svg")


def test_check_as_json(tmp_path: Path, chat_folder: Path) -> None:
    """One document with every fault, also where the exit code is 1."""
    path = written(tmp_path, [*ROWS["answers"][:2], {"messages": turns("a?")}])
    done = cli("check", path, "--base", f"path:{chat_folder}", "--json", "--show-mask")
    document = json.loads(done.stdout)
    assert done.exit_code == 1
    assert [fault["line"] for fault in document["check"]["faults"]] == [3]
    assert [mask["line"] for mask in document["masks"]] == [1]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["--show-mask"], [1]),
        (["--show-mask", "3"], [1, 2, 3]),
        (["--line", "7"], [7]),
        ([], []),
    ],
)
def test_masks_are_shown_as_asked(
    tmp_path: Path, chat_folder: Path, words: list[str], lines: list[int]
) -> None:
    """The first row, the first N, or the one at a line; the file may stand behind the option."""
    path = written(tmp_path, ROWS["answers"])
    done = cli("check", "--base", f"path:{chat_folder}", *words, path)
    found = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("line ")]
    assert found == [f"line {line}" for line in lines]
    assert done.stdout.count("⟦it is found■<|im_end|>⟧") == len(lines)


def test_wrong_settings_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    """Wrong usage, exit code 2, with the nearest name."""
    path = written(tmp_path, ROWS["answers"])
    done = cli("train", path, "--out", tmp_path / "out", "--set", "rnak=8")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no setting 'rnak': did you mean 'rank'?" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_error_that_names_a_table_says_how_settings_are_given(tmp_path: Path, chat_folder: Path) -> None:
    """Outside a project there is no [train] to write in."""
    path = written(tmp_path, ROWS["answers"])
    words = ["--base", f"path:{chat_folder}", "--out", tmp_path / "out", "--set", "learning_rate=1e30"]
    done = cli("train", path, *words)
    assert done.exit_code == 1
    assert "a setting of [train] is given as --set KEY=VALUE" in done.stderr


def test_only_the_first_of_several_processes_speaks(
    tmp_path: Path, chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchrun numbers them: another one is silent, writes no run.json, and still says what it fails with."""
    monkeypatch.setenv("RANK", "1")
    path = written(tmp_path, ROWS["answers"])
    words = ["--base", f"path:{chat_folder}", "--set", "batch_size=4"]
    done = cli("train", path, "--out", tmp_path / "out", *words)
    assert (done.exit_code, done.output) == (0, "")
    assert not (tmp_path / "out" / RUN).exists()
    failed = cli("train", path, "--out", tmp_path / "other", *words, "--set", "alpha=x")
    assert failed.stderr.startswith("process 1: alpha = 'x'")


def test_a_tuned_model_is_asked_without_a_project(
    tmp_path: Path, chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `train` names as the next command works where there is no tunesmith.toml; a contender's name does not."""
    monkeypatch.chdir(tmp_path)
    done = cli("ask", "where is it?", "--model", f"path:{chat_folder}")
    assert done.exit_code == 0, done.output
    assert f"Answered by path:{chat_folder}" in done.stdout
    assert "There is no tunesmith.toml" in cli("ask", "where is it?", "--model", "tuned").stderr
    assert "the question is empty" in cli("ask", " ", "--model", f"path:{chat_folder}").stderr


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path, chat_folder: Path) -> None:
    """While one is at work the other is told so, and nothing is changed."""
    from tunesmith.artifacts import Store
    from tunesmith.errors import ProjectBusy

    path, out = written(tmp_path, ROWS["answers"]), tmp_path / "out"
    with Store(out / WORK).lock("tunesmith train"), pytest.raises(ProjectBusy):
        train_file(path, out, small(chat_folder))
    assert not (out / RUN).exists()


def test_another_base_under_the_same_name_is_not_the_same_run(tmp_path: Path, chat_folder: Path) -> None:
    """Neither a checkpoint nor a finished run is taken for one of weights that have changed since."""
    import torch
    from safetensors.torch import load_file, save_file

    base = tmp_path / "base"
    shutil.copytree(chat_folder, base)
    path = written(tmp_path, ROWS["answers"])
    train_file(path, tmp_path / "out", small(base))
    weights = load_file(base / "model.safetensors")
    save_file(
        {name: value + torch.tensor(0.01) for name, value in weights.items()}, base / "model.safetensors"
    )
    with pytest.raises(UsageError, match="another base made"):
        train_file(path, tmp_path / "out", small(base))


def test_a_full_disk_is_named_and_the_run_goes_on_after_it(
    tmp_path: Path, chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for a checkpoint: a calm error, the checkpoint before stays whole, and with room it ends."""
    import safetensors.torch
    from safetensors import SafetensorError

    from tunesmith.errors import DiskFull

    path, out = written(tmp_path, ROWS["answers"]), tmp_path / "out"
    honest, saved = safetensors.torch.save_file, []

    def save(tensors: Any, place: Any, *rest: Any) -> None:
        saved.append(place)
        if len(saved) == 5:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        honest(tensors, place, *rest)

    monkeypatch.setattr(safetensors.torch, "save_file", save)
    with pytest.raises(DiskFull, match="give the same command again"):
        train_file(path, out, small(chat_folder))
    assert (out / WORK / "checkpoint" / "state.json").is_file()
    done = train_file(path, out, small(chat_folder))
    assert (out / RUN).is_file()
    assert done.run.steps[-1].step == len(done.run.steps)
