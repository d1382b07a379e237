"""The report: one self-contained page with the verdict first, and the same as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from importlib import resources
from statistics import median
from typing import Any

from tunesmith.evaluating import plots, tables
from tunesmith.evaluating.classes import ClassReport
from tunesmith.evaluating.costs import Bill, BreakEven
from tunesmith.evaluating.curve import Curve
from tunesmith.evaluating.names import is_tuned
from tunesmith.evaluating.plots import Bar, CurvePoint, Kind, Row
from tunesmith.evaluating.risks.page import risks_section
from tunesmith.evaluating.risks.page import to_json as risks_json
from tunesmith.evaluating.risks.record import Risks
from tunesmith.evaluating.scores import Summarised, WordsSummary, acceptable
from tunesmith.evaluating.statistics import Metric, Paired
from tunesmith.evaluating.tables import NONE, Head, body, cell, code, row, share_cell, small
from tunesmith.evaluating.texts import FOUND, MEASURES
from tunesmith.evaluating.verdict import (
    SETS,
    Decision,
    cost_order,
    describe,
    describe_set,
    measure_words,
    points,
)
from tunesmith.evaluating.worked import Worked, choose
from tunesmith.records import Example, Score, Source, Tally

_WIDE, _NARROW = 900, 350  # pixels: a page, a phone
_TOPICS_SHOWN = 12
_FAR_OFF = 1.5
_RIGHT_FROM = 0.5
_NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class StageStory:
    """What a stage asked for, kept and rejected; `unit` names what is counted ("examples")."""

    stage: str
    unit: str
    tally: Tally


@dataclass(frozen=True, slots=True)
class LexicalDistance:
    """How far a set's questions are in words from the training questions: 0 the same words, 1 none shared."""

    set: str
    value: float


@dataclass(frozen=True, slots=True)
class TopicSize:
    """A topic's label and how many chunks it holds."""

    label: str
    size: int


@dataclass(frozen=True, slots=True)
class Cost:
    """One line of the bill: what was foreseen and what it came to, None where that is not known."""

    what: str
    unit: str
    estimated: float | None
    actual: float | None


