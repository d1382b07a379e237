"""The index: what it embeds and shows, whose score is largest, what survives a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from tunesmith.catalogue import Entry
from tunesmith.errors import ArtifactError, DamagedArtifact, DatasetError
from tunesmith.models.base import Encoder, Retriever
from tunesmith.records import Passage
from tunesmith.retrieving.index import Index, RetrieveSettings, build_index, passage_text, search_text

WORDS = st.text("abcdefgh", min_size=2, max_size=5)
SUMMARIES = st.lists(st.lists(WORDS, min_size=1, max_size=8).map(" ".join), min_size=1, max_size=12)


class TableEncoder:
    """An Encoder that looks vectors up, for scores that can be worked out by hand."""

    name = "table"

    def __init__(self, table: dict[str, tuple[float, float]]) -> None:
        self.table = table
        self.asked: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the table's vectors, shape (texts, 2)."""
        self.asked.append(list(texts))
        return np.array([self.table[text] for text in texts], dtype=np.float32).reshape(-1, 2)


def _ids(found: Sequence[tuple[Passage, ...]]) -> list[tuple[str, ...]]:
    return [tuple(passage.id for passage in passages) for passages in found]


def test_a_passage_shows_the_id_the_parameters_and_the_summary(entries: Sequence[Entry]) -> None:
    """Defaults are left out, the marks of keyword-only and starred parameters stay."""
    assert [passage_text(entry) for entry in entries] == [
        "shapes.area(shape, *, unit): Return the area of a shape.",
        "shapes.edges(shape): Iterate over the edges.",
        "shapes.Polygon(corners): A flat figure with straight sides.",
        "shapes.Polygon.add_corner(x, *more)",
    ]


def test_a_passage_shows_a_call_where_one_is_known(encoder: Encoder, entries: Sequence[Entry]) -> None:
    """The call stands at the end of the passage, in what is found, in what is looked up, and after loading."""
    index = build_index(entries, encoder, calls={"shapes.edges": "shapes.edges(square)"})
    text = "shapes.edges(shape): Iterate over the edges. Example: shapes.edges(square)"

    assert index.passage("shapes.edges") == Passage("shapes.edges", text, 0.0)
    assert index.search(["edges"], 1)[0][0].text == text
    assert index.passage("shapes.Polygon").text == passage_text(entries[2])


def test_a_long_summary_is_cut_at_a_word() -> None:
    """The summary shown has at most 120 characters and no half word."""
    shown = passage_text(Entry("a.b", "function", summary="seven12 " * 30))

    assert shown == "a.b(): " + " ".join(["seven12"] * 14) + " ..."


def test_the_search_text_has_the_words_of_the_whole_id(entries: Sequence[Entry]) -> None:
    """Modules and classes are among the words, the package is not; prose is cut at 60 words."""
    assert [search_text(entry) for entry in entries] == [
        "area: Return the area of a shape. The area counts holes out.",
        "edges: Iterate over the edges.",
        "Polygon: A flat figure with straight sides.",
        "Polygon add corner:",
    ]
    assert len(search_text(Entry("a.b", "function", description="word " * 100)).split()) == 60


@given(SUMMARIES)
def test_an_entry_finds_itself(encoder: Encoder, summaries: list[str]) -> None:
    """Asked with an entry's own search text, the index gives an entry of that very text first."""
    entries = [Entry(f"p.f_{n}", "function", summary=text) for n, text in enumerate(summaries)]
    texts = [search_text(entry) for entry in entries]
    found = build_index(entries, encoder, lexical=False).search(texts, 1)

    assert _ids(found) == [(entry.id,) for entry in entries]


def test_plain_scores_are_cosines(entries: Sequence[Entry]) -> None:
    """By vectors alone an entry's score is its cosine; of equals the first wins; a batch is embedded once."""
    texts = [search_text(entry) for entry in entries]
    table = dict(zip(texts, [(0.6, 0.8), (1.0, 0.0), (0.6, 0.8), (0.0, 1.0)], strict=True))
    encoder = TableEncoder(table | {"right": (1.0, 0.0), "up": (0.0, 1.0)})
    index = build_index(entries, encoder, lexical=False)

    found = index.search(["right", "up"], 3)

    assert isinstance(index, Retriever)
    assert encoder.asked == [texts, ["right", "up"]]
    assert _ids(found) == [
        ("shapes.edges", "shapes.area", "shapes.Polygon"),
        ("shapes.Polygon.add_corner", "shapes.area", "shapes.Polygon"),
    ]
    assert found[0][0] == Passage("shapes.edges", "shapes.edges(shape): Iterate over the edges.", 1.0)
    assert found[0][1].score == pytest.approx(0.6)


