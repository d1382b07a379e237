"""A call becomes a whole program, which is checked and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith import finished
from tunesmith.catalogue import Catalogue, DocExample, Entry, Parameter
from tunesmith.collecting.python_package import read_package
from tunesmith.errors import ModelError, UsageError
from tunesmith.generating.derive import derive_answers
from tunesmith.generating.running import Result, first_that_runs, run_script, write_script
from tunesmith.generating.script import (
    Assumed,
    Script,
    checked_call,
    fault_of,
    free_names,
    read_value,
    template_scripts,
)
from tunesmith.models.fake import FakeModel

GRAPH = Parameter("G", annotation="shop graph")
SHOP = Catalogue(
    package="shop",
    version="1",
    entries=(
        Entry("shop.Graph", "class", (Parameter("data", default="None"),), "A graph."),
        Entry(
            "shop.size",
            "function",
            (GRAPH,),
            "Count.",
            examples=(
                DocExample("G = shop.Graph()"),
                DocExample("G.add(1)"),
                DocExample("shop.size(G)", "1"),
            ),
        ),
        Entry("shop.path", "function", (GRAPH, Parameter("source", annotation="node")), "Find a path."),
        Entry("shop.odd", "function", (Parameter("thing"),), "Do something."),
        Entry("shop.Graph.clear", "method", (), "Empty it."),
    ),
)


def scripts(call: str, **given: str) -> list[Script]:
    """Return the scripts around a call of the shop."""
    text = f"So:\n```python\nimport shop\n\n{call}\n```"
    return list(template_scripts(text, checked_call(text, SHOP), SHOP, given))


def test_values_come_from_the_entrys_own_example_first() -> None:
    """The statements before the call are kept, what only looks at something is not."""
    assert scripts("shop.size(G)")[0] == Script(
        "import shop\n\nG = shop.Graph()\nG.add(1)\n\nresult = shop.size(G)\nprint(result)\n",
        "shop.size",
        "shop.size(G)",
        (Assumed("G", "the example of shop.size"),),
    )


def test_then_from_another_entrys_example_and_from_the_type() -> None:
    """A graph is borrowed; a node is a small number."""
    made = scripts("shop.path(G, source)")[0]
    assert made.text.splitlines()[2:5] == ["G = shop.Graph()", "G.add(1)", "source = 0"]
    assert [each.origin for each in made.assumed] == ["the example of shop.size", "the type of source"]


def test_a_users_value_stands_before_all_others() -> None:
    """A list for a parameter whose type names a class becomes an object of that class."""
    made = scripts("shop.path(G, source)", G="[[1, 2]]", source="1")[0]
    assert made.text.splitlines()[2:4] == ["G = shop.Graph([[1, 2]])", "source = 1"]
    with pytest.raises(UsageError, match="has no variable H"):
        scripts("shop.path(G, source)", H="1")


def test_a_name_without_any_value_gives_no_script() -> None:
    """Nothing is made up for a parameter that nobody describes."""
    assert scripts("shop.odd(thing)") == []


def test_an_object_whose_method_is_called_is_made() -> None:
    """Where its class needs nothing."""
    assert "G = shop.Graph()" in scripts("G.clear()")[0].text


@pytest.mark.parametrize(
    ("text", "reason"),
    [("Just do it.", "no code"), ("```python\nimport shop\nshop.sizes(1)\n```", "does not exist")],
)
def test_an_answer_without_a_valid_call_is_refused_with_the_reason(text: str, reason: str) -> None:
    """Nothing is written around a call that does not exist."""
    with pytest.raises(UsageError, match=reason):
        checked_call(text, SHOP)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("import shop\nshop.size(", "does not parse"),
        ("import shop\nG = 1\nshop.path(G, 2)\n", "does not hold the call"),
        ("import shop\nG = shop.Grph()\nshop.size(G)\n", "does not exist"),
        ("import shop, requests\nG = 1\nshop.size(G)\n", "imports requests"),
        ("import shop\nshop.size(G)\n", "uses G"),
        ("import shop\nG = 1\nprint(shop.size(G))\n", None),
    ],
)
def test_a_script_must_be_sound(text: str, fault: str | None) -> None:
    """Each fault is named."""
    found = fault_of(Script(text, "shop.size", "shop.size(G)", ()), SHOP)
    assert (found is None) if fault is None else (fault in str(found))


def test_names_bound_anywhere_are_not_free() -> None:
    """Functions, imports, loops and comprehensions bind names too."""
    code = "import os as o\ndef f(a): return a + b\nfor i in range(3): print(i, o, f)\n[j for j in k]\n"
    assert free_names(code) == ("b", "k")


def test_values_are_read_from_files(tmp_path: Path) -> None:
    """JSON, CSV, and text as it is."""
    (tmp_path / "a.json").write_text("[[1, null]]")
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "a.txt").write_text("it's")
    assert [read_value(tmp_path / f"a.{kind}") for kind in ("json", "csv", "txt")] == [
        "[[1, None]]",
        "[{'x': '1', 'y': '2'}]",
        '"it\'s"',
    ]
    (tmp_path / "b.json").write_text("{")
    for name in ("b.json", "none.txt"):
        with pytest.raises(UsageError):
            read_value(tmp_path / name)


# --- a real package


@pytest.fixture(scope="module")
def tools(toolbox_site: Path) -> tuple[Catalogue, dict[str, str]]:
    """Return the toolbox's catalogue and the derived answer of each entry."""
    read = read_package("toolbox")
    derived = derive_answers(read.documents, read.catalogue)
    return read.catalogue, {each.entry: each.text for each in derived.answers}


