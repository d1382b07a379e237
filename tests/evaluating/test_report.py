"""The page and its JSON say what was measured, safely and without the network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tunesmith.evaluating import plots
from tunesmith.evaluating.costs import Bill, break_even
from tunesmith.evaluating.further import class_report, with_labels
from tunesmith.evaluating.plots import CurvePoint
from tunesmith.evaluating.report import (
    Cost,
    Fact,
    LexicalDistance,
    Part,
    ReportData,
    StageStory,
    TopicSize,
    render_html,
    to_json,
)
from tunesmith.evaluating.scores import summarise, summarise_words
from tunesmith.evaluating.tables import SummaryTable
from tunesmith.evaluating.verdict import compare, decide
from tunesmith.records import Answer, Example, Score, Source, Tally

MakeScores = Callable[..., tuple[Score, ...]]
NASTY = "<script>alert('x')</script> & \"quotes\""
VOID = {"meta", "br", "link", "img", "hr"}


class Outline(HTMLParser):
    """What a page is made of; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the tag and its id."""
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag that closes itself."""
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag, which must be this one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        self.text.append(data)


def outline(page: str) -> Outline:
    """Return what a page is made of."""
    found = Outline()
    found.feed(page)
    assert found.open == []
    return found


@pytest.fixture
def data(scores: MakeScores) -> ReportData:
    """A whole report of three contenders on two sets, with a nasty question and a nasty answer in it."""
    rows = (
        *scores("base", "v" * 18 + "h."),
        *scores("retrieval", "x" * 6 + "v" * 13 + "x"),
        *scores("tuned+retrieval", "x" * 15 + "v" * 5),
        *scores("base", "vvvv", set_name="seen"),
        *scores("tuned+retrieval", "xxxx", set_name="seen"),
    )
    rows = tuple(
        replace(one, answer=Answer(NASTY + "\n```python\nnx.center(G)\n```", 50, 9, 0.5)) for one in rows
    )
    floor = (*scores("constant", "x" + "v" * 19), *scores("first_hit", "x" * 5 + "v" * 15))
    ceiling = scores("hit_in_5", "x" * 17 + "v" * 3)
    summaries, floors, ceilings = summarise(rows), summarise(floor), summarise(ceiling)
    paired = compare(rows, floor)
    return ReportData(
        project="demo <b>",
        sources=(Source("python:networkx", "python", "0123456789abcdef", "3.6.1"),),
        decision=decide(summaries, paired, floors=floors, ceilings=ceilings),
        summaries=summaries,
        floors=floors,
        ceilings=ceilings,
        paired=paired,
        scores=rows,
        sets={
            "asked": tuple(
                Example(f"q{i}", f"{NASTY} {i}?", "```\nnx.center(G)\n```", "written:a:1", "networkx.center")
                for i in range(20)
            )
        },
        story=(StageStory("curate", "examples", Tally(100, 80, {"near duplicate": 15, "too short": 4}, 1)),),
        distances=(LexicalDistance("asked", 0.74),),
        topics=tuple(TopicSize(f"topic {i}", i) for i in range(1, 15)),
        curve=tuple(CurvePoint(i, 3 / i, 4 / i if i % 2 else None, 300.0) for i in range(1, 9)),
        cost=(Cost("Tuning", "minutes", 10, 20), Cost("Teacher", "USD", None, 0.0)),
        environment=(Fact("torch", "2.13.0"),),
    )


