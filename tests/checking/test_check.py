"""Checking a file: counted as it would be rendered, in one process or several, with findings by line."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from numpy import uint32
from numpy.typing import NDArray
from tests.families import FAMILIES

from tunesmith.checking.block import Looker, Order
from tunesmith.checking.check import blocks_of, check
from tunesmith.checking.dedupe import FileTexts, dedupe
from tunesmith.checking.mend import mend
from tunesmith.curating.near import minima_of
from tunesmith.errors import UsageError
from tunesmith.models.counting import counter_of
from tunesmith.models.local import load_tokenizer
from tunesmith.progress import Progress
from tunesmith.training.inspect import inspect
from tunesmith.training.settings import settings_from

WORDS = [
    "graph",
    "Café",
    "don't",
    "x=1",
    "  ",
    "\n",
    "12",
    "é",
    "naïve",
    "it's",
    "...",
    "(a)",
    "文字",
    "the",
    "\t",
]


@pytest.fixture(scope="module")
def base(family_folder: Callable[[str], Path]) -> Path:
    """Return the folder of a tiny SmolLM2, whose tokenizer is byte-level."""
    return family_folder("smollm2")


def _row(chance: random.Random) -> dict[str, Any]:
    turns = [{"role": "system", "content": "Be brief."}] if chance.random() < 0.4 else []
    for _ in range(chance.choice((1, 1, 2))):
        for role in ("user", "assistant"):
            words = " ".join(chance.choices(WORDS, k=chance.randint(1, 12)))
            turns.append({"role": role, "content": words or "yes"})
    return {"messages": turns}


def _order(path: Path, base: Path, **more: object) -> Order:
    words = [f"{key}={value}" for key, value in ({"max_length": 4096} | more).items()]
    return Order(path, base, settings_from(words, base=f"path:{base}", objective="answers"))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_counted_as_they_would_be_rendered(
    tmp_path: Path, family_folder: Callable[[str], Path], family: str
) -> None:
    """Tokens, labelled ones, the longest and the faulty rows are those that rendering each row finds."""
    chance = random.Random(3)
    rows = [json.dumps(_row(chance)) for _ in range(200)]
    base = family_folder(family)
    rows[17] = "{"
    rows[40] = json.dumps({"messages": [{"role": "user", "content": "no answer?"}]})
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    order = _order(path, base, max_length=60)

    found = check(order, workers=1).inspection

    assert found == inspect(path, load_tokenizer(base), order.settings)


def test_counting_is_used(base: Path) -> None:
    """The tiny tokenizer is one whose words can be counted, so that the test above compares two ways."""
    assert counter_of(base / "tokenizer.json") is not None


def test_several_processes_find_what_one_finds(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are joined in their order, whichever is ready first."""
    chance = random.Random(5)
    path = tmp_path / "chats.jsonl"
    rows = [json.dumps(_row(chance)) for _ in range(60)]
    path.write_text("\n".join([*rows, rows[3], "", rows[5]]), encoding="utf-8")
    order = _order(path, base)
    alone = check(order, workers=1)
    monkeypatch.setattr("tunesmith.checking.check.BLOCK", 2_000)
    monkeypatch.setattr("tunesmith.checking.check.ALONE", 0)

    together = check(order, workers=2)

    assert together == alone
    assert alone.quality is not None
    assert [(each.line, each.finding.rule) for each in alone.quality.findings if each.finding.turn is None][
        -2:
    ] == [
        (61, "duplicate"),
        (63, "duplicate"),
    ]


def test_blocks_are_whole_lines_and_the_whole_file(tmp_path: Path) -> None:
    """Each begins where the one before ends, and knows the number of its first line."""
    path = tmp_path / "lines"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(1, 500)) + b"end")

    blocks = list(blocks_of(path, 100))

    data = path.read_bytes()
    pieces = [data[block.start : block.end] for block in blocks]
    assert b"".join(pieces) == data
    assert [int(piece.split(b"\n")[0]) for piece in pieces[:-1]] == [block.line for block in blocks[:-1]]


