"""How often the verdict is wrong where the truth is known to be a tie, and how often intervals hold it.

    python benchmarks/verdict_ties.py [--json] [--runs N] [--case NAME]

Answers are simulated, and no model is asked. A question has a chance of being answered, drawn evenly from 0 to 1, and
all contenders have that same one: they are equal, so any advice but the cheapest is wrong. Questions about one entry
share their chance. In the cases of words an answer has a token F1 around its question's chance instead. Keys:
`wrong.CASE` the share of such evaluations with another verdict, `wrong_fine_tune.CASE` those that say "Fine-tune",
`wrong` the worst case; `paired_coverage.CASE` how often the interval of the dearest contender's difference to the
cheapest holds 0, `wilson_coverage` how often that of a share does, `mean_coverage.CASE` how often that of a mean F1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from hardware import as_json, versions_of
from numpy.typing import NDArray

from tunesmith.evaluating.names import USUAL
from tunesmith.evaluating.scores import summarise, summarise_words
from tunesmith.evaluating.statistics import wilson
from tunesmith.evaluating.verdict import compare, decide
from tunesmith.records import Answer, Score, Verdict

_ANSWER: Final = Answer("", 1, 1, 0.1, "stop")


@dataclass(frozen=True, slots=True)
class Case:
    """Contenders that are equal in truth, how many questions they are asked, and how many are about one entry."""

    name: str
    contenders: tuple[str, ...]
    questions: int
    cluster: int = 1
    words: bool = False


CASES: Final = (
    Case("two", ("base", "tuned"), 200),
    Case("tuned_four", ("base", *USUAL[4:]), 200),
    Case("all_eight", USUAL, 200),
    Case("clustered", ("base", *USUAL[4:]), 200, cluster=4),
    Case("forty", ("base", *USUAL[4:]), 40),
    Case("words", ("base", *USUAL[4:7]), 200, words=True),
    Case("words_clustered", ("base", *USUAL[4:7]), 200, cluster=4, words=True),
    Case("words_forty", ("base", *USUAL[4:7]), 40, words=True),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print, for each case, the share of wrong verdicts, and how often the intervals hold the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=2_000, help="simulated evaluations for each case")
    parser.add_argument(
        "--case", action="append", choices=[case.name for case in CASES], help="only this one"
    )
    given = parser.parse_args(arguments)
    figures: dict[str, float] = {}
    for case in (one for one in CASES if given.case is None or one.name in given.case):
        wrong, fine_tune, held, mean_held = _simulated(case, given.runs)
        figures |= {
            f"wrong.{case.name}": wrong,
            f"wrong_fine_tune.{case.name}": fine_tune,
            f"paired_coverage.{case.name}": held,
        }
        if case.words:
            figures[f"mean_coverage.{case.name}"] = mean_held
        print(
            f"{case.name}: {wrong:.3f} wrong, {fine_tune:.3f} to fine-tune, {held:.3f} held", file=sys.stderr
        )
    figures["wilson_coverage"] = _wilson_coverage(given.runs)
    figures["wrong"] = max(value for key, value in figures.items() if key.startswith("wrong."))
    if given.json:
        print(json.dumps(as_json("verdict_ties", figures, versions=versions_of(["tunesmith", "numpy"]))))
    else:
        for key, value in figures.items():
            print(f"{key:<28}{value:.4f}")


def _simulated(case: Case, runs: int) -> tuple[float, float, float, float]:
    wrong = fine_tune = held = mean_held = 0
    for run in range(runs):
        chance = np.random.default_rng([run, case.questions, case.cluster, len(case.contenders)])
        scores = _scores(case, chance)
        metric = "f1" if case.words else "exact"
        paired = compare(scores, metric=metric)
        summaries = summarise_words(scores, metric) if case.words else summarise(scores)
        decision = decide(summaries, paired)
        # Chances are drawn evenly from 0 to 1, so that the truth is a half.
        mean_held += summaries[0].main.low <= 0.5 <= summaries[0].main.high
        wrong += decision.cheapest != case.contenders[0]
        fine_tune += decision.sentence.startswith("Fine-tune")
        first = next(one for one in paired if {one.a, one.b} == {case.contenders[0], case.contenders[-1]})
        held += first.low <= 0 <= first.high
    return wrong / runs, fine_tune / runs, held / runs, mean_held / runs


def _scores(case: Case, chance: np.random.Generator) -> tuple[Score, ...]:
    entries = -(-case.questions // case.cluster)
    difficulty = chance.beta(1, 1, entries).repeat(case.cluster)[: case.questions]
    if case.words:
        return tuple(
            Score(
                contender,
                "asked",
                str(number),
                str(number // case.cluster),
                None,
                None,
                _ANSWER,
                "",
                {"f1": value},
            )
            for contender in case.contenders
            for number, value in enumerate(_f1(difficulty, chance))
        )
    return tuple(
        score
        for contender in case.contenders
        for score in _column(contender, chance.random(case.questions) < difficulty, case.cluster)
    )


def _f1(difficulty: NDArray[np.float64], chance: np.random.Generator) -> list[float]:
    """Return an F1 for each question: a fifth are all or nothing, the others lie around the question's chance."""
    around = chance.beta(4 * difficulty + 1e-3, 4 * (1 - difficulty) + 1e-3)
    whole = (chance.random(len(difficulty)) < difficulty).astype(float)
    return [float(one) for one in np.where(chance.random(len(difficulty)) < 0.2, whole, around)]


def _column(contender: str, right: NDArray[np.bool_], cluster: int) -> tuple[Score, ...]:
    verdicts: tuple[Verdict, Verdict] = ("no_call", "exact")
    return tuple(
        Score(contender, "asked", str(number), str(number // cluster), verdicts[int(mark)], None, _ANSWER)
        for number, mark in enumerate(right)
    )


def _wilson_coverage(runs: int) -> float:
    """Return how often the interval of a share holds it, for shares from 0.02 to 0.98 in 40 to 400 questions."""
    held = 0
    for run in range(runs):
        chance = np.random.default_rng([run, 7])
        truth, questions = chance.uniform(0.02, 0.98), int(chance.integers(40, 400))
        found = wilson(int(chance.binomial(questions, truth)), questions)
        held += found.low <= truth <= found.high
    return held / runs


if __name__ == "__main__":
    main()
