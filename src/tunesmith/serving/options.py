"""How a server was started."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from tunesmith.errors import UsageError
from tunesmith.models.address import parse

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Options:
    """How the server was started: `models` by the names that requests use, each an address or another name.

    `project` is the folder of a project whose contenders are offered too.

    A body has at most `max_body_bytes`, a file `max_upload_bytes`. At most `most_engines` base models are in memory at
    once, each answering `most_rows` requests at a time; encoders read `embedded_tokens` of a text. A body must be whole
    after `body_seconds`, and no body may pause for longer than `idle_seconds`. With `metrics_in_base64` a job's
    step_metrics.csv is written as some clients read it: in base64.
    """

    models: Mapping[str, str] = field(default_factory=lambda: {"smollm2": "smollm2", "minilm": "minilm"})
    project: str | None = None
    max_body_bytes: Positive = 32 * 2**20
    max_upload_bytes: Positive = 8 * 2**30
    most_engines: Positive = 3
    most_rows: Positive = 32
    embedded_tokens: Positive = 512
    body_seconds: Seconds = 60.0
    idle_seconds: Seconds = 30.0
    metrics_in_base64: bool = False


def options_from(
    models: Sequence[str],
    aliases: Sequence[str],
    settings: Sequence[str] = (),
    *,
    project: str | None = None,
) -> Options:
    """Return the options that words of the command line give.

    Models are [NAME=]ADDRESS, aliases NAME=TARGET, and all else KEY=VALUE. Without a model the embedded ones are
    offered. Raises UsageError for what is no alias or setting, and AddressError for an address that means nothing.
    """
    offered: dict[str, str] = {}
    for word in models:
        name, equals, address = word.partition("=")
        if not equals or "/" in name or ":" in name:
            name = address = word
        parse(address)
        offered[name] = address
    if not models:
        offered = dict(Options().models)
    for word in aliases:
        name, equals, target = word.partition("=")
        if not (name and equals and target):
            raise UsageError(
                f"{word!r} is no alias.", hint="Write NAME=TARGET, such as gpt-3.5-turbo=smollm2."
            )
        if target not in offered:
            parse(target)
        offered[name] = target
    return replace(_with_settings(offered, settings), project=project)


def _with_settings(models: Mapping[str, str], words: Sequence[str]) -> Options:
    known = [each.name for each in fields(Options) if each.name not in ("models", "project")]
    problems = list(_problems(words, known))
    given = {
        key: value
        for key, equals, value in (word.partition("=") for word in words)
        if equals and key in known
    }
    try:
        options = TypeAdapter(Options).validate_strings({"models": models} | given)
    except ValidationError as error:
        problems += [
            f"{each['loc'][0]} = {each['input']!r}: {each['msg'].replace('Input should', 'it should')}"
            for each in error.errors()
        ]
    if problems:
        raise UsageError("; ".join(problems) + ".", hint="Settings are given as --set KEY=VALUE.")
    return options


def _problems(words: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals:
            yield f"{key!r} has no value"
        elif key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            other = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            yield f"there is no setting {key!r}: {other}"
        elif key in seen:
            yield f"{key} is given twice"
        seen.add(key)