def test_a_file_that_is_not_there_is_named(tmp_path: Path, base: Path) -> None:
    """Nothing is begun for it."""
    with pytest.raises(UsageError, match="cannot be read"):
        check(_order(tmp_path / "none.jsonl", base), workers=1)


def test_an_empty_file_has_no_rows(tmp_path: Path, base: Path) -> None:
    """It is read, and holds nothing."""
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"")

    assert check(_order(path, base), workers=1).inspection.rows == 0


def test_mending_changes_what_it_says_and_nothing_else(tmp_path: Path, base: Path) -> None:
    """Rows without fault stay to the byte; each change stands in the diff; a second time nothing is left to mend."""
    good = '{"messages":  [{"role": "user", "content": "a b?"}, {"role": "assistant", "content": "c"}]}'
    broken = json.dumps(
        {
            "messages": [
                {"role": "user", "content": "x\u200b y?"},
                {"role": "assistant", "content": "{'a': None}"},
            ]
        }
    )
    path, out = tmp_path / "chats.jsonl", tmp_path / "mended.jsonl"
    path.write_text(f"{good}\n{broken}\n{good}\n", encoding="utf-8")
    between = check(_order(path, base), workers=1).between
    assert between is not None

    made = mend(path, out, between)

    first, second = out.read_text(encoding="utf-8").splitlines()
    assert first == good
    assert [turn["content"] for turn in json.loads(second)["messages"]] == ["x y?", '{"a": null}']
    assert (made.rows, made.changed, made.left_out) == (2, 1, 1)
    assert [line[:2] for line in made.diff.read_text(encoding="utf-8").splitlines()] == [
        "--", "++", "@@", '-{', '+{', "@@", '-{'
    ]  # fmt: skip
    with pytest.raises(UsageError, match="is there already"):
        mend(path, out, between)


