"""The report's building blocks: tables, cells and meters as HTML, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from tunesmith.evaluating.scores import Summarised, Summary, WordsSummary
from tunesmith.evaluating.statistics import Estimate
from tunesmith.evaluating.verdict import percent

NONE = '<td class="none"><span aria-label="not measured">–</span></td>'


@dataclass(frozen=True, slots=True)
class SummaryTable:
    """Summaries that a notebook shows as a table."""

    summaries: tuple[Summarised, ...]

    def _repr_html_(self) -> str:
        return summary_table(self.summaries)


@dataclass(frozen=True, slots=True)
class Head:
    """A column's heading, and what a smaller line under it adds."""

    title: str
    under: str = ""
    words: bool = False


def table(
    label: str, heads: Sequence[Head], bodies: Iterable[str], *, caption: str = "", kind: str = ""
) -> str:
    """Return a table of tbody elements that scrolls sideways where the screen is too narrow for it."""
    caption_html = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    kind_html = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0"><table{kind_html}>\n'
        f"{caption_html}<thead><tr>{''.join(map(_head, heads))}</tr></thead>\n"
        f"{''.join(bodies)}</table></div>\n"
    )


def _head(head: Head) -> str:
    words = ' class="words"' if head.words else ""
    return f'<th scope="col"{words}>{escape(head.title)}{small(head.under)}</th>'


def body(rows: Iterable[str], *, group: str = "", columns: int = 0) -> str:
    """Return rows as one tbody, under a heading of their own if `group` names one."""
    heading = (
        f'<tr class="group"><th scope="rowgroup" colspan="{columns}">{escape(group)}</th></tr>\n'
        if group
        else ""
    )
    return f"<tbody>{heading}{''.join(rows)}</tbody>\n"


def row(first: str, cells: Iterable[str], *, marked: bool = False) -> str:
    """Return a row whose first cell, given as HTML, heads it."""
    kind = ' class="marked"' if marked else ""
    return f'<tr{kind}><th scope="row">{first}</th>{"".join(cells)}</tr>\n'


def cell(text: str, kind: str = "") -> str:
    """Return a cell with a text."""
    kind_html = f' class="{kind}"' if kind else ""
    return f"<td{kind_html}>{escape(text)}</td>"


def small(text: str) -> str:
    """Return a smaller line under what stands before it, nothing for no text."""
    return f"<small>{escape(text)}</small>" if text else ""


def code(text: str) -> str:
    """Return a name as it is typed."""
    return f"<code>{escape(text)}</code>"


def share(value: float) -> str:
    """Return a share as a percentage with a quiet unit."""
    return f'{100 * value:.1f}<span class="unit"> %</span>'


def interval(estimate: Estimate) -> str:
    """Return an interval in percent: "59.0 to 71.3"."""
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def share_cell(estimate: Estimate, *, strip: bool = False) -> str:
    """Return a share over its interval, with a little picture of both if `strip`."""
    picture = _strip(estimate) if strip else ""
    return f"<td>{share(estimate.value)}{small(interval(estimate))}{picture}</td>"


def _strip(estimate: Estimate) -> str:
    left, right, at = 100 * estimate.low, 100 - 100 * estimate.high, 100 * estimate.value
    return (
        f'<span class="strip" aria-hidden="true"><i style="left:{left:.1f}%;right:{right:.1f}%"></i>'
        f'<b style="left:{at:.1f}%"></b></span>'
    )


def meter(label: str, value: float, most: float, shown: str) -> str:
    """Return a list item with a bar; `label` is HTML."""
    width = 100 * value / most if most else 0
    bar = f'<span class="meter" aria-hidden="true"><i style="width:{width:.1f}%"></i></span>'
    return f"<li><span>{label}</span>{bar}<b>{escape(shown)}</b></li>"


def figure(wide: str, narrow: str, caption: str) -> str:
    """Show one plot in two widths, of which the style picks one; screen readers get the caption."""
    return (
        f'<figure class="plot"><div class="wide" aria-hidden="true">{wide}</div>'
        f'<div class="narrow" aria-hidden="true">{narrow}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def summary_table(summaries: Sequence[Summarised]) -> str:
    """Return every share of every summary: calls and words in a table each."""
    calls = [one for one in summaries if isinstance(one, Summary)]
    words = [one for one in summaries if isinstance(one, WordsSummary)]
    return (_calls_table(calls) if calls else "") + (_words_table(words) if words else "")


def _words_table(summaries: Sequence[WordsSummary]) -> str:
    names = list(dict.fromkeys(name for one in summaries for name in one.measures))
    titles = ("Contender", "Set", "n", *(name.replace("_", " ").capitalize() for name in names), "Cut off")
    rows = (
        row(
            code(one.contender),
            (
                cell(one.set),
                cell(str(one.n)),
                *(share_cell(one.measures[name]) if name in one.measures else NONE for name in names),
                cell(percent(one.cut_off)),
            ),
        )
        for one in summaries
    )
    return table("Figures of answers in words", [Head(title) for title in titles], [body(rows)])


def _calls_table(summaries: Sequence[Summary]) -> str:
    titles = (
        "Contender",
        "Set",
        "n",
        "Exact",
        "Valid",
        "Hallucinated",
        "Wrong arguments",
        "No call",
        "Cut off",
    )
    return table("Figures", [Head(title) for title in titles], [body(map(_summary_row, summaries))])


def _summary_row(one: Summary) -> str:
    return row(
        code(one.contender),
        (
            cell(one.set),
            cell(str(one.n)),
            share_cell(one.exact),
            share_cell(one.valid),
            share_cell(one.hallucinated),
            cell(percent(one.wrong_arguments)),
            cell(percent(one.no_call)),
            cell(percent(one.cut_off)),
        ),
    )
