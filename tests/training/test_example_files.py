"""Files of examples: what is read of them, what is a fault, and which rows are held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import DatasetError, UsageError
from tunesmith.records import Message, Preference
from tunesmith.serving.talk import conversation_of, made_calls
from tunesmith.serving.wire.chat import CreateChat
from tunesmith.training.example_files import (
    TEXT_CHARACTERS,
    Fault,
    HoldOut,
    Line,
    examples,
    objective_in,
    read,
    survey,
)

ASKED, SAID = {"role": "user", "content": "why?"}, {"role": "assistant", "content": "so."}
CHAT = {"messages": [ASKED, SAID]}
PAIR = {
    "input": {"messages": [ASKED]},
    "preferred_output": [SAID],
    "non_preferred_output": [{"role": "assistant", "content": "no."}],
}
FIND = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


def called(name: str, *arguments: str) -> dict[str, object]:
    """Return a message that calls a function, once with each arguments."""
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": each}}
        for number, each in enumerate(arguments)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def written(folder: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    """Write rows as JSON lines; a text is a line as it is."""
    path = folder / name
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def test_the_three_shapes_are_read(tmp_path: Path) -> None:
    """A chat, a pair and a text become what training takes, each with its line; blank lines are passed over."""
    question, answer = Message("user", "why?"), Message("assistant", "so.")
    pair = Preference((question,), answer, Message("assistant", "no."))
    assert list(read(written(tmp_path, "", CHAT), "answers")) == [Line(2, (question, answer))]
    assert list(read(written(tmp_path, PAIR), "preferences")) == [Line(1, pair)]
    assert list(read(written(tmp_path, {"text": "so."}), "text")) == [Line(1, "so.")]


@pytest.mark.parametrize(
    ("first", "objective"),
    [(CHAT, "answers"), (PAIR, "preferences"), ({"text": "a"}, "text"), ("{", "answers"), ([], "answers")],
)
def test_the_first_row_says_what_is_learned(tmp_path: Path, first: object, objective: str) -> None:
    """A file's first row tells its objective; what means nothing is taken for a chat, whose faults are told."""
    assert objective_in(written(tmp_path, "", first)) == objective


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """Some editors write one."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(CHAT).encode())
    assert [type(line) for line in read(path, objective_in(path))] == [Line]


SHAPE = "A line is a chat (messages) as OpenAI's files have it."
LOST = "Take it out."


@pytest.mark.parametrize(
    ("row", "faults"),
    [
        (
            "{oops",
            [("json", "not JSON: key must be a string in column 2", "Write one JSON object on each line.")],
        ),
        ([1], [("shape", "a list, not an object", SHAPE)]),
        (
            {"prompt": "a"},
            [
                ("shape", "messages is missing", SHAPE),
                ("shape", "prompt is not read, so it would be lost", LOST),
            ],
        ),
        (
            {"messages": [{**ASKED, "mood": "good"}, {"role": "bot", "content": "a"}]},
            [
                ("shape", "messages[0].mood is not read, so it would be lost", LOST),
                (
                    "shape",
                    "messages[1].role is \"bot\": it should be 'system', 'developer', 'user', 'assistant', 'tool' or "
                    "'function'",
                    SHAPE,
                ),
            ],
        ),
        (
            {"messages": [ASKED, {**SAID, "name": "Bo"}, {**ASKED, "weight": 0}, {**SAID, "weight": 0.5}]},
            [
                (
                    "shape",
                    "messages[1]: an assistant's 'name' is not read, so it would be lost: take it out",
                    SHAPE,
                ),
                (
                    "shape",
                    "messages[2]: a message of the user has a 'weight': only what the assistant says is learned",
                    SHAPE,
                ),
                ("shape", "messages[3].weight is 0.5: it should be 0 or 1", SHAPE),
            ],
        ),
        (
            {"messages": [ASKED, called("find", "{oops")], "tools": [FIND]},
            [
                (
                    "shape",
                    "messages[1]: the arguments of 'find' are not JSON: Expecting property name enclosed in double "
                    "quotes: line 1 column 2 (char 1)",
                    SHAPE,
                )
            ],
        ),
        (
            {"messages": [ASKED, called("find", "[]")], "tools": [FIND]},
            [("shape", "messages[1]: the arguments of 'find' are no JSON object", SHAPE)],
        ),
        (
            {"messages": [ASKED, called("lose", "{}")], "tools": [FIND]},
            [("shape", "'lose' is called and is not among the tools", SHAPE)],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]},
                    SAID,
                ]
            },
            [
                (
                    "shape",
                    "messages[0].content[0].image_url: pictures, sounds and files are not read here: send text",
                    SHAPE,
                )
            ],
        ),
        (
            {"messages": [{"role": "user", "content": 5}]},
            [("shape", "messages[0].content is 5: it should be a valid string", SHAPE)],
        ),
        (
            {"text": "a"},
            [
                (
                    "shape",
                    "a text (text), where a chat (messages) is needed",
                    "Take it out, or take the objective text for the whole file.",
                )
            ],
        ),
    ],
)
def test_each_fault_of_a_line_is_told(
    tmp_path: Path, row: object, faults: list[tuple[str, str, str]]
) -> None:
    """Rule, finding and way out, all of a line; the lines after it are read."""
    found = list(read(written(tmp_path, row, CHAT), "answers"))
    assert found[:-1] == [Fault(1, *fault) for fault in faults]
    assert isinstance(found[-1], Line)


def test_a_pair_has_one_answer_on_each_side(tmp_path: Path) -> None:
    """OpenAI's form has a list there; more than one message in it is no answer."""
    [fault] = read(written(tmp_path, {**PAIR, "preferred_output": [SAID, SAID]}), "preferences")
    assert isinstance(fault, Fault)
    assert fault.found.startswith("preferred_output is [{")
    [fault] = read(written(tmp_path, {**PAIR, "preferred_output": [{**SAID, "weight": 1}]}), "preferences")
    assert isinstance(fault, Fault)
    assert fault.found == "preferred_output[0].weight is not read, so it would be lost"
    [fault] = read(written(tmp_path, {**PAIR, "preferred_output": [called("find", "{}")]}), "preferences")
    assert isinstance(fault, Fault)
    assert fault.found == "'find' is called and is not among the tools"


