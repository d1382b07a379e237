"""The split: disjoint, complete, by entry, and stable when examples are added."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.curating.split import Split, SplitSettings, split
from tunesmith.errors import DatasetError
from tunesmith.records import Example


def _examples(entries: int, questions: int, origin: str = "written:t.jsonl:1") -> list[Example]:
    return [
        Example(f"{entry}/{number}", f"question {number} about {entry}", "", origin, f"p.{entry}")
        for entry in range(entries)
        for number in range(questions)
    ]


def _ids(rows: tuple[Example, ...]) -> set[str]:
    return {row.id for row in rows}


def _parts(made: Split) -> tuple[set[str], ...]:
    return (
        _ids(made.train),
        _ids(made.valid),
        _ids(made.seen),
        _ids(made.unseen),
        {r.item for r in made.rejections},
    )


@given(st.integers(5, 40), st.integers(4, 6), st.integers(0, 5), st.floats(0, 0.5))
def test_the_parts_are_disjoint_and_complete(entries: int, questions: int, seed: int, share: float) -> None:
    """Every example is in exactly one set or rejected, and no entry of unseen is in train, valid or seen."""
    examples = _examples(entries, questions)
    made = split(
        examples, SplitSettings(seed=seed, unseen_share=share, unseen_questions=10, seen_questions=5)
    )

    parts = _parts(made)
    assert sum(map(len, parts)) == len(examples)
    assert set().union(*parts) == {example.id for example in examples}
    assert made.unseen_entries.isdisjoint(row.entry for row in (*made.train, *made.valid, *made.seen))
    assert {row.entry for row in made.unseen} <= made.unseen_entries
    assert {row.entry for row in made.seen} <= {row.entry for row in (*made.train, *made.valid)}


@given(st.integers(0, 20), st.integers(0, 5))
def test_new_examples_do_not_move_old_ones(added: int, seed: int) -> None:
    """An entry stays on its side, and a row on its, when others come; limits are not reached here."""
    settings = SplitSettings(seed=seed, unseen_share=0.3, unseen_questions=1000, seen_questions=1000)
    before = split(_examples(30, 4), settings)
    after = split(_examples(30 + added, 4), settings)

    assert all(old <= new for old, new in zip(_parts(before), _parts(after), strict=True))


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"unseen_share": 0.4},
        {"unseen_questions": 3},
        {"seen_questions": 3},
        {"valid_share": 0.3},
    ],
)
def test_every_setting_changes_the_split(changed: dict[str, float]) -> None:
    """No setting is read by nothing."""
    base = {"unseen_share": 0.2, "unseen_questions": 8, "seen_questions": 6, "valid_share": 0.1}
    examples = _examples(40, 4)

    first = split(examples, SplitSettings.model_validate(base))
    assert split(examples, SplitSettings.model_validate({**base, **changed})) != first
    assert split(examples, SplitSettings.model_validate(base)) == first


def test_the_tests_hold_written_questions_only_if_there_are_any() -> None:
    """Questions made by rule about held-out entries are in no set: train would have seen the entry."""
    examples = _examples(40, 3) + [
        Example(f"rule {n}", f"rule {n}", "", "rule:does", f"p.{n}") for n in range(60)
    ]

    made = split(examples, SplitSettings(unseen_share=0.2))

    assert {row.origin for row in (*made.seen, *made.unseen)} == {"written:t.jsonl:1"}
    held_out = {row.item for row in made.rejections}
    assert held_out == {f"rule {entry.removeprefix('p.')}" for entry in made.unseen_entries}
    assert made.notes == ()


def test_with_rules_alone_the_tests_say_that_they_mean_little() -> None:
    """The sets are made all the same, with a note."""
    made = split(_examples(20, 3, "rule:does"), SplitSettings())

    assert made.seen
    assert made.unseen
    assert made.notes[0].startswith("There are no written and no teacher's questions")


def test_limits_spread_over_the_entries() -> None:
    """A limit on unseen questions takes one of each entry before the second of any."""
    made = split(_examples(40, 4), SplitSettings(unseen_share=0.3, unseen_questions=5))

    assert len(made.unseen) == 5
    assert len({row.entry for row in made.unseen}) == min(5, len(made.unseen_entries))


def test_small_sets_still_get_one_entry_and_one_row() -> None:
    """Shares that come to less than one are rounded up to one, unless they are zero."""
    examples = _examples(5, 4)

    made = split(examples, SplitSettings(unseen_share=0.001, valid_share=0.001))
    none = split(examples, SplitSettings(unseen_share=0, valid_share=0))

    assert (len(made.unseen_entries), len(made.valid)) == (1, 1)
    assert (none.unseen, none.valid) == ((), ())


@pytest.mark.parametrize(("entries", "questions"), [(4, 10), (6, 3), (0, 0)])
def test_too_little_to_split_says_how_much_is_needed(entries: int, questions: int) -> None:
    """Fewer than twenty examples or five entries are no dataset."""
    with pytest.raises(DatasetError, match="at least 20 examples about 5 entries") as caught:
        split(_examples(entries, questions), SplitSettings())
    assert f"{entries * questions} examples about {entries} entries" in caught.value.message
