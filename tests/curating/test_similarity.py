"""Similarity of questions: folding, words, runs, and the index that compares with all at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.curating.similarity import OverlapIndex, content_words, fold, runs, words


def test_folding_leaves_words_only() -> None:
    """Case, spaces, punctuation and compatibility forms make no difference."""
    assert (
        fold("  What’s the ＳＨＯＲＴＥＳＴ-path?\n")
        == fold("what s the shortest path")
        == "what s the shortest path"
    )


def test_content_words_are_what_a_question_is_about() -> None:
    """Stop words and single letters go, a plural is its singular."""
    assert content_words("How do I find the shortest paths of classes in G?") == {
        "find",
        "shortest",
        "path",
        "classe",
    }


def test_runs_are_all_stretches_of_a_length() -> None:
    """A text shorter than the length has no run."""
    assert runs("a b c", 2) == {("a", "b"), ("b", "c")}
    assert runs("a b", 3) == frozenset()


texts = st.text(alphabet="abc ,", max_size=20)


@given(texts, st.lists(texts, max_size=6))
def test_the_index_gives_the_jaccard_similarity_to_each_text(text: str, others: list[str]) -> None:
    """The inverted index says what the definition says, 0 for two texts without words."""
    expected = [
        len(set(words(text)) & set(words(other))) / (len(set(words(text)) | set(words(other))) or 1)
        for other in others
    ]

    assert OverlapIndex(others).similarities(text).tolist() == expected
