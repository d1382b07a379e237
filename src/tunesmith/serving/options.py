"""How a server was started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tunesmith.errors import UsageError
from tunesmith.models.address import parse


@dataclass(frozen=True, slots=True)
class Options:
    """How the server was started: `models` by the names that requests use, each an address or another name.

    At most `most_engines` base models are in memory at once, each answering `most_rows` requests at a time; encoders
    read `embedded_tokens` of a text. A body must be whole after `body_seconds`, and no body may pause for longer than
    `idle_seconds`.
    """

    models: Mapping[str, str] = field(default_factory=lambda: {"smollm2": "smollm2", "minilm": "minilm"})
    max_body_bytes: int = 32 * 2**20
    max_upload_bytes: int = 8 * 2**30
    most_engines: int = 3
    most_rows: int = 32
    embedded_tokens: int = 512
    body_seconds: float = 60.0
    idle_seconds: float = 30.0


def options_from(models: Sequence[str], aliases: Sequence[str]) -> Options:
    """Return the options that words of the command line give: models as [NAME=]ADDRESS, aliases as NAME=TARGET.

    Without a model the embedded ones are offered. Raises UsageError for what is no alias, and AddressError for an
    address that means nothing.
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
    return Options(models=offered)