def test_the_page_needs_no_network(data: ReportData) -> None:
    """Nothing is loaded from anywhere: no script, no link, no image, no address but the SVG namespaces."""
    page = render_html(data)
    assert not {"script", "link", "img", "iframe"} & set(outline(page).tags)
    assert set(re.findall(r"https?://[^\s\"')]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\((?!#)", page)


def test_what_making_took_may_be_not_known(data: ReportData) -> None:
    """The page says so, of the making and of the break-even, and the JSON has null."""
    paid = (
        Bill("base", 0.0, 10.0, "USD"),
        Bill("retrieval", None, 8.0, "USD"),
        Bill("tuned+retrieval", 5.0, 5.0, "USD"),
    )
    best = data.decision.best
    assert best == "tuned+retrieval"
    told = replace(data, bills=paid, break_even=break_even(best, paid))
    section = render_html(told).partition('id="bills"')[2].partition("</section>")[0]
    assert section.count("not known") == 2
    assert to_json(told)["bills"]["retrieval"]["making"] is None
    assert [one["against"] for one in to_json(told)["break_even"]] == ["base"]
    paid = (*paid[:2], replace(paid[2], making=None))
    told = replace(data, bills=paid, break_even=break_even(best, paid))
    section = render_html(told).partition('id="bills"')[2].partition("</section>")[0]
    assert section.count("not known") == 4


def test_the_page_is_well_formed(data: ReportData) -> None:
    """Tags nest, ids are unique, there is one first heading, and every figure is there in two widths."""
    found = outline(render_html(data))
    assert len(found.ids) == len(set(found.ids))
    assert found.tags.count("h1") == 1
    assert found.tags.count("svg") == 6
    assert found.tags.count("article") == 10


def test_what_models_and_users_say_is_escaped(data: ReportData) -> None:
    """A question or an answer with markup in it is shown, not run."""
    page = render_html(data)
    assert "<script" not in page
    assert "demo <b>" not in page
    escaped = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;quotes&quot;"
    assert re.search(rf"{re.escape(escaped)} \d+\?</h3>", page)
    assert f"<p>{escaped}</p>" in page


def test_the_verdict_comes_first(data: ReportData) -> None:
    """The heading is the advice; its figures and the reasons follow, before any table."""
    words = " ".join("".join(outline(render_html(data)).text).split())
    assert data.decision.sentence.startswith("Fine-tune: ")
    order = [
        "Fine-tune",
        "The tuned model with retrieval answers 75.0 %",
        "Why",
        data.decision.why[-1],
        "Contender",
    ]
    places = [words.index(text) for text in order]
    assert places == sorted(places)


def test_all_that_was_measured_is_on_the_page(data: ReportData) -> None:
    """Contenders, floors, ceilings, reasons of rejection, topics, cost and versions are all to be read."""
    words = " ".join("".join(outline(render_html(data)).text).split())
    for text in (
        "tuned+retrieval",
        "the retriever's first hit alone",
        "hit_in_5",
        "near duplicate 15, too short 4",
        "And 2 smaller topics with 3 pieces.",
        "validation from 4.00 to 0.57, at best 0.57. Median speed: 300 tokens a second.",
        "+100 %, far off",
        "2.13.0",
        "3.6.1 0123456789ab",
        "✓ right",
        "✗ another call",
    ):
        assert text in words


def test_a_report_of_figures_alone_is_shorter_and_whole(data: ReportData) -> None:
    """Without training, dataset or examples their sections are gone, not empty."""
    bare = ReportData("demo", (), data.decision, data.summaries)
    found = outline(render_html(bare))
    assert [name for name in found.ids if name.endswith("-title")] == ["why-title", "figures-title"]


def test_the_page_is_the_same_each_time(data: ReportData) -> None:
    """Nothing of the time or of chance gets into it."""
    assert render_html(data) == render_html(data)


def test_the_json_has_the_promised_shape(data: ReportData) -> None:
    """Figures lie under contenders, floors and ceilings by name, set and metric, each with its interval."""
    found = json.loads(json.dumps(to_json(data)))
    assert found["verdict"] == data.decision.sentence
    assert {name: list(sets) for name, sets in found["contenders"].items()} == {
        "base": ["asked", "seen"],
        "retrieval": ["asked"],
        "tuned+retrieval": ["asked", "seen"],
    }
    best = found["contenders"]["tuned+retrieval"]["asked"]
    assert best["exact"] == {
        "value": 0.75,
        "low": best["exact"]["low"],
        "high": best["exact"]["high"],
        "n": 20,
    }
    assert best["latency_s"] == {"p50": 0.5, "p95": 0.5}
    assert best["tokens"] == {"prompt": 50, "completion": 9}
    assert found["floors"]["first_hit"]["asked"]["exact"]["value"] == 0.25
    assert found["ceilings"]["hit_in_5"]["asked"]["exact"]["value"] == 0.85
    assert set(found["paired"][0]) == {"a", "b", "set", "metric", "difference", "low", "high", "n", "p_value"}
    assert found["dataset"]["stages"] == [
        {
            "stage": "curate",
            "unit": "examples",
            "tally": {
                "requested": 100,
                "accepted": 80,
                "rejected": {"near duplicate": 15, "too short": 4},
                "failed": 1,
            },
        }
    ]
    assert found["dataset"]["lexical_distance"] == {"asked": 0.74}
    assert found["cost"][0] == {"what": "Tuning", "unit": "minutes", "estimated": 10, "actual": 20}


def test_a_notebook_shows_a_table(data: ReportData) -> None:
    """Summaries have a rich form with one row each."""
    found = outline(SummaryTable(data.summaries)._repr_html_())
    assert found.tags.count("tr") == 1 + len(data.summaries)


def test_the_style_knows_every_colour_of_the_plots(data: ReportData) -> None:
    """Each colour that a plot uses has its counterpart in the dark."""
    page = render_html(data)
    dark = page[page.rindex("prefers-color-scheme: dark") : page.index("</style>")]
    for colour in (plots.INK, plots.MUTED, plots.RULE, plots.ACCENT, plots.QUIET, plots.WARN):
        assert colour in dark


# --- answers in words


QUESTIONS = tuple(
    Example(f"q{number}", f"question {number}?", ("bug", "feature", "who knows")[number % 3], "written:f:1")
    for number in range(12)
)
LABELS = ("bug", "feature")


def labelled(contender: str, said: Callable[[Example], str], set_name: str = "asked") -> list[Score]:
    """Return a contender's answers with their labels, and with grades of which the judge gave none to the first."""
    scores = [Score(contender, set_name, one.id, one.id, None, None, Answer(said(one))) for one in QUESTIONS]
    marked = with_labels(scores, {one.id: one for one in QUESTIONS}, LABELS)
    return [
        replace(one, measures=one.measures | {"judged": 0.0, "judge_error": float(one.example == "q0")})
        for one in marked
    ]


@pytest.fixture
def words() -> Part:
    """All about answers in words that are labels: the tuned model is best, and a retriever has a ceiling."""
    scores = (*labelled("base", lambda one: "bug"), *labelled("tuned", lambda one: one.answer))
    ceiling = [
        Score("hit_in_5", "asked", one.id, one.id, None, None, Answer(""), measures={"found": 1.0})
        for one in QUESTIONS[:7]
    ]
    summaries, ceilings = summarise_words(scores, "accuracy"), summarise_words(ceiling, "accuracy")
    paired = compare(scores, (), "accuracy")
    decision = decide(summaries, paired, ceilings=ceilings)
    assert decision.best == "tuned"
    return Part(decision, summaries, (), ceilings, paired, scores, {"asked": QUESTIONS})


def alone(part: Part) -> ReportData:
    """Return a report of these answers alone."""
    return ReportData(
        project="desk",
        sources=(),
        decision=part.decision,
        summaries=part.summaries,
        ceilings=part.ceilings,
        paired=part.paired,
        scores=part.scores,
        sets=part.sets,
        distances=(LexicalDistance("unseen", 0.5),),
    )


def columns_of(page: str, contender: str) -> dict[str, str]:
    """Return a contender's cells of the overview by their headings."""
    table = page.partition('<table class="overview">')[2].partition("</table>")[0]
    heads = [
        re.sub(r"<small>.*?</small>|<[^>]+>", "", one)
        for one in re.findall(r"<th scope=\"col\".*?</th>", table)
    ]
    [line] = [one for one in table.split("<tr") if f"<code>{contender}</code>" in one]
    cells = [re.sub(r"<small>.*?</small>|<[^>]+>", "", one) for one in re.findall(r"<td.*?</td>", line)]
    return dict(zip(heads[1:], cells, strict=True))


def test_how_often_a_retriever_finds_is_no_score_of_answers(words: Part) -> None:
    """It has a column of its own, not that of the measure by which answers are held against each other."""
    page = render_html(alone(words))
    ceiling, tuned = columns_of(page, "hit_in_5"), columns_of(page, "tuned")
    assert (ceiling["Accuracy"], ceiling["Right passages found"]) == ("–", "100.0 %")
    assert (tuned["Accuracy"], tuned["Right passages found"]) == ("66.7 %", "–")


def test_what_the_judge_could_not_grade_has_a_column(words: Part) -> None:
    """One of twelve replies could not be read."""
    assert columns_of(render_html(alone(words)), "tuned")["Not graded by the judge"] == "8.3 %"


def test_labels_are_told_of_the_words_best_and_with_what_is_left_out(words: Part, data: ReportData) -> None:
    """Beside calls the best of the words is marked and shown; four questions have another label."""
    examples = {one.id: one for one in QUESTIONS}
    by_contender = {
        name: report
        for name in ("base", "tuned")
        if (report := class_report([one for one in words.scores if one.contender == name], examples, LABELS))
    }
    assert data.decision.best != "tuned"
    section = render_html(replace(data, words=words, classes=by_contender))
    section = section.partition('id="classes"')[2].partition("</section>")[0]
    assert (
        "On the 8 questions of the set asked whose right label training had. 4 more have another" in section
    )
    assert '<tr class="marked"><th scope="row"><code>tuned</code>' in section
    assert 'aria-label="Confusion"' in section


def test_sets_are_described_by_what_they_are_of(words: Part, data: ReportData) -> None:
    """In a project of documents training leaves out passages, and no entries."""
    of_words = render_html(alone(words)).partition('id="dataset"')[2]
    assert "questions about passages that training never mentions" in of_words
    told = replace(data, distances=(LexicalDistance("unseen", 0.5),))
    assert (
        "questions about entries that training never mentions"
        in render_html(told).partition('id="dataset"')[2]
    )


def test_one_contenders_examples_are_not_held_against_itself(words: Part) -> None:
    """Nothing was fixed where there is nothing before."""
    scores = tuple(one for one in words.scores if one.contender == "base")
    summaries = summarise_words(scores, "accuracy")
    only = Part(decide(summaries, ()), summaries, scores=scores, sets=words.sets)
    page = render_html(alone(only))
    assert "some that <code>base</code> gets right, some that it does not." in page
    assert "(fixed)" not in page
    assert "some that <code>tuned</code> gets right where <code>base</code> did not (fixed)" in render_html(
        alone(words)
    )


def test_the_page_claims_of_scores_only_that_training_never_saw_their_questions(data: ReportData) -> None:
    """What is told of risks and of training is on other texts."""
    page = render_html(data)
    assert "Scores are on the test sets' questions, which training never saw" in page
    assert "All figures" not in page
