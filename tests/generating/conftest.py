"""A small package, shapes, for the tests of generating: a function, a class, a method, a submodule."""

from __future__ import annotations

import pytest

from tunesmith.catalogue import Catalogue, DocExample, Entry, Parameter
from tunesmith.records import Document

DOCSTRINGS = {
    "shapes.area": (
        "area(shape, unit='m')\n\nReturn the area of a ``shape``.\n\nParameters\n----------\nshape : Shape\n"
        "unit : str\n    Name of the unit of length. Else metres.\n\nExamples\n--------\n"
        '>>> s = sh.Polygon(4)\n>>> sh.area(s, unit="cm")\n4.0\n'
    ),
    "shapes.edges": "edges(shape)\n\nIterate over the edges of a shape.\n",
    "shapes.Polygon": "Polygon(corners)\n\nA flat shape with straight sides.\n",
    "shapes.Polygon.add_corner": "add_corner(x, y, *, at=None)\n\nAdd a corner and update the sides.\n",
    "shapes.net.unfold": (
        "unfold(solid, *, overlap)\n\nReturns True if the net of a solid is flat, False otherwise.\n"
    ),
}


def _entry(path: str, kind: str, parameters: tuple[Parameter, ...], **more: object) -> Entry:
    summary = DOCSTRINGS[path].split("\n\n")[1].strip().replace("``", "")
    return Entry(path, kind, parameters, summary=summary, document=f"doc#{path}", **more)  # type: ignore[arg-type]


@pytest.fixture
def catalogue() -> Catalogue:
    """Return the catalogue of the package shapes, imported as sh."""
    return Catalogue(
        "shapes",
        "1.2",
        (
            _entry(
                "shapes.area",
                "function",
                (
                    Parameter("shape"),
                    Parameter(
                        "unit",
                        default="'m'",
                        description="Name of the unit of length. Else metres.",
                    ),
                ),
                examples=(DocExample("s = sh.Polygon(4)"), DocExample('sh.area(s, unit="cm")', "4.0")),
                see_also=("shapes.edges",),
            ),
            _entry("shapes.edges", "function", (Parameter("shape"),)),
            _entry("shapes.Polygon", "class", (Parameter("corners"),)),
            _entry(
                "shapes.Polygon.add_corner",
                "method",
                (Parameter("x"), Parameter("y"), Parameter("at", kind="keyword_only", default="None")),
            ),
            _entry(
                "shapes.net.unfold",
                "function",
                (Parameter("solid"), Parameter("overlap", kind="keyword_only")),
            ),
        ),
        conventional_alias="sh",
    )


@pytest.fixture
def documents() -> tuple[Document, ...]:
    """Return the documents of the package shapes."""
    return tuple(
        Document(f"doc#{path}", "python:shapes", path, text, "api", path) for path, text in DOCSTRINGS.items()
    )
