"""The report's section on risks: a table by check, each figure with its interval and what it does not cover."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from html import escape
from typing import Any, Final

from tunesmith.evaluating.risks.record import Change, Risk, Risks
from tunesmith.evaluating.statistics import Estimate
from tunesmith.evaluating.tables import NONE, Head, body, cell, row, small, table

TITLES: Final[Mapping[str, str]] = {
    "forgetting": "What it forgot",
    "memorisation": "What it gives away of its training rows",
    "private": "Private data in its answers",
    "bias": "Whether it speaks of groups differently",
    "refusal": "What it refuses, and whose orders it takes",
}
_LOSS_ROWS: Final = 5


def risks_section(found: Risks) -> str:
    """Return the section's HTML; nothing where nothing was looked at."""
    if not found.risks and not found.unmeasured:
        return ""
    heads = [Head("Figure", words=True), Head("Before"), Head("After"), Head("Change", "95 %"), Head("n")]
    bodies = [
        body(map(_row, risks), group=title, columns=len(heads))
        for check, title in TITLES.items()
        if (risks := [one for one in found.risks if one.check == check])
    ]
    caption = (
        f"{found.before} before, {found.after} after. Marked: worse by more than chance explains. Many figures are "
        "looked at, so one in forty is marked by chance."
    )
    return (
        table("Risks", heads, bodies, caption=caption)
        + "".join(f'<p class="note">{escape(note)}</p>' for note in found.notes)
        + _worst(found)
        + _limits(found)
    )


def _row(one: Risk) -> str:
    first = escape(one.name) + small(one.about)
    cells = (
        _estimate(one.before, one.unit),
        _estimate(one.after, one.unit),
        _change(one.change, one.unit, "below" if one.clear else ""),
        cell(f"{one.n:,}"),
    )
    return row(first, cells)


def _estimate(found: Estimate | None, unit: str) -> str:
    if found is None:
        return NONE
    interval = f"{plain(found.low, unit)} to {plain(found.high, unit)}"
    return f"<td>{escape(figure(found.value, unit))}{small(interval)}</td>"


def _change(found: Change | None, unit: str, kind: str) -> str:
    if found is None:
        return NONE
    mark = f' class="{kind}"' if kind else ""
    interval = f"{plain(found.low, unit, signed=True)} to {plain(found.high, unit, signed=True)}"
    return f"<td{mark}>{escape(plain(found.value, unit, signed=True))}{small(interval)}</td>"


def figure(value: float, unit: str) -> str:
    """Return a value with its unit: "59.0 %", "1.44 bits"."""
    return f"{plain(value, unit)} %" if unit == "share" else plain(value, unit)


def plain(value: float, unit: str, *, signed: bool = False) -> str:
    """Return a value without its unit; a share in percent."""
    sign = "+" if signed else ""
    if unit == "share":
        return f"{100 * value:{sign}.1f}".replace("-", "−")
    digits = 1 if unit in ("perplexity", "words") else 2
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def _worst(found: Risks) -> str:
    """Show, for what became clearly worse, the items behind it."""
    parts = []
    for one in found.risks:
        if one.clear and one.rows:
            items = "".join(map(_item, one.rows[:_LOSS_ROWS]))
            parts.append(f"<h3>Worse: {escape(one.name)}</h3><ul>{items}</ul>")
    return "".join(parts)


def _item(each: Any) -> str:
    said = (
        f"{each.said_before[:160]} → {each.said_after[:160]}" if each.said_before or each.said_after else ""
    )
    return f"<li>{escape(each.item)}{small(said)}</li>"


def _limits(found: Risks) -> str:
    lines = [f"<li><b>{escape(one.name)}</b>: {escape(one.covers_not)}</li>" for one in found.risks]
    lines += [
        f"<li><b>{escape(one.name)}</b>: not measured. {escape(one.why)}</li>" for one in found.unmeasured
    ]
    return f"<details><summary>What these figures do not cover</summary><ul>{''.join(lines)}</ul></details>\n"


def to_json(found: Risks) -> dict[str, Any]:
    """Return the figures by check and name, each with its intervals, and what was not measured."""
    checks: dict[str, dict[str, Any]] = {}
    for one in found.risks:
        known = asdict(one) | {"clear": one.clear}
        checks.setdefault(one.check, {})[one.name] = known
    return {
        "before": found.before,
        "after": found.after,
        "checks": checks,
        "unmeasured": [asdict(one) for one in found.unmeasured],
        "notes": list(found.notes),
    }


def from_json(document: Mapping[str, Any]) -> Risks:
    """Return what `to_json` wrote."""
    from pydantic import TypeAdapter

    risks = [
        {key: value for key, value in one.items() if key != "clear"}
        for check in document["checks"].values()
        for one in check.values()
    ]
    plain_document = {**document, "risks": risks}
    del plain_document["checks"]
    return TypeAdapter(Risks).validate_python(plain_document)


def worse(found: Risks) -> Iterator[Risk]:
    """Yield what became worse beyond noise."""
    return (one for one in found.risks if one.clear)
