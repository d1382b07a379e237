"""Train, valid, seen and unseen: a split by entry that stays as it is when examples are added."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.errors import DatasetError
from tunesmith.records import Example, Rejection

FEWEST_EXAMPLES = 20
FEWEST_ENTRIES = 5
MOST_SEEN = 0.3  # the share of groups that may lose a question to the test of what training sees


class SplitSettings(BaseModel):
    """How much is held out: shares from 0 to 1, counts of questions; another seed holds out other entries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unseen_share: float = Field(default=0.08, ge=0, le=0.5)
    unseen_questions: int = Field(default=60, ge=0)
    seen_questions: int = Field(default=60, ge=0)
    valid_share: float = Field(default=0.04, ge=0, le=0.5)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint sets of examples, what was held out of all of them, and what the user should know about it."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    seen: tuple[Example, ...]
    unseen: tuple[Example, ...]
    unseen_entries: frozenset[str]
    rejections: tuple[Rejection, ...]
    notes: tuple[str, ...]


def split(examples: Sequence[Example], settings: SplitSettings) -> Split:
    """Hold out whole entries for `unseen`, one question of other entries for `seen`, single rows for `valid`.

    Only written and a teacher's questions are held out for the tests where there are any; made by rule they
    would be like the training set. Every choice hangs on a hash of the entry or the example and the seed
    alone, so that new examples do not move old ones from one side to the other. Raises DatasetError when
    there is too little to split.
    """
    _check_size(examples)
    testable = [example for example in examples if not by_rule(example)]
    notes = () if testable else (_ONLY_RULES,)
    candidates = testable or list(examples)
    unseen_entries = _choose_entries({example.group for example in candidates}, settings)

    held_out = [example for example in candidates if example.group in unseen_entries]
    unseen = _evenly(held_out, settings.unseen_questions, settings.seed)
    seen = _choose_seen([example for example in candidates if example.group not in unseen_entries], settings)
    tested = {example.id for example in (*unseen, *seen)}
    open_rows = [example for example in examples if example.id not in tested]
    rejections = tuple(
        Rejection("curate", "entry held out for unseen", example.id, f"{example.group}: {example.question}")
        for example in open_rows
        if example.group in unseen_entries
    )
    trainable = [example for example in open_rows if example.group not in unseen_entries]
    train, valid = choose_valid(trainable, settings)
    return Split(train, valid, seen, unseen, frozenset(unseen_entries), rejections, notes)


def by_rule(example: Example) -> bool:
    """Tell whether a rule made the question."""
    return example.origin.startswith("rule:")


_ONLY_RULES = (
    "There are no written and no teacher's questions: seen and unseen hold questions made by rule, like the "
    "training set's, so their scores say little about real questions."
)


def _check_size(examples: Sequence[Example]) -> None:
    entries = len({example.group for example in examples})
    if len(examples) >= FEWEST_EXAMPLES and entries >= FEWEST_ENTRIES:
        return
    raise DatasetError(
        f"too little to split: {len(examples)} examples about {entries} entries are left after the checks, "
        f"and a split needs at least {FEWEST_EXAMPLES} examples about {FEWEST_ENTRIES} entries.",
        hint="Write more questions (generate.written), let a teacher write some, or add sources; "
        "the rejections say what was left out and why.",
    )


def _rank(seed: int, purpose: str, key: str) -> float:
    """Return a number from 0 to 1 that hangs on its arguments alone."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _choose_entries(entries: set[str], settings: SplitSettings) -> set[str]:
    if settings.unseen_share == 0 or settings.unseen_questions == 0:
        return set()
    ranked = sorted((_rank(settings.seed, "unseen", entry), entry) for entry in entries)
    chosen = {entry for rank, entry in ranked if rank < settings.unseen_share}
    # A small set may have no entry below the share; a test of one entry is better than none.
    return chosen or {ranked[0][1]}


def _choose_seen(candidates: Sequence[Example], settings: SplitSettings) -> tuple[Example, ...]:
    """Take one question of each of the first entries by rank that keep another one to train on."""
    by_group = _grouped(candidates)
    ranked = sorted(
        (name for name, rows in by_group.items() if len(rows) > 1),
        key=lambda name: _rank(settings.seed, "seen", name),
    )
    # Of few groups most are needed to train on; and which lose a question must not hang on how many there are.
    near = [name for name in ranked if _rank(settings.seed, "seen", name) < MOST_SEEN] or ranked[:1]
    chosen = {
        min(by_group[name], key=lambda row: _rank(settings.seed, "seen question", row.id)).id
        for name in near[: settings.seen_questions]
    }
    return tuple(example for example in candidates if example.id in chosen)


def choose_valid(
    rows: Sequence[Example], settings: SplitSettings
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Part rows into train and valid: a share by rank, and one row at least where any are wanted and two are left."""
    ranks = {row.id: _rank(settings.seed, "valid", row.id) for row in rows}
    chosen = {name for name, rank in ranks.items() if rank < settings.valid_share}
    if not chosen and settings.valid_share > 0 and len(rows) > 1:
        chosen = {min(ranks, key=lambda name: (ranks[name], name))}
    return (
        tuple(row for row in rows if row.id not in chosen),
        tuple(row for row in rows if row.id in chosen),
    )


def _evenly(rows: Sequence[Example], count: int, seed: int) -> tuple[Example, ...]:
    """Take `count` rows, one of each group in turn, so that no group fills the set."""
    turns: list[tuple[int, float, str]] = []
    for members in _grouped(rows).values():
        ordered = sorted(members, key=lambda row: _rank(seed, "unseen question", row.id))
        turns += [(turn, _rank(seed, "turn", row.id), row.id) for turn, row in enumerate(ordered)]
    chosen = {name for _, _, name in sorted(turns)[:count]}
    return tuple(row for row in rows if row.id in chosen)


def _grouped(rows: Iterable[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    return groups