@dataclass(frozen=True, slots=True)
class Fact:
    """One line about how the run was made: a package's version, the processor, the date."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Part:
    """What was measured of one kind of answers, calls or words; the fields are ReportData's."""

    decision: Decision
    summaries: tuple[Summarised, ...]
    floors: tuple[Summarised, ...] = ()
    ceilings: tuple[Summarised, ...] = ()
    paired: tuple[Paired, ...] = ()
    scores: tuple[Score, ...] = ()
    sets: Mapping[str, Sequence[Example]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that the page shows. `floors` and `ceilings` stand apart from the contenders' `summaries`.

    `sets` holds the test sets' questions, for the worked examples, which come from the decision's set. Where answers in
    words were measured beside calls, they are `words`; alone they are the page's main part.
    """

    project: str
    sources: tuple[Source, ...]
    decision: Decision
    summaries: tuple[Summarised, ...]
    floors: tuple[Summarised, ...] = ()
    ceilings: tuple[Summarised, ...] = ()
    paired: tuple[Paired, ...] = ()
    scores: tuple[Score, ...] = ()
    sets: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    story: tuple[StageStory, ...] = ()
    distances: tuple[LexicalDistance, ...] = ()
    topics: tuple[TopicSize, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    cost: tuple[Cost, ...] = ()
    environment: tuple[Fact, ...] = ()
    words: Part | None = None
    learning: Curve | None = None
    classes: Mapping[str, ClassReport] = field(default_factory=dict)
    bills: tuple[Bill, ...] = ()
    break_even: tuple[BreakEven, ...] = ()
    risks: Risks | None = None
    latencies: Mapping[str, Sequence[float]] = field(default_factory=dict)


Measured = ReportData | Part


# --- the same as JSON


def to_json(data: ReportData) -> dict[str, Any]:
    """Return what `tunesmith report --json` prints: verdict, figures with intervals, story and cost."""
    return {
        "project": data.project,
        "sources": [asdict(source) for source in data.sources],
        "verdict": data.decision.sentence,
        "best": data.decision.best,
        "cheapest": data.decision.cheapest,
        "set": data.decision.set,
        "why": list(data.decision.why),
        "change": list(data.decision.change),
        "metric": data.summaries[0].metric,
        "words": _words_decision(data),
        "contenders": _by_name(_both(data, "summaries"), _contender_figures),
        "floors": _by_name(_both(data, "floors"), _shares),
        "ceilings": _by_name(_both(data, "ceilings"), _shares),
        "paired": [asdict(one) for part in _parts(data) for one in part.paired],
        "dataset": {
            "stages": [asdict(one) for one in data.story],
            "lexical_distance": {one.set: one.value for one in data.distances},
            "topics": [asdict(one) for one in data.topics],
        },
        "training": [asdict(one) for one in data.curve],
        "cost": [asdict(one) for one in data.cost],
        "learning_curve": None if data.learning is None else asdict(data.learning),
        "classes": {name: asdict(one) for name, one in data.classes.items()},
        "bills": {one.contender: asdict(one) for one in data.bills},
        "break_even": [asdict(one) for one in data.break_even],
        "latency_alone_s": {name: _alone(taken) for name, taken in data.latencies.items() if taken},
        "environment": {one.name: one.value for one in data.environment},
        "risks": None if data.risks is None else risks_json(data.risks),
    }


def _alone(taken: Sequence[float]) -> dict[str, float]:
    """Return the median, the 95th percentile and the number of questions that were asked alone."""
    ordered = sorted(taken)
    return {
        "p50": median(ordered),
        "p95": ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))],
        "n": len(ordered),
    }


def _parts(data: ReportData) -> tuple[Measured, ...]:
    return (data,) if data.words is None else (data, data.words)


def _both(data: ReportData, name: str) -> Iterator[Summarised]:
    """Yield the main part's summaries last: where both measured a set, latency and tokens are the main part's."""
    for part in reversed(_parts(data)):
        yield from getattr(part, name)


def _words_decision(data: ReportData) -> dict[str, Any] | None:
    """Return the verdict about answers in words, None where none were measured."""
    part = next((part for part in _parts(data) if isinstance(part.summaries[0], WordsSummary)), None)
    if part is None:
        return None
    one = part.decision
    return {
        "verdict": one.sentence,
        "best": one.best,
        "cheapest": one.cheapest,
        "set": one.set,
        "metric": part.summaries[0].metric,
        "why": list(one.why),
    }


def _by_name(
    summaries: Iterable[Summarised], figures: Callable[[Summarised], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in summaries:
        found.setdefault(one.contender, {}).setdefault(one.set, {}).update(figures(one))
    return found


def _shares(one: Summarised) -> dict[str, Any]:
    if isinstance(one, WordsSummary):
        return {name: asdict(estimate) for name, estimate in one.measures.items()}
    return {
        "exact": asdict(one.exact),
        "valid": asdict(one.valid),
        "hallucinated": asdict(one.hallucinated),
        "wrong_arguments": one.wrong_arguments,
        "no_call": one.no_call,
    }


def _contender_figures(one: Summarised) -> dict[str, Any]:
    return _shares(one) | {
        "cut_off": one.cut_off,
        "latency_s": {"p50": one.seconds_p50, "p95": one.seconds_p95},
        "tokens": {"prompt": one.prompt_tokens, "completion": one.completion_tokens},
    }


# --- the page


def render_html(data: ReportData) -> str:
    """Return the page as one string that needs no network: style and plots are inside, scripts are none."""
    headline, _, rest = data.decision.sentence.partition(": ")
    sections = [
        _section("figures", "What each way scores", _figures(data)),
        _section("compared", "Is the difference real?", _comparisons(data)),
        _section("examples", "Worked examples", _worked_examples(data)),
        _section("words", "And the answers in words", _words(data)),
        _section("classes", "Label by label", _classes(data)),
        _section("bills", "What each way costs", _bills(data)),
        _section("risks", "What the tuning risks", "" if data.risks is None else risks_section(data.risks)),
        _section("dataset", "What it learned from", _dataset(data)),
        _section("training", "How training went", _training(data) + _learning(data)),
        _section("cost", "What it cost", _cost(data)),
        _section("made", "How this was made", _environment(data)),
    ]
    style = resources.files("tunesmith.evaluating").joinpath("report.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="Tunesmith">
<title>{escape(data.project)}: {escape(headline)}</title>
<style>
{style}
</style>
</head>
<body>
<header class="verdict">
<p class="kicker"><b>{escape(data.project)}</b>{_source_names(data.sources)}</p>
<h1>{escape(headline)}</h1>
{f'<p class="lede">{escape(_sentence_case(rest))}</p>' if rest else ""}
{_tiles(data)}
</header>
<main>
<section id="why" aria-labelledby="why-title"><h2 id="why-title">Why</h2>
<ul class="why">{_items(data.decision.why)}</ul>
{_change(data.decision)}</section>
{"".join(sections)}
</main>
<footer><p>Made by Tunesmith. Scores are on the test sets' questions, which training never saw; intervals
are 95 %. The rows behind them are in the project's folder.</p></footer>
</body>
</html>
"""


def _items(texts: Sequence[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _change(decision: Decision) -> str:
    if not decision.change:
        return ""
    return f'<h3>What would change the answer</h3>\n<ul class="why">{_items(decision.change)}</ul>\n'


def _words(data: ReportData) -> str:
    """Return all about the answers in words, where they stand beside calls."""
    if data.words is None:
        return ""
    part = data.words
    return (
        f'<p>{escape(part.decision.sentence)}</p>\n<ul class="why">{_items(part.decision.why)}</ul>\n'
        + _figures(part, "words-")
        + _comparisons(part)
        + _worked_examples(part, "words-")
    )


def _section(name: str, title: str, content: str) -> str:
    """Return a section under a heading, nothing where there is no content."""
    if not content:
        return ""
    heading = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}\n{content}</section>\n'


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _source_names(sources: Sequence[Source]) -> str:
    names = (f"{source.address} {source.version or ''}".strip() for source in sources)
    return "".join(f"<span>{escape(name)}</span>" for name in names)


def _tiles(data: ReportData) -> str:
    """Show what it knew before, what retrieval alone gives, and what the best knows, on the main set."""
    decision = data.decision
    main = {one.contender: one for one in (*data.floors, *data.summaries) if one.set == decision.set}
    wanted = ("base", "retrieval", "tuned_first_hit", decision.cheapest, decision.best)
    tiles = "".join(_tile(main[name], decision) for name in dict.fromkeys(wanted) if name in main)
    best = main[decision.best]
    measure = _sentence_case(measure_words(best.metric))
    caption = escape(f"{measure} on {best.n} {describe_set(decision.set, best.metric)}")
    note = f'<p class="note">{caption}; below each figure its 95 % interval.</p>'
    return f'<dl class="tiles" aria-label="{caption}">{tiles}</dl>{note}'


def _tile(one: Summarised, decision: Decision) -> str:
    marked = ' class="marked"' if one.contender == decision.best else ""
    name = escape(_sentence_case(describe(one.contender))) + _badges(one.contender, decision)
    figure = tables.share(one.main.value) + small(tables.interval(one.main))
    return f"<div{marked}><dt>{name}</dt><dd>{figure}</dd></div>"


def _badges(name: str, decision: Decision) -> str:
    words = [word for word in ("best", "cheapest") if getattr(decision, word) == name]
    return f' <span class="badge">{" and ".join(words)}</span>' if words else ""


# --- figures: the dot plot and the tables


def _figures(data: Measured, prefix: str = "") -> str:
    main, metric = data.decision.set, data.summaries[0].metric
    caption = (
        f"{_sentence_case(measure_words(metric))} on the set {main} ({describe_set(main, metric)}). "
        "The bar is the 95 % interval. Dots: a tuned "
        "language model; squares: an untuned one; diamonds: floors, reached without any language model, the "
        "highest dashed; triangles: ceilings, a perfect choice or a perfect retriever, the "
        "highest dotted."
    )
    rows = _rows(data)
    wide = plots.dot_plot(rows, width=_WIDE, name=f"{prefix}dots-wide")
    narrow = plots.dot_plot(rows, width=_NARROW, name=f"{prefix}dots-narrow")
    return tables.figure(wide, narrow, caption) + _overview(data) + _all_figures(data)


def _rows(data: Measured) -> list[Row]:
    main, metric = data.decision.set, data.summaries[0].metric
    # How often a retriever finds the right passage is no score of answers in words.
    ceilings = [one for one in data.ceilings if one.metric == metric]
    return [
        *(Row(one.contender, _kind(one), one.main) for one in _by_cost(data.summaries) if one.set == main),
        *(Row(one.contender, "floor", one.main) for one in data.floors if one.set == main),
        *(Row(one.contender, "ceiling", one.main) for one in ceilings if one.set == main),
    ]


def _kind(one: Summarised) -> Kind:
    return "tuned" if is_tuned(one.contender) else "untuned"


def _by_cost(summaries: Iterable[Summarised]) -> list[Summarised]:
    return sorted(summaries, key=lambda one: cost_order(one.contender))


def _set_names(data: Measured) -> list[str]:
    """Return the sets, the decision's first."""
    present = {one.set for one in data.summaries}
    known = [name for name in SETS if name in present]
    return list(dict.fromkeys((data.decision.set, *known, *sorted(present))))


def _overview(data: Measured) -> str:
    """Return contenders by sets with the main set's other figures, floors and ceilings set apart."""
    sets, main, metric = _set_names(data), data.decision.set, data.summaries[0].metric
    heads = [
        Head("Contender"),
        *(
            Head("Exact" if metric == "exact" else _sentence_case(measure_words(metric)), name)
            for name in sets
        ),
        *(Head(_sentence_case(measure_words(name)), main) for name in _others(data)),
        Head("Seconds", "median"),
        Head("Tokens", "in + out"),
    ]
    groups = (
        ("Contenders", _by_cost(data.summaries)),
        ("Floors: no language model", data.floors),
        ("Ceilings: a perfect choice among what was retrieved, and a perfect retriever", data.ceilings),
    )
    bodies = [
        body(_overview_rows(data, summaries, sets), group=title, columns=len(heads))
        for title, summaries in groups
        if summaries
    ]
    caption = "Contenders from cheap to dear. Each share with its 95 % interval (Wilson)."
    if metric != "exact":
        caption = (
            "Contenders from cheap to dear. Each figure is 100 times a mean from 0 to 1, with its 95 % interval: "
            "Wilson's for what is right or wrong, else a bootstrap's over stretches of documents."
        )
    return tables.table("All contenders", heads, bodies, caption=caption, kind="overview")


def _others(data: Measured) -> tuple[str, ...]:
    """Return the measures that are shown beside the one that the verdict rests on."""
    metric = data.summaries[0].metric
    return (
        ("valid", "hallucinated")
        if metric == "exact"
        else tuple(one for one in _shown(data) if one != metric)
    )


def _shown(data: Measured) -> tuple[str, ...]:
    """Return what all answers in words are measured by, and what of labels, a grader and passages there is."""
    there = {name for one in data.summaries if isinstance(one, WordsSummary) for name in one.measures}
    found = (FOUND,) if any(one.metric == FOUND for one in data.ceilings) else ()
    return (*(name for name in ("accuracy", "judged", "judge_error") if name in there), *MEASURES, *found)


def _overview_rows(data: Measured, summaries: Sequence[Summarised], sets: Sequence[str]) -> Iterator[str]:
    by_key = {(one.contender, one.set): one for one in summaries}
    asked = {one.contender for one in data.summaries}
    for name in dict.fromkeys(one.contender for one in summaries):
        badges = _badges(name, data.decision) if name in asked else ""
        main = [_main_cell(by_key.get((name, set_name)), data.summaries[0].metric) for set_name in sets]
        rest = _rest_cells(by_key.get((name, data.decision.set)), _others(data), timed=name in asked)
        yield row(
            code(name) + badges + small(describe(name)), (*main, *rest), marked=name == data.decision.best
        )


def _main_cell(one: Summarised | None, metric: Metric) -> str:
    """Return the figure that contenders are held against each other by; a retriever's ceiling has another one."""
    return share_cell(one.main, strip=True) if one and one.metric == metric else NONE


def _rest_cells(one: Summarised | None, measures: Sequence[str], *, timed: bool) -> Iterator[str]:
    """Yield the other measures, seconds and tokens; without a language model time is not worth showing."""
    if one is None:
        yield from [NONE] * (len(measures) + 2)
        return
    for name in measures:
        estimate = one.measures.get(name) if isinstance(one, WordsSummary) else getattr(one, name)
        yield NONE if estimate is None else share_cell(estimate)
    yield f"<td>{one.seconds_p50:.2f}{small(f'p95 {one.seconds_p95:.2f}')}</td>" if timed else NONE
    yield cell(f"{one.prompt_tokens:.0f} + {one.completion_tokens:.0f}") if timed else NONE


def _all_figures(data: Measured) -> str:
    every, metric = (*data.summaries, *data.floors, *data.ceilings), data.summaries[0].metric
    by_set = "".join(
        f"<h3>{escape(name)} {small(describe_set(name, metric))}</h3>"
        + tables.summary_table([one for one in every if one.set == name])
        for name in _set_names(data)
    )
    return f"<details><summary>Every figure, set by set</summary>{by_set}</details>\n"


# --- comparisons


def _comparisons(data: Measured) -> str:
    """Show how far the best contender is above each other and each floor, on the same questions."""
    best, metric = data.decision.best, data.summaries[0].metric
    mine = [
        one if one.a == best else one.flipped()
        for one in data.paired
        if best in (one.a, one.b) and (one.set, one.metric) == (data.decision.set, metric)
    ]
    if not mine:
        return ""
    titles = ("Against", "Points", "95 % interval", "Reading", "McNemar p")
    rows = map(_comparison, sorted(mine, key=lambda one: -one.difference))
    more = (
        f"How many points more of the {mine[0].n} questions {code(best)} answers exactly than each of the "
        "others, asked the same."
        if metric == "exact"
        else f"How many points of {escape(measure_words(metric))} {code(best)} is above each of the others, "
        f"on the same {mine[0].n} questions."
    )
    clusters = "catalogue entries" if metric == "exact" else "stretches of documents"
    about = "one entry" if metric == "exact" else "one stretch"
    test = (
        "McNemar's exact test takes"
        if metric == "exact"
        else "The sign test, of which McNemar's is the case, takes"
    )
    return (
        f"<p>{more} An interval that holds zero is noise: the test cannot tell the two "
        "apart, which "
        "does not prove them equal.</p>\n"
        + tables.table("Comparisons", [Head(title) for title in titles], [body(rows)])
        + f'<p class="note">Intervals: bootstrap over {clusters}, since questions about {about} '
        "rise and "
        f"fall together. {test} the questions for independent, so its p is somewhat too "
        "small.</p>\n"
    )


def _comparison(one: Paired) -> str:
    reading = "above" if one.low > 0 else "below" if one.high < 0 else "within noise"
    return row(
        code(one.b),
        (
            cell(points(one.difference)),
            cell(f"{points(one.low)} to {points(one.high)}"),
            cell(reading, reading.replace(" ", "-")),
            cell("under 0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"),
        ),
    )


# --- worked examples


def _worked_examples(data: Measured, prefix: str = "") -> str:
    main, metric = data.decision.set, data.summaries[0].metric
    scores = [one for one in data.scores if one.set == main]
    asked = data.sets.get(main, ())
    if not scores or not asked:
        return ""
    contenders = sorted({one.contender for one in scores}, key=cost_order)
    before, after = contenders[0], _after(contenders, data.decision)
    chosen = choose(scores, asked, before=before, after=after, right=_right(metric))
    cards = "".join(
        _card(f"{prefix}{number}", one, contenders, metric) for number, one in enumerate(chosen, 1)
    )
    rule = (
        ""
        if metric == "exact"
        else f" Here an answer counts as right from {_RIGHT_FROM:.0%} of the measure on."
    )
    kinds = (
        f"some that {code(after)} gets right, some that it does not"
        if before == after
        else f"some that {code(after)} gets right where {code(before)} did not "
        "(fixed), some the other way round (regression), some that nobody gets right"
    )
    return (
        f"<p>Chosen by rule, not by taste: {kinds}. Answers that are alike word "
        f'for word share a box.{rule}</p>\n<div class="cards">{cards}</div>'
    )


def _after(contenders: Sequence[str], decision: Decision) -> str:
    """Return whose answers count as "after": the best's, or the dearest's if the best is where we began."""
    return decision.best if decision.best != contenders[0] else contenders[-1]


def _right(metric: Metric) -> Callable[[Score], bool]:
    """Return what tells whether an answer counts as right in the choice of examples."""
    return lambda one: (one.value(metric) or 0.0) >= _RIGHT_FROM


def _card(number: str, one: Worked, contenders: Sequence[str], metric: Metric) -> str:
    example = one.example
    truth = (
        f"<p><b>Right:</b> {', '.join(map(code, acceptable(example)))}</p>\n"
        f"<details><summary>The derived answer</summary>{_answer(example.answer)}</details>"
        if metric == "exact"
        else f"<p><b>The answer on record:</b></p>{_answer(example.answer)}"
    )
    lesson = f'<span class="lesson {one.lesson.replace(" ", "-")}">{one.lesson}</span>'
    ordered = sorted(one.scores, key=lambda score: contenders.index(score.contender))
    return f"""<article class="card" aria-labelledby="example-{number}">
<h3 id="example-{number}">{lesson} {escape(example.question)}</h3>
<div class="truth">{truth}</div>
<div class="answers">{"".join(_answers(ordered, metric))}</div></article>
"""


def _answers(scores: Sequence[Score], metric: Metric) -> Iterator[str]:
    alike: dict[tuple[str, str], list[Score]] = {}
    for one in scores:
        alike.setdefault((one.verdict or "", one.answer.text), []).append(one)
    for group in alike.values():
        first = group[0]
        names = ", ".join(code(one.contender) for one in group)
        side = "right" if _right(metric)(first) else "wrong"
        said = _mark(first, metric) + _answer(first.answer.text)
        yield f'<div class="answer {side}"><p class="who">{names}</p>{said}</div>'


def _mark(one: Score, metric: Metric) -> str:
    if one.verdict is None:
        return f'<p class="mark">{escape(measure_words(metric))} {100 * (one.value(metric) or 0):.0f}</p>'
    if one.exact:
        return '<p class="mark">✓ right</p>'
    word = "another call" if one.verdict == "valid" else one.verdict.replace("_", " ")
    called = f" {code(one.called)}" if one.called else ""
    return f'<p class="mark">✗ {word}{called}</p>'


def _answer(text: str) -> str:
    """Show prose as paragraphs and what stands between fences as code."""
    parts = text.split("```")
    shown = "".join(_fenced(part) if index % 2 else _prose(part) for index, part in enumerate(parts))
    return f'<div class="said">{shown or "<p><i>nothing</i></p>"}</div>'


def _fenced(part: str) -> str:
    language, newline, rest = part.partition("\n")
    words = rest if newline and " " not in language.strip() else part
    return f"<pre>{code(words.strip())}</pre>"


def _prose(part: str) -> str:
    marked = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(part.strip()))
    return f"<p>{marked}</p>" if marked else ""


# --- dataset, training, cost, environment


def _dataset(data: ReportData) -> str:
    metric = data.summaries[0].metric
    return _story(data.story) + _distances(data.distances, metric) + _topics(data.topics)


def _story(story: Sequence[StageStory]) -> str:
    if not story:
        return ""
    bars = [Bar(one.stage, one.tally.accepted, _rejections(one.tally), one.tally.failed) for one in story]
    figure = tables.figure(
        plots.story_plot(bars, width=_WIDE, name="story-wide"),
        plots.story_plot(bars, width=_NARROW, name="story-narrow"),
        "What each stage kept, rejected and failed at.",
    )
    titles = ("Stage", "Requested", "Kept", "Rejected", "Failed")
    heads = [*(Head(title) for title in titles), Head("Rejected because", words=True)]
    caption = "Requested = kept + rejected + failed, at every stage."
    return figure + tables.table(
        "The dataset's story", heads, [body(map(_story_row, story))], caption=caption
    )


def _story_row(one: StageStory) -> str:
    tally = one.tally
    by_count = sorted(tally.rejected.items(), key=lambda item: (-item[1], item[0]))
    counts = (tally.requested, tally.accepted, _rejections(tally), tally.failed)
    reasons = ", ".join(f"{rule} {count:,}" for rule, count in by_count) or "–"
    return row(
        escape(one.stage) + small(one.unit),
        (*(cell(f"{count:,}") for count in counts), cell(reasons, "words")),
    )


def _rejections(tally: Tally) -> int:
    return sum(tally.rejected.values())


def _distances(distances: Sequence[LexicalDistance], metric: Metric) -> str:
    if not distances:
        return ""
    items = "".join(
        tables.meter(escape(one.set) + small(describe_set(one.set, metric)), one.value, 1, f"{one.value:.2f}")
        for one in distances
    )
    return (
        "<h3>How far the test questions are from the training questions</h3>\n"
        "<p>In words: 0 would be the same, 1 none in common. A score on a set that is near says little.</p>\n"
        f'<ul class="meters">{items}</ul>\n'
    )


def _topics(topics: Sequence[TopicSize]) -> str:
    if not topics:
        return ""
    ordered = sorted(topics, key=lambda one: (-one.size, one.label))
    shown, rest = ordered[:_TOPICS_SHOWN], ordered[_TOPICS_SHOWN:]
    items = "".join(
        tables.meter(escape(one.label), one.size, ordered[0].size, f"{one.size:,}") for one in shown
    )
    pieces = sum(one.size for one in rest)
    more = f'<p class="note">And {len(rest)} smaller topics with {pieces:,} pieces.</p>' if rest else ""
    return f'<h3>What the material is about</h3>\n<ul class="meters">{items}</ul>{more}\n'


def _training(data: ReportData) -> str:
    if not data.curve:
        return ""
    first, last = data.curve[0], data.curve[-1]
    caption = (
        f"Loss over {last.step:,} steps: training from {first.train_loss:.2f} to {last.train_loss:.2f}"
        f"{_validation(data.curve)}.{_speed(data.curve)}"
    )
    return tables.figure(
        plots.loss_plot(data.curve, width=_WIDE, name="loss-wide"),
        plots.loss_plot(data.curve, width=_NARROW, name="loss-narrow"),
        caption,
    )


def _validation(curve: Sequence[CurvePoint]) -> str:
    losses = [one.valid_loss for one in curve if one.valid_loss is not None]
    if not losses:
        return ""
    return f", validation from {losses[0]:.2f} to {losses[-1]:.2f}, at best {min(losses):.2f}"


def _speed(curve: Sequence[CurvePoint]) -> str:
    speeds = [one.tokens_per_second for one in curve if one.tokens_per_second is not None]
    return f" Median speed: {median(speeds):,.0f} tokens a second." if speeds else ""


def _classes(data: ReportData) -> str:
    """Return accuracy, macro F1 and calibration of each contender's labels, and where the best is wrong."""
    if not data.classes:
        return ""
    decision = (data.words or data).decision
    heads = [
        Head("Contender"),
        *(Head(title) for title in ("Accuracy", "Macro F1", "No label", "Calibration error")),
    ]
    rows = (
        row(
            code(name),
            (
                share_cell(one.accuracy, strip=True),
                share_cell(one.macro_f1),
                share_cell(one.no_label),
                NONE if one.calibration is None else cell(f"{one.calibration.error:.3f}"),
            ),
            marked=name == decision.best,
        )
        for name, one in sorted(data.classes.items(), key=lambda item: cost_order(item[0]))
    )
    best = data.classes.get(decision.best)
    caption = _labelled(next(iter(data.classes.values())), decision.set)
    table = tables.table("Labels", heads, [body(rows)], caption=caption)
    return table + ("" if best is None else _confusion(best))


def _labelled(one: ClassReport, set_name: str) -> str:
    """Say how many questions the labels' figures are of, and how many have a label that training did not have."""
    said = f"On the {one.accuracy.n:,} questions of the set {set_name} whose right label training had."
    if one.left_out:
        said += (
            f" {one.left_out:,} more have another right label: left out here, wrong in the accuracy above."
        )
    return said


def _confusion(one: ClassReport) -> str:
    heads = [
        Head("Truth"),
        *(Head(label) for label in one.labels),
        Head("No label"),
        Head("Precision"),
        Head("Recall"),
    ]
    rows = (
        row(
            escape(label),
            (
                *(cell(f"{count:,}") for count in counts),
                *(
                    NONE if share is None else cell(f"{100 * share:.1f} %")
                    for share in (own.precision, own.recall)
                ),
            ),
        )
        for label, counts, own in zip(one.labels, one.confusion, one.classes, strict=True)
    )
    caption = "What the best contender said (columns) where each label was right (rows)."
    return tables.table("Confusion", heads, [body(rows)], caption=caption)


def _learning(data: ReportData) -> str:
    """Return what the tuned contender scores after other trainings: on less, and with other seeds."""
    if data.learning is None:
        return ""
    titles = (
        "Examples",
        "Share",
        "Seed",
        _sentence_case(measure_words(data.learning.metric)),
        "All above it by",
    )
    rows = (
        row(
            f"{one.examples:,}",
            (
                cell(f"{one.fraction:.0%}"),
                cell(f"{one.seed}"),
                share_cell(one.score, strip=True),
                NONE
                if one.gain is None
                else cell(
                    f"{points(one.gain.difference)} ({points(one.gain.low)} to {points(one.gain.high)})"
                ),
            ),
        )
        for one in data.learning.points
    )
    caption = f"{data.learning.contender} on the set {data.learning.set}, trained anew for each line."
    return "<h3>With fewer examples, and with other seeds</h3>\n" + tables.table(
        "Learning curve", [Head(title) for title in titles], [body(rows)], caption=caption
    )


def _bills(data: ReportData) -> str:
    """Return what making and asking each contender costs, and when the best has paid back."""
    if not data.bills:
        return ""
    unit = {"USD": "US dollars", "s": "seconds here"}[data.bills[0].unit]
    back = {one.against: one for one in data.break_even}
    best = data.decision.best
    unknown = {one.contender for one in data.bills if one.making is None}
    heads = [
        Head("Contender"),
        Head("To make", unit),
        Head("A thousand answers", unit),
        Head("Alone", "seconds, median"),
        Head(f"{best} is cheaper after", "questions"),
    ]
    rows = (
        row(
            code(one.contender),
            (
                cell(_NOT_KNOWN if one.making is None else _amount(one.making)),
                cell(_amount(one.per_thousand)),
                _alone_cell(data.latencies.get(one.contender, ())),
                cell(_NOT_KNOWN)
                if one.contender != best and unknown & {one.contender, best}
                else _paid_back(back.get(one.contender)),
            ),
            marked=one.contender == best,
        )
        for one in sorted(data.bills, key=lambda one: cost_order(one.contender))
    )
    caption = (
        "An answer costs its share of its batch's time; alone is what a user waits for. Making the dataset, which all "
        "share, is not counted."
    )
    return tables.table("What each way costs", heads, [body(rows)], caption=caption)


def _alone_cell(taken: Sequence[float]) -> str:
    if not taken:
        return NONE
    found = _alone(taken)
    under = f"p95 {found['p95']:.2f} of {found['n']}"
    return f"<td>{found['p50']:.2f}{small(under)}</td>"


def _paid_back(one: BreakEven | None) -> str:
    if one is None:
        return NONE
    return cell("never" if one.questions is None else _amount(one.questions))


def _cost(data: ReportData) -> str:
    if not data.cost:
        return ""
    titles = ("What", "Foreseen", "Came to", "Off by")
    return tables.table("Cost", [Head(title) for title in titles], [body(map(_cost_row, data.cost))])


def _cost_row(one: Cost) -> str:
    cells = (cell(_amount(one.estimated)), cell(_amount(one.actual)), _off_by(one))
    return row(escape(one.what) + small(one.unit), cells)


def _amount(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _off_by(one: Cost) -> str:
    if not one.estimated or one.actual is None:
        return cell("–")
    ratio = one.actual / one.estimated
    change = f"{100 * (ratio - 1):+.0f} %".replace("-", "−")
    far = not 1 / _FAR_OFF <= ratio <= _FAR_OFF
    return cell(f"{change}, far off", "below") if far else cell(change)


def _environment(data: ReportData) -> str:
    sources = [
        Fact(f"Source {one.address}", f"{one.version or ''} {one.digest[:12]}") for one in data.sources
    ]
    items = "".join(
        f"<div><dt>{escape(one.name)}</dt><dd>{escape(one.value.strip())}</dd></div>"
        for one in (*data.environment, *sources)
    )
    return f'<dl class="facts">{items}</dl>' if items else ""
