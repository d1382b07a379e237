"""Rules for tasks: one for each of the eight, found by name, and how many questions a test needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tunesmith.errors import UsageError
from tunesmith.evaluating.advice import METHODS, RULES, detectable, rules_for
from tunesmith.evaluating.statistics import mcnemar


def test_each_of_the_eight_tasks_has_one_rule() -> None:
    """Each says where to begin, when tuning pays, and whose finding it rests on."""
    assert len({rule.task for rule in RULES}) == len(RULES) == 8
    for rule in RULES:
        assert len(rule.marks) == len(METHODS)
        assert "begin" in rule.marks
        assert rule.sources
        assert (Path(__file__).parents[2] / rule.example / "run.py").is_file()


@pytest.mark.parametrize(
    ("named", "task"),
    [("semantic-search", "semantic search"), ("Domain", "specialised domain adaptation"), ("workflow", None)],
)
def test_a_task_is_found_by_a_part_of_its_name(named: str, task: str | None) -> None:
    """Case and hyphens do not matter."""
    assert [rule.task for rule in rules_for(named)] == [task or "automated workflow integration"]


@pytest.mark.parametrize(
    ("named", "said"),
    [("clasification", "Did you mean classification"), ("", "no task"), ("tion", "Which one")],
)
def test_no_task_of_that_name(named: str, said: str) -> None:
    """What is not known, or not clear, is an error with the names."""
    with pytest.raises(UsageError, match=said):
        rules_for(named)


def test_a_detectable_difference_is_detected_four_times_in_five() -> None:
    """In 2,000 simulated tests of 400 questions, three in ten answered unlike, McNemar's test sees it so often."""
    [size] = detectable((400,))
    chance = np.random.default_rng(1)
    won = (0.3 + size.difference) / 2
    counts = chance.multinomial(400, [won, 0.3 - won, 0.7], size=2_000)
    seen = np.mean([mcnemar(int(wins), int(losses)) < 0.05 for wins, losses, _ in counts])
    # The exact test is a little shy.
    assert 0.74 < seen < 0.84
