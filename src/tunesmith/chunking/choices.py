"""What a person decides about topics, in a file: names, weights, which to drop and which to join."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith.errors import ConfigError
from tunesmith.records import Topic

_HEAD = """\
The topics that were found in the material. Each is known by its label; what you add takes effect with the next run:
  name = "..."     how it is called in reports
  weight = 2.0     twice as many examples as of a topic of weight 1
  drop = true      no examples of it
  merge = "..."    the label of the topic that it belongs to
"""


class Choice(BaseModel):
    """What was decided about the topic of a label; `chunks` is there for the reader."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    chunks: int = 0
    name: str | None = Field(default=None, min_length=1)
    weight: float = Field(default=1.0, ge=0, le=1000)
    drop: bool = False
    merge: str | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Topics as a person wants them: under which id each found topic's chunks count, and each id's weight."""

    topics: tuple[Topic, ...]
    topic_of: Mapping[str, str]
    weights: Mapping[str, float]


def read_choices(path: Path) -> tuple[Choice, ...]:
    """Return what a file says; raises ConfigError that names everything that is wrong with it."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no file of topics {path}", hint="Write it: tunesmith topics --write FILE"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    rows = found.get("topic", [])
    strangers = [f"there is no table [{name}]" for name in found if name != "topic"]
    choices, faults = _validated(rows)
    if strangers or faults:
        raise ConfigError(
            f"{path} cannot be used:\n" + "\n".join(f"  {fault}" for fault in (*strangers, *faults)),
            hint='Each topic is a table: [[topic]], then label = "...", and name, weight, drop or merge.',
        )
    return tuple(choices)


def _validated(rows: Any) -> tuple[list[Choice], list[str]]:
    choices: list[Choice] = []
    faults: list[str] = []
    if not isinstance(rows, list):
        return [], ["topic is no list of tables: write [[topic]]"]
    for number, row in enumerate(rows, 1):
        try:
            choices.append(Choice.model_validate(row))
        except ValidationError as error:
            for each in error.errors():
                place = ".".join(map(str, each["loc"])) or "it"
                faults.append(f"topic {number}: {place}: {each['msg']}")
    labels = [choice.label for choice in choices]
    faults += [f"the topic {label!r} stands there twice" for label in set(labels) if labels.count(label) > 1]
    return choices, faults


def choose(topics: Sequence[Topic], choices: Sequence[Choice]) -> Chosen:
    """Return the topics as they were chosen; raises ConfigError for labels that no topic has, each with the nearest."""
    by_label = {topic.label: topic for topic in topics}
    said = {choice.label: choice for choice in choices}
    wanted = [*said, *(choice.merge for choice in choices if choice.merge is not None)]
    faults = [_unknown(label, by_label) for label in dict.fromkeys(wanted) if label not in by_label]
    faults += [
        f"{choice.label!r} is joined to {choice.merge!r}, which is dropped or joined itself"
        for choice in choices
        if choice.merge is not None and (goal := said.get(choice.merge)) and (goal.drop or goal.merge)
    ]
    faults += [f"{choice.label!r} is joined to itself" for choice in choices if choice.merge == choice.label]
    if faults:
        raise ConfigError(
            "the file of topics does not fit the topics that were found:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            hint="Topics change with the sources: write the file anew with tunesmith topics --write FILE.",
        )
    topic_of = {topic.id: by_label[_goal(topic.label, said)].id for topic in topics}
    kept = [topic for topic in topics if topic_of[topic.id] == topic.id and not _choice(topic, said).drop]
    return Chosen(
        tuple(_as_chosen(topic, topics, topic_of, said) for topic in kept),
        topic_of,
        {
            topic.id: 0.0 if _choice(topic, said).drop else _choice(topic, said).weight
            for topic in topics
            if topic_of[topic.id] == topic.id
        },
    )


def write_choices(path: Path, topics: Sequence[Topic]) -> None:
    """Write the topics to a new file; raises ConfigError if it is there already, for it may hold decisions."""
    if path.exists():
        raise ConfigError(f"{path} is there already.", hint="Name another file; what you decided is kept.")
    document = tomlkit.document()
    for line in _HEAD.splitlines():
        document.add(tomlkit.comment(line))
    rows = tomlkit.aot()
    for topic in topics:
        row = tomlkit.table()
        row.add("label", topic.label)
        row.add("chunks", len(topic.chunks))
        rows.append(row)
    document.add("topic", rows)
    path.write_text(tomlkit.dumps(document), encoding="utf-8")


def _unknown(label: str, known: Mapping[str, Topic]) -> str:
    nearest = difflib.get_close_matches(label, known, n=1, cutoff=0.3)
    return f"there is no topic {label!r}" + (f"; the nearest is {nearest[0]!r}" if nearest else "")


def _choice(topic: Topic, said: Mapping[str, Choice]) -> Choice:
    return said.get(topic.label) or Choice(label=topic.label)


def _goal(label: str, said: Mapping[str, Choice]) -> str:
    choice = said.get(label)
    return label if choice is None or choice.merge is None else choice.merge


def _as_chosen(
    topic: Topic, topics: Sequence[Topic], topic_of: Mapping[str, str], said: Mapping[str, Choice]
) -> Topic:
    members = [each for each in topics if topic_of[each.id] == topic.id]
    return replace(
        topic,
        label=_choice(topic, said).name or topic.label,
        chunks=tuple(chunk for each in members for chunk in each.chunks),
        outliers=tuple(chunk for each in members for chunk in each.outliers),
        share=sum(each.share for each in members),
    )
