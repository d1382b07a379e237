"""A policy's own tests: each text meets the rails, and what becomes of it is compared with what must."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tunesmith.guarding.guard import Guard
from tunesmith.guarding.policy import Test
from tunesmith.guarding.rails import Context, Outcome
from tunesmith.records import Passage


@dataclass(frozen=True, slots=True)
class Trial:
    """A test, from 1, what became of its text, and what is wrong with that ("" if nothing)."""

    number: int
    test: Test
    outcome: Outcome
    defect: str

    @property
    def told(self) -> dict[str, object]:
        """What a program reads of it."""
        return {
            "number": self.number,
            "where": self.test.where,
            "text": self.test.text,
            "defect": self.defect,
        }

    @property
    def passed(self) -> bool:
        """It is as it must be."""
        return not self.defect


def try_tests(guard: Guard, tests: Iterable[Test]) -> tuple[Trial, ...]:
    """Return what becomes of each test's text."""
    return tuple(_tried(guard, number, test) for number, test in enumerate(tests, 1))


def _tried(guard: Guard, number: int, test: Test) -> Trial:
    passages = tuple(Passage(str(at), text, 1.0) for at, text in enumerate(test.passages, 1))
    context = Context(question=test.question, passages=passages, source=test.source)
    outcome = guard.look(test.where, test.text, context)
    return Trial(number, test, outcome, _defect(test, outcome))


def _defect(test: Test, outcome: Outcome) -> str:
    found = "; ".join(map(str, outcome.findings)) or "nothing was found"
    if outcome.action != test.action:
        return f"{test.action} was wanted, and it is {outcome.action} ({found})"
    if test.rail is not None and test.rail not in {each.rail for each in outcome.findings}:
        return f"the rail {test.rail} was wanted ({found})"
    return ""
