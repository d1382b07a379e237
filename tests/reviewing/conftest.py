"""Examples and decisions about them, for the tests of reviewing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tunesmith.records import Evidence, Example
from tunesmith.reviewing.decisions import Decision, key_of, quotes_of, stamp

Make = Callable[..., Example]
Decide = Callable[..., Decision]
START = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def make() -> Make:
    """Return a function that makes an example of which little need be said."""

    def example(question: str = "how do I sort", answer: str = "Call it.", **changed: object) -> Example:
        values: dict[str, object] = {
            "id": f"id of {question}",
            "question": question,
            "answer": answer,
            "origin": "written:train.jsonl:1",
            "evidence": (Evidence("python:p", "d1", 0, 5, "Sorts"),),
        }
        return Example(**{**values, **changed})  # type: ignore[arg-type]

    return example


@pytest.fixture
def decide() -> Decide:
    """Return a function that makes a decision about an example, `at` a number of seconds after a fixed time."""

    def decision(
        example: Example, verdict: str = "accept", reviewer: str = "ann", at: float = 0, **changed: object
    ) -> Decision:
        values: dict[str, object] = {
            "key": key_of(example),
            "verdict": verdict,
            "reviewer": reviewer,
            "time": stamp(START + timedelta(seconds=at)),
            "question": example.question,
            "answer": example.answer,
            "example": example.id,
            "reason": "wrong" if verdict == "reject" else "",
            "quotes": quotes_of(example),
            "checks": example.checks,
        }
        if verdict == "edit":
            values |= {"new_question": "how do I sort a list", "new_answer": example.answer}
        return Decision(**{**values, **changed})  # type: ignore[arg-type]

    return decision
