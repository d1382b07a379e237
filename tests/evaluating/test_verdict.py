"""The verdict says what the figures say, in each case that can come up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.errors import DatasetError
from tunesmith.evaluating.scores import summarise, summarise_words
from tunesmith.evaluating.verdict import (
    Decision,
    compare,
    cost_order,
    decide,
    describe,
    percent,
    points,
)
from tunesmith.records import Answer, Score

MakeScores = Callable[..., tuple[Score, ...]]
Decide = Callable[..., Decision]


@pytest.fixture
def verdict(scores: MakeScores) -> Decide:
    """Return a maker of decisions from how many of 100 questions each answers, always the first ones."""

    def columns(shares: dict[str, int], set_name: str) -> tuple[Score, ...]:
        marks = {name: "x" * right + "v" * (100 - right) for name, right in shares.items()}
        return tuple(one for name in shares for one in scores(name, marks[name], set_name=set_name))

    def make(
        contenders: dict[str, int],
        floors: dict[str, int] | None = None,
        ceilings: dict[str, int] | None = None,
        set_name: str = "asked",
    ) -> Decision:
        asked, floor = columns(contenders, set_name), columns(floors or {}, set_name)
        return decide(
            summarise(asked),
            compare(asked, floor),
            floors=summarise(floor),
            ceilings=summarise(columns(ceilings or {}, set_name)),
        )

    return make


def without_interval(text: str) -> str:
    """Return a text without the bootstrap's endpoints, which another numpy may draw a little differently."""
    return re.sub(r"interval [+−][\d.]+ to [+−][\d.]*\d", "interval LOW to HIGH", text)


def test_contenders_have_an_order_of_cost() -> None:
    """What must be trained weighs most, then tools, the encoder, the index, the prompt and the grammar."""
    names = [
        "classifier",
        "base",
        "base+constrained",
        "few_shot",
        "nearest_shots",
        "bm25",
        "faiss",
        "retrieval",
        "retrieval+constrained",
        "retrieval+citations",
        "pinecone",
        "bm25+reranked",
        "tuned_retrieval",
        "tuned_retrieval+reranked",
        "tools",
        "tools+tuned_retrieval",
        "tuned",
        "tuned+retrieval",
        "tuned+tuned_retrieval",
        "tuned+tuned_retrieval+constrained",
    ]
    shuffled = sorted(names)
    assert sorted(shuffled, key=cost_order) == names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("base", "the base model"),
        ("tuned_retrieval", "the base model with tuned retrieval"),
        ("tuned+retrieval", "the tuned model with retrieval"),
        (
            "tuned+tuned_retrieval+constrained",
            "the tuned model with tuned retrieval and calls constrained to the catalogue",
        ),
        ("tuned_first_hit", "the tuned retriever's first hit alone"),
        ("tuned_hit_in_5", "the right one is among the tuned retriever's first 5"),
        ("oracle:tuned+retrieval", "the tuned model with retrieval, a right entry always shown first"),
        ("base+tools", "the base model with tools"),
        ("mine", "the model with the adapter mine"),
        ("mine+tuned_retrieval", "the model with the adapter mine with tuned retrieval"),
    ],
)
def test_names_become_plain_words(name: str, words: str) -> None:
    """Contenders, floors, ceilings and parts not known yet all read as English."""
    assert describe(name) == words


def test_figures_read_as_people_write_them() -> None:
    """Percentages have one decimal, differences a sign, and zero is never minus zero."""
    assert (percent(0.6543), points(0.412), points(-0.05), points(-1e-9)) == (
        "65.4 %",
        "+41.2",
        "−5.0",
        "+0.0",
    )


def test_fine_tuning_is_advised_where_it_wins(verdict: Decide) -> None:
    """The tuned model beats base, retrieval and the tuned retriever's first hit clearly."""
    found = verdict(
        {"base": 2, "retrieval": 25, "tuned+tuned_retrieval": 80},
        {"constant": 1, "first_hit": 30, "tuned_first_hit": 60},
        {"tuned_hit_in_5": 90},
    )
    assert without_interval(found.sentence) == (
        "Fine-tune: the tuned model with tuned retrieval answers 80.0 % of the 100 questions in users' own "
        "words exactly, clearly more than the best without a tuned language model, the tuned "
        "retriever's first hit "
        "alone, with 60.0 % (+20.0 points, interval LOW to HIGH)."
    )
    assert (found.best, found.cheapest, found.set) == (
        "tuned+tuned_retrieval",
        "tuned+tuned_retrieval",
        "asked",
    )