def test_known_questions_are_further_keys_of_their_entry(entries: Sequence[Entry]) -> None:
    """A score is the cosine plus the weighted larger of it and the mean of the three nearest known questions."""
    texts = [search_text(entry) for entry in entries]
    table = dict(zip(texts, [(0.8, 0.6), (0.0, 1.0), (-1.0, 0.0), (0.6, 0.8)], strict=True))
    known = {
        "bad": (-1.0, 0.0),
        "good": (1.0, 0.0),
        "worse": (0.0, -1.0),
        "fair": (0.8, 0.6),
        "so-so": (0.6, 0.8),
    }
    encoder = TableEncoder(table | known | {"asked": (1.0, 0.0)})
    bank = [("bad", "shapes.area")] + [(n, "shapes.edges") for n in ("good", "worse", "fair", "so-so")]
    index = build_index(entries, encoder, bank, bank_weight=2.0, lexical=False)

    [found] = index.search(["asked"], 10)

    # area 0.8 + 2 * max(0.8, -1); edges 0 + 2 * max(0, (1 + 0.8 + 0.6) / 3);
    # add_corner 0.6 + 2 * 0.6; Polygon -1 + 2 * -1.
    assert [(one.id, round(one.score, 5)) for one in found] == [
        ("shapes.area", 2.4),
        ("shapes.Polygon.add_corner", 1.8),
        ("shapes.edges", 1.6),
        ("shapes.Polygon", -3.0),
    ]


@given(st.lists(st.tuples(WORDS, st.integers(0, 3)), min_size=1, max_size=8), st.floats(0, 2), WORDS)
def test_the_bank_s_scores_are_those_of_the_formula(
    encoder: Encoder, entries: Sequence[Entry], bank: list[tuple[str, int]], weight: float, asked: str
) -> None:
    """The vectorised score equals the one worked out entry by entry, in whatever order the bank comes."""
    index = build_index(
        entries,
        encoder,
        [(question, entries[row].id) for question, row in bank],
        bank_weight=weight,
        lexical=False,
    )
    vector = encoder.embed([asked])[0]
    keys = encoder.embed([search_text(entry) for entry in entries])
    expected = {}
    for row, entry in enumerate(entries):
        cosine = float(vector @ keys[row])
        others = [float(vector @ encoder.embed([question])[0]) for question, known in bank if known == row]
        nearest = sorted(others)[-3:]
        expected[entry.id] = cosine + weight * max(cosine, sum(nearest) / len(nearest) if nearest else -1.0)

    [found] = index.search([asked], len(entries))

    assert {one.id: one.score for one in found} == pytest.approx(expected, abs=1e-5)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_the_lexical_ranking_is_fused_by_reciprocal_ranks(entries: Sequence[Entry]) -> None:
    """A word that only one entry has lifts it; scores are sums of 1 / (60 + rank)."""
    texts = [search_text(entry) for entry in entries]
    table = dict(zip(texts, [(1.0, 0.0), (0.8, 0.6), (0.6, 0.8), (0.0, 1.0)], strict=True))
    encoder = TableEncoder(table | {"the CORNER": (1.0, 0.0), "the": (1.0, 0.0)})
    index = build_index(entries, encoder)

    corner, nothing = index.search(["the CORNER", "the"], 4)

    assert [(one.id, one.score) for one in corner] == [
        ("shapes.Polygon.add_corner", 1 / 64 + 1 / 61),
        ("shapes.area", 1 / 61),
        ("shapes.edges", 1 / 62),
        ("shapes.Polygon", 1 / 63),
    ]
    assert [(one.id, one.score) for one in nothing] == [
        ("shapes.area", 1 / 61),
        ("shapes.edges", 1 / 62),
        ("shapes.Polygon", 1 / 63),
        ("shapes.Polygon.add_corner", 1 / 64),
    ]


