"""What is found in a file of examples is what training would find, and a mask shows what a row teaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.errors import RowError, TrainingError, UsageError
from tunesmith.training.example_files import Fault, examples
from tunesmith.training.inspect import LongRow, Mask, Span, inspect, masks
from tunesmith.training.preflight import RowChecks
from tunesmith.training.render import Rendered
from tunesmith.training.rows import rendered
from tunesmith.training.settings import TrainSettings

SETTINGS = TrainSettings(max_length=64)


def chat(question: str, *turns: str) -> object:
    """Return a line: a question, then answers and questions in turn."""
    roles = ("assistant", "user")
    messages = [{"role": roles[number % 2], "content": words} for number, words in enumerate(turns)]
    return {"messages": [{"role": "user", "content": question}, *messages]}


def pair(question: str, preferred: str, other: str) -> object:
    """Return a line with a preference."""
    return {
        "input": {"messages": [{"role": "user", "content": question}]},
        "preferred_output": [{"role": "assistant", "content": preferred}],
        "non_preferred_output": [{"role": "assistant", "content": other}],
    }


def written(folder: Path, *rows: object) -> Path:
    """Write rows as JSON lines."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_what_is_without_fault_is_counted(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """Rows, tokens and learned tokens are those of the rows that training makes; the longest come first."""
    path = written(tmp_path, chat("is it?", "it is"), chat("this is the path?", "the path is found"))
    rows, length = rendered(chat_tokenizer, examples(path, "answers"), SETTINGS)
    texts = [row for row in rows if isinstance(row, Rendered)]
    found = inspect(path, chat_tokenizer, SETTINGS)
    assert found.ready
    assert (found.rows, found.faulty, found.faults) == (2, 0, ())
    assert found.tokens == sum(len(row.ids) for row in texts)
    assert found.labelled == sum(row.labelled for row in texts)
    assert [row.line for row in found.longest] == [2, 1]
    assert found.longest[0] == LongRow(2, length.longest)


def test_all_faults_are_told_by_their_lines(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """One fault does not hide the next; a line with two faults is one faulty row."""
    path = written(
        tmp_path,
        chat("is it?", "it is"),
        chat("is it?"),
        {"prompt": "is it?"},
        chat("is it?", "<|im_end|>"),
        chat("is it?", "it is " * 30),
    )
    found = inspect(path, chat_tokenizer, SETTINGS)
    assert [(fault.line, fault.rule) for fault in found.faults] == [
        (2, "turns"),
        (3, "shape"),
        (3, "shape"),
        (4, "words"),
        (5, "length"),
    ]
    assert (found.rows, found.faulty, found.over, found.ready) == (5, 4, 1, False)
    longest = found.longest[0].tokens
    assert found.faults[-1] == Fault(
        5,
        "length",
        f"{longest} tokens, and max_length is 64",
        f"Train with max_length = {longest} (more memory), or with too_long = cut or drop.",
    )


@pytest.mark.parametrize("weights", [(0, 1), (1, 0), (0, 0), (1, 1)])
def test_only_turns_that_weigh_are_learned(
    tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast, weights: tuple[int, int]
) -> None:
    """A turn of weight 0 is read, wherever it stands; where all are, nothing would be learned and that is a fault."""
    row: Any = chat("is it?", "it is", "this?", "the path is found")
    for turn, weight in zip((1, 3), weights, strict=True):
        row["messages"][turn]["weight"] = weight
    path = written(tmp_path, row)
    if not any(weights):
        [fault] = inspect(path, chat_tokenizer, SETTINGS).faults
        assert fault.rule == "answer"
        return
    assert inspect(path, chat_tokenizer, SETTINGS).ready
    [mask] = masks(path, chat_tokenizer, SETTINGS)
    learned = "".join(span.text for span in mask.spans if span.kind == "learned")
    expected = [
        words for words, weight in zip(("it is", "the path is found"), weights, strict=True) if weight
    ]
    assert learned == "".join(expected)
    assert sum(span.kind == "end" for span in mask.spans) == sum(weights)


def test_a_rule_of_the_preflight_is_told_without_its_example(
    tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that changes the answer's words is a fault of the line, not of "training example 1"."""
    template = str(chat_tokenizer.chat_template).replace(
        "message['content']", "message['content'] | replace('path', 'way')"
    )
    monkeypatch.setattr(chat_tokenizer, "chat_template", template)
    [fault] = inspect(written(tmp_path, chat("is it?", "the path")), chat_tokenizer, SETTINGS).faults
    assert (fault.line, fault.rule) == (1, "words")
    assert fault.found == "would teach other words than the assistant's: 'the way' for 'the path'"


