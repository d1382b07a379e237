"""Docstrings of three styles."""

from __future__ import annotations

import pytest

from tunesmith.catalogue import DocExample
from tunesmith.collecting.docstrings import (
    detect_style,
    imported_as,
    is_deprecated,
    plain,
    read_doctests,
    read_see_also,
    split_summary,
)


@pytest.mark.parametrize(
    ("prose", "summary", "rest"),
    [
        ("Return it. Or not.", "Return it.", "Or not."),
        ("Return the\nsum of all\n\nMore.", "Return the sum of all.", "More."),
        ("Return sums, e.g. of two. Then more.", "Return sums, e.g. of two.", "Then more."),
        ("Return nodes vs. edges of G. Next.", "Return nodes vs. edges of G.", "Next."),
        ("Return :func:`~pkg.mod.f` of ``x`` and *y* [1]_.", "Return f of x and y.", ""),
        ("Is it so?", "Is it so?", ""),
        ("Draw it:", "Draw it.", ""),
        ("Version 1.5 of it. Done", "Version 1.5 of it.", "Done"),
        (">>> f()", "", ">>> f()"),
        ("", "", ""),
        ("----", "", ""),
    ],
)
def test_the_summary_is_one_plain_sentence(prose: str, summary: str, rest: str) -> None:
    """The first sentence loses its markup and ends with a full stop; the rest stays as written."""
    assert split_summary(prose) == (summary, rest)


def test_markup_is_taken_away_and_nothing_else() -> None:
    """Roles, literals, links and emphasis lose their marks; stars and underscores of code stay."""
    text = "See `docs <http://x>`_, [here](u), **bold**, a*b*c, f(*args, **kw), snake_case and :math:`O(n)`"
    assert plain(text) == "See docs, here, bold, a*b*c, f(*args, **kw), snake_case and O(n)"


def test_the_style_is_the_one_whose_marks_prevail() -> None:
    """Section marks are counted over all docstrings of the package."""
    numpy = "X.\n\nParameters\n----------\nx : int\n    It.\n"
    google = "X.\n\nArgs:\n    x: It.\n\nReturns:\n    Y.\n"
    sphinx = "X.\n\n:param x: It.\n:type x: int\n:returns: Y.\n"
    assert [detect_style(each) for each in ([numpy], [google], [sphinx], [], [numpy, sphinx])] == [
        "numpy",
        "google",
        "sphinx",
        "numpy",
        "sphinx",
    ]


def test_the_conventional_alias_is_the_most_frequent_one() -> None:
    """Docstrings that import the package under a name are counted; none means none."""
    docstrings = [">>> import pkg as p\n>>> import pkg as p", ">>> import pkg as q", "import pkgs as r"]
    assert imported_as("pkg", docstrings) == "p"
    assert imported_as("pkg", docstrings[2:]) is None


def test_deprecation_of_the_whole_thing_is_seen() -> None:
    """A directive at the margin counts, one inside a parameter's description does not."""
    assert is_deprecated("Do it.\n\n.. deprecated:: 1.0\n   Use g.")
    assert is_deprecated("DEPRECATED: use g.")
    assert not is_deprecated("Do it.\n\nParameters\n----------\nx : int\n    .. deprecated:: 1.0\n")


def test_doctests_are_read_statement_by_statement() -> None:
    """Prompts and flags go, outputs stay; examples that doctest cannot parse are named."""
    text = "Do.\n\n>>> for x in y:  # doctest: +SKIP\n...     f(x)\n1\n2\n>>> g()\n"
    assert read_doctests(text) == ((DocExample("for x in y:\n    f(x)", "1\n2"), DocExample("g()", "")), None)
    examples, reason = read_doctests("Do.\n\n>>>f()\n")
    assert (examples, "lacks blank" in str(reason)) == ((), True)


@pytest.mark.parametrize(
    ("docstring", "names"),
    [
        (
            "X.\n\nSee Also\n--------\nf, g : both\nh\n    Of h.\n:func:`~p.k` : k\n\nNotes\n-----\nz\n",
            ["f", "g", "h", "p.k"],
        ),
        ("X.\n\nSee Also:\n    p.f: It.\n    g()\n\nArgs:\n    z: It.\n", ["p.f", "g"]),
        ("X.\n\n.. seealso:: :func:`f`, :meth:`A.g`\n\nMore.", ["f", "A.g"]),
        ("X. See also h.", []),
    ],
)
def test_see_also_names_are_found(docstring: str, names: list[str]) -> None:
    """Names of a NumPy or Google section and of a directive are listed, descriptions are not."""
    assert list(read_see_also(docstring)) == names
