"""Which pieces a teacher is asked about, and what is read from its replies."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.generating.gates import Pair, Turn
from tunesmith.generating.material import PERSONAS, STYLES, place_orders, read_pairs, shares_of
from tunesmith.generating.prompts import default_prompts
from tunesmith.records import Chunk

WORDS = "The client waits for five seconds and then it gives up with an error that names the server. " * 3


def _chunks(**sizes: int) -> list[Chunk]:
    return [
        Chunk(f"{topic}{number}", f"doc-{topic}", 0, len(WORDS), WORDS, "Waiting", topic=topic)
        for topic, size in sizes.items()
        for number in range(size)
    ]


def _orders(chunks: list[Chunk], budget: int | None = None, **weights: float) -> Counter[str]:
    orders = place_orders(
        chunks, per_chunk=4, budget=budget, weights=weights, styles=STYLES, personas=PERSONAS, seed=0
    )
    topics = {chunk.id: chunk.topic or "" for chunk in chunks}
    counts: Counter[str] = Counter()
    for order in orders:
        counts[topics[order.chunk.id]] += len(order.styles)
    return counts


def test_a_budget_is_spread_over_topics_and_not_over_words() -> None:
    """A topic of few pieces gets as much as one of many, as far as its pieces reach."""
    chunks = _chunks(large=50, small=5)

    assert _orders(chunks) == {"large": 200, "small": 20}
    assert _orders(chunks, 30) == {"large": 15, "small": 15}
    assert _orders(chunks, 100) == {"large": 80, "small": 20}


def test_weights_move_the_budget() -> None:
    """Twice the weight, twice the examples; none for none, with or without a budget."""
    chunks = _chunks(a=20, b=20, c=20)

    assert _orders(chunks, 60, a=2.0, c=0.0) == {"a": 40, "b": 20}
    assert _orders(chunks, None, c=0.0) == {"a": 80, "b": 80}


def test_what_is_asked_of_a_piece_does_not_hang_on_others() -> None:
    """More documents change no order that was placed, so that nothing is asked twice."""
    before = place_orders(
        _chunks(a=9), per_chunk=3, budget=None, weights={}, styles=STYLES, personas=PERSONAS, seed=1
    )
    after = place_orders(
        _chunks(a=9, b=9), per_chunk=3, budget=None, weights={}, styles=STYLES, personas=PERSONAS, seed=1
    )

    assert after[: len(before)] == before


def test_code_is_asked_for_where_there_is_code() -> None:
    """And a piece of a few words is not asked about at all."""
    chunks = [*_chunks(a=40), Chunk("short", "d", 0, 9, "See also.", "")]
    orders = place_orders(
        chunks, per_chunk=7, budget=None, weights={}, styles=STYLES, personas=PERSONAS, seed=0
    )

    assert len(orders) == 40
    assert {style for order in orders for style in order.styles} == set(STYLES) - {"code"}
    [coded] = place_orders(
        [Chunk("c", "d", 0, 9, f"{WORDS}\n```python\nwait()\n```\n", "")],
        per_chunk=7,
        budget=None,
        weights={},
        styles=STYLES,
        personas=PERSONAS,
        seed=0,
    )
    assert set(coded.styles) == set(STYLES)
    [prompt] = coded.prompt(default_prompts())
    assert "wait()" in prompt.content
    assert prompt.content.count("\n- ") >= len(STYLES)


@given(
    st.integers(0, 300),
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.floats(0.1, 9), st.integers(0, 60)), min_size=1),
)
def test_shares_are_whole_and_fit(budget: int, topics: dict[str, tuple[float, int]]) -> None:
    """They add up to the budget or to all the room there is, and none is larger than its room."""
    weights = {name: weight for name, (weight, _) in topics.items()}
    room = {name: size for name, (_, size) in topics.items()}

    shares = shares_of(budget, weights, room)

    assert sum(shares.values()) == min(budget, sum(room.values()))
    assert all(0 <= shares[name] <= room[name] for name in topics)


PAIR = {"style": "How_To", "question": "Why?  ", "answer": " So. ", "quotes": ["The client waits"]}


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        (PAIR, Pair("how-to", (Turn("Why?", "So."),), ("The client waits",))),
        (PAIR | {"style": "riddle", "quotes": "one"}, Pair("factual", (Turn("Why?", "So."),), ("one",))),
        (
            {"turns": [PAIR, PAIR], "quotes": []},
            Pair("multi-turn", (Turn("Why?", "So."), Turn("Why?", "So.")), ()),
        ),
    ],
)
def test_pairs_are_read_however_they_are_written(row: object, pair: Pair) -> None:
    """Styles in other spelling, one quote as a text, turns."""
    assert read_pairs(json.dumps(row)).pairs == (pair,)


def test_what_is_no_pair_is_told() -> None:
    """Each with its reason; the pairs beside it are read."""
    rows = [PAIR, {"question": "Why?"}, PAIR | {"quotes": [1]}]

    found = read_pairs("\n".join(map(json.dumps, rows)) + '\n{"cut')

    assert len(found.pairs) == 1
    assert [line.partition(":")[0] for line in found.broken] == [
        "not JSON",
        "no question or no answer",
        "its quotes are no list of texts",
    ]