def test_more_duplicates_than_are_shown_are_all_left_out(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings are shown up to a number, and mended all."""
    monkeypatch.setattr("tunesmith.checking.check.MOST_FINDINGS", 2)
    path = tmp_path / "chats.jsonl"
    path.write_text((json.dumps(_row(random.Random(1))) + "\n") * 9, encoding="utf-8")

    report = check(_order(path, base), workers=1)

    assert report.quality is not None
    assert report.between is not None
    assert report.quality.by_rule["duplicate"] == 8
    assert len(report.quality.between.duplicates) == 2
    assert mend(path, tmp_path / "mended.jsonl", report.between).left_out == 8


def test_repeated_rows_are_left_out_and_shown(tmp_path: Path) -> None:
    """The first of each stays, to the byte; the pairs have lines, words and how like they are."""
    words = " ".join(f"w{number}" for number in range(40))
    texts = [f"{words} one", "something else", f"{words} ONE.", f"{words} two", "another thing"]
    rows = [json.dumps({"messages": [{"role": "user", "content": text}]}) for text in texts]
    path, out = tmp_path / "rows.jsonl", tmp_path / "left.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")

    made = dedupe(path, out, near=0.9)

    assert out.read_text(encoding="utf-8").splitlines() == [rows[0], rows[1], rows[4]]
    pairs = [json.loads(line) for line in made.pairs.read_text(encoding="utf-8").splitlines()]
    assert [(pair["line"], pair["earlier"], pair["likeness"]) for pair in pairs] == [
        (3, 1, "same"),
        (4, 1, "near"),
    ]
    assert pairs[1]["similarity"] == pytest.approx(40 / 42, abs=1e-4)
    assert (made.rows, made.kept, made.same, made.near) == (5, 3, 1, 1)

    def hashed_elsewhere(rows: FileTexts, on_progress: Progress) -> NDArray[uint32]:
        return minima_of(list(rows))

    again = dedupe(path, tmp_path / "again.jsonl", near=0.9, minima=hashed_elsewhere)
    assert again.pairs.read_bytes() == made.pairs.read_bytes()
    assert again.out.read_bytes() == out.read_bytes()


def test_a_looker_gives_up_counting_where_the_template_looks_inside(tmp_path: Path, base: Path) -> None:
    """A template that does something with certain words is found out, and its rows are rendered."""
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps(_row(random.Random(1))) + "\n", encoding="utf-8")
    looker = Looker(_order(path, base))
    looker.tokenizer.chat_template = str(looker.tokenizer.chat_template).replace(
        "content']", "content'].replace('a', 'aa')"
    )

    [block] = blocks_of(path)
    seen = looker.look(block)

    assert seen.tally.rows == 1
    assert set(looker._shapes.values()) == {None}
    assert not looker.distrusted  # the first row of a shape is always compared: nothing was counted before


class _Here:
    """A pool whose one worker is this process."""

    def __init__(self, workers: int, begin: Callable[..., None], *given: object) -> None:
        begin(*given)

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterator[Any]:
        return map(function, items)


@pytest.mark.parametrize("pool", [None, _Here], ids=["alone", "together"])
def test_what_was_counted_before_the_first_mismatch_is_not_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family_folder: Callable[[str], Path],
    pool: type[_Here] | None,
) -> None:
    """One row whose words the template changes, met after others were counted: every row is rendered."""
    base = tmp_path / "base"
    shutil.copytree(family_folder("smollm2"), base)
    template = base / "chat_template.jinja"
    template.write_text(
        template.read_text(encoding="utf-8").replace("content']", "content'].replace('ab', 'a b c d')"),
        encoding="utf-8",
    )
    said = ["x y", "ab", "x ab", *["x y"] * 6, "x ab", "x y"]
    path = tmp_path / "chats.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "c"}]}
            )
            + "\n"
            for text in said
        ),
        encoding="utf-8",
    )
    order = _order(path, base)
    # Such a template is known by its text; here it is not, only one row of a shape is compared, and each third.
    monkeypatch.setattr("tunesmith.training.quick._LOOKS_INSIDE", re.compile("(?!)"))
    monkeypatch.setattr("tunesmith.checking.block._FIRST_COMPARED", 1)
    monkeypatch.setattr("tunesmith.checking.block._COMPARED_EVERY", 3)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")

    found = check(order, workers=1, pool=pool).inspection

    assert found == inspect(path, load_tokenizer(base), order.settings)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("quiz.txt", "Tom gave three of his seven apples to Ann in the morning"),
        ("quiz.csv", "id,q\n1,Tom gave three of his seven apples to Ann in the morning\n"),
        (
            "quiz.jsonl",
            '{"question": "Tom gave three of his seven apples", "answer": "to Ann in the morning"}',
        ),
        (
            "quiz.json",
            '[{"messages": [{"role": "user", "content": "Tom gave three of his seven apples to Ann"}]}]',
        ),
    ],
)
def test_rows_of_a_benchmark_are_found(tmp_path: Path, base: Path, name: str, text: str) -> None:
    """In whatever form it comes; each with its row there."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    said = [{"role": "user", "content": "Today Tom gave three of his seven apples to Ann in the morning."}]
    row = {"messages": [*said, {"role": "assistant", "content": "So four are left."}]}
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    order = replace(_order(path, base), against=(tmp_path / name,))

    quality = check(order, workers=1).quality

    assert quality is not None
    [found] = quality.findings
    assert found.finding.rule == "leak"
    assert found.finding.found.startswith(
        f"row 1 of {name} stands in it: 'tom gave three of his seven apples to"
    )


def test_a_benchmark_that_holds_nothing_is_named(tmp_path: Path, base: Path) -> None:
    """Nothing would ever be found against it."""
    (tmp_path / "quiz.txt").write_text("\n", encoding="utf-8")
    path = tmp_path / "chats.jsonl"
    path.write_text("{}", encoding="utf-8")

    with pytest.raises(UsageError, match="holds no row"):
        check(replace(_order(path, base), against=(tmp_path / "quiz.txt",)), workers=1)
