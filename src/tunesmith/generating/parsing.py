"""JSON objects in what a model says: in lines, in a list, in a fence, with commas and bullets that do not belong."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_FENCE = re.compile(r"^\s*```\w*[ \t]*\n?|\n?```\s*$")


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a reply in order, and what was begun like one and is none."""

    found: tuple[dict[str, Any], ...]
    broken: tuple[str, ...]


def json_objects(reply: str) -> Objects:
    """Return the JSON objects of a reply, wherever they stand in it.

    A list counts as its objects, so does an object that holds nothing but one list of objects. Text between them is
    passed over; what begins with a brace and does not end (an answer cut off) counts as broken.
    """
    text = _FENCE.sub("", reply.strip())
    found: list[dict[str, Any]] = []
    broken: list[str] = []
    decoder = json.JSONDecoder(strict=False)  # models write line feeds into strings
    place = 0
    while (start := _next(text, place)) >= 0:
        try:
            value, place = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            if text[start] == "{":
                line = text[start:].partition("\n")[0]
                broken.append(line)
                place = start + len(line) + 1
            else:
                place = start + 1
            continue
        found += _objects(value)
    return Objects(tuple(found), tuple(broken))


def _next(text: str, place: int) -> int:
    match = re.compile(r"[{\[]").search(text, place)
    return match.start() if match else -1


def _objects(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [each for each in value if isinstance(each, dict)]
    if isinstance(value, dict) and len(value) == 1:
        [inner] = value.values()
        if isinstance(inner, list) and inner and all(isinstance(each, dict) for each in inner):
            return inner
    return [value] if isinstance(value, dict) else []