def test_entries_without_a_word_that_counts_can_be_indexed(encoder: Encoder) -> None:
    """Names of one letter leave BM25 without any token; the vectors answer alone."""
    index = build_index([Entry("p.f", "function"), Entry("p.g", "function")], encoder)

    assert _ids(index.search(["g", "what is g?"], 1)) == [("p.g",), ("p.g",)]


def test_asking_nothing_finds_nothing(encoder: Encoder, entries: Sequence[Entry]) -> None:
    """No questions, no answers; more passages than there are entries is all of them."""
    index = build_index(entries, encoder)

    assert index.search([], 5) == []
    assert index.ids == tuple(entry.id for entry in entries)
    assert [len(passages) for passages in index.search(["edges"], 99)] == [len(index)] == [4]


@pytest.mark.parametrize("lexical", [True, False])
@pytest.mark.parametrize("bank", [(), (("how many sides", "shapes.Polygon"), ("rim", "shapes.edges"))])
def test_a_loaded_index_answers_the_same(
    tmp_path: Path,
    encoder: Encoder,
    entries: Sequence[Entry],
    bank: Sequence[tuple[str, str]],
    lexical: bool,
) -> None:
    """What was saved is found again, score by score, and saving it again writes the same bytes."""
    index = build_index(entries, encoder, bank, lexical=lexical)
    questions = ["what is the area", "add a corner to the rim", "zzz"]

    index.save(tmp_path / "once")
    loaded = Index.load(tmp_path / "once", encoder)
    loaded.save(tmp_path / "twice")

    assert loaded.search(questions, 4) == index.search(questions, 4)
    files = sorted(file.name for file in (tmp_path / "once").iterdir())
    assert files == ["bank.npy", "entries.npy", "index.json", "probe.npy"]
    for name in files:
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_another_encoder_is_refused(tmp_path: Path, encoder: Encoder, entries: Sequence[Entry]) -> None:
    """Vectors of another encoder would give nonsense without a word."""
    build_index(entries, encoder).save(tmp_path)
    other = type(encoder)(name="other")  # type: ignore[call-arg]

    with pytest.raises(ArtifactError, match="made with another encoder than other"):
        Index.load(tmp_path, other)


def test_damaged_files_are_named(tmp_path: Path, encoder: Encoder, entries: Sequence[Entry]) -> None:
    """A missing file, one cut short and one that belongs elsewhere each stop the loading."""
    index = build_index(entries, encoder)
    with pytest.raises(ArtifactError, match=r"index\.json is missing"):
        Index.load(tmp_path, encoder)

    index.save(tmp_path)
    (tmp_path / "bank.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DamagedArtifact, match="cannot be read"):
        Index.load(tmp_path, encoder)

    index.save(tmp_path)
    (tmp_path / "index.json").write_text('{"passages": []}')
    with pytest.raises(DamagedArtifact, match="cannot be read"):
        Index.load(tmp_path, encoder)

    index.save(tmp_path)
    np.save(tmp_path / "entries.npy", np.zeros((3, 256), dtype=np.float32))
    with pytest.raises(DamagedArtifact, match=r"are \(4, 3, 0\), should be \(4, 4, 0\)"):
        Index.load(tmp_path, encoder)


def test_what_cannot_be_indexed_is_refused(encoder: Encoder, entries: Sequence[Entry]) -> None:
    """Nothing at all, an entry twice, and a question of an unknown entry are errors that name it."""
    with pytest.raises(DatasetError, match="an index needs entries"):
        build_index((), encoder)
    with pytest.raises(DatasetError, match=r"1 entries stand twice .* shapes\.edges"):
        build_index((*entries, entries[1]), encoder)
    with pytest.raises(DatasetError, match=r"'shapes\.volume' first: 'how much fits in'"):
        build_index(entries, encoder, [("how much fits in", "shapes.volume")])


def test_settings_are_strict() -> None:
    """Unknown keys and a count of none are refused."""
    assert RetrieveSettings() == RetrieveSettings(count=5, bank_weight=0.5)
    for wrong in ({"count": 0}, {"bank_weight": -1}, {"depth": 3}):
        with pytest.raises(ValidationError):
            RetrieveSettings.model_validate(wrong)
