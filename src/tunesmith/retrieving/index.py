"""Search a catalogue and passages of documents: FAISS over an encoder's vectors, with BM25 or known questions beside.

What is not covered: one index holds all entries in memory, and is built again when one of them changes.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith.catalogue import Entry
from tunesmith.errors import ArtifactError, DamagedArtifact, DatasetError
from tunesmith.models.base import Encoder, Retriever
from tunesmith.records import Chunk, Passage, from_json, to_json
from tunesmith.retrieving.passages import shown_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: How entries are ranked: by BM25 over their words, or by the vectors of an encoder.
Way = Literal["words", "vectors"]

_LONGEST_SUMMARY = 120  # characters
_MOST_WORDS = (
    60  # MiniLM was trained on texts of up to 128 word pieces, and a question is no longer than this.
)
_NEAREST_KNOWN = 3
_RANK_CONSTANT = 60
_FUSED_DEPTH = 100
_SAME_ENCODER = 0.99  # cosine; rounding differs between machines, encoders differ by far more
_FILES = ("index.json", "entries.npy", "bank.npy", "probe.npy")


class RetrieveSettings(BaseModel):
    """How many passages a question gets, how much known questions count, and who reranks or keeps the vectors.

    Documents are cut into passages of up to `passage_tokens` tokens; an encoder does not read much further. `reranker`
    is the address of a cross-encoder (None: the language model as it was found), which orders the first `rerank_depth`.
    `pinecone_index` is a name at Pinecone, or `pinecone_host` its address.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=5, ge=1)
    bank_weight: float = Field(default=0.5, ge=0)
    passage_tokens: int = Field(default=120, ge=32)
    reranker: str | None = None
    rerank_depth: int = Field(default=10, ge=2)
    pinecone_index: str | None = None
    pinecone_host: str | None = None
    pinecone_namespace: str = Field(default="tunesmith", pattern=r"[\x21-\x7e]{1,64}")


def passage_text(entry: Entry, call: str = "") -> str:
    """Return the entry as prompts show it: id, parameters without defaults, summary cut short, a call that binds.

    Which of the parameters a call needs, a small model does not see from the signature: it copies the call.
    """
    bare = replace(entry, parameters=tuple(replace(one, default=None) for one in entry.parameters))
    summary = textwrap.shorten(entry.summary, _LONGEST_SUMMARY, placeholder=" ...")
    shown = f"{entry.id}{bare.signature}" + (f": {summary}" if summary else "")
    return f"{shown} Example: {call}" if call else shown


def search_text(entry: Entry) -> str:
    """Return what the index embeds: the words of the id, the summary, and the start of the description.

    The modules and classes of the id are among the words, since they alone tell
    `networkx.bipartite.degree_centrality` from `networkx.degree_centrality`.
    """
    path = entry.id.partition(".")[2] or entry.id
    if entry.operation is not None:
        # listPets: names of operations and tools are rarely written with underscores.
        path = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", path)
    name = path.replace(".", " ").replace("_", " ").strip()
    return " ".join(f"{name}: {entry.summary} {entry.description}".split()[:_MOST_WORDS])


def build_index(
    entries: Sequence[Entry],
    encoder: Encoder,
    bank: Sequence[tuple[str, str]] = (),
    *,
    bank_weight: float = 0.5,
    lexical: bool = True,
    keys_E_D: NDArray[np.float32] | None = None,
    calls: Mapping[str, str] | None = None,
    passages: Sequence[Chunk] = (),
) -> Index:
    """Embed the entries, the passages and the bank's known questions, and return the index over them.

    The bank holds pairs of a question and the id of the entry or passage that answers it. `encoder` reads questions,
    and entries too unless their vectors are given as `keys_E_D` (for a question tower tuned towards them).
    `calls` gives, by id, the call that an entry's passage shows.

    Raises DatasetError without entries and passages, for one that stands twice, and for a known question whose entry
    is not among them.
    """
    ids = [*(entry.id for entry in entries), *(passage.id for passage in passages)]
    _check_ids(ids)
    rows = {one: row for row, one in enumerate(ids)}
    _check_bank(bank, rows)
    # Sorted by entry, so that the questions of each stand together.
    known = sorted(bank, key=lambda pair: rows[pair[1]])
    contents = _Contents(
        passages=(
            *((entry.id, passage_text(entry, (calls or {}).get(entry.id, ""))) for entry in entries),
            *((passage.id, shown_text(passage)) for passage in passages),
        ),
        texts=(*map(search_text, entries), *map(shown_text, passages)),
        bank_rows=tuple(rows[entry_id] for _, entry_id in known),
        bank_weight=bank_weight,
        lexical=lexical,
        entries=len(entries),
    )
    keys = encoder.embed(contents.texts) if keys_E_D is None else keys_E_D
    bank_K_D = encoder.embed([question for question, _ in known]) if known else keys[:0]
    return Index(contents, keys, bank_K_D, encoder)


