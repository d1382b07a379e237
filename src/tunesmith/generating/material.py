"""Examples from documents: which pieces a teacher is asked about, what it is asked for, what it answers.

A budget is spread over topics by their weights, and within a topic over its chunks, so that the examples cover the
material evenly and not as the words in it fall.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from tunesmith.generating.gates import Pair, Style, Turn
from tunesmith.generating.parsing import json_objects
from tunesmith.generating.prompts import Prompts
from tunesmith.records import Chunk, Conversation

STYLES: Final[tuple[Style, ...]] = get_args(Style)
TOKENS_PER_EXAMPLE: Final = 320
#: What each style asks a teacher for.
ASKED_FOR: Final[Mapping[Style, str]] = {
    "factual": "a question after something that the text states: what it is, what it does, what holds",
    "how-to": "a question how to reach a goal, and an answer with the steps",
    "code": "a question that is best answered with a short fenced code block, and that answer: a sentence, the block",
    "comparison": "a question after the difference between two things of the text, or which of them to choose when",
    "troubleshooting": "what went wrong, as its victim tells it, and an answer with the cause and the way out",
    "not in the material": "a question that somebody who needs this text might well ask, but that the text does not "
    "answer; the answer says that the documentation does not say, and no more ([] as quotes)",
    "multi-turn": "a conversation of two or three questions, each of which only makes sense after the answer before it",
}
PERSONAS: Final = (
    "a beginner who knows what they want and none of the terms",
    "an experienced engineer in a hurry",
    "somebody whose first attempt has just failed",
    "somebody who is deciding whether this is the right thing for them",
)
DIFFICULTIES: Final = (
    "make them easy: one passage answers each",
    "make them hard: each needs two passages of the text, or a conclusion from it",
)
#: What a service that knows schemas is told to answer with.
SCHEMA: Final = (
    '{"type":"object","properties":{"examples":{"type":"array","items":{"type":"object","properties":{'
    '"style":{"type":"string"},"question":{"type":"string"},"answer":{"type":"string"},'
    '"turns":{"type":"array","items":{"type":"object","properties":{"question":{"type":"string"},'
    '"answer":{"type":"string"}},"required":["question","answer"]}},'
    '"quotes":{"type":"array","items":{"type":"string"}}},"required":["style","quotes"]}}},"required":["examples"]}'
)


@dataclass(frozen=True, slots=True)
class Order:
    """What a teacher is asked for about one chunk: one example of each of these styles, in this order."""

    chunk: Chunk
    styles: tuple[Style, ...]
    persona: str
    difficulty: str

    def prompt(self, prompts: Prompts) -> Conversation:
        """Return the words in which it is asked for."""
        return prompts.fill(
            "write",
            title=self.chunk.title,
            document=self.chunk.text.strip(),
            count=len(self.styles),
            persona=self.persona,
            difficulty=self.difficulty,
            styles="\n".join(f"- {style}: {ASKED_FOR[style]}" for style in self.styles),
        )


def place_orders(
    chunks: Sequence[Chunk],
    *,
    per_chunk: int,
    budget: int | None,
    weights: Mapping[str, float],
    styles: Sequence[Style],
    personas: Sequence[str],
    seed: int,
) -> tuple[Order, ...]:
    """Return what is asked for, at most `per_chunk` examples of a chunk and `budget` of all (None: no limit).

    `weights` are by topic id, 1 where none is given; a topic of weight 0 gets nothing. Which chunks of a topic come
    first, and which styles a chunk gets, hangs on a hash of the chunk and the seed alone.
    """
    open_chunks = [
        chunk
        for chunk in chunks
        if weights.get(chunk.topic or "", 1.0) > 0 and len(chunk.text.split()) >= _FEWEST_WORDS
    ]
    ranked = sorted(open_chunks, key=lambda chunk: _rank(seed, chunk.id))
    counts = _spread(ranked, per_chunk, budget, weights)
    return tuple(
        _order(chunk, counts[chunk.id], styles, personas, seed)
        for chunk in open_chunks
        if counts.get(chunk.id)
    )


_FEWEST_WORDS: Final = 25  # of fewer words nothing can be asked that is worth an answer


def _spread(
    ranked: Sequence[Chunk], per_chunk: int, budget: int | None, weights: Mapping[str, float]
) -> dict[str, int]:
    if budget is None:
        return {chunk.id: per_chunk for chunk in ranked}
    by_topic: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in ranked:
        by_topic[chunk.topic or ""].append(chunk)
    room = {topic: per_chunk * len(rows) for topic, rows in by_topic.items()}
    shares = shares_of(budget, {topic: weights.get(topic, 1.0) for topic in by_topic}, room)
    counts: dict[str, int] = {}
    for topic, rows in by_topic.items():
        left = shares[topic]
        # Whole orders, as few as hold the share: one request costs the chunk's tokens once.
        for chunk in rows:
            counts[chunk.id] = min(per_chunk, left)
            left -= counts[chunk.id]
    return counts


def shares_of(budget: int, weights: Mapping[str, float], room: Mapping[str, int]) -> dict[str, int]:
    """Share a number out by weights, no share larger than its room; what one cannot take goes to the others."""
    shares = dict.fromkeys(weights, 0)
    left = min(budget, sum(room.values()))
    while left:
        open_topics = [topic for topic in weights if shares[topic] < room[topic]]
        total = sum(weights[topic] for topic in open_topics)
        wanted = {topic: left * weights[topic] / total for topic in open_topics}
        given = {topic: min(int(wanted[topic]), room[topic] - shares[topic]) for topic in open_topics}
        if not any(given.values()):
            # Less than one each: the largest fractions first.
            largest = sorted(open_topics, key=lambda topic: (-wanted[topic], topic))
            given = dict.fromkeys(largest[:left], 1)
        for topic, count in given.items():
            shares[topic] += count
        left -= sum(given.values())
    return shares


def _order(chunk: Chunk, count: int, styles: Sequence[Style], personas: Sequence[str], seed: int) -> Order:
    fitting = [style for style in styles if style != "code" or _has_code(chunk)] or list(styles)
    first = int(_rank(seed, f"{chunk.id} styles") * len(fitting))
    return Order(
        chunk,
        tuple(fitting[(first + number) % len(fitting)] for number in range(count)),
        personas[int(_rank(seed, f"{chunk.id} persona") * len(personas))],
        DIFFICULTIES[int(_rank(seed, f"{chunk.id} difficulty") * len(DIFFICULTIES))],
    )


def _has_code(chunk: Chunk) -> bool:
    return "```" in chunk.text or ">>>" in chunk.text or chunk.entry is not None


def _rank(seed: int, key: str) -> float:
    """Return a number from 0 to 1 that hangs on its arguments alone."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


