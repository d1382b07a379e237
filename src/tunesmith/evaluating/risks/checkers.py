"""Whether an answer did as it was told, by rules that need no understanding: so many lines, in capitals, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from tunesmith.errors import DatasetError

_BULLET: Final = re.compile(r"\s*[-*•]\s+\S")
_ENDS: Final = re.compile(r"[.!?]+(?=\s|$)")
_FENCE: Final = re.compile(r"```\w*\n(.*?)```", re.DOTALL)


def follows(check: str, argument: str, answer: str) -> bool:
    """Tell whether an answer passes a check by its name; raises DatasetError if there is no such check."""
    if check not in CHECKS:
        raise DatasetError(f"there is no check {check!r}", hint=f"There are {', '.join(CHECKS)}.")
    said = answer.strip()
    return bool(said) and CHECKS[check](said, argument)


def _words(said: str) -> list[str]:
    return re.findall(r"[\w'’-]+", said)


def _lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.strip()]


def _bare(said: str) -> str:
    return said.strip().strip("\"'“”.!").lower()


def _json(said: str, key: str) -> bool:
    fenced = _FENCE.search(said)
    try:
        found = json.loads(fenced[1] if fenced else said)
    except ValueError:
        return False
    return key in found if key and isinstance(found, dict) else not key and isinstance(found, list)


def _without(said: str, word: str) -> bool:
    if len(word) == 1:
        return word not in said.lower()
    return word not in [each.lower() for each in _words(said)]


CHECKS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "most_words": lambda said, count: len(_words(said)) <= int(count),
    "one_of": lambda said, options: _bare(said) in options.split(";"),
    "exactly": lambda said, text: said.strip("\"'“”") == text,
    "upper": lambda said, _: said.upper() == said and said.lower() != said,
    "lower": lambda said, _: said.lower() == said and said.upper() != said,
    "lines": lambda said, count: len(_lines(said)) == int(count),
    "bullets": lambda said, count: sum(map(bool, map(_BULLET.match, _lines(said)))) == int(count),
    "contains": lambda said, text: text.lower() in said.lower(),
    "without": _without,
    "starts": lambda said, text: said.startswith(text),
    "ends": lambda said, text: said.lower().rstrip(" .").endswith(text) or said.lower().endswith(text),
    "sentences": lambda said, count: len(_ENDS.findall(said)) == int(count),
    "number": lambda said, _: re.fullmatch(r"\d+\.?", said) is not None,
    "json": _json,
}
