"""Train the classifier of injections (guarding/likeness.py) and say what it finds and what it stops wrongly.

    python benchmarks/injection_weights.py [--json] [--write] [--show]

It learns from data/injections.jsonl, which was written for it in thirteen languages, from the development half of
data/guardrails.jsonl, and, as honest texts, from paragraphs of the documentation of the installed packages HONEST.
What it says of texts that it did not learn from:

- `across.recall`, `across.false`: in five folds, each left out once: the share of attacks found, and of honest texts.
  Many texts have a twin of the other kind, or in another language.
- `held_out.*`: data/injections_held_out.jsonl, by another writer than what was learned: `rules` are the expressions
  alone, `both` they and the classifier. `english`, `others`: by language.
- `users.false`: the 230 questions that people asked of networkx.

`--write` leaves the weights in the package.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hardware import as_json, versions_of
from privacy import paragraphs
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from tunesmith.evaluating.statistics import wilson
from tunesmith.guarding import likeness as likeness_module
from tunesmith.guarding.injection import LEAST, injection
from tunesmith.guarding.likeness import BITS, FEWEST, LONGEST, WEIGHTS, Likeness, plain_letters, stretches
from tunesmith.guarding.rails import Context

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "benchmarks" / "data"
ASKED = ROOT / "examples" / "networkx-assistant" / "questions" / "asked.jsonl"
HONEST = ("networkx", "pydantic", "transformers", "typer", "httpx", "huggingface-hub", "openai", "peft")
PARAGRAPHS = 400  # of each package
FOLDS = 5
STRENGTH = 30.0  # of the fit, LogisticRegression's C


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, whether it is an attack, its language, and where it is met."""

    text: str
    attack: bool
    language: str
    document: bool = False


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of JSON lines."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def learned_from() -> list[Labelled]:
    """Return what is learned from."""
    written = [
        Labelled(row["text"], row["kind"] == "attack", row["language"])
        for row in rows_of(DATA / "injections.jsonl")
    ]
    developed = [
        Labelled(row["text"], row["label"] == "injection", "" if row["kind"] == "multilingual" else "en")
        for row in rows_of(DATA / "guardrails.jsonl")
        if row["half"] == "development"
        and row["where"] in {"input", "retrieval"}
        and row["kind"] != "encoded"
        and row["label"] in {"injection", "allow"}
    ]
    random = np.random.default_rng(0)
    documented = [
        Labelled(text, False, "en", document=True)
        for package in HONEST
        for text in random.permutation([part for part in paragraphs(package) if len(part) < 3000])[
            :PARAGRAPHS
        ].tolist()
    ]
    return written + developed + documented


def vectors(texts: Sequence[str]) -> csr_matrix:
    """Return the texts' hashes, each over the root of how many there are."""
    rows, columns, values = [], [], []
    for number, text in enumerate(texts):
        found = np.concatenate(stretches(plain_letters(text)))
        found = found[found >= 0]
        each, counts = np.unique(found, return_counts=True)
        rows.append(np.full(len(each), number))
        columns.append(each)
        values.append(counts / max(FEWEST, len(found)) ** 0.5)
    where = np.concatenate(rows), np.concatenate(columns)
    return csr_matrix((np.concatenate(values), where), shape=(len(texts), 2**BITS))


def fit(rows: Sequence[Labelled]) -> Likeness:
    """Fit twice: on whole texts, then on all parts of honest ones and on whole attacks and their likeliest parts."""
    short = [row for row in rows if len(row.text) <= LONGEST]
    first = _fit([row.text for row in short], [row.attack for row in short], [1.0] * len(short))
    texts, labels, weights = [], [], []
    for row in rows:
        places = first.scores(row.text)
        if row.attack:
            start, end = max(places, key=lambda part: places[part])
            chosen = sorted({row.text[start:end], row.text[:LONGEST]})
        else:
            chosen = sorted({row.text[start:end] for start, end in places})
        texts += chosen
        labels += [row.attack] * len(chosen)
        weights += [1 / max(1, len(chosen)) ** 0.5] * len(chosen)
    return _fit(texts, labels, weights)


def _fit(texts: Sequence[str], labels: Sequence[bool], weights: Sequence[float]) -> Likeness:
    model = LogisticRegression(C=STRENGTH, max_iter=2000)
    model.fit(vectors(texts), labels, sample_weight=weights)
    return Likeness(model.coef_[0].astype(np.float32), float(model.intercept_[0]))


