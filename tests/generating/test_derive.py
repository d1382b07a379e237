"""Derived answers: one sentence and one call that judges as exact, with evidence in the document."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.catalogue import Catalogue, DocExample, Entry, Parameter, judge
from tunesmith.generating.derive import DerivedAnswer, call_with, derive_answer, derive_answers, find_quote
from tunesmith.records import Document, Rejection


def _derive(catalogue: Catalogue, entry: Entry, text: str = "") -> DerivedAnswer:
    made = derive_answer(entry, Document(entry.document, "python:shapes", entry.id, text, "api"), catalogue)
    assert isinstance(made, DerivedAnswer)
    return made


def test_an_answer_is_a_sentence_and_the_doctests_call(
    catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """The sentence is the summary's, the call the doctest's, and both are quoted from the document."""
    made = derive_answers(documents, catalogue).answers[0]

    assert made.text == (
        "`shapes.area` returns the area of a shape.\n\n"
        "```python\nimport shapes as sh\n\nsh.area(s, unit='cm')\n```"
    )
    assert [piece.quote for piece in made.evidence] == [
        "Return the area of a ``shape",
        '>>> sh.area(s, unit="cm")',
    ]
    assert all(documents[0].text[piece.start : piece.end] == piece.quote for piece in made.evidence)


def test_without_a_doctest_the_required_parameters_are_passed(
    catalogue: Catalogue, documents: tuple[Document, ...]
) -> None:
    """Functions of submodules, classes and methods are called as users call them."""
    calls = [answer.call for answer in derive_answers(documents, catalogue).answers[1:]]

    assert calls == [
        "sh.edges(shape)",
        "sh.Polygon(corners)",
        "polygon.add_corner(x, y)",
        "sh.net.unfold(solid, overlap=overlap)",
    ]


def test_every_answer_calls_its_own_entry(catalogue: Catalogue, documents: tuple[Document, ...]) -> None:
    """Each derived answer judges as exact for its entry."""
    derived = derive_answers(documents, catalogue)

    verdicts = {judge(answer.text, (answer.entry,), catalogue).verdict for answer in derived.answers}
    assert (len(derived.answers), verdicts, derived.rejections) == (5, {"exact"}, ())


def test_nested_arguments_are_renamed_and_simple_ones_kept(catalogue: Catalogue) -> None:
    """An argument that is an expression becomes the parameter's name; names and short literals stay."""
    examples = (DocExample("sh.area(sh.Polygon(4), unit=['a', -1])"),)
    entry = replace(catalogue.by_id["shapes.area"], examples=examples)

    assert _derive(catalogue, entry).call == "sh.area(shape, unit=['a', -1])"


def test_the_doctest_call_with_the_fewest_renamed_arguments_is_taken(catalogue: Catalogue) -> None:
    """A later call that can be shown as it is beats an earlier one that cannot; unpacked ones never count."""
    codes = ("sh.area(*shapes)", "sh.area(sh.Polygon(4))", "not python", "sh.area(s)", "sh.area(t)")
    entry = replace(catalogue.by_id["shapes.area"], examples=tuple(map(DocExample, codes)))

    assert _derive(catalogue, entry).call == "sh.area(s)"


def test_a_doctest_that_does_not_bind_is_not_believed(catalogue: Catalogue) -> None:
    """An outdated doctest gives way to the signature."""
    entry = replace(catalogue.by_id["shapes.area"], examples=(DocExample("sh.area(s, 1, 2, 3)"),))

    assert _derive(catalogue, entry).call == "sh.area(shape)"


def test_methods_of_graphs_are_called_on_g_unless_g_is_an_argument() -> None:
    """`G` is what people call a graph; where the call already has one, the class gives the name."""
    methods = tuple(
        Entry(f"shapes.HTMLGraph.{name}", "method", (Parameter(name),), "Add it.") for name in ("u", "G")
    )
    catalogue = Catalogue("shapes", "1", methods)

    assert [_derive(catalogue, entry).call for entry in methods] == ["G.u(u)", "html_graph.G(G)"]


def test_a_parameter_named_like_a_builtin_gets_another_variable() -> None:
    """`list` as a variable would be Python's own."""
    entry = Entry("shapes.order", "function", (Parameter("list"),), "Order it.")

    assert _derive(Catalogue("shapes", "1", (entry,)), entry).call == "shapes.order(my_list)"


def test_an_entry_that_cannot_be_called_is_rejected(documents: tuple[Document, ...]) -> None:
    """An entry that does not resolve in the catalogue, or has no document, has a reason for no answer."""
    entry = Entry("shapes.lost", "function", (), "Get lost.", document="nowhere")
    elsewhere = Catalogue("shapes", "1", (replace(entry, id="shapes.found"),))

    made = derive_answer(entry, documents[0], elsewhere)
    assert isinstance(made, Rejection)
    assert (made.rule, made.item) == ("call not exact", "shapes.lost")
    assert [found.rule for found in derive_answers(documents, elsewhere).rejections] == ["no document"]


def test_a_parameter_is_added_to_the_required_ones(catalogue: Catalogue) -> None:
    """The call that shows a parameter passes it by name after the required ones."""
    entry = catalogue.by_id["shapes.area"]

    assert call_with(entry, entry.parameters[1], catalogue) == "sh.area(shape, unit=unit)"
    assert call_with(entry, entry.parameters[0], catalogue) == "sh.area(shape)"


@given(
    st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1),
    st.sampled_from([" ", "\n    ", " ``"]),
)
def test_a_quote_is_found_however_lines_break(quoted: list[str], gap: str) -> None:
    """Words are found across line breaks and markup, at offsets that are true."""
    document = Document("d", "s", "t", f"Before. {gap.join(quoted)}. After.", "api")

    found = find_quote(document, " ".join(quoted))
    assert found is not None
    assert document.text[found.start : found.end] == found.quote
