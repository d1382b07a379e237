"""Gaps in texts, such as {{ item.question }} and {{ sample.output_text }}, filled from an item and a sample."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.errors import TunesmithError

_GAP = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"\s*(item|sample)((?:\.[A-Za-z_$][\w$-]*|\[\d{1,6}\]|\['[^'\]]+'\])*)\s*")
_STEP = re.compile(r"\.([A-Za-z_$][\w$-]*)|\[(\d+)\]|\['([^'\]]+)'\]")


class TemplateError(TunesmithError):
    """A gap that cannot be filled."""


def check(text: str) -> None:
    """Raise TemplateError for a gap that no item and sample could fill."""
    for gap in _GAP.findall(text):
        _steps(gap)


def fill(text: str, values: Mapping[str, Any]) -> str:
    """Return a text with its gaps filled; what is no text is written as JSON. Raises TemplateError."""

    def filled(gap: re.Match[str]) -> str:
        value = look_up(gap[1], values)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return _GAP.sub(filled, text)


def look_up(path: str, values: Mapping[str, Any]) -> Any:
    """Return what a path such as item.choices[0].text leads to; raises TemplateError where it leads nowhere."""
    name, steps = _steps(path)
    value: Any = values.get(name)
    for step in steps:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            known = f"; there are {', '.join(map(str, value))}" if isinstance(value, dict) and value else ""
            raise TemplateError(f"'{path.strip()}' has no '{step}'{known}") from None
    return value


def _steps(path: str) -> tuple[str, list[str | int]]:
    found = _PATH.fullmatch(path)
    if found is None:
        raise TemplateError(f"'{{{{{path}}}}}' is neither item. nor sample. with a path")
    return found[1], list(_read(found[2]))


def _read(steps: str) -> Iterator[str | int]:
    for name, number, quoted in _STEP.findall(steps):
        yield int(number) if number else name or quoted
