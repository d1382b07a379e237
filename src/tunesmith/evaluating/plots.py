"""The report's plots as inline SVG: contenders with their intervals, the loss, the dataset's story."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.evaluating.statistics import Estimate

# The light theme's colours. report.css gives each its counterpart in the dark, by the value that stands here.
INK, MUTED, RULE = "#22272e", "#656d76", "#d9d5cc"
ACCENT, QUIET, WARN = "#0b6e69", "#7d8794", "#b4482f"

Kind = Literal["tuned", "untuned", "floor", "ceiling"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the dot plot."""

    label: str
    kind: Kind
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One logged step of training; losses in nats a token, the validation loss where one was taken."""

    step: int
    train_loss: float
    valid_loss: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the dataset's story: what a stage kept, rejected and failed at."""

    label: str
    accepted: int
    rejected: int
    failed: int


def dot_plot(rows: Sequence[Row], *, width: int, name: str) -> str:
    """Draw shares with their intervals, a dashed rule at the highest floor, a dotted one at the ceiling."""
    import altair as alt

    values = [
        {
            "label": row.label,
            "kind": row.kind,
            "value": row.estimate.value,
            "low": row.estimate.low,
            "high": row.estimate.high,
            "text": f"{100 * row.estimate.value:.0f} %",
        }
        for row in rows
    ]
    colour = alt.Color(
        "kind:N", legend=None, scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    )
    y = alt.Y("label:N", sort=[row.label for row in rows], title=None, axis=_labels(width))
    base = alt.Chart(alt.Data(values=values)).encode(y=y, color=colour)
    layers = [
        *_rules(rows, width),
        base.mark_rule(strokeWidth=2.5, opacity=0.55).encode(x=_share("low", width), x2="high:Q"),
        base.mark_point(filled=True, size=85, opacity=1).encode(
            x=_share("value", width),
            shape=alt.Shape(
                "kind:N", legend=None, scale=alt.Scale(domain=list(_SHAPES), range=list(_SHAPES.values()))
            ),
        ),
        base.mark_text(align="left", dx=7).encode(x=_share("high", width), text="text:N"),
    ]
    return _svg(alt.layer(*layers), width, 27 * len(rows), name)


def loss_plot(points: Sequence[CurvePoint], *, width: int, name: str) -> str:
    """Draw the training loss as a thin line and the validation loss as a thick one with its points."""
    import altair as alt

    train: list[dict[str, Any]] = [
        {"step": one.step, "loss": one.train_loss, "line": "training"} for one in points
    ]
    valid: list[dict[str, Any]] = [
        {"step": one.step, "loss": one.valid_loss, "line": "validation"}
        for one in points
        if one.valid_loss is not None
    ]
    x = alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=6, format="d"))
    y = alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=True, nice=True))
    layers = [_line(train, 1.3, QUIET, x, y)]
    if valid:
        layers += [_line(valid, 2.5, ACCENT, x, y), _dots(valid, x, y)]
    training_above = not valid or train[-1]["loss"] > valid[-1]["loss"]
    layers.append(_end_label(train[-1], QUIET, -12 if training_above else 15, x, y))
    if valid:
        layers.append(_end_label(valid[-1], ACCENT, 15 if training_above else -12, x, y))
    return _svg(alt.layer(*layers), width, 200, name)


def story_plot(bars: Sequence[Bar], *, width: int, name: str) -> str:
    """Draw for each stage what was kept, rejected and failed as one stacked bar."""
    import altair as alt

    values = [
        {"label": bar.label, "part": part, "order": order, "count": count}
        for bar in bars
        for order, (part, count) in enumerate(
            (("kept", bar.accepted), ("rejected", bar.rejected), ("failed", bar.failed))
        )
        if count
    ]
    parts = {"kept": ACCENT, "rejected": QUIET, "failed": WARN}
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(height=16, cornerRadius=1)
        .encode(
            y=alt.Y("label:N", sort=[bar.label for bar in bars], title=None, axis=_labels(width)),
            x=alt.X("count:Q", title=None, axis=alt.Axis(tickCount=5, format=",d", gridColor=RULE)),
            color=alt.Color(
                "part:N",
                title=None,
                legend=alt.Legend(orient="top", symbolType="square"),
                scale=alt.Scale(domain=list(parts), range=list(parts.values())),
            ),
            order=alt.Order("order:Q"),
        )
    )
    return _svg(chart, width, 30 * len(bars), name)


