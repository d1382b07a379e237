"""Decisions and their files: what can be one, what survives, what is refused."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.errors import DatasetError, UsageError
from tunesmith.records import Example, write_jsonl
from tunesmith.reviewing.decisions import (
    Decision,
    Merged,
    append,
    check_name,
    judge_score,
    key_of,
    merge_file,
    read_decisions,
)

Make = Callable[..., Example]
Decide = Callable[..., Decision]


def test_a_decision_is_found_by_its_text(make: Make) -> None:
    """Another id, origin or evidence does not change the key; another word does."""
    example = make()
    assert key_of(example) == key_of(replace(example, id="other", origin="rule:does", evidence=()))
    assert key_of(example) != key_of(make("how do I sort this"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key": "0"}, "the key is not that of its question and answer"),
        ({"question": "another"}, "the key is not that"),
        ({"reviewer": "../ann"}, "cannot name a file"),
        ({"rating": 6}, "not one of 1 to 5"),
        ({"verdict": "reject", "reason": " "}, "a rejection needs a reason"),
        ({"verdict": "edit"}, "an edit, and nothing else"),
        ({"new_question": "x", "new_answer": "y"}, "an edit, and nothing else"),
        ({"verdict": "edit", "new_question": "how do I sort", "new_answer": "Call it."}, "changes something"),
        ({"time": "2026-11-27T12:00:00"}, "not in UTC"),
        ({"time": "yesterday"}, "not in UTC"),
    ],
)
def test_what_nobody_can_have_decided_is_refused(
    make: Make, decide: Decide, changed: dict[str, object], message: str
) -> None:
    """A broken record cannot come into being, whether from code or from a file."""
    with pytest.raises(ValueError, match=message):
        replace(decide(make()), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", " ann", "ann.", "x" * 61, "ann\n"])
def test_a_reviewers_name_is_a_files_name(name: str) -> None:
    """What would lie in another folder, or nowhere, is refused with a way out."""
    with pytest.raises(UsageError, match="cannot be a reviewer's name"):
        check_name(name)


@pytest.mark.parametrize("name", ["ann", "Ann B. Lee", "ann@example.org", "Änne", "7"])
def test_names_of_people_are_names(name: str) -> None:
    """Letters of any language, digits, and what stands in names and addresses."""
    check_name(name)


def test_files_hold_what_was_decided(tmp_path: Path, make: Make, decide: Decide) -> None:
    """Each reviewer has a file, which grows; all are read by time."""
    late, early, other = (
        decide(make(), "reject", at=2, rating=1),
        decide(make(), "edit", at=1, settles=("a",)),
        decide(make(), reviewer="Ben", at=1.5),
    )
    folder = tmp_path / "reviews"
    append(folder, [early, other])
    append(folder, [late])

    assert read_decisions(folder) == (early, other, late)
    assert {path.name: len(path.read_text().splitlines()) for path in folder.iterdir()} == {
        "ann.jsonl": 2,
        "Ben.jsonl": 1,
    }


def test_without_a_folder_nobody_decided(tmp_path: Path) -> None:
    """A project that nobody reviewed needs no folder."""
    assert read_decisions(tmp_path / "reviews") == ()


def test_a_full_disk_leaves_no_half_line(
    tmp_path: Path, make: Make, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written whole is taken away, so that the file can be read."""
    append(tmp_path, [decide(make())])

    opened = Path.open

    class Short(io.FileIO):
        def write(self, line: bytes) -> int:  # type: ignore[override]
            return super().write(line[:10])

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering: Short(path, mode.replace("b", "")))
    with pytest.raises(OSError, match="No space left") as caught:
        append(tmp_path, [decide(make(), "reject", at=1)])
    monkeypatch.setattr(Path, "open", opened)
    assert caught.value.errno == errno.ENOSPC
    assert read_decisions(tmp_path) == (decide(make()),)


def test_a_line_that_is_another_reviewers_is_named(tmp_path: Path, make: Make, decide: Decide) -> None:
    """A file that was renamed would give decisions to somebody who did not take them."""
    append(tmp_path, [decide(make())])
    (tmp_path / "ann.jsonl").rename(tmp_path / "ben.jsonl")
    with pytest.raises(DatasetError, match=r"ben\.jsonl, line 1: the decision is ann's, not ben's"):
        read_decisions(tmp_path)


def test_a_broken_line_is_named(tmp_path: Path, make: Make, decide: Decide) -> None:
    """A conflict mark of git, or a record that contradicts itself, is named with its line."""
    append(tmp_path, [decide(make())])
    path = tmp_path / "ann.jsonl"
    good = path.read_text()
    path.write_text(good + "<<<<<<< HEAD\n")
    with pytest.raises(DatasetError, match=r"ann\.jsonl, line 2: "):
        read_decisions(tmp_path)
    path.write_text(good.replace("how do I sort", "how do I sleep"))
    with pytest.raises(DatasetError, match=r"line 1: .*the key is not that of its question"):
        read_decisions(tmp_path)


def test_merging_takes_what_is_new(tmp_path: Path, make: Make, decide: Decide) -> None:
    """Decisions come in once, however often their file does; both ways lead to the same."""
    mine, theirs, both = decide(make()), decide(make(), reviewer="ben"), decide(make(), at=3)
    append(tmp_path / "here", [mine, both])
    append(tmp_path / "there", [both, theirs])
    write_jsonl(tmp_path / "all.jsonl", [theirs, both])

    assert merge_file(tmp_path / "here", tmp_path / "all.jsonl") == Merged(1, 1, ("ann", "ben"))
    assert merge_file(tmp_path / "here", tmp_path / "all.jsonl") == Merged(0, 2, ("ann", "ben"))
    merge_file(tmp_path / "there", tmp_path / "here" / "ann.jsonl")
    assert read_decisions(tmp_path / "here") == read_decisions(tmp_path / "there") != ()


def test_merging_is_all_or_nothing(tmp_path: Path, make: Make, decide: Decide) -> None:
    """One broken line, and nothing is copied; a missing or an empty file is refused."""
    write_jsonl(tmp_path / "other.jsonl", [decide(make())])
    with (tmp_path / "other.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(DatasetError, match="line 2"):
        merge_file(tmp_path / "reviews", tmp_path / "other.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DatasetError, match="holds no decisions"):
        merge_file(tmp_path / "reviews", tmp_path / "empty.jsonl")
    with pytest.raises(UsageError, match="is no file"):
        merge_file(tmp_path / "reviews", tmp_path / "lost.jsonl")
    assert not (tmp_path / "reviews").exists()


@pytest.mark.parametrize(
    ("checks", "score"),
    [(("a", "judge:0.75"), 0.75), (("judge:4",), 4.0), (("judge:good",), None), ((), None)],
)
def test_a_judges_score_is_a_check(checks: tuple[str, ...], score: float | None) -> None:
    """It is a number behind the word; anything else is no score."""
    assert judge_score(checks) == score