def test_rows_with_tools_are_what_the_server_reads_and_says(tmp_path: Path) -> None:
    """Up to each answer a row is the prompt of the same chat; what calls is what the server takes for these calls."""
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "Ann", "content": [{"type": "text", "text": each} for each in ("Two ", "nodes.")]},
        called("find", '{"name":"a"}', '{"name": "é"}'),
        {"role": "tool", "tool_call_id": "call_0", "content": "1"},
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        SAID,
    ]  # fmt: skip
    [line] = read(
        written(tmp_path, {"messages": messages, "tools": [FIND], "parallel_tool_calls": True}), "answers"
    )
    assert isinstance(line, Line)
    row = line.example
    assert isinstance(row, tuple)
    for answer, end in ((2, 2), (4, 5)):
        asked = CreateChat.model_validate({"model": "m", "messages": messages[:end], "tools": [FIND]})
        assert row[:answer] == conversation_of(asked)
    assert [message.role for message in row] == ["system", "user", "assistant", "user", "assistant"]
    assert row[1].content == "Ann: Two nodes."
    assert row[2].content == (
        '{"name": "find", "arguments": {"name": "a"}}\n{"name": "find", "arguments": {"name": "é"}}'
    )
    assert [json.loads(call.arguments)["name"] for call in made_calls(asked, row[2].content)] == ["a", "é"]
    assert row[3].content == "Result of find: 1\nResult of find: 2"
    calling = {"input": {"messages": [ASKED], "tools": [FIND]}, "preferred_output": [called("find", "{}")]}
    [pair] = read(written(tmp_path, PAIR | calling), "preferences")
    assert isinstance(pair, Line)
    assert isinstance(pair.example, Preference)
    assert pair.example.chosen.content == '{"name": "find", "arguments": {}}'
    assert "find" in pair.example.prompt[0].content


def test_turns_of_weight_nought_are_read_and_not_learned(tmp_path: Path) -> None:
    """The weight is the row's, and the same chat with other weights is another row."""
    rows = [
        {"messages": [ASKED, {**SAID, "weight": weight}, ASKED, {**SAID, "weight": 1}]} for weight in (0, 1)
    ]
    lines = list(read(written(tmp_path, *rows), "answers"))
    weights = [
        [m.weight for m in line.example]
        for line in lines
        if isinstance(line, Line) and isinstance(line.example, tuple)
    ]
    assert weights == [[1, 0, 1, 1], [1, 1, 1, 1]]
    digests = {survey(written(tmp_path, row), "answers").digest for row in rows}
    assert len(digests) == 2


