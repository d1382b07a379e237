"""Rows from form to form: what each means, that nothing is lost on the way, and what a form cannot hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.cli.ports import RowForm
from tunesmith.errors import DatasetError, UsageError
from tunesmith.training.example_files import Fault, Line, read
from tunesmith.training.formats import Format, Misfit, convert, form_of, from_openai, to_openai


def user(words: str) -> dict[str, Any]:
    """Return a question."""
    return {"role": "user", "content": words}


def said(words: str) -> dict[str, Any]:
    """Return an answer."""
    return {"role": "assistant", "content": words}


CALL = {"id": "call_0", "type": "function", "function": {"name": "find", "arguments": '{"node": "é"}'}}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
CALLING = {
    "messages": [
        user("where?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_0", "content": "near"},
        said("near"),
    ],
    "tools": TOOLS,
}
PAIR = {
    "input": {"messages": [user("a")]},
    "preferred_output": [said("b")],
    "non_preferred_output": [said("c")],
}
SYSTEM = {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    ("form", "row", "openai"),
    [
        ("openai", CALLING, CALLING),
        (
            "sharegpt",
            {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"},
                               {"from": "gpt", "value": "b", "weight": 0}]},
            {"messages": [SYSTEM, user("a"), {**said("b"), "weight": 0}]},
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "where?"},
                               {"from": "function_call", "value": '{"name": "find", "arguments": {"node": "é"}}'},
                               {"from": "observation", "value": "near"}, {"from": "gpt", "value": "near"}],
             "tools": json.dumps([TOOLS[0]["function"]])},
            CALLING,
        ),
        (
            "alpaca",
            {"instruction": "Add.", "input": "1 and 2", "output": "3", "system": "s", "history": [["a", "b"]]},
            {"messages": [SYSTEM, user("a"), said("b"), user("Add.\n\n1 and 2"), said("3")]},
        ),
        ("alpaca", {"instruction": "Add.", "input": "", "output": "3"}, {"messages": [user("Add."), said("3")]}),
        ("prompt-completion", {"prompt": "a", "completion": " b"}, {"messages": [user("a"), said(" b")]}),
        (
            "prompt-completion",
            {"prompt": [SYSTEM, user("a")], "completion": [said("b")]},
            {"messages": [SYSTEM, user("a"), said("b")]},
        ),
        ("preferences", {"prompt": "a", "chosen": "b", "rejected": "c"}, PAIR),
        ("preferences", {"chosen": [user("a"), said("b")], "rejected": [user("a"), said("c")]}, PAIR),
        ("question-answer", {"question": "a", "answer": "b"}, {"messages": [user("a"), said("b")]}),
    ],
)  # fmt: skip
def test_each_form_says_the_same_as_openais(
    form: Format, row: dict[str, Any], openai: dict[str, Any]
) -> None:
    """Known by its keys, and written back it reads the same again."""
    assert form_of(row) == form
    assert to_openai(row, form) == openai
    assert to_openai(from_openai(openai, form), form) == openai


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(
    system=st.none() | TEXTS,
    pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3),
    form=st.sampled_from(["sharegpt", "alpaca", "prompt-completion"]),
)
def test_nothing_of_a_chat_is_lost_on_the_way(
    system: str | None, pairs: list[tuple[str, str]], form: Format
) -> None:
    """There and back, whatever is said."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for asked, answered in pairs:
        messages += [user(asked), said(answered)]
    chat = {"messages": messages}
    there = json.loads(json.dumps(from_openai(chat, form)))
    assert form_of(there) == form
    assert to_openai(there, form) == chat