def spread_plot(spreads: Mapping[str, Sequence[tuple[int, int]]], *, width: int, name: str) -> str:
    """Draw how many rows have up to so many of each unit: one bar for each (at most, how many), a colour for a unit."""
    import altair as alt

    values = [
        {"label": f"up to {most:,} {unit}", "unit": unit, "count": count, "text": f"{count:,}"}
        for unit, bins in spreads.items()
        for most, count in bins
    ]
    colours = alt.Scale(domain=list(spreads), range=[ACCENT, QUIET])
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("label:N", sort=[value["label"] for value in values], title=None, axis=_labels(width)),
        x=alt.X("count:Q", title="rows", axis=alt.Axis(tickCount=5, format=",d", gridColor=RULE)),
    )
    bars = base.mark_bar(height=14, cornerRadius=1).encode(
        color=alt.Color("unit:N", legend=None, scale=colours)
    )
    numbers = base.mark_text(align="left", dx=5, color=INK).encode(text="text:N")
    return _svg(alt.layer(bars, numbers), width, 22 * len(values), name)


_COLOURS: dict[Kind, str] = {"tuned": ACCENT, "untuned": INK, "floor": QUIET, "ceiling": QUIET}
_SHAPES: dict[Kind, str] = {
    "tuned": "circle",
    "untuned": "square",
    "floor": "diamond",
    "ceiling": "triangle-up",
}


def _share(field: str, width: int) -> Any:
    import altair as alt

    return alt.X(
        f"{field}:Q",
        title=None,
        scale=alt.Scale(domain=[0, 1 + 80 / width], nice=False),  # room for a label beside 100 %
        axis=alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1], gridColor=RULE),
    )


def _labels(width: int) -> Any:
    import altair as alt

    return alt.Axis(
        labelLimit=int(width * 0.55), labelFontSize=12, labelColor=INK, labelPadding=8, grid=False
    )


def _rules(rows: Sequence[Row], width: int) -> list[Any]:
    """Return a rule at the highest floor and one at the highest ceiling, each only where there is one."""
    import altair as alt

    dashes: tuple[tuple[Kind, list[int]], ...] = (("floor", [5, 4]), ("ceiling", [1, 3]))
    return [
        alt.Chart(alt.Data(values=[{"at": max(row.estimate.value for row in rows if row.kind == kind)}]))
        .mark_rule(strokeDash=dash, color=QUIET)
        .encode(x=_share("at", width))
        for kind, dash in dashes
        if any(row.kind == kind for row in rows)
    ]


def _line(values: list[dict[str, Any]], thickness: float, colour: str, x: Any, y: Any) -> Any:
    import altair as alt

    chart = alt.Chart(alt.Data(values=values))
    return chart.mark_line(strokeWidth=thickness, color=colour, strokeJoin="round").encode(x=x, y=y)


def _dots(values: list[dict[str, Any]], x: Any, y: Any) -> Any:
    import altair as alt

    return (
        alt.Chart(alt.Data(values=values))
        .mark_point(filled=True, size=45, color=ACCENT, opacity=1)
        .encode(x=x, y=y)
    )


def _end_label(value: dict[str, Any], colour: str, offset: int, x: Any, y: Any) -> Any:
    """Name a line at its own end, `offset` pixels below it, so that no one need match colours."""
    import altair as alt

    chart = alt.Chart(alt.Data(values=[value | {"text": f"{value['line']} {value['loss']:.2f}"}]))
    label = chart.mark_text(align="right", dy=offset, color=colour, fontWeight=600)
    return label.encode(x=x, y=y, text="text:N")


def _svg(chart: Any, width: int, height: int, name: str) -> str:
    """Render without the network: vl-convert carries Vega with it.

    `name` makes the ids inside unique among the plots of one page. Width and height are those of the whole
    picture and of the drawing area, in pixels.
    """
    import vl_convert

    sized = (
        chart.properties(
            width=width,
            height=height,
            autosize=_fit(),
            padding={"left": 2, "right": 12, "top": 4, "bottom": 2},
        )
        .configure(font="Arial, sans-serif", background="transparent", aria=False)
        .configure_view(stroke=None)
        .configure_axis(
            domain=False,
            ticks=False,
            labelColor=MUTED,
            titleColor=MUTED,
            labelFontSize=11,
            gridColor=RULE,
            titleFontWeight="normal",
        )
        .configure_legend(labelColor=MUTED, labelFontSize=12)
        .configure_text(fontSize=11.5)
    )
    # A chart checked against the whole schema takes seconds; these charts are tested instead.
    svg = vl_convert.vegalite_to_svg(sized.to_dict(validate=False))
    return _own_ids(svg, name)


def _own_ids(svg: str, name: str) -> str:
    """Number the ids anew: vl-convert counts on from plot to plot, so that no page would be like another."""
    ids = {
        old: f"{name}-{number}"
        for number, old in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg)))
    }
    return re.sub(
        r'(\bid="|url\(#|href="#)([^")]+)', lambda found: found[1] + ids.get(found[2], found[2]), svg
    )


def _fit() -> dict[str, str]:
    """Let the labels take their room out of the width, so that the picture is as wide as asked."""
    return {"type": "fit-x", "contains": "padding"}