def test_a_refusal_of_the_template_is_a_fault(
    tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template's own words say why."""
    monkeypatch.setattr(
        chat_tokenizer,
        "chat_template",
        "{% if messages | length > 2 %}{{ raise_exception('too many turns') }}{% endif %}"
        + str(chat_tokenizer.chat_template),
    )
    path = written(tmp_path, chat("is it?", "it is"), chat("is it?", "it is", "is it?", "it is"))
    [fault] = inspect(path, chat_tokenizer, SETTINGS).faults
    assert (fault.line, fault.rule) == (2, "template")
    assert "too many turns" in fault.found


@pytest.mark.parametrize("too_long", ["refuse", "cut", "drop"])
@pytest.mark.parametrize("question", ["is it?", "is it? " * 30])
def test_what_is_ready_is_what_training_takes(
    tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast, too_long: str, question: str
) -> None:
    """Whatever becomes of long rows: training refuses just where there is a fault."""
    settings = TrainSettings.model_validate({"max_length": 64, "too_long": too_long})
    path = written(tmp_path, chat("is it?", "it is"), chat(question, "it is " * 30))
    try:
        rendered(
            chat_tokenizer,
            examples(path, "answers"),
            settings,
            check=RowChecks(chat_tokenizer, "training"),
        )
        taken = True
    except TrainingError:
        taken = False
    assert inspect(path, chat_tokenizer, settings).ready == taken


def test_pairs_and_texts_are_inspected(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """An answer preferred to itself is a fault; texts are cut, never too long."""
    pairs = TrainSettings(objective="preferences")
    found = inspect(
        written(tmp_path, pair("is it?", "it is", "no"), pair("is it?", "no", "no")), chat_tokenizer, pairs
    )
    assert [(fault.line, fault.rule, fault.found) for fault in found.faults] == [
        (2, "pair", "prefers an answer to itself")
    ]
    texts = TrainSettings(objective="text", max_length=16)
    assert inspect(written(tmp_path, {"text": "it is " * 40}), chat_tokenizer, texts).ready


def test_an_empty_file_is_not_ready(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """There is nothing wrong in it, and nothing to learn."""
    assert not inspect(written(tmp_path), chat_tokenizer, SETTINGS).ready


# --- masks


def shown(mask: Mask) -> list[tuple[str, str]]:
    """Return a mask's stretches, each with what is done with it."""
    return [(span.text, "cut" if span.cut else span.kind) for span in mask.spans]


def test_a_mask_shows_what_is_read_and_learned(
    tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Special tokens stand by their names, the end of turn apart, and all stretches joined are the row."""
    path = written(tmp_path, chat("is it?", "it is", "the path?", "this"), chat("a", "b"))
    [mask] = masks(path, chat_tokenizer, SETTINGS)
    assert [each for each in shown(mask) if each[1] != "read"] == [
        ("it is", "learned"),
        ("<|im_end|>", "end"),
        ("this", "learned"),
        ("<|im_end|>", "end"),
    ]
    assert mask.spans[0] == Span("<|im_start|>", "read", special=True, cut=False)
    assert "".join(span.text for span in mask.spans) == (
        "<|im_start|>user\nis it?<|im_end|>\n<|im_start|>assistant\nit is<|im_end|>\n"
        "<|im_start|>user\nthe path?<|im_end|>\n<|im_start|>assistant\nthis<|im_end|>"
    )


def test_a_mask_shows_what_is_cut_off(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """What stands past max_length is not learned, the end of turn with it."""
    path = written(tmp_path, chat("is it?", "it is " * 30))
    [mask] = masks(path, chat_tokenizer, SETTINGS)
    assert [kind for _, kind in shown(mask)][-3:] == ["learned", "cut", "cut"]
    assert mask.tokens > 64
    [row] = rendered(chat_tokenizer, examples(path, "answers"), TrainSettings(max_length=64, too_long="cut"))[
        0
    ]
    assert isinstance(row, Rendered)
    assert mask.learned == row.labelled


def test_masks_show_the_padding_among_them(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """Rows that stand in one batch are filled up to one width."""
    path = written(tmp_path, chat("is it?", "it is"), chat("is it?", "it is found by this function"))
    one, two = masks(path, chat_tokenizer, SETTINGS, count=2)
    assert one.tokens + one.padding == two.tokens + two.padding
    assert one.padding > two.padding
    assert one.pad == "<|im_end|>"


def test_a_text_is_learned_from_its_second_token(
    tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast
) -> None:
    """The first of a piece is never predicted."""
    settings = TrainSettings(objective="text", max_length=16)
    pieces = masks(written(tmp_path, {"text": "it is " * 20}), chat_tokenizer, settings)
    assert [mask.title for mask in pieces] == [f"piece {number}" for number in range(1, len(pieces) + 1)]
    assert len(pieces) > 1
    assert shown(pieces[0])[0] == ("<|im_start|>", "read")
    assert pieces[0].learned == 15


def test_both_answers_of_a_pair_are_shown(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """Each with its title."""
    settings = TrainSettings(objective="preferences")
    found = masks(written(tmp_path, pair("is it?", "it is", "no")), chat_tokenizer, settings)
    assert [(mask.title, ("no", "learned") in shown(mask)) for mask in found] == [
        ("preferred", False),
        ("not preferred", True),
    ]


def test_a_line_is_asked_for(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast) -> None:
    """Its row is shown; a faulty one says why it cannot be, and one that is not there is named."""
    path = written(tmp_path, chat("is it?", "it is"), chat("is it?"), chat("is it?", "this"))
    [mask] = masks(path, chat_tokenizer, SETTINGS, line=3)
    assert (mask.line, shown(mask)[-2]) == (3, ("this", "learned"))
    with pytest.raises(RowError, match="line 2, turns: a conversation without an assistant turn"):
        masks(path, chat_tokenizer, SETTINGS, line=2)
    with pytest.raises(UsageError, match="No example begins at line 9"):
        masks(path, chat_tokenizer, SETTINGS, line=9)
    assert [mask.line for mask in masks(path, chat_tokenizer, SETTINGS, count=5)] == [1, 3]