def test_a_tuned_model_no_better_than_its_retriever_is_not_advised(verdict: Decide) -> None:
    """Where the tuned retriever's first hit does as well, the encoder is what to tune."""
    found = verdict(
        {"base": 2, "tuned_retrieval": 40, "tuned+tuned_retrieval": 68},
        {"first_hit": 30, "tuned_first_hit": 67},
    )
    assert found.sentence.startswith(
        "Tune the encoder, keep the model: the tuned retriever's first hit alone, without any language "
        "model, answers 67.0 % of the 100 questions in users' own words exactly, not clearly below "
        "the tuned model "
        "with tuned retrieval with 68.0 % (−1.0 points"
    )
    assert found.sentence.endswith(
        " Where the answer must be in a model's words, take the tuned model with tuned retrieval: the best without "
        "a tuned language model, the base model with tuned retrieval, has 40.0 %."
    )
    assert any("does not clearly beat the tuned retriever's first hit" in reason for reason in found.why)
    # Where the untuned model does as well behind the retriever, it is no reason to tune one.
    equal = verdict({"tuned_retrieval": 67, "tuned+tuned_retrieval": 68}, {"tuned_first_hit": 67})
    assert "in a model's words" not in equal.sentence


def test_a_retriever_that_beats_every_contender_is_advised(verdict: Decide) -> None:
    """The first hit wins even where the cheapest contender needs no training at all."""
    found = verdict({"base": 30, "retrieval": 31}, {"first_hit": 20, "tuned_first_hit": 70})
    assert found.sentence.startswith(
        "Tune the encoder, keep the model: the tuned retriever's first hit alone"
    )
    assert "clearly above the base model with retrieval with 31.0 %" in found.sentence


def test_a_plain_retriever_that_does_as_well_is_enough(verdict: Decide) -> None:
    """Where the untuned first hit keeps up with a tuned contender, and tuning it brings nothing."""
    found = verdict({"base": 2, "tuned+retrieval": 61}, {"first_hit": 60, "tuned_first_hit": 61})
    assert found.sentence.startswith("Do not fine-tune, retrieval is enough: the retriever's first hit alone")


def test_a_better_encoder_goes_before_a_plain_one(verdict: Decide) -> None:
    """Both first hits beat every contender, and the tuned one clearly the other."""
    found = verdict({"base": 2, "retrieval": 20}, {"first_hit": 50, "tuned_first_hit": 80})
    assert found.sentence.startswith(
        "Tune the encoder, keep the model: the tuned retriever's first hit alone"
    )


def test_a_tuned_encoder_is_enough(verdict: Decide) -> None:
    """The base model with the tuned retriever is within noise of the tuned model."""
    found = verdict({"base": 2, "retrieval": 30, "tuned_retrieval": 70, "tuned+tuned_retrieval": 71})
    assert found.sentence.startswith(
        "Tune the encoder, keep the model: the base model with tuned retrieval answers"
    )
    assert (found.best, found.cheapest) == ("tuned+tuned_retrieval", "tuned_retrieval")


def test_retrieval_is_enough(verdict: Decide) -> None:
    """The base model with plain retrieval is within noise of everything dearer."""
    found = verdict({"base": 2, "retrieval": 70, "tuned_retrieval": 71, "tuned": 40})
    assert without_interval(found.sentence) == (
        "Do not fine-tune, retrieval is enough: the base model with retrieval answers 70.0 % of the 100 "
        "questions in users' own words exactly, and the highest score, 71.0 % by the base model with tuned "
        "retrieval, is not clearly better (+1.0 points, interval LOW to HIGH)."
    )


@pytest.mark.parametrize("cheap", ["base", "few_shot"])
def test_prompting_is_enough(verdict: Decide, cheap: str) -> None:
    """Where the model already does it, nothing is to be built."""
    found = verdict({cheap: 80, "retrieval": 70, "tuned": 78})
    assert found.sentence.startswith("Do not fine-tune, prompting is enough: the base model")
    assert found.sentence.endswith("exactly, and nothing that was tried does better.")
    assert (found.best, found.cheapest) == (cheap, cheap)


def test_a_floor_that_no_contender_beats_forbids_all(verdict: Decide) -> None:
    """A model that copies no better than a lookup is not worth its weights."""
    found = verdict({"base": 2, "tuned": 50}, {"constant": 20, "nearest": 49})
    assert found.sentence.startswith(
        "Use none of these yet: copying the nearest training question's answer (BM25) answers 49.0 %"
    )


def test_tuning_alone_does_not_say_what_it_brought(verdict: Decide) -> None:
    """Without anything untuned beside it, the verdict says that it compares nothing."""
    assert "this does not say what the tuning brought" in verdict({"tuned": 90}).sentence


