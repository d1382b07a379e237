"""An evaluation on its way into or out of a file: its judged answers, questions and settings; our own form of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tunesmith.errors import DatasetError
from tunesmith.evaluating.scores import columns, in_words, of_calls
from tunesmith.records import Example, Score, from_json

FORMAT: Final = 1
#: Under this key, other forms hold what they have no place for; reading it gives the very records back.
OURS: Final = "tunesmith"


@dataclass(frozen=True, slots=True)
class Results:
    """An evaluation: `scores` of contenders, floors and ceilings, and the questions that they are about, by id.

    `made` is an ISO date and time; `settings` are what evaluating was told, `versions` those of the packages behind it,
    `figures` the report's. `unread` counts, for what was read from a file, the fields that mean nothing here.
    """

    name: str
    made: str
    scores: tuple[Score, ...]
    questions: Mapping[str, Example]
    floors: tuple[Score, ...] = ()
    ceilings: tuple[Score, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)

    @property
    def every(self) -> tuple[Score, ...]:
        """The scores of all: contenders, floors and ceilings."""
        return (*self.scores, *self.floors, *self.ceilings)


def to_document(results: Results) -> dict[str, Any]:
    """Return the results in our own form, which holds all of them."""
    return {
        OURS: {"format": FORMAT},
        "name": results.name,
        "made": results.made,
        "settings": dict(results.settings),
        "versions": dict(results.versions),
        "figures": dict(results.figures),
        "questions": [asdict(example) for example in results.questions.values()],
        **{part: [asdict(one) for one in getattr(results, part)] for part in _PARTS},
    }


def from_document(document: Mapping[str, Any], place: str) -> Results:
    """Return the results that `to_document` made; `place` names the file in errors.

    Raises DatasetError for a newer form, and for records that are not as they should be.
    """
    told = document[OURS]
    if not isinstance(told, Mapping) or told.get("format") != FORMAT:
        raise DatasetError(
            f"{place} holds results in another form of Tunesmith's than {FORMAT}: {told!r:.80}",
            hint="Read it with the Tunesmith that wrote it, and have that write lm-eval's or inspect's form.",
        )
    known = {OURS, "name", "made", "settings", "versions", "figures", "questions", *_PARTS}
    examples = [record(Example, row, place) for row in document.get("questions", ())]
    parts = {part: tuple(record(Score, row, place) for row in document.get(part, ())) for part in _PARTS}
    return Results(
        name=str(document.get("name", place)),
        made=str(document.get("made", "")),
        questions={example.id: example for example in examples},
        settings=document.get("settings", {}),
        versions=document.get("versions", {}),
        figures=document.get("figures", {}),
        unread=Counter(key for key in document if key not in known),
        **parts,
    )


_PARTS: Final = ("scores", "floors", "ceilings")


def record(kind: Any, row: Any, place: str) -> Any:
    """Return a row as a record; raises DatasetError that names the file and the field."""
    from pydantic import ValidationError

    try:
        return from_json(kind, json.dumps(row))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "a row"
        raise DatasetError(
            f"{place}: {where}: {first['msg']}", hint="The file was changed since it was written."
        ) from error


def joined(parts: Sequence[Results]) -> Results:
    """Return the results of several files as one.

    Raises DatasetError if two hold a contender's answers of one kind, calls or words, to one set.
    """
    found: dict[tuple[str, str, bool], str] = {}
    for part in parts:
        for column in dict.fromkeys((one.contender, one.set, one.verdict is None) for one in part.every):
            if column in found:
                raise DatasetError(
                    f"{found[column]} and {part.name} both hold {column[0]} on {column[1]}",
                    hint="Name one of the files, or a folder with one of them.",
                )
            found[column] = part.name
    unread: Counter[str] = Counter()
    for part in parts:
        unread.update(part.unread)
    return Results(
        name=" and ".join(dict.fromkeys(part.name for part in parts)),
        made=max(part.made for part in parts),
        scores=tuple(one for part in parts for one in part.scores),
        floors=tuple(one for part in parts for one in part.floors),
        ceilings=tuple(one for part in parts for one in part.ceilings),
        questions={key: value for part in parts for key, value in part.questions.items()},
        settings=parts[0].settings,
        versions=parts[0].versions,
        unread=unread,
    )


def measures_of(score: Score) -> dict[str, float]:
    """Return an answer's figures by name: of a call, whether it was each of the verdicts; of words, its measures."""
    if score.verdict is None:
        return dict(score.measures)
    return {name: score.value(name) or 0.0 for name in CALLS}


def names_of(scores: Iterable[Score]) -> tuple[str, ...]:
    """Return the names of the measures that any of the answers has, in the order in which they first appear."""
    return tuple(dict.fromkeys(name for one in scores for name in measures_of(one)))


def tasks(scores: Sequence[Score]) -> dict[tuple[str, str], tuple[Score, ...]]:
    """Return the scores by (contender, task): a task is a set's calls or its answers in words, which share no measure.

    It has the set's name; where the results hold both of one set, that of the words ends in " in words".
    """
    calls, words = columns(of_calls(scores)), columns(in_words(scores))
    called = {set_name for _, set_name in calls}
    return calls | {
        (contender, f"{set_name} in words" if set_name in called else set_name): column
        for (contender, set_name), column in words.items()
    }


CALLS: Final = ("exact", "valid", "hallucinated", "wrong_arguments", "no_call")


def original(held: Any, place: str) -> tuple[Score, Example] | None:
    """Return the records that another form holds under our key, None if it holds none."""
    if not isinstance(held, Mapping) or not held.keys() >= {"score", "example"}:
        return None
    return record(Score, held["score"], place), record(Example, held["example"], place)


def held_by(score: Score, example: Example) -> dict[str, Any]:
    """Return what another form holds under our key."""
    return {"score": asdict(score), "example": asdict(example)}