# --- what comes back


@dataclass(frozen=True, slots=True)
class Proposed:
    """The pairs of a reply, and what was meant as one and is none, with the reason."""

    pairs: tuple[Pair, ...]
    broken: tuple[str, ...]


def read_pairs(reply: str) -> Proposed:
    """Return what a teacher proposes."""
    objects = json_objects(reply)
    pairs: list[Pair] = []
    broken = [f"not JSON: {line[:80]}" for line in objects.broken]
    for row in objects.found:
        pair = _pair(row)
        if isinstance(pair, Pair):
            pairs.append(pair)
        else:
            broken.append(pair)
    return Proposed(tuple(pairs), tuple(broken))


def _pair(row: Mapping[str, Any]) -> Pair | str:
    rows = row.get("turns") or [row]
    turns = [_turn(each) for each in rows] if isinstance(rows, list) else [None]
    whole = tuple(turn for turn in turns if turn is not None)
    if len(whole) < len(turns):
        return f"no question or no answer: {str(dict(row))[:80]}"
    quotes = row.get("quotes", row.get("quote", []))
    quotes = [quotes] if isinstance(quotes, str) else quotes
    if not isinstance(quotes, list) or not all(isinstance(quote, str) for quote in quotes):
        return f"its quotes are no list of texts: {str(quotes)[:80]}"
    return Pair(
        _style(row.get("style"), len(whole)), whole, tuple(quote.strip() for quote in quotes if quote.strip())
    )


def _turn(row: Any) -> Turn | None:
    if not isinstance(row, dict):
        return None
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str) or not question.strip():
        return None
    return Turn(" ".join(question.split()), answer.strip())


def _style(said: object, turns: int) -> Style:
    """Return the style that a teacher names, however it writes it; one that it makes up is the nearest by form."""
    if turns > 1:
        return "multi-turn"
    folded = str(said).lower().replace("_", "-").replace(" ", "-")
    found: Style | None = next((style for style in STYLES if style.replace(" ", "-") == folded), None)
    return found if found is not None and found != "multi-turn" else "factual"