def test_without_asked_questions_the_verdict_warns(verdict: Decide) -> None:
    """A verdict that rests on other questions says so in its sentence and first among its reasons."""
    found = verdict({"base": 2, "tuned": 98}, set_name="seen")
    warning = (
        "There are no questions in users' own words, so this rests on new phrasings of training "
        "questions (the "
        "set seen) and says little about real use."
    )
    assert found.set == "seen"
    assert found.sentence.endswith(f" {warning}")
    assert found.why[0] == warning


def test_asked_goes_before_the_other_sets(scores: MakeScores) -> None:
    """The verdict rests on `asked` although `seen` comes first and looks better."""
    rows = (*scores("base", "x" * 20, set_name="seen"), *scores("base", "v" * 20), *scores("tuned", "x" * 20))
    rows = (*rows, *scores("tuned", "x" * 20, set_name="seen"))
    assert decide(summarise(rows), compare(rows)).set == "asked"


def test_the_reasons_hold_the_figures(verdict: Decide) -> None:
    """Gain over base, floors, ceilings, hallucinations and the test's sharpness are all there."""
    why = verdict(
        {"base": 2, "tuned": 20, "tuned+tuned_retrieval": 80},
        {"constant": 1, "nearest": 15, "tuned_first_hit": 60},
        {"hit_in_5": 55, "tuned_hit_in_5": 90},
    ).why
    assert [reason.split(":")[0].split(",")[0] for reason in why] == [
        "Best",
        "Before anything was done",
        "The tuned language model beats the tuned retriever's first hit alone",
        "Calls that do not exist",
        "The highest floor to stand above",
        "Ceiling",
        "Ceiling",
        "How sharp the test is",
    ]
    assert without_interval(why[1]) == (
        "Before anything was done, the base model answered 2.0 % (0.6 to 7.0); the gain is +78.0 points, "
        "interval LOW to HIGH."
    )


def test_hallucinations_of_the_best_are_told(scores: MakeScores) -> None:
    """More than one made-up call in twenty is a warning with its figure."""
    rows = (*scores("base", "v" * 20), *scores("tuned", "x" * 18 + "hh"))
    why = decide(summarise(rows), compare(rows)).why
    assert any(
        reason.startswith("Beware: the tuned model calls something that does not exist in 10.0 %")
        for reason in why
    )


def test_comparisons_cover_what_the_verdict_needs(scores: MakeScores) -> None:
    """Contenders in pairs, each with each floor, the two first hits, hallucinations against the cheapest."""
    rows = (*scores("tuned", "xx"), *scores("base", "vv"))
    floor = (*scores("first_hit", "xv"), *scores("tuned_first_hit", "xx"))
    assert [(one.a, one.b, one.metric) for one in compare(rows, floor)] == [
        ("base", "first_hit", "exact"),
        ("base", "tuned_first_hit", "exact"),
        ("tuned", "base", "exact"),
        ("tuned", "first_hit", "exact"),
        ("tuned", "tuned_first_hit", "exact"),
        ("tuned", "base", "hallucinated"),
        ("tuned_first_hit", "first_hit", "exact"),
    ]


def test_missing_figures_are_named(scores: MakeScores) -> None:
    """No summary at all, or a comparison that was never made, is an error and no guess."""
    with pytest.raises(DatasetError, match="nothing to decide on"):
        decide((), ())
    rows = (*scores("base", "vv"), *scores("tuned", "xx"))
    with pytest.raises(DatasetError, match="tuned and base were not compared on asked"):
        decide(summarise(rows), ())


def test_a_first_hit_that_beats_everything_is_taken_though_no_model_beats_the_floors(verdict: Decide) -> None:
    """A model too small to use what was found is no reason to use nothing; a hit no better than a floor is."""
    floors = {"constant": 3, "nearest": 10}
    found = verdict({"base": 0, "tuned": 12}, {**floors, "first_hit": 90, "tuned_first_hit": 75})
    assert found.sentence.startswith("Do not fine-tune, retrieval is enough: the retriever's first hit alone")
    tuned = verdict({"base": 0, "tuned": 12}, {**floors, "first_hit": 30, "tuned_first_hit": 75})
    assert tuned.sentence.startswith("Tune the encoder, keep the model")
    none = verdict({"base": 0, "tuned": 12}, {**floors, "first_hit": 11, "tuned_first_hit": 12})
    assert none.sentence.startswith("Use none of these yet")


