"""Sentences: what a summary says, in the third person and as something to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.catalogue import EntryKind
from tunesmith.generating.sentences import (
    MOST_WORDS,
    Predicate,
    begins_with_verb,
    first_sentence,
    plain,
    predicate,
    shorten,
    third_person,
)


@pytest.mark.parametrize(
    ("summary", "text", "infinitive"),
    [
        ("Return the shortest path.", "returns the shortest path", "get the shortest path"),
        ("Returns the shortest path.", "returns the shortest path", "get the shortest path"),
        ("Compute betweenness centrality for edges.", "computes the betweenness centrality for edges", None),
        ("Find simple cycles of a graph.", "finds simple cycles of a graph", "find simple cycles of a graph"),
        ("Returns True if G has a cycle, False otherwise.", None, "check whether G has a cycle"),
        (
            "Returns adjacency matrix of G.",
            "returns the adjacency matrix of G",
            "get the adjacency matrix of G",
        ),
        ("Returns dictionary of predecessors.", "returns a dictionary of predecessors", None),
        ("Returns list of nodes for G.", "returns a list of nodes for G", None),
        ("Modify graph to prevent change.", "modifies the graph to prevent change", None),
        ("Repeatedly remove cliques.", "repeatedly removes cliques", "repeatedly remove cliques"),
        ("Build a network and initialize a flow.", "builds a network and initializes a flow", None),
        ("Find paths and lengths between nodes.", "finds paths and lengths between nodes", None),
        ("Latticize the given graph.", "latticizes the given graph", "latticize the given graph"),
        ("Iterator over isolates in the graph.", "iterates over isolates in the graph", None),
        ("Generator for the nth graph.", "generates the nth graph", "generate the nth graph"),
        ("Dijkstra's algorithm for paths.", "applies Dijkstra's algorithm for paths", None),
        ("Weighted projection of B.", "returns the weighted projection of B", None),
        ("Decorator to mark algorithms.", "is a decorator to mark algorithms", None),
        ("Partition created by removing edges.", "returns the partition created by removing edges", None),
        ("getrandbits(k) -> x. Generates an int.", "generates an int", "generate an int"),
        ("Swap two edges.", "swaps two edges", "swap two edges"),
    ],
)
def test_a_functions_summary_becomes_a_predicate(
    summary: str, text: str | None, infinitive: str | None
) -> None:
    """Verbs of any form, noun phrases and missing articles come out as English; None is not looked at."""
    said = predicate(summary, "function", "f")

    assert text is None or said.text == text
    assert infinitive is None or said.infinitive == infinitive


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        ("Base class for graphs.", "is the base class for graphs"),
        ("A EdgeView class for edges.", "is an EdgeView class for edges"),
        ("Raised if a graph has a cycle.", "is raised if a graph has a cycle"),
        ("Exception raised for cycles.", "is the exception raised for cycles"),
        ("The Queue class implements a heap.", "implements a heap"),
        ("Active and inactive nodes in a level.", "stands for active and inactive nodes in a level"),
        ("VF2 checker for graphs.", "is a VF2 checker for graphs"),
        ("", "makes a queue object"),
    ],
)
def test_a_class_says_what_it_is(summary: str, text: str) -> None:
    """A class is something; its own name at the start of the summary is not said twice."""
    assert predicate(summary, "class", "Queue") == Predicate(text, None)


def test_markup_goes_and_words_stay() -> None:
    """Roles, double backticks, emphasis, footnotes and formulas lose their markup."""
    text = "Uses :meth:`~a.b` and ``x`` on *any* $K_n$ graph [1]_ of a\nintersection graph."

    assert plain(text) == "Uses `a.b` and `x` on any `K_n` graph of an intersection graph."


def test_abbreviations_do_not_end_a_sentence() -> None:
    """Only a full stop before a capital letter ends a sentence, and not that of "e.g."."""
    assert first_sentence("Take e.g. Alice or 0.5 of it. Then stop.") == "Take e.g. Alice or 0.5 of it"


@pytest.mark.parametrize(
    ("verb", "third"),
    [("find", "finds"), ("apply", "applies"), ("relax", "relaxes"), ("do", "does"), ("play", "plays")],
)
def test_the_third_person_is_regular(verb: str, third: str) -> None:
    """The ending follows the verb's last letters."""
    assert third_person(verb) == third


def test_a_parameter_may_begin_with_a_noun_that_is_also_a_verb() -> None:
    """ "List of nodes" begins with no verb, "Ensure connectivity" with one."""
    assert [begins_with_verb(text) for text in ("List of nodes", "Ensure connectivity")] == [False, True]


def test_long_sentences_are_cut_where_a_clause_ends() -> None:
    """Brackets go first; then the sentence ends before the last clause that would make it too long."""
    long = "returns the path " + "of nodes " * 8 + "using the method that " + "is known " * 6

    assert shorten("a (b c) d", 2) == "a d"
    assert shorten(long.strip()) == "returns the path " + "of nodes " * 7 + "of nodes"


@given(st.text(max_size=300), st.sampled_from(["function", "method", "class"]))
def test_any_text_gives_some_predicate(text: str, kind: EntryKind) -> None:
    """No summary, however odd, breaks the rules or gives nothing; short ones are never cut."""
    said = predicate(text, kind, "some_name")

    assert said.text.strip()
    if len(said.text.split()) <= MOST_WORDS:
        assert shorten(said.text) == said.text
