"""The same question twice, nearly the same, and the same with another answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.curating.semantic import semantic_duplicates
from tunesmith.curating.similarity import OverlapIndex, fold
from tunesmith.models.base import Encoder
from tunesmith.records import Example, Rejection


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """What is kept, in the given order, and what is not, each with the example that it repeats."""

    kept: tuple[Example, ...]
    rejections: tuple[Rejection, ...]


def deduplicate(examples: Sequence[Example], near_duplicate: float) -> Deduplicated:
    """Keep one of each question, what people wrote before a teacher's, and a teacher's before the rules'.

    Rules, in this order: "contradiction" (the same question for different entries, neither of which accepts
    the other: all are left out), "duplicate" (the same question, folded), "near duplicate" (the same entry
    and a Jaccard similarity of the words of at least `near_duplicate`). Like questions about different
    entries stay, as the one word between them is often the one that matters ("nodes", "edges").
    """
    ordered = sorted(examples, key=_precedence)
    contradictions = _contradictions(ordered)
    left = [example for example in ordered if example.id not in contradictions]
    same = _same(left)
    left = [example for example in left if example.id not in same]
    near = _near(left, near_duplicate)
    out = contradictions | same | near
    return Deduplicated(
        tuple(example for example in examples if example.id not in out),
        tuple(out[example.id] for example in examples if example.id in out),
    )


def without_same_meaning(examples: Sequence[Example], encoder: Encoder, threshold: float) -> Deduplicated:
    """Keep one of the questions about one entry, or one stretch of a document, whose embeddings are that near.

    `threshold` is a cosine. Like questions about different entries stay, as in `deduplicate`.
    """
    ordered = sorted(examples, key=_precedence)
    out: dict[str, Rejection] = {}
    for rows in _grouped(ordered).values():
        for pair in semantic_duplicates([row.question for row in rows], encoder, threshold):
            row, other = rows[pair.text], rows[pair.earlier]
            out[row.id] = _rejection(row, "same meaning", other, f"is {pair.similarity:.0%} like")
    return Deduplicated(
        tuple(example for example in examples if example.id not in out),
        tuple(out[example.id] for example in examples if example.id in out),
    )


def _grouped(examples: Sequence[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    return groups


def _precedence(example: Example) -> int:
    """Return the rank of who asked: a person, a teacher, a rule."""
    return ("written", "teacher", "rule").index(example.origin.partition(":")[0])


def _rejection(example: Example, rule: str, other: Example, detail: str) -> Rejection:
    return Rejection(
        "curate",
        rule,
        example.id,
        f"{example.question!r} ({example.origin}, {example.group}) {detail} {other.question!r} "
        f"({other.origin}, {other.group})",
    )


def _contradictions(examples: Sequence[Example]) -> dict[str, Rejection]:
    found: dict[str, Rejection] = {}
    for rows in _by_question(examples).values():
        for row in rows:
            other = next((other for other in rows if not _agree(row, other)), None)
            if other is not None:
                found[row.id] = _rejection(row, "contradiction", other, "has another answer than")
    return found


def _agree(one: Example, other: Example) -> bool:
    if one.group == other.group:
        return True
    return one.entry in other.acceptable and other.entry in one.acceptable


def _same(examples: Sequence[Example]) -> dict[str, Rejection]:
    return {
        row.id: _rejection(row, "duplicate", rows[0], "repeats")
        for rows in _by_question(examples).values()
        for row in rows[1:]
    }


def _by_question(examples: Sequence[Example]) -> dict[str, list[Example]]:
    rows: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        rows[fold(example.question)].append(example)
    return rows


def _near(examples: Sequence[Example], threshold: float) -> dict[str, Rejection]:
    found: dict[str, Rejection] = {}
    for rows in _grouped(examples).values():
        found |= _near_in_group(rows, threshold)
    return found


def _near_in_group(rows: Sequence[Example], threshold: float) -> dict[str, Rejection]:
    """Compare each row with the kept ones before it."""
    if len(rows) < 2:
        return {}
    index = OverlapIndex(row.question for row in rows)
    found: dict[str, Rejection] = {}
    for number, row in enumerate(rows[1:], 1):
        similarities = index.similarities(row.question)[:number]
        for earlier, similarity in zip(rows, similarities, strict=False):
            if similarity >= threshold and earlier.id not in found:
                found[row.id] = _rejection(
                    row, "near duplicate", earlier, f"shares {similarity:.0%} of words with"
                )
                break
    return found
