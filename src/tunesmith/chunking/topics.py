"""Topics: clusters of chunks by meaning, with labels that a person understands."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.models.base import Encoder
from tunesmith.records import Chunk, Topic

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_MOST_TOPICS = 24
_WORDS_IN_A_LABEL = 3
_KEYWORDS = 8
_TITLE_WEIGHT = 2
_OUTLIER_DEVIATIONS = 2.5
_FEWEST_FOR_OUTLIERS = 8

_STOP_LIST = """
a about above after all also an and another any are argument as at attribute based be been before being
between both but by can class compute computes containing create created creates data default defined
describe does each either element every exactly example exist false find finds first following for from
function generate generates get given gives has have if implement in input instance into is isn it
iterate its key last like list make method more most must name need new no node none not note number
object of on one only optional or other otherwise output over own parameter parameters possible python
raise read represent represented return returned returns same see self set should single some specified
specify string such test than that the their them then there these they this those three to true two
type under use used useful user uses using value values version want was we what when where whether
which while whose will with within without work would write yes yield yields you your
"""
_STOP_WORDS = frozenset(_STOP_LIST.split())


class TopicSettings(BaseModel):
    """How many topics there are (None: about the root of half the chunks, at most 24), and the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int | None = Field(default=None, ge=1)
    seed: int = 0


def find_topics(
    chunks: Sequence[Chunk], encoder: Encoder, settings: TopicSettings
) -> tuple[tuple[Chunk, ...], tuple[Topic, ...]]:
    """Return the chunks, each with its topic's id, and the topics, the largest first.

    The clusters are k-means' on the embeddings; the labels are the words that stand out by class-based TF-IDF
    (Grootendorst 2022, arXiv:2203.05794) over titles and first sentences.
    """
    if not chunks:
        return (), ()
    vectors = encoder.embed([_topic_text(chunk) for chunk in chunks])
    clusters = _cluster(vectors, settings)
    sizes = Counter(clusters)
    first = {cluster: clusters.index(cluster) for cluster in sizes}
    ranked = sorted(sizes, key=lambda cluster: (-sizes[cluster], first[cluster]))
    ids = {cluster: f"topic-{place:02d}" for place, cluster in enumerate(ranked, 1)}
    placed = tuple(
        replace(chunk, topic=ids[cluster]) for chunk, cluster in zip(chunks, clusters, strict=True)
    )
    words = _outstanding({ids[cluster]: [c for c in placed if c.topic == ids[cluster]] for cluster in ranked})
    labels = _labels(words)
    far = _far(vectors, clusters)
    characters = sum(len(chunk.text) for chunk in chunks)
    return placed, tuple(
        Topic(
            id=topic_id,
            label=labels[topic_id],
            keywords=words[topic_id][:_KEYWORDS],
            chunks=tuple(chunk.id for chunk in placed if chunk.topic == topic_id),
            share=round(sum(len(chunk.text) for chunk in placed if chunk.topic == topic_id) / characters, 4),
            outliers=tuple(
                chunk.id
                for chunk, is_far in zip(placed, far, strict=True)
                if is_far and chunk.topic == topic_id
            ),
        )
        for topic_id in ids.values()
    )


def _topic_text(chunk: Chunk) -> str:
    """Return what a chunk is about: its title and its beginning; the rest is parameters and references."""
    return f"{_title_words(chunk)}. {chunk.text[:500]}"


def _title_words(chunk: Chunk) -> str:
    name = (chunk.entry or chunk.title).rpartition(".")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name)


def _cluster(vectors: NDArray[float32], settings: TopicSettings) -> list[int]:
    import numpy as np
    from sklearn.cluster import KMeans

    wanted = settings.count or min(_MOST_TOPICS, max(1, round(math.sqrt(len(vectors) / 2))))
    count = min(wanted, len(np.unique(vectors, axis=0)))
    found = KMeans(n_clusters=count, n_init=4, random_state=settings.seed).fit(vectors)
    return [int(label) for label in found.labels_]


