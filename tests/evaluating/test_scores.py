"""Answers are judged against the catalogue and summed up without losing one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunesmith.catalogue import Catalogue
from tunesmith.errors import DatasetError
from tunesmith.evaluating.scores import Summary, acceptable, score, summarise
from tunesmith.evaluating.statistics import wilson
from tunesmith.records import Answer, Example, Score

Said = Callable[..., str]
MakeScores = Callable[..., tuple[Score, ...]]
MakeExample = Callable[..., Example]


@pytest.mark.parametrize(
    ("call", "verdict", "called"),
    [
        (("networkx.bridges", "G"), "exact", "networkx.bridges"),
        (("networkx.center", "G"), "exact", "networkx.center"),
        (("networkx.density", "G"), "valid", "networkx.density"),
        (("networkx.bridges", ""), "wrong_arguments", "networkx.bridges"),
        (("networkx.find_bridges", "G"), "hallucinated", "networkx.find_bridges"),
        (None, "no_call", None),
    ],
)
def test_an_answer_is_judged(  # noqa: PLR0917 (pytest hands all of them over by name)
    call: tuple[str, str] | None,
    verdict: str,
    called: str | None,
    said: Said,
    example: MakeExample,
    catalogue: Catalogue,
) -> None:
    """Each kind of answer gets its verdict, and keeps contender, set, question and group."""
    text = said(*call) if call else "I do not know."
    found = score("tuned", "asked", example(1, "bridges", acceptable=["center"]), Answer(text), catalogue)
    assert (found.verdict, found.called) == (verdict, called)
    assert (found.contender, found.set, found.example, found.group) == (
        "tuned",
        "asked",
        "e1",
        "networkx.bridges",
    )
    assert found.answer == Answer(text)


def test_an_example_without_a_right_call_is_refused() -> None:
    """Where no call can be right, a score would be a lie."""
    with pytest.raises(DatasetError, match="names no catalogue entry"):
        acceptable(Example(id="e1", question="why?", answer="because", origin="written:x:1"))


def test_a_summary_counts_every_verdict() -> None:
    """Shares, intervals, latency and tokens are those of the answers, cut-off ones counted."""
    verdicts = ("exact", "valid", "wrong_arguments", "hallucinated", "no_call")
    rows = [
        Score(
            contender="base",
            set="asked",
            example=f"q{number}",
            group="g",
            verdict=verdict,  # type: ignore[arg-type]
            called=None,
            answer=Answer("", 10 * number, number, float(number), "length" if number == 4 else "stop"),
        )
        for number, verdict in enumerate(verdicts)
    ]
    assert summarise(rows) == (
        Summary(
            contender="base",
            set="asked",
            exact=wilson(1, 5),
            valid=wilson(2, 5),
            hallucinated=wilson(1, 5),
            wrong_arguments=0.2,
            no_call=0.2,
            cut_off=0.2,
            seconds_p50=2.0,
            seconds_p95=3.8,
            prompt_tokens=20.0,
            completion_tokens=2.0,
        ),
    )


def test_each_contender_and_set_has_its_summary(scores: MakeScores) -> None:
    """Summaries come in the order of the scores, one for each contender on each set."""
    rows = (*scores("base", "xv"), *scores("base", "x", set_name="seen"), *scores("tuned", "xx"))
    found = [(one.contender, one.set, one.exact.value, one.n) for one in summarise(rows)]
    assert found == [("base", "asked", 0.5, 2), ("base", "seen", 1.0, 1), ("tuned", "asked", 1.0, 2)]
