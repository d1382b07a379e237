"""Conditions on a report's figures, for CI: `tuned.asked.exact < 0.6`, `tuned.asked.exact <= nearest.asked.exact`.

A figure is named by the contender, floor or ceiling, the set, and the figure's path in report.json; `.low` and `.high`
are the ends of its interval. A figure that was not measured is an error: a gate that cannot see must not let pass.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from tunesmith.errors import UsageError

_PARTS: Final = ("contenders", "floors", "ceilings")
_SIGNS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM: Final = "NAME.SET.FIGURE < NUMBER, as in tuned.asked.exact < 0.6; <=, > and >= are known too."


@dataclass(frozen=True, slots=True)
class Condition:
    """Two sides, each a number or a figure's name, and the sign between them."""

    text: str
    left: str
    sign: str
    right: str


@dataclass(frozen=True, slots=True)
class Held:
    """A condition, its two sides as measured, and whether it is true."""

    condition: str
    left: float
    right: float
    true: bool


def parse_condition(text: str) -> Condition:
    """Return a condition's parts; raises UsageError for what has another form, or compares numbers only."""
    found = re.fullmatch(r"\s*([^<>=]+?)\s*(<=|>=|<|>)\s*([^<>=]+?)\s*", text)
    if found is None:
        raise UsageError(f"{text!r} is no condition.", hint=f"A condition is {_FORM}")
    condition = Condition(text.strip(), *found.groups())
    if _number(condition.left) is not None and _number(condition.right) is not None:
        raise UsageError(f"{text!r} compares two numbers, so nothing measured can change it.", hint=_FORM)
    return condition


def hold(condition: Condition, report: Mapping[str, Any]) -> Held:
    """Return whether a condition is true of a report; raises UsageError for a figure that the report lacks."""
    left, right = (_value(side, report) for side in (condition.left, condition.right))
    return Held(condition.text, left, right, _SIGNS[condition.sign](left, right))


def _number(text: str) -> float | None:
    found = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(%?)", text, re.IGNORECASE)
    return None if found is None else float(found[1]) / (100 if found[2] else 1)


def _value(side: str, report: Mapping[str, Any]) -> float:
    number = _number(side)
    return _figure(side, report) if number is None else number


def _figure(path: str, report: Mapping[str, Any]) -> float:
    known = {name: sets for part in _PARTS for name, sets in report.get(part, {}).items()}
    # A name may hold dots, as an adapter's may; the longest that fits is meant.
    names = [name for name in known if path == name or path.startswith(f"{name}.")]
    if not names:
        raise _unknown(path, path.split(".", maxsplit=1)[0], "contender, floor or ceiling", known)
    name = max(names, key=len)
    value: Any = known[name]
    for step in filter(None, path[len(name) :].split(".")):
        if not isinstance(value, Mapping) or step not in value:
            raise _unknown(path, step, f"part of {name}", value if isinstance(value, Mapping) else {})
        value = value[step]
    if isinstance(value, Mapping) and "value" in value:
        value = value["value"]
    if isinstance(value, Mapping):
        raise UsageError(
            f"{path} is several figures, not one.", hint=f"Add one of: {', '.join(map(str, value))}"
        )
    if value is None:
        raise UsageError(f"{path} was not measured.", hint="Take another figure: report.json has them all.")
    return float(value)


def _unknown(path: str, step: str, kind: str, known: Mapping[str, Any]) -> UsageError:
    near = get_close_matches(step, known, 1)
    there = f"There are: {', '.join(known)}" if known else "Nothing is below that."
    meant = f"Did you mean {near[0]}? " if near else ""
    return UsageError(f"{path} is no figure of this report: {step!r} is no {kind}.", hint=f"{meant}{there}")
