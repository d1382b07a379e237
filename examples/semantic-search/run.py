"""Questions over forty short documents: which search puts the right one first, a table and a verdict.

python run.py [--test 58]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith import build_index, load_encoder, tune_encoder
from tunesmith.evaluating.contest import contest
from tunesmith.models.base import Retriever
from tunesmith.records import Chunk
from tunesmith.retrieving.index import Index
from tunesmith.training.encoder import EncoderSettings, Entries, Pair

HERE = Path(__file__).parent
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Return the rows of a file beside this one."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def pieces(documents: Sequence[Row]) -> list[Chunk]:
    """Return each document as one passage."""
    return [
        Chunk(row["id"], row["id"], 0, len(row["text"]), row["text"], title=row["title"]) for row in documents
    ]


def by_words(documents: Sequence[Row], questions: Sequence[str]) -> list[list[str]]:
    """Return the documents' ids in BM25's order, for each question."""
    import bm25s

    tokens = {"stopwords": "en", "show_progress": False}
    search = bm25s.BM25()
    search.index(
        bm25s.tokenize([f"{row['title']} {row['text']}" for row in documents], **tokens), show_progress=False
    )
    found, _ = search.retrieve(
        bm25s.tokenize(list(questions), **tokens), k=len(documents), show_progress=False
    )
    return [[documents[int(number)]["id"] for number in row] for row in found]


def by_index(index: Retriever, questions: Sequence[str]) -> list[list[str]]:
    """Return the documents' ids in the index's order, for each question."""
    return [[hit.id for hit in hits] for hits in index.search(questions, 40)]


def plain(documents: Sequence[Row], *, lexical: bool) -> Index:
    """Return the index of the encoder as it is, alone or fused with BM25."""
    return build_index([], load_encoder("minilm"), lexical=lexical, passages=pieces(documents))


def tuned(documents: Sequence[Row], train: Sequence[Row], *, known: bool) -> Index:
    """Return the index whose encoder was tuned on the training questions, which are keys of their own if `known`."""
    import torch

    encoder = load_encoder("minilm")
    before = build_index([], encoder, lexical=False, passages=pieces(documents))
    rows = {name: row for row, name in enumerate(before.ids)}
    entries = Entries(rows, torch.from_numpy(before.vectors_E_D))
    pairs = [Pair(row["question"], row["document"]) for row in train]
    settings = EncoderSettings(epochs=6, batch_size=16, learning_rate=1e-4)
    with tempfile.TemporaryDirectory() as work:
        tune_encoder(encoder, pairs, entries, pairs[:8], settings, work=Path(work))
    bank = [(row["question"], row["document"]) for row in train] if known else ()
    return build_index(
        [], encoder, bank, lexical=False, keys_E_D=before.vectors_E_D, passages=pieces(documents)
    )


def main() -> None:
    """Ask every search, and print the table, the mean reciprocal ranks and the verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test", type=int, help="only so many questions")
    parser.add_argument("--train", type=int, help="only so many training questions")
    given = parser.parse_args()
    documents, train, test = read("documents.jsonl"), read("train.jsonl")[: given.train], read("test.jsonl")
    test = test[: given.test]
    questions = [row["question"] for row in test]
    searches: dict[str, Callable[[], list[list[str]]]] = {
        "BM25": lambda: by_words(documents, questions),
        "encoder": lambda: by_index(plain(documents, lexical=False), questions),
        "encoder + BM25": lambda: by_index(plain(documents, lexical=True), questions),
        "tuned encoder": lambda: by_index(tuned(documents, train, known=False), questions),
        "tuned encoder + known questions": lambda: by_index(tuned(documents, train, known=True), questions),
    }
    right: dict[str, list[bool]] = {}
    for name, search in searches.items():
        start = time.perf_counter()
        ranks = [found.index(row["document"]) + 1 for found, row in zip(search(), test, strict=True)]
        right[name] = [rank == 1 for rank in ranks]
        mean, in_five = sum(1 / rank for rank in ranks) / len(ranks), sum(rank <= 5 for rank in ranks)
        spent = time.perf_counter() - start
        print(
            f"{name}: mean reciprocal rank {mean:.3f}, {in_five} of {len(ranks)} in the first five, {spent:.0f} s"
        )
    found = contest(right)
    print(f"\n{found.table()}\n\n{found.verdict}")


if __name__ == "__main__":
    main()
