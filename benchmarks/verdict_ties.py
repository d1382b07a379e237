"""How often the verdict is wrong where the truth is known to be a tie, and how often intervals hold it.

    python benchmarks/verdict_ties.py [--json] [--runs N]

Answers are simulated, and no model is asked. A question has a chance of being answered, drawn evenly from 0 to 1, and
all contenders have that same one: they are equal, so any advice but the cheapest is wrong. Questions about one entry
share their chance. Keys: `wrong.CASE` the share of such evaluations with another verdict, `wrong_fine_tune.CASE` those
that say "Fine-tune", `wrong` the worst case; `paired_coverage.CASE` how often the interval of the dearest contender's
difference to the cheapest holds 0, `wilson_coverage` how often that of a share holds it.
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
from tunesmith.evaluating.scores import summarise
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


CASES: Final = (
    Case("two", ("base", "tuned"), 200),
    Case("tuned_four", ("base", *USUAL[4:]), 200),
    Case("all_eight", USUAL, 200),
    Case("clustered", ("base", *USUAL[4:]), 200, cluster=4),
    Case("forty", ("base", *USUAL[4:]), 40),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print, for each case, the share of wrong verdicts, and how often the intervals hold the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=2_000, help="simulated evaluations for each case")
    given = parser.parse_args(arguments)
    figures: dict[str, float] = {}
    for case in CASES:
        wrong, fine_tune, held = _simulated(case, given.runs)
        figures |= {
            f"wrong.{case.name}": wrong,
            f"wrong_fine_tune.{case.name}": fine_tune,
            f"paired_coverage.{case.name}": held,
        }
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


def _simulated(case: Case, runs: int) -> tuple[float, float, float]:
    wrong = fine_tune = held = 0
    for run in range(runs):
        chance = np.random.default_rng([run, case.questions, case.cluster, len(case.contenders)])
        scores = _scores(case, chance)
        paired = compare(scores)
        decision = decide(summarise(scores), paired)
        wrong += decision.cheapest != case.contenders[0]
        fine_tune += decision.sentence.startswith("Fine-tune")
        first = next(one for one in paired if {one.a, one.b} == {case.contenders[0], case.contenders[-1]})
        held += first.low <= 0 <= first.high
    return wrong / runs, fine_tune / runs, held / runs


def _scores(case: Case, chance: np.random.Generator) -> tuple[Score, ...]:
    entries = -(-case.questions // case.cluster)
    difficulty = chance.beta(1, 1, entries).repeat(case.cluster)[: case.questions]
    return tuple(
        score
        for contender in case.contenders
        for score in _column(contender, chance.random(case.questions) < difficulty, case.cluster)
    )


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