def test_every_call_of_the_toolbox_becomes_a_script_that_runs(
    tools: tuple[Catalogue, dict[str, str]],
) -> None:
    """The package is there in the sandbox, and what was printed and the result's type are told."""
    catalogue, answers = tools
    ended = {
        entry: first_that_runs(template_scripts(text, checked_call(text, catalogue), catalogue), catalogue)
        for entry, text in answers.items()
    }
    assert {entry: found[1].error for entry, found in ended.items() if found is not None} == dict.fromkeys(
        answers
    )
    clamped = ended["toolbox.clamp"]
    assert clamped is not None
    assert (clamped[1].printed, clamped[1].kind) == ("10\n", "int")


def test_a_script_can_neither_open_files_nor_run_for_ever(tools: tuple[Catalogue, dict[str, str]]) -> None:
    """Its error is the result."""
    catalogue, _ = tools

    def result(code: str) -> Result:
        return run_script(Script(code, "", "", ()), catalogue)

    assert "PermissionError" in str(result("open('/etc/passwd')").error)
    assert "PermissionError" in str(result("import socket").error)
    assert result("raise SystemExit(3)").error == "SystemExit: 3 (line 1)"
    assert "ModuleNotFoundError" in str(result("import pydantic").error)


def test_a_second_model_is_told_what_is_wrong_with_its_script(
    tools: tuple[Catalogue, dict[str, str]],
) -> None:
    """It is asked again with the reason, that its script fails included, and at most twice."""
    catalogue, answers = tools
    judgement = checked_call(answers["toolbox.clamp"], catalogue)
    assert judgement.call is not None
    replies = [
        "I would rather not.",
        f"```python\nimport toolbox\nvalue, low, high = 1, 2, 3 / 0\nprint({judgement.call.text})\n```",
        f"```python\nimport toolbox\nvalue, low, high = 12, 0, 10\nprint({judgement.call.text})\n```",
    ]
    asked: list[str] = []

    def say(question: str) -> str:
        asked.append(question)
        return replies[len(asked) - 1]

    script, result = write_script(
        FakeModel(lambda conversation: say(conversation[-1].content)), "How?", judgement, catalogue, run=True
    )
    assert (script.writer, result and result.printed) == ("fake", "10\n")
    assert ["no Python code" in asked[1], "it fails: ZeroDivisionError" in asked[2]] == [True, True]
    with pytest.raises(ModelError, match="wrote no script that can be used"):
        write_script(FakeModel(lambda conversation: "No."), "How?", judgement, catalogue)


# --- the demo's package


@pytest.mark.slow
def test_most_calls_of_networkx_become_scripts_that_run() -> None:
    """Of the entries that the demo's test questions are about; docs/stages/script.md has the count and the reasons."""
    read = read_package("networkx")
    catalogue, answers = read.catalogue, finished.answers_of(read.documents, read.catalogue)
    lines = Path("examples/networkx-assistant/questions/asked.jsonl").read_text(encoding="utf-8").splitlines()
    entries = list(dict.fromkeys(json.loads(line)["acceptable"][0] for line in lines))
    ran = 0
    for path in entries:
        # Which name is another's alias hangs on what else is installed: networkx's writer of GraphML takes lxml's.
        entry = catalogue.resolve(path)
        assert entry is not None
        judgement = checked_call(answers[entry.id], catalogue)
        found = first_that_runs(template_scripts(answers[entry.id], judgement, catalogue), catalogue)
        ran += found is not None and found[1].error is None
    assert (len(entries), ran >= 210) == (230, True), ran
