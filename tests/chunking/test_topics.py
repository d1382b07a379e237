"""Topics: clusters with labels, the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tunesmith.chunking.topics import TopicSettings, find_topics
from tunesmith.records import Chunk


class WordEncoder:
    """Embeds a text by which of a few words stand in it."""

    name = "words"
    words = ("path", "colour", "file")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of word counts, shape (texts, words + 1)."""
        counts = np.array([[text.count(word) for word in self.words] + [0.01] for text in texts])
        return np.asarray(counts / np.linalg.norm(counts, axis=1, keepdims=True), dtype=np.float32)


NAMES = ("shortest_path", "longest_path", "path_weight", "greedy_colour", "colour_edges", "read_file")
CHUNKS = tuple(
    Chunk(
        f"c{n}",
        f"d{n}",
        0,
        10,
        f"{name}(graph)\n\nReturn the graph's {name.replace('_', ' ')}.",
        name,
        f"net.{name}",
    )
    for n, name in enumerate(NAMES)
)


def test_chunks_about_the_same_are_one_topic() -> None:
    """Topics come largest first, know their chunks, and have labels of telling words."""
    placed, topics = find_topics(CHUNKS, WordEncoder(), TopicSettings(count=3))

    assert [topic.chunks for topic in topics] == [("c0", "c1", "c2"), ("c3", "c4"), ("c5",)]
    assert [chunk.topic for chunk in placed] == ["topic-01"] * 3 + ["topic-02"] * 2 + ["topic-03"]
    assert tuple(replace(chunk, topic=None) for chunk in placed) == CHUNKS
    assert [topic.keywords[0] for topic in topics] == ["path", "colour", "file"]
    assert [topic.label for topic in topics] == [
        "path weight, longest, shortest",
        "colour edge, greedy",
        "file",
    ]
    assert all("graph" not in topic.keywords and "net" not in topic.keywords for topic in topics)


def test_topics_are_the_same_every_time_and_labels_differ() -> None:
    """Same chunks, same seed, same topics; no label stands twice."""
    first = find_topics(CHUNKS, WordEncoder(), TopicSettings(count=3))

    assert find_topics(CHUNKS, WordEncoder(), TopicSettings(count=3)) == first
    assert len({topic.label for topic in first[1]}) == 3


@pytest.mark.parametrize(("count", "expected"), [(None, 2), (1, 1), (100, 3)])
def test_the_count_is_a_wish(count: int | None, expected: int) -> None:
    """By default it follows from the number of chunks; there are never more topics than different chunks."""
    assert len(find_topics(CHUNKS, WordEncoder(), TopicSettings(count=count))[1]) == expected


class RandomEncoder:
    """Embeds each text at random, the same each time."""

    name = "random"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return random vectors, shape (texts, 8)."""
        return np.random.default_rng(0).normal(size=(len(texts), 8)).astype(np.float32)


def test_the_seed_decides_where_there_are_no_clear_clusters() -> None:
    """Noise has no one right answer: another seed finds other topics."""
    many = tuple(replace(CHUNKS[0], id=f"c{n}") for n in range(60))

    assert find_topics(many, RandomEncoder(), TopicSettings(seed=0)) != find_topics(
        many, RandomEncoder(), TopicSettings(seed=1)
    )


def test_no_chunks_no_topics() -> None:
    """An empty collection is no error here."""
    assert find_topics((), WordEncoder(), TopicSettings()) == ((), ())