def _check_ids(ids: Sequence[str]) -> None:
    if not ids:
        raise DatasetError(
            "an index needs entries or passages, and there are none",
            hint="Collect a package that has documented functions, or documents: tunesmith run collect",
        )
    twice = [one for one, times in Counter(ids).items() if times > 1]
    if twice:
        raise DatasetError(
            f"{len(twice)} entries stand twice in what is to be indexed: {', '.join(twice[:3])}",
            hint="Give each entry once; the catalogue's `by_id` holds them so.",
        )


def _check_bank(bank: Sequence[tuple[str, str]], rows: dict[str, int]) -> None:
    unknown = [(question, entry_id) for question, entry_id in bank if entry_id not in rows]
    if unknown:
        question, entry_id = unknown[0]
        raise DatasetError(
            f"{len(unknown)} known questions belong to entries that are not indexed, "
            f"{entry_id!r} first: {question!r}",
            hint="Index every entry that a known question names, under its id (not an alias).",
        )


@dataclass(frozen=True, slots=True)
class _Contents:
    """All but the vectors: passages as (id, text), and each known question's entry by its row.

    The first `entries` of the passages are a catalogue's (None: all are), the others are pieces of documents.
    """

    passages: tuple[tuple[str, str], ...]
    texts: tuple[str, ...]
    bank_rows: tuple[int, ...]
    bank_weight: float
    lexical: bool
    entries: int | None = None


