"""How a server was started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Options:
    """How the server was started: `models` by the names that requests use, each an address or another name.

    At most `most_engines` base models are in memory at once, each answering `most_rows` requests at a time; encoders
    read `embedded_tokens` of a text.
    """

    models: Mapping[str, str] = field(default_factory=lambda: {"smollm2": "smollm2", "minilm": "minilm"})
    max_body_bytes: int = 32 * 2**20
    max_upload_bytes: int = 8 * 2**30
    most_engines: int = 3
    most_rows: int = 32
    embedded_tokens: int = 512
