"""The examples' own data: whole, balanced, and apart where it must be."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
#: The example, the files to train on and to test with, and the key of what is asked.
APART = (
    ("classification", "train", "text"),
    ("consistent-execution", "train", "text"),
    ("content-clustering", "sorted", "text"),
    ("domain-adaptation", "train", "question"),
    ("personalised-interaction", "train", "message"),
    ("semantic-search", "train", "question"),
)
TASKS = (*(name for name, _, _ in APART), "prototyping", "workflow-integration")


def rows(example: str, name: str) -> list[dict[str, Any]]:
    """Return the rows of an example's file."""
    text = EXAMPLES.joinpath(example, f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def words(text: str) -> list[str]:
    """Return a text's words in small letters."""
    return re.findall(r"\w+", text.lower())


@pytest.mark.parametrize(("example", "train", "key"), APART)
def test_no_test_row_is_a_training_row_or_made_like_one(example: str, train: str, key: str) -> None:
    """No text stands twice, and none of the test shares six words in a row with one of the training."""
    trained, tested = rows(example, train), rows(example, "test")
    texts = [" ".join(words(row[key])) for row in (*trained, *tested)]
    assert len(set(texts)) == len(texts)

    def runs(part: list[dict[str, Any]]) -> set[tuple[str, ...]]:
        return {
            tuple(said[start : start + 6])
            for said in (words(row[key]) for row in part)
            for start in range(len(said) - 5)
        }

    assert runs(trained) & runs(tested) == set()


@pytest.mark.parametrize("example", [name for name, _, _ in APART])
def test_there_are_enough_test_rows_for_an_interval(example: str) -> None:
    """At least forty."""
    assert len(rows(example, "test")) >= 40


@pytest.mark.parametrize(("example", "name", "key"), [
    ("classification", "train", "label"), ("classification", "test", "label"),
    ("content-clustering", "sorted", "group"), ("content-clustering", "test", "group"),
])  # fmt: skip
def test_classes_are_balanced(example: str, name: str, key: str) -> None:
    """Each of the six has as many rows."""
    counts = Counter(row[key] for row in rows(example, name))
    assert (len(counts), len(set(counts.values()))) == (6, 1)


@pytest.mark.parametrize("name", ["train", "test"])
def test_records_fit_their_schema(name: str) -> None:
    """Each right answer is one that the constrained contender can give."""
    from tunesmith.operations import invalid

    schema = json.dumps(runpy.run_path(str(EXAMPLES / "consistent-execution" / "run.py"))["SCHEMA"])
    assert [invalid(schema, row["record"]) for row in rows("consistent-execution", name)] == [None] * len(
        rows("consistent-execution", name)
    )


def test_the_training_requests_are_what_their_script_writes(tmp_path: Path) -> None:
    """So that they can be read as the phrases they are put together from."""
    script = tmp_path / "write_train.py"
    script.write_text((EXAMPLES / "consistent-execution" / "write_train.py").read_text(encoding="utf-8"))
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)
    kept = (EXAMPLES / "consistent-execution" / "train.jsonl").read_text(encoding="utf-8")
    assert (tmp_path / "train.jsonl").read_text(encoding="utf-8") == kept


@pytest.mark.parametrize(
    ("example", "documents", "key"),
    [
        ("domain-adaptation", "handbook", "document"),
        ("personalised-interaction", "notes", "note"),
        ("semantic-search", "documents", "document"),
    ],
)
def test_each_question_is_about_a_piece_that_is_there(example: str, documents: str, key: str) -> None:
    """Or about none, where the answer is that nothing is said."""
    known = {row["id"] for row in rows(example, documents)} | {""}
    assert {row[key] for name in ("train", "test") for row in rows(example, name)} <= known


def test_facts_are_in_the_pieces_that_are_named() -> None:
    """The pattern of a right answer is found in its piece."""
    handbook = {row["id"]: row["text"] for row in rows("domain-adaptation", "handbook")}
    notes = {row["id"]: row["text"] for row in rows("personalised-interaction", "notes")}
    asked = [
        (handbook[row["document"]], row["right"])
        for row in rows("domain-adaptation", "test")
        if row["document"]
    ]
    asked += [
        (notes[row["note"]], row["fact"]) for row in rows("personalised-interaction", "test") if row["fact"]
    ]
    assert [fact for text, fact in asked if not re.search(fact, text, re.IGNORECASE)] == []


def test_replies_are_all_in_the_persons_style() -> None:
    """What is learned is what is checked."""
    in_style = runpy.run_path(str(EXAMPLES / "personalised-interaction" / "run.py"))["in_style"]
    wrong = [row["reply"] for row in rows("personalised-interaction", "train") if not in_style(row["reply"])]
    assert wrong == []


def test_results_of_the_tasks_are_those_of_their_functions() -> None:
    """As networkx gives them for the roads today."""
    import networkx

    roads = json.loads((EXAMPLES / "workflow-integration" / "roads.json").read_text(encoding="utf-8"))
    graph = networkx.Graph(roads)
    same = runpy.run_path(str(EXAMPLES / "workflow-integration" / "run.py"))["same"]
    wrong = []
    for row in rows("workflow-integration", "tasks"):
        found = getattr(networkx, row["entry"].removeprefix("networkx."))(graph)
        shown = str(list(found)) if hasattr(found, "__next__") else str(found)
        wrong += [] if same(shown, row["result"]) else [row["entry"]]
    assert wrong == []


@pytest.mark.parametrize("example", TASKS)
def test_each_example_has_a_page_with_its_verdict(example: str) -> None:
    """It says how it is run, what came out, when, and how long it takes."""
    page = EXAMPLES.joinpath(example, "README.md").read_text(encoding="utf-8")
    assert [word for word in ("python run.py", "## Verdict", "2026", "95 %") if word not in page] == []


@pytest.mark.slow
@pytest.mark.parametrize("example", TASKS)
def test_each_example_runs(example: str, tmp_path: Path) -> None:
    """At a small size: a table and a verdict come out."""
    small = {
        "content-clustering": ["--resamples", "50"],
        "prototyping": ["--test", "4"],
        "semantic-search": ["--test", "6", "--train", "32"],
        "workflow-integration": ["--test", "4", "--second", "1"],
    }.get(example, ["--test", "6", "--train", "24", "--out", str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "run.py", *small],
        cwd=EXAMPLES / example, capture_output=True, text=True, check=False, timeout=850,
    )  # fmt: skip
    assert (done.returncode, "| contender |" in done.stdout) == (0, True), done.stderr[-2000:]