def _far(vectors: NDArray[float32], clusters: Sequence[int]) -> list[bool]:
    """Tell for each chunk if its cosine to its cluster's mean is below the others' by over 2.5 deviations."""
    import numpy as np

    of = np.asarray(clusters)
    far = np.zeros(len(of), dtype=bool)
    for cluster in set(clusters):
        members = of == cluster
        mean = vectors[members].mean(axis=0)
        near = vectors[members] @ mean / (np.linalg.norm(mean) or 1.0)
        if len(near) >= _FEWEST_FOR_OUTLIERS:
            far[members] = near < near.mean() - _OUTLIER_DEVIATIONS * near.std()
    return [bool(each) for each in far]


def _terms(chunk: Chunk) -> Counter[str]:
    """Return the weighted terms of a chunk: words and pairs of its name, words of its first sentence."""
    title = _words(_title_words(chunk))
    pairs = [f"{one} {two}" for one, two in pairwise(title)]
    body = chunk.text.partition("\n")[2] if chunk.entry is not None else chunk.text
    sentence = re.split(r"\n\s*\n|[.!?]\s", body.strip(), maxsplit=1)[0]
    terms = Counter(_words(sentence))
    for term in (*title, *pairs):
        terms[term] += _TITLE_WEIGHT
    return terms


def _words(text: str) -> list[str]:
    found = re.findall(r"[a-z][a-z-]+[a-z]", text.replace("_", " ").lower())
    return [word for word in map(_singular, found) if word not in _STOP_WORDS]


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-1] if len(word) > 3 and re.search(r"[^suia]s$", word) else word


def _outstanding(members: Mapping[str, Sequence[Chunk]]) -> dict[str, tuple[str, ...]]:
    """Return each topic's terms, the most telling first, without those of over half of the topics."""
    counts = {
        topic: sum((_terms(chunk) for chunk in chunks), Counter[str]()) for topic, chunks in members.items()
    }
    packages = {word for chunks in members.values() for chunk in chunks for word in _package_words(chunk)}
    spread = Counter(term for found in counts.values() for term in found)
    common = {term for term, topics in spread.items() if len(members) > 2 and topics > len(members) / 2}
    everywhere = sum(counts.values(), Counter[str]())
    average = sum(sum(found.values()) for found in counts.values()) / len(counts)
    ranked: dict[str, tuple[str, ...]] = {}
    for topic, found in counts.items():
        total = sum(found.values()) or 1
        scores = {
            term: count / total * math.log(1 + average / everywhere[term])
            for term, count in found.items()
            if term not in common and not set(term.split()) & packages
        }
        ranked[topic] = tuple(sorted(scores, key=lambda term: (-scores[term], term)))
    return ranked


def _package_words(chunk: Chunk) -> set[str]:
    return {chunk.entry.partition(".")[0].lower()} if chunk.entry is not None else set()


def _labels(words: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return a label for each topic, no two alike: a further keyword tells equal ones apart."""
    labels: dict[str, str] = {}
    for topic, ranked in words.items():
        distinct = _distinct(ranked)
        count = _WORDS_IN_A_LABEL
        label = ", ".join(distinct[:count])
        while label in labels.values() and count < len(distinct):
            count += 1
            label = ", ".join(distinct[:count])
        labels[topic] = label if label and label not in labels.values() else f"{label or 'other'} ({topic})"
    return labels


def _distinct(ranked: Sequence[str]) -> list[str]:
    """Drop terms whose words are said already; a pair takes the place of its first word."""
    kept: list[str] = []
    for term in ranked[:40]:
        said = {word for other in kept for word in other.split()}
        if not said & set(term.split()):
            pairs = (pair for pair in ranked[:12] if pair.startswith(f"{term} "))
            kept.append(next((pair for pair in pairs if not said & set(pair.split())), term))
    return kept