class Index:
    """A Retriever over catalogue entries.

    An entry's score is its cosine to the question; with known questions, that plus `bank_weight` times the
    larger of this cosine and the mean cosine to its three nearest known questions (all, if there are fewer).
    With `lexical`, this ranking and BM25's
    are joined by reciprocal rank fusion with k = 60 (Cormack, Clarke and Buettcher, SIGIR 2009), and the
    score is the sum of the reciprocals. Of equals, the first entry wins.
    """

    def __init__(
        self,
        contents: _Contents,
        keys_E_D: NDArray[np.float32],
        bank_K_D: NDArray[np.float32],
        encoder: Encoder,
    ) -> None:
        self._contents = contents
        self._keys_E_D = keys_E_D
        self._bank_K_D = bank_K_D
        self._encoder = encoder

    def __len__(self) -> int:
        return len(self._contents.passages)

    @property
    def ids(self) -> tuple[str, ...]:
        """The entries' ids, in their order."""
        return tuple(entry_id for entry_id, _ in self._contents.passages)

    def passage(self, entry_id: str) -> Passage:
        """Return an entry's passage, as for a question that has nothing to do with it; raises KeyError."""
        return self._passage(_Hit(self._rows_by_id[entry_id], 0.0))

    @property
    def vectors_E_D(self) -> NDArray[np.float32]:
        """The entries' vectors, in the order of `ids`."""
        return self._keys_E_D

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return for each question its `count` nearest passages (all there are, if fewer), nearest first."""
        if not questions:
            return []
        depth = min(max(count, _FUSED_DEPTH) if self._contents.lexical else count, len(self))
        nearest = self._nearest(self._encoder.embed(questions), depth)
        if self._contents.lexical:
            nearest = [
                _fuse(dense, words)
                for dense, words in zip(nearest, self._lexical.search(questions, depth), strict=True)
            ]
        return [tuple(self._passage(hit) for hit in hits[:count]) for hits in nearest]

    def by(self, way: Way) -> Retriever:
        """Return a Retriever over the same entries that ranks by one way alone.

        By words, entries that share none with the question are not found, so that there may be fewer than asked for.
        """
        return _OneWay(self, way)

    def search_by(self, way: Way, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return for each question its nearest passages by one way alone, nearest first."""
        if not questions:
            return []
        depth = min(count, len(self))
        if way == "words":
            nearest = self._lexical.search(questions, depth)
        else:
            nearest = self._nearest(self._encoder.embed(questions), depth)
        return [tuple(map(self._passage, hits)) for hits in nearest]

    def save(self, folder: Path) -> None:
        """Write the index into the folder: vectors as .npy, the rest as JSON, the encoder not at all."""
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        contents, keys, bank, probe = (folder / name for name in _FILES)
        contents.write_text(to_json(self._contents), encoding="utf-8")
        np.save(keys, self._keys_E_D, allow_pickle=False)
        np.save(bank, self._bank_K_D, allow_pickle=False)
        # What the encoder makes of a known text, so that loading with another encoder is noticed.
        np.save(probe, self._encoder.embed(self._contents.texts[:1]), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> Index:
        """Return the index that `save` wrote; it answers as before.

        Raises ArtifactError if the folder holds no index, or one made with another encoder, DamagedArtifact
        if its files are not as they were written.
        """
        import numpy as np

        contents_file, keys_file, bank_file, probe_file = (folder / name for name in _FILES)
        try:
            contents = from_json(_Contents, contents_file.read_bytes())
            keys_E_D = np.load(keys_file, allow_pickle=False)
            bank_K_D = np.load(bank_file, allow_pickle=False)
            probe_1_D = np.load(probe_file, allow_pickle=False)
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{folder} holds no search index: {Path(error.filename).name} is missing", hint=_AGAIN
            ) from error
        except (ValidationError, ValueError, EOFError) as error:
            raise DamagedArtifact(
                f"the search index in {folder} cannot be read: {error}", hint=_AGAIN
            ) from error
        _check_loaded(folder, contents, keys_E_D, bank_K_D)
        _check_encoder(folder, encoder, contents.texts[0], probe_1_D[0])
        return cls(contents, keys_E_D, bank_K_D, encoder)

    def _passage(self, hit: _Hit) -> Passage:
        entry_id, text = self._contents.passages[hit.row]
        first_text = self._contents.entries
        of_document = first_text is not None and hit.row >= first_text
        return Passage(entry_id, text, hit.score, "text" if of_document else "entry")

    def _nearest(self, questions_Q_D: NDArray[np.float32], depth: int) -> list[list[_Hit]]:
        """Return for each question the `depth` entries of the highest score, by vectors alone."""
        import numpy as np

        if not self._contents.bank_rows:
            scores_Q_N, rows_Q_N = self._faiss.search(np.ascontiguousarray(questions_Q_D), depth)
            return [_ranked(scores, rows) for scores, rows in zip(scores_Q_N, rows_Q_N, strict=True)]
        rows_E = np.arange(len(self))
        return [_ranked(scores_E, rows_E)[:depth] for scores_E in self._banked_scores(questions_Q_D)]

    def _banked_scores(self, questions_Q_D: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return each entry's score for each question, shape (Q, E), the bank's questions as further keys."""
        import numpy as np

        cosines_Q_E = questions_Q_D @ self._keys_E_D.T
        cosines_Q_K = questions_Q_D @ self._bank_K_D.T
        known_rows, starts = np.unique(self._contents.bank_rows, return_index=True)
        best_Q_E = cosines_Q_E.copy()
        for row, start, stop in zip(known_rows, starts, [*starts[1:], cosines_Q_K.shape[1]], strict=True):
            nearest_Q_N = np.sort(cosines_Q_K[:, start:stop], axis=1)[:, -_NEAREST_KNOWN:]
            best_Q_E[:, row] = np.maximum(best_Q_E[:, row], nearest_Q_N.mean(axis=1))
        weight = np.float32(self._contents.bank_weight)
        return np.asarray(cosines_Q_E + weight * best_Q_E, dtype=np.float32)

    @cached_property
    def _rows_by_id(self) -> dict[str, int]:
        return {one: row for row, (one, _) in enumerate(self._contents.passages)}

    @cached_property
    def _faiss(self) -> Any:
        import faiss
        import numpy as np

        index = faiss.IndexFlatIP(self._keys_E_D.shape[1])
        index.add(np.ascontiguousarray(self._keys_E_D))
        return index

    @cached_property
    def _lexical(self) -> _Lexical:
        return _Lexical(self._contents.texts)


@dataclass(frozen=True, slots=True)
class _OneWay:
    """A Retriever that ranks an index's entries by words alone, or by vectors alone."""

    index: Index
    way: Way

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return for each question its nearest passages, nearest first."""
        return self.index.search_by(self.way, questions, count)


_AGAIN = "Build it again: tunesmith run"


def _check_loaded(
    folder: Path, contents: _Contents, keys_E_D: NDArray[np.float32], bank_K_D: NDArray[np.float32]
) -> None:
    expected = (len(contents.passages), len(contents.passages), len(contents.bank_rows))
    found = (len(contents.texts), len(keys_E_D), len(bank_K_D))
    if expected != found or not contents.passages:
        raise DamagedArtifact(
            f"the files of the search index in {folder} do not belong together: "
            f"texts, vectors and known questions are {found}, should be {expected}",
            hint=_AGAIN,
        )


def _check_encoder(folder: Path, encoder: Encoder, text: str, probe_D: NDArray[np.float32]) -> None:
    made_now_D = encoder.embed([text])[0]
    if made_now_D.shape != probe_D.shape or float(made_now_D @ probe_D) < _SAME_ENCODER:
        raise ArtifactError(
            f"the search index in {folder} was made with another encoder than {encoder.name}",
            hint="Load it with the encoder that it was built with, or build it again: tunesmith run",
        )


@dataclass(frozen=True, slots=True)
class _Hit:
    """An entry's row in the index, and its score for one question."""

    row: int
    score: float


def _ranked(scores_N: NDArray[np.float32], rows_N: NDArray[np.int64]) -> list[_Hit]:
    """Return the hits by falling score; of equals, the first entry first."""
    import numpy as np

    order = np.lexsort((rows_N, -scores_N))
    return [_Hit(int(rows_N[i]), float(scores_N[i])) for i in order]


def _fuse(dense: Sequence[_Hit], lexical: Sequence[_Hit]) -> list[_Hit]:
    """Join two rankings by the sum of their reciprocal ranks; of equals, the one that `dense` ranks first."""
    scores: dict[int, float] = {}
    for ranking in (dense, lexical):
        for rank, hit in enumerate(ranking, 1):
            scores[hit.row] = scores.get(hit.row, 0.0) + 1 / (_RANK_CONSTANT + rank)
    # A dict keeps the order of insertion, which is that of `dense`, and sorting is stable.
    return sorted((_Hit(row, score) for row, score in scores.items()), key=lambda hit: -hit.score)


class _Lexical:
    """BM25 over texts: lower case, without English stop words."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        tokens = _tokens(texts)
        # Texts of single letters and stop words leave BM25 nothing to index, and it would divide by zero.
        self._bm25 = bm25s.BM25() if any(tokens) else None
        if self._bm25 is not None:
            self._bm25.index(tokens, show_progress=False)

    def search(self, questions: Sequence[str], depth: int) -> list[list[_Hit]]:
        """Return for each question up to `depth` texts that share a word with it, best first."""
        import numpy as np

        found: list[list[_Hit]] = []
        for words in _tokens(questions):
            if self._bm25 is None or not words:
                found.append([])
                continue
            # `get_scores` and our own sorting, since bm25s's `retrieve` breaks ties in no promised order.
            scores_E = self._bm25.get_scores(words)
            rows = np.flatnonzero(scores_E > 0)
            found.append(_ranked(scores_E[rows], rows)[:depth])
        return found


def _tokens(texts: Sequence[str]) -> list[list[str]]:
    import bm25s

    split = bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
    return [list(words) for words in split]