def as_kept(model: Likeness) -> tuple[dict[str, Any], Likeness]:
    """Return what is kept of a model, a byte a weight, and the model that it comes to."""
    scale = float(np.abs(model.weights).max() / 127)
    kept = np.round(model.weights / scale).astype(np.int8)
    arrays = {"weights": kept, "scale": np.float64(scale), "bias": np.float64(model.bias)}
    return arrays, Likeness(kept.astype(np.float32) * scale, model.bias)


def across(rows: Sequence[Labelled]) -> list[float]:
    """Return how likely each text is an attack, by what was fitted on the folds without it."""
    order = np.random.default_rng(0).permutation(len(rows))
    found = [0.0] * len(rows)
    for fold in range(FOLDS):
        left_out = set(order[fold::FOLDS].tolist())
        model = fit([row for number, row in enumerate(rows) if number not in left_out])
        for number in left_out:
            found[number] = max(model.scores(rows[number].text).values(), default=0.0)
    return found


def shares(found: Sequence[bool], rows: Sequence[Labelled], name: str) -> Iterator[tuple[str, float]]:
    """Yield the share of attacks found and of honest texts stopped, with intervals, by language."""
    for group, chosen in {
        "": rows,
        ".english": [row for row in rows if row.language == "en"],
        ".others": [row for row in rows if row.language != "en"],
    }.items():
        for kind, attack in (("recall", True), ("false", False)):
            hits = [
                hit for hit, row in zip(found, rows, strict=True) if row in chosen and row.attack is attack
            ]
            interval = wilson(sum(hits), len(hits))
            yield f"{name}{group}.{kind}", interval.value
            yield f"{name}{group}.{kind}_low", interval.low
            yield f"{name}{group}.{kind}_high", interval.high


def measure(*, write: bool, show: bool) -> dict[str, float]:
    """Train, write and measure."""
    rows = learned_from()
    figures: dict[str, float] = {"texts": len(rows), "attacks": sum(row.attack for row in rows)}
    scores = across(rows)
    figures |= dict(shares([score >= LEAST for score in scores], rows, "across"))
    for target in (0.005, 0.01, 0.02, 0.03, 0.05):
        honest = sorted(
            (score for score, row in zip(scores, rows, strict=True) if not row.attack), reverse=True
        )
        least = honest[int(target * len(honest))]
        hit = sum(score > least for score, row in zip(scores, rows, strict=True) if row.attack)
        say(
            f"honest texts stopped {target:.1%}: threshold {least:.3f}, attacks found {hit / figures['attacks']:.1%}"
        )
    model = fit(rows)
    arrays, kept = as_kept(model)
    if write:
        path = ROOT / "src" / "tunesmith" / "guarding" / WEIGHTS
        np.savez_compressed(path, **arrays)
        say(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size:,} bytes")
    # What is measured is what was fitted, written or not.
    likeness_module.likeness = lambda: kept  # type: ignore[assignment]
    others = [
        Labelled(row["text"], row["kind"] == "attack", row["language"], row["where"] == "document")
        for row in rows_of(DATA / "injections_held_out.jsonl")
    ]
    for name, least in (("rules", 1.0), ("both", LEAST)):
        rails = {document: injection(documents=document, least=least) for document in (False, True)}
        found = [rails[row.document](row.text, Context()) is not None for row in others]
        figures |= dict(shares(found, others, f"held_out.{name}"))
        for hit, row in zip(found, others, strict=True):
            if show and hit != row.attack:
                say(f"{name}: {'missed' if row.attack else 'stopped'}: {row.text!r}")
    rail = injection(least=LEAST)
    asked = [rail(row["question"], Context()) is not None for row in rows_of(ASKED)]
    figures["users.false"] = sum(asked) / len(asked)
    return figures


def say(text: str) -> None:
    """Tell what is done."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help="leave the weights in the package")
    parser.add_argument("--show", action="store_true", help="show what was missed or stopped wrongly")
    arguments = parser.parse_args()
    figures = measure(write=arguments.write, show=arguments.show)
    if arguments.json:
        print(
            json.dumps(as_json("injection_weights", figures, versions=versions_of(("numpy", "scikit-learn"))))
        )
        return
    for key, value in figures.items():
        print(f"{key:44} {value:8.3f}")


if __name__ == "__main__":
    main()