def test_a_plain_file_is_cut_at_blank_lines(tmp_path: Path) -> None:
    """Texts are long enough, begin where a line does, and joined they are the file."""
    paragraph = "word " * (TEXT_CHARACTERS // 8) + "\n"
    path = written(tmp_path, *[paragraph] * 5, name="book.txt")
    found = list(read(path, objective_in(path)))
    assert [line.number for line in found if isinstance(line, Line)] == [1, 5, 9]
    assert "".join(examples_of(path)) == path.read_text(encoding="utf-8")


def test_a_plain_file_without_blank_lines_is_cut_too(tmp_path: Path) -> None:
    """A text is at most about twice as long as it should be."""
    path = written(tmp_path, *["x" * 100] * 200, name="log.txt")
    assert max(len(text) for text in examples_of(path)) <= 2 * TEXT_CHARACTERS + 101


def examples_of(path: Path) -> list[str]:
    """Return the texts of a file."""
    return [example for example in examples(path, "text") if isinstance(example, str)]


def test_plain_text_is_not_learned_as_answers(tmp_path: Path) -> None:
    """It has no questions; bytes that are no UTF-8 are a fault of their line."""
    path = tmp_path / "book.txt"
    path.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(UsageError, match="is plain text, which is not learned as answers"):
        list(read(path, "answers"))
    assert Fault(2, "encoding", "not UTF-8", "Save the file as UTF-8.") in list(read(path, "text"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named, with what to give instead."""
    with pytest.raises(UsageError, match=r"none\.jsonl cannot be read: No such file") as caught:
        objective_in(tmp_path / "none.jsonl")
    assert caught.value.hint == "Give a file of examples: JSON lines, or a .txt."


def test_a_survey_counts_and_tells_files_apart(tmp_path: Path) -> None:
    """The digest hangs on what is learned, not on how it is written down."""
    one = survey(written(tmp_path, CHAT, CHAT, name="one.jsonl"), "answers")
    spaced = survey(
        written(tmp_path, json.dumps(CHAT, indent=None, separators=(" ,", " : ")), CHAT), "answers"
    )
    other = survey(
        written(tmp_path, CHAT, {"messages": [ASKED, {**SAID, "content": "no"}]}, name="o.jsonl"), "answers"
    )
    assert (one.rows, one.digest) == (2, spaced.digest)
    assert one.digest != other.digest
    assert one.places == other.places  # the same questions


def test_a_survey_refuses_with_all_lines(tmp_path: Path) -> None:
    """The first faults are listed, the others counted, and the command that shows them is named."""
    path = written(tmp_path, *["{"] * 7)
    with pytest.raises(DatasetError) as caught:
        survey(path, "answers")
    assert caught.value.message.count("\n  line ") == 5
    assert caught.value.message.endswith("\n  and 2 more")
    assert caught.value.hint == f"See each with its way out: tunesmith check {path}"
    with pytest.raises(DatasetError, match="holds no example"):
        survey(written(tmp_path, ""), "answers")


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=5),
        min_size=2,
        max_size=60,
        unique=True,
    )
)
def test_held_out_rows_are_few_stable_and_apart(
    tmp_path_factory: pytest.TempPathFactory, questions: list[str]
) -> None:
    """At least one and about 5 %, the same ones in any order, and the same question never on both sides."""
    rows = [{"messages": [{**ASKED, "content": question}, SAID]} for question in questions]
    folder = tmp_path_factory.mktemp("held")
    path = written(folder, *rows, *rows[:1], name="a.jsonl")
    held = HoldOut(path, survey(path, "answers"))
    kept = [example for example in examples(path, "answers") if held.keeps(example)]
    assert len(kept) == held.rows
    assert 1 <= held.rows <= max(1, round(0.05 * (len(rows) + 1))) + 1  # one question is there twice
    turned = written(folder, *rows[:1], *reversed(rows), name="b.jsonl")
    again = HoldOut(turned, survey(turned, "answers"))
    assert {str(each) for each in examples(turned, "answers") if again.keeps(each)} == set(map(str, kept))


def test_one_prompt_cannot_be_split(tmp_path: Path) -> None:
    """There would be nothing left to train on."""
    path = written(tmp_path, CHAT, CHAT)
    with pytest.raises(DatasetError, match="holds one prompt") as caught:
        HoldOut(path, survey(path, "answers"))
    assert "--valid" in str(caught.value.hint)


def test_examples_are_read_one_at_a_time(tmp_path: Path) -> None:
    """A fault further down is met when its line is reached, not before: no more than a line is in memory."""
    found = examples(written(tmp_path, CHAT, CHAT, "{"), "answers")
    assert len([next(found), next(found)]) == 2
    with pytest.raises(DatasetError, match="line 3, json"):
        next(found)
