"""Comments from a library's survey into six groups: how near each way comes to a person's groups.

    python run.py

The score is the adjusted Rand index (L. Hubert and P. Arabie, Comparing partitions, Journal of Classification 2, 1985):
0 by chance, 1 for the person's own groups. Intervals are those of random halves of the comments, whose spread is that
of the whole; drawn with replacement, a comment would be paired with itself. The groupings are taken as they are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith import load_chat, load_encoder, tune_encoder
from tunesmith.models.base import Sampling
from tunesmith.records import Message
from tunesmith.training.encoder import EncoderSettings, Entries, Pair

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

HERE = Path(__file__).parent
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Return the rows of a file beside this one."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def means(vectors: object, count: int) -> list[int]:
    """Return k-means' cluster of each vector, the best of twenty starts."""
    from sklearn.cluster import KMeans

    return [int(each) for each in KMeans(count, n_init=20, random_state=0).fit_predict(vectors)]


def by_words(texts: Sequence[str], count: int) -> list[int]:
    """Cluster by words that comments share, weighted by their rarity."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return means(TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(texts), count)


def by_base(texts: Sequence[str], names: Sequence[str]) -> list[int]:
    """Let the language model name the group of each comment; it must be told the groups."""
    system = f"Which topic is this comment about: {', '.join(names)}? Answer with the topic only."
    asked = [(Message("system", system), Message("user", text)) for text in texts]
    said = [answer.text.lower() for answer in load_chat("smollm2").reply(asked, Sampling(max_tokens=12))]
    return [next((number for number, name in enumerate(names) if name in one), len(names)) for one in said]


def by_tuned(texts: Sequence[str], sorted_rows: Sequence[Row], count: int) -> list[int]:
    """Cluster by an encoder that a few sorted comments have drawn to their groups' means."""
    import numpy as np
    import torch

    encoder = load_encoder("minilm")
    names = sorted({row["group"] for row in sorted_rows})
    groups = [[row["text"] for row in sorted_rows if row["group"] == name] for name in names]
    centres = np.stack([encoder.embed(group).mean(axis=0) for group in groups])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    entries = Entries({name: row for row, name in enumerate(names)}, torch.from_numpy(centres))
    pairs = [Pair(row["text"], row["group"]) for row in sorted_rows]
    settings = EncoderSettings(epochs=6, batch_size=8, learning_rate=1e-4)
    with tempfile.TemporaryDirectory() as work:
        tune_encoder(encoder, pairs, entries, pairs[:6], settings, work=Path(work))
    return means(encoder.embed(texts), count)


def interval(
    truth: Sequence[str], columns: Sequence[Sequence[int]], resamples: int = 2000
) -> NDArray[float64]:
    """Return each column's score on `resamples` halves of the comments, shape (resamples, columns)."""
    import numpy as np
    from sklearn.metrics import adjusted_rand_score

    rng, names = np.random.default_rng(0), np.unique(truth, return_inverse=True)[1]
    drawn = [rng.permutation(len(truth))[: len(truth) // 2] for _ in range(resamples)]
    arrays = [np.asarray(column) for column in columns]
    return np.array([[adjusted_rand_score(names[row], each[row]) for each in arrays] for row in drawn])


def main() -> None:
    """Cluster in every way, and print the table and the verdict."""
    import numpy as np
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    parser = argparse.ArgumentParser()
    parser.add_argument("--resamples", type=int, default=2000)
    given = parser.parse_args()
    rows, test = read("sorted.jsonl"), read("test.jsonl")
    texts, truth = [row["text"] for row in test], [row["group"] for row in test]
    names = sorted(set(truth))
    ways: dict[str, Callable[[], list[int]]] = {
        "words (TF-IDF)": lambda: by_words(texts, len(names)),
        "encoder": lambda: means(load_encoder("minilm").embed(texts), len(names)),
        "tuned encoder": lambda: by_tuned(texts, rows, len(names)),
        "base, told the groups": lambda: by_base(texts, names),
    }
    found: dict[str, list[int]] = {}
    for name, way in ways.items():
        start = time.perf_counter()
        found[name] = way()
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    scores = {name: float(adjusted_rand_score(truth, each)) for name, each in found.items()}
    drawn = interval(truth, list(found.values()), given.resamples)
    print("\n| contender | adjusted Rand | 95 % interval | mutual information | n |\n|---|---|---|---|---|")
    for column, (name, each) in enumerate(found.items()):
        low, high = np.quantile(drawn[:, column], [0.025, 0.975])
        shared = normalized_mutual_info_score(truth, each)
        print(f"| {name} | {scores[name]:.2f} | {low:.2f} to {high:.2f} | {shared:.2f} | {len(test)} |")
    best = max(scores, key=lambda name: scores[name])
    print()
    for column, name in enumerate(found):
        low, high = np.quantile(drawn[:, list(found).index(best)] - drawn[:, column], [0.025, 0.975])
        if name != best:
            word = "clearly above" if low > 0 else "within noise of"
            print(f"{best} is {word} {name}: {scores[best] - scores[name]:+.2f} ({low:.2f} to {high:.2f}).")


if __name__ == "__main__":
    main()