def test_the_luckiest_of_several_equals_is_not_a_winner(verdict: Decide) -> None:
    """What is clear for one tuned contender is not for the best of five, and the reasons say so."""
    one = verdict({"base": 50, "tuned": 57})
    assert one.cheapest == "tuned"
    assert not any("the luckiest looks better" in reason for reason in one.why)

    several = verdict(
        {
            "base": 50,
            "tuned": 57,
            "few_shot+tuned": 56,
            "tuned+retrieval": 56,
            "tuned+tuned_retrieval": 56,
            "tuned+tuned_retrieval+constrained": 56,
        }
    )
    assert (several.best, several.cheapest) == ("tuned", "base")
    assert several.sentence.startswith("Do not fine-tune")
    assert any("Above the base model the best is by its interval alone" in reason for reason in several.why)


def test_the_best_of_more_needs_a_larger_difference(verdict: Decide) -> None:
    """What the reasons call sharp is the test that was made, widened for those that the best was picked from."""

    def smallest(found: Decision) -> float:
        told = re.search(r"must be about ([\d.]+) points", found.why[-1])
        assert told is not None
        return float(told[1])

    two = verdict({"base": 50, "tuned": 57})
    more = verdict({"base": 50, "tuned": 57, "few_shot+tuned": 10, "tuned+retrieval": 10, "tuned+tools": 10})
    assert smallest(more) == pytest.approx(smallest(two) * (2.4977 + 0.8416) / 2.8016, abs=0.1)


def in_words(contender: str, marks: str, metric: str, **more: float) -> tuple[Score, ...]:
    """Return one contender's answers in words to `asked`: "x" is right by the metric, all else is not.

    The named measures are those of a "?", and 0 of the other answers.
    """
    return tuple(
        Score(
            contender,
            "asked",
            f"q{number}",
            f"g{number}",
            None,
            None,
            Answer(mark),
            measures={metric: float(mark == "x")}
            | {name: value if mark == "?" else 0.0 for name, value in more.items()},
        )
        for number, mark in enumerate(marks)
    )


def decided(metric: str, *columns: tuple[Score, ...], ceilings: tuple[Score, ...] = ()) -> Decision:
    """Return the decision about answers in words."""
    rows = [one for column in columns for one in column]
    return decide(
        summarise_words(rows, metric),
        compare(rows, (), metric),
        ceilings=summarise_words(ceilings, metric),
    )


def test_where_nothing_is_ever_right_none_is_enough() -> None:
    """Without floors too: a model that scores nothing is no reason to prompt it."""
    found = decided("f1", in_words("base", "." * 20, "f1"), in_words("tuned", "." * 20, "f1"))
    assert found.sentence == (
        "Use none of these yet: the base model scores 0.0 % in token F1 on the 20 questions in users' own words, and "
        "none does better."
    )


def test_one_contender_was_picked_from_nothing() -> None:
    """That its figure is too good for having been picked is said of several only."""
    one, two = in_words("base", "x" * 10 + "." * 10, "f1"), in_words("tuned", "." * 20, "f1")
    assert "It was picked" not in decided("f1", one).why[0]
    assert "It was picked from 2 on these same questions" in decided("f1", one, two).why[0]


def test_replies_that_the_judge_did_not_give_are_told() -> None:
    """A verdict by grades says on how many answers there is none, of the best and of the cheapest."""
    best = in_words("tuned", "x" * 15 + "?" * 3 + "." * 2, "judged", judge_error=1.0)
    base = in_words("base", "." * 20, "judged", judge_error=1.0)
    reason = (
        "Beware: the judge gave no verdict on 3 of 20 answers of the tuned model, which count as not right."
    )
    assert [one for one in decided("judged", base, best).why if "the judge" in one] == [reason]
    assert not any("the judge gave" in one for one in decided("judged", base).why)


def test_a_retrievers_ceiling_is_of_the_questions_whose_passage_is_known() -> None:
    """Those of which none is known are no part of it, and the reason says of how many it is."""
    found = decided("f1", in_words("base", "x" * 20, "f1"), ceilings=in_words("hit_in_5", "x" * 12, "found"))
    [ceiling] = [one for one in found.why if one.startswith("Ceiling")]
    assert ceiling.endswith("for 100.0 % (75.8 to 100.0) of the 12 questions whose passage is known.")


@pytest.mark.slow
def test_ties_are_called_ties() -> None:
    """Of 400 simulated evaluations of equals, in each of five cases, at most 5 % end in another verdict."""
    script = Path(__file__).parents[2] / "benchmarks" / "verdict_ties.py"
    ran = subprocess.run(
        [sys.executable, script, "--runs", "400", "--json"], capture_output=True, text=True, check=True
    )
    figures = json.loads(ran.stdout)["figures"]
    assert figures["wrong"] <= 0.05
    assert figures["wilson_coverage"] == pytest.approx(0.95, abs=0.03)
