"""Examples about a package of numbered functions, for the tests of curating."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunesmith.catalogue import Catalogue, Entry, Parameter
from tunesmith.records import Document, Evidence, Example, fingerprint

Make = Callable[..., Example]


@pytest.fixture
def catalogue() -> Catalogue:
    """Return the catalogue of a package with the functions many.f_0 to many.f_39."""
    entries = tuple(
        Entry(f"many.f_{n}", "function", (Parameter("x"),), f"Do number {n}.", document=f"d{n}")
        for n in range(40)
    )
    return Catalogue("many", "1.0", entries)


@pytest.fixture
def documents() -> tuple[Document, ...]:
    """Return the documents of the package."""
    return tuple(
        Document(f"d{n}", "python:many", f"many.f_{n}", f"f_{n}(x)\n\nDo number {n}.", "api")
        for n in range(40)
    )


def answer_of(entry: str) -> str:
    """Return an answer in the one form."""
    return f"`{entry}` does it.\n\n```python\nimport many\n\n{entry}(x)\n```"


@pytest.fixture
def make() -> Make:
    """Return a function that makes an example about many.f_NUMBER, by default a written one."""

    def example(
        number: int, question: str, origin: str = "written:train.jsonl:1", **changed: object
    ) -> Example:
        entry = f"many.f_{number}"
        values: dict[str, object] = {
            "id": fingerprint(question, entry, origin),
            "question": question,
            "answer": answer_of(entry),
            "origin": origin,
            "entry": entry,
            "acceptable": (entry,),
            "evidence": (Evidence("python:many", f"d{number}", 0, 2, "f_"),),
        }
        return Example(**{**values, **changed})  # type: ignore[arg-type]

    return example


@pytest.fixture
def rows(make: Make) -> list[Example]:
    """Return four written questions and one by rule for each of the forty functions."""
    written = [
        make(n, f"in case {word}{n} what would {word} person number{n} say", f"written:train.jsonl:{n}")
        for n in range(40)
        for word in ("alpha", "beta", "gamma", "delta")
    ]
    return written + [make(n, f"Which function does number {n}?", "rule:does") for n in range(40)]