@pytest.mark.parametrize(
    ("row", "form", "why"),
    [
        (CALLING, "alpaca", "it has tools"),
        (CALLING, "prompt-completion", "it has tools"),
        (PAIR, "sharegpt", "preference pair"),
        ({"messages": [user("a"), said("b")]}, "preferences", "one answer"),
        ({"messages": [user("a"), {**said("b"), "weight": 0}]}, "alpaca", "has weight"),
        ({"messages": [{**user("a"), "name": "Ann"}, said("b")]}, "sharegpt", "has name"),
        ({"messages": [user("a"), user("b"), said("c")]}, "alpaca", "user and assistant in turn"),
        ({"messages": [SYSTEM, user("a"), said("b")]}, "question-answer", "system's words"),
        ({"messages": [user("a")]}, "prompt-completion", "does not end with an answer"),
        (
            {"messages": [user("a"), {**said("b"), "tool_calls": [CALL]}]},
            "sharegpt",
            "says something and calls a function",
        ),
    ],
)
def test_what_a_form_cannot_hold_is_told(row: dict[str, Any], form: Format, why: str) -> None:
    """Not shortened."""
    with pytest.raises(Misfit, match=why):
        from_openai(row, form)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"conversations": []}, "no list of turns"),
        ({"conversations": [{"from": "bot", "value": "a"}]}, r"conversations\[0\]\.from is none of human"),
        ({"conversations": [{"from": "human", "value": 3}]}, r"conversations\[0\]\.value is no text"),
        ({"conversations": [{"from": "human", "value": "a", "mood": 1}]}, "has mood, which is not read"),
        ({"conversations": [{"from": "observation", "value": "a"}]}, "none was called before it"),
        ({"conversations": [{"from": "function_call", "value": "a"}]}, "no JSON of a call"),
        ({"conversations": [{"from": "human", "value": "a"}], "tools": "{"}, "tools is no JSON"),
        ({"instruction": "a", "output": "b", "history": ["c"]}, "history is no list"),
        (
            {"chosen": [user("a"), said("b")], "rejected": [user("c"), said("b")]},
            "differ before their last turns",
        ),
        ({"prompt": 3, "completion": "b"}, "prompt is neither a text nor messages"),
    ],
)
def test_what_is_not_as_its_form_says_is_told(row: dict[str, Any], why: str) -> None:
    """By its place."""
    form = form_of(row)
    assert form is not None
    with pytest.raises(Misfit, match=why):
        to_openai(row, form)


def test_a_file_is_converted_whole_or_not_at_all(tmp_path: Path) -> None:
    """JSON lines, a list and CSV; what no form has is counted, faults are told by their lines."""
    rows = [
        {"instruction": "a", "output": "b\nc", "id": 1},
        {"instruction": "d", "output": "e", "id": 2, "source": "x"},
    ]
    expected = [{"messages": [user("a"), said("b\nc")]}, {"messages": [user("d"), said("e")]}]
    files = {
        "a.jsonl": "\ufeff" + "\n\n".join(map(json.dumps, rows)),
        "a.json": json.dumps(rows, indent=1),
        "a.csv": 'instruction,output,id,source\na,"b\nc",1,\nd,e,2,x\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        out = tmp_path / f"{name}.out.jsonl"
        done = convert(tmp_path / name, out, "openai")
        assert (done.source, done.target, done.rows) == ("alpaca", "openai", 2)
        assert done.left_out["id"] == 2
        assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == expected
        assert all(isinstance(line, Line) for line in read(out, "answers"))
    with pytest.raises(UsageError, match="is there already"):
        convert(tmp_path / "a.csv", out, "openai")
    bad = tmp_path / "bad.json"
    bad.write_text(
        json.dumps(
            [rows[0], {"instruction": "a", "output": 3}, {"question": "a", "answer": "b"}, {"x": 1}], indent=1
        )
    )
    with pytest.raises(DatasetError) as caught:
        convert(bad, tmp_path / "bad.out", "openai")
    assert caught.value.message.split("\n")[1:] == [
        "  line 7: output is no text",
        "  line 11: it is a row of question-answer, where the rows before it are of alpaca",
        "  line 15: its keys (x) are those of no form",
    ]
    assert not list(tmp_path.glob("bad.out*"))
    (tmp_path / "no.jsonl").write_text("{oops")
    with pytest.raises(UsageError, match="line 1, is not JSON"):
        convert(tmp_path / "no.jsonl", tmp_path / "no.out", "openai")
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(DatasetError, match="holds no row"):
        convert(tmp_path / "none.jsonl", tmp_path / "none.out", "openai")


def test_a_row_of_another_form_is_a_fault_that_names_the_way(tmp_path: Path) -> None:
    """Training reads OpenAI's forms alone."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"conversations": [{"from": "human", "value": "a"}]}\n')
    [fault] = read(path, "answers")
    assert isinstance(fault, Fault)
    assert fault.found == "a row of sharegpt, where a chat (messages) is needed"
    assert fault.way_out == "Convert the file: tunesmith convert FILE --to openai --out NEW"


def test_the_command_knows_all_forms() -> None:
    """Its words are those of the library."""
    assert get_args(RowForm) == get_args(Format)
