"""Written questions: every line read or named, none lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.errors import DatasetError
from tunesmith.generating.written import read_written
from tunesmith.records import Written


def test_lines_name_one_entry_or_several(tmp_path: Path) -> None:
    """An entry comes before the other acceptable ones; blank lines, a BOM and U+2028 do no harm."""
    path = tmp_path / "train.jsonl"
    path.write_text(
        '\ufeff{"question": " How big? ", "entry": "shapes.area"}\n\n'
        '{"question": "a\u2028b?", "acceptable": ["x.a", "x.b", "x.a"]}\n'
        '{"question": "c?", "entry": "x.b", "acceptable": ["x.a", "x.b"]}\n',
        encoding="utf-8",
    )

    assert read_written(path) == (
        Written("How big?", ("shapes.area",), "train.jsonl", 1),
        Written("a\u2028b?", ("x.a", "x.b"), "train.jsonl", 3),
        Written("c?", ("x.b", "x.a"), "train.jsonl", 4),
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2: not JSON: Expecting property name enclosed in double quotes at character 2"),
        ("[]", "line 2: not an object with the keys question and entry"),
        (
            '{"question": "a b?", "reply": "x"}',
            "unknown key 'reply'; known are acceptable, answer, entry, question",
        ),
        ('{"question": "a b?", "answer": " "}', "the answer is no text"),
        (
            '{"question": "a b?", "answer": "x", "entry": "y"}',
            "an answer in words and an entry: the answer of an entry is derived, so give one of the two",
        ),
        ('{"question": " ", "entry": "x"}', "line 2: no question"),
        ('{"question": "a b?"}', "line 2: neither entry nor acceptable names an entry"),
        ('{"question": "a b?", "entry": 3}', "line 2: entry is not a name"),
        ('{"question": "a b?", "acceptable": "x"}', "line 2: acceptable is not a list of names"),
    ],
)
def test_a_broken_line_is_named_with_what_is_wrong(tmp_path: Path, line: str, problem: str) -> None:
    """Each kind of defect has its line number and its words."""
    path = tmp_path / "train.jsonl"
    path.write_text(f'{{"question": "fine one?", "entry": "x"}}\n{line}\n', encoding="utf-8")

    with pytest.raises(DatasetError) as caught:
        read_written(path)
    assert problem in caught.value.message


def test_all_problems_come_at_once_the_first_twenty_shown(tmp_path: Path) -> None:
    """One run tells everything that is wrong with a file."""
    path = tmp_path / "train.jsonl"
    path.write_text("nonsense\n" * 25, encoding="utf-8")

    with pytest.raises(DatasetError) as caught:
        read_written(path)
    assert "25 line(s) cannot be used" in caught.value.message
    assert caught.value.message.count("not JSON") == 20
    assert caught.value.message.endswith("and 5 more")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, a folder and other encodings are errors with the path, not tracebacks."""
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"question": "caf\xe9?"}')

    for path, words in (
        (tmp_path / "none.jsonl", "no such file"),
        (latin, "not UTF-8"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(DatasetError, match=words) as caught:
            read_written(path)
        assert str(path) in caught.value.message


@pytest.mark.parametrize("text", ["", "\ufeff", "\n  \n"])
def test_a_file_without_questions_is_refused(tmp_path: Path, text: str) -> None:
    """Somebody named it, so somebody thinks that it holds some."""
    path = tmp_path / "questions.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"questions\.jsonl: there is no question in it"):
        read_written(path)
