"""A catalogue of three functions, and scores made to measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tunesmith.catalogue import Catalogue, Entry, Parameter
from tunesmith.records import Answer, Example, Score, Verdict

MakeScores = Callable[..., tuple[Score, ...]]
MakeExample = Callable[..., Example]
Said = Callable[..., str]


def _answer(path: str, arguments: str = "G") -> str:
    call = f"{path.replace('networkx', 'nx')}({arguments})"
    return f"`{path}` does it.\n\n```python\nimport networkx as nx\n\n{call}\n```"


@pytest.fixture
def said() -> Said:
    """Return a maker of answers as a model gives them: a sentence and a fenced call."""
    return _answer


@pytest.fixture
def catalogue() -> Catalogue:
    """Three functions of one required argument each."""
    entries = tuple(
        Entry(id=f"networkx.{name}", kind="function", parameters=(Parameter("G"),))
        for name in ("bridges", "center", "density")
    )
    return Catalogue(package="networkx", version="3.6.1", entries=entries, conventional_alias="nx")


@pytest.fixture
def example() -> MakeExample:
    """Return a maker of examples about one of the three functions."""

    def make(number: int, name: str, question: str = "", acceptable: Sequence[str] = ()) -> Example:
        path = f"networkx.{name}"
        return Example(
            id=f"e{number}",
            question=question or f"question {number}",
            answer=_answer(path),
            origin=f"written:asked.jsonl:{number}",
            entry=path,
            acceptable=(path, *(f"networkx.{other}" for other in acceptable)),
        )

    return make


@pytest.fixture
def scores() -> MakeScores:
    """Return a maker of one contender's scores from a string, one mark a question.

    "x" is exact, "v" valid, "h" hallucinated, "." no call. Question number i belongs to group i // `cluster`.
    """
    verdicts: dict[str, Verdict] = {"x": "exact", "v": "valid", "h": "hallucinated", ".": "no_call"}

    def make(contender: str, marks: str, *, set_name: str = "asked", cluster: int = 1) -> tuple[Score, ...]:
        return tuple(
            Score(
                contender=contender,
                set=set_name,
                example=f"q{number}",
                group=f"g{number // cluster}",
                verdict=verdicts[mark],
                called=None,
                answer=Answer(text=mark),
            )
            for number, mark in enumerate(marks)
        )

    return make
