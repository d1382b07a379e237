from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.errors import RowError
from tunesmith.records import Conversation, Message, Preference
from tunesmith.training.loop import Schedule
from tunesmith.training.objectives import Likelihood
from tunesmith.training.render import Rendered, render
from tunesmith.training.rows import RowStore, lengths_of, rendered
from tunesmith.training.settings import TrainSettings

ROWS = [
    Rendered((5, 6), (False, True)),
    Rendered((70_000,), (True,)),
    Rendered((7, 8, 9), (False, False, True)),
]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    """One by one, in slices and from behind; their lengths without reading them; nothing beyond the last."""
    store = RowStore.write(tmp_path / "rows", iter(ROWS))
    assert list(store) == store[:] == ROWS
    assert store[-1] == ROWS[-1]
    assert list(lengths_of(store, Likelihood())) == lengths_of(ROWS, Likelihood()) == [2, 1, 3]
    with pytest.raises(IndexError):
        store[3]


def test_a_folder_of_rows_can_be_opened_again(tmp_path: Path) -> None:
    """Another process finds the same rows; the digest is that of what they hold, and other rows have another."""
    store = RowStore.write(tmp_path / "rows", ROWS)
    again = RowStore(tmp_path / "rows")
    assert list(again) == ROWS
    assert again.digest() == store.digest()
    assert RowStore.write(tmp_path / "others", ROWS[:2]).digest() != store.digest()
    assert len(RowStore.write(tmp_path / "none", [])) == 0


def test_many_conversations_are_rendered_as_each_alone(
    chat_tokenizer: PreTrainedTokenizerFast, places: tuple[Conversation, ...], tmp_path: Path
) -> None:
    """On disk as in memory, in their order."""
    alone = [render(chat_tokenizer, each) for each in places]
    stored, length = rendered(chat_tokenizer, iter(places), TrainSettings(), store=tmp_path)
    assert list(stored) == list(rendered(chat_tokenizer, places, TrainSettings())[0]) == alone
    assert (length.examples, length.longest) == (10, max(len(row.ids) for row in alone))


def test_rows_on_disk_and_their_schedule_take_a_few_bytes_each(tmp_path: Path) -> None:
    """Written from a generator, counted, digested, planned: below 40 bytes a row at the peak."""
    rows = 20_000
    store = RowStore.write(tmp_path, ROWS[:1])  # what is imported and allocated once is not counted
    tracemalloc.start()
    store = RowStore.write(tmp_path, (ROWS[number % 3] for number in range(rows)))
    lengths = lengths_of(store, Likelihood())
    schedule = Schedule(lengths, epochs=2, batch_size=8, seed=0, peak=1.0, warmup_share=0.1)
    held = tracemalloc.get_traced_memory()[0]
    assert store.digest()
    assert [store[number] for number in schedule.batch(0)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20 * rows
    assert peak < 40 * rows + 200_000


def test_a_pair_is_one_example_however_many_of_its_texts_are_too_long(
    chat_tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Cut, left out or refused, with its number once."""
    long, short = (Message("assistant", word * count) for word, count in (("there ", 40), ("here", 1)))
    question = (Message("user", "where?"),)
    pairs = [
        Preference(question, short, Message("assistant", "x")),
        Preference(question, long, Message("assistant", "here " * 40)),
        Preference(question, short, long),
    ]
    counted = {}
    for policy in ("cut", "drop"):
        settings = TrainSettings(objective="preferences", max_length=40, too_long=policy)
        rows, length = rendered(chat_tokenizer, pairs, settings)
        counted[policy] = (len(rows), length.examples, length.cut, length.dropped)
    assert counted == {"cut": (3, 3, 2, 0), "drop": (1, 3, 0, 2)}
    settings = TrainSettings(objective="preferences", max_length=40)
    with pytest.raises(
        RowError, match=r"^2 of 3 examples are longer than 40 tokens \(the longest \d+\): 2, 3\n"
    ):
        rendered(chat_tokenizer, pairs, settings)
