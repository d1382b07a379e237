"""What the gates catch, and what they wrongly reject: pairs with planted faults, and good ones.

    python benchmarks/filter_quality.py [--half all|tuned|held-out] [--judge ADDRESS] [--show KIND|true] [--json]

The pairs (data/filter_pairs*.jsonl; their README says who wrote them) are about the documentation of installed
packages. Each is put to the gates as `generate` does: with the piece of the document that its quotes stand in, one gate
after the other, until one stops it. Documents of packages that are not installed are left out, and counted.

- recall: the share of the wrong pairs that some gate stops; recall.KIND for each kind.
- false_rejection: the share of the good pairs that some gate stops.
- gate.NAME.recall, gate.NAME.false_rejection: of one gate alone, put to all pairs.

Thresholds of gates that have one were set on the half of the pairs that is called tuned (by a hash of the question);
the figures are those of the other half unless told otherwise. --judge adds the round trip and the judge, by a model's
address: they are the gates that a teacher's examples have besides, and what they are worth hangs on that model.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import pydoc
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from hardware import as_json, versions_of

from tunesmith.chunking.chunk import ChunkSettings, chunk
from tunesmith.generating.asking import Asker
from tunesmith.generating.gates import GATES, Gate, Ground, Pair, Turn, find_verbatim
from tunesmith.generating.nearness import relevance, support
from tunesmith.generating.prompts import default_prompts
from tunesmith.generating.rounds import Checking, judge_pairs, round_trip
from tunesmith.records import Chunk, Document

DATA = Path(__file__).with_name("data")


@dataclass(frozen=True, slots=True)
class Row:
    """A pair, what it is held against, and what is wrong with it (None: nothing)."""

    pair: Pair
    ground: Ground
    wrong: str | None

    @property
    def tuned(self) -> bool:
        """Whether it is of the half that thresholds may be set on; pairs of one question are on one side."""
        return hashlib.sha256(self.pair.question.encode()).digest()[0] < 128


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=("all", "tuned", "held-out"), default="held-out")
    parser.add_argument("--judge", metavar="ADDRESS")
    parser.add_argument(
        "--show", metavar="KIND", help="print what is let through of a kind, or stopped of the good"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows, missing = read_rows()
    chosen = [row for row in rows if given.half == "all" or row.tuned == (given.half == "tuned")]
    stops = stopped(chosen, given.judge)
    if given.show:
        show(chosen, stops, None if given.show == "true" else given.show)
        return
    figures = figures_of(chosen, stops) | {"left_out": float(missing)}
    if given.json:
        print(
            json.dumps(as_json("filter_quality", figures, versions=versions_of(["tunesmith", "py3langid"])))
        )
        return
    for key, value in figures.items():
        print(f"{key}: {value:.3g}")


def read_rows() -> tuple[list[Row], int]:
    """Return the pairs with their grounds, and how many had to be left out."""
    rows, missing = [], 0
    for file in sorted(DATA.glob("filter_pairs*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            chunks = chunks_of(row["document"])
            found = grounded(row, chunks) if chunks else None
            if found is None:
                missing += 1
                continue
            pair = Pair(row["style"], (Turn(row["question"], row["answer"]),), tuple(row["quotes"]))
            rows.append(Row(pair, found, row["wrong"]))
    return rows, missing


@cache
def chunks_of(name: str) -> tuple[Chunk, ...]:
    """Return the pieces of a document, as the pipeline cuts it; none if it is not to be had here."""
    kind, _, value = name.partition(":")
    try:
        if kind == "metadata":
            found = metadata(value)
            text = str(found.get_payload() or found["Description"] or "")
        else:
            text = inspect.getdoc(pydoc.locate(value)) or ""
    except PackageNotFoundError:
        return ()
    document = Document(name, name, value, text, "markdown")
    return chunk([document], ChunkSettings()) if text else ()


def grounded(row: Mapping[str, object], chunks: Sequence[Chunk]) -> Ground | None:
    """Return the piece that has all quotes, else those that have one; without quotes the nearest to the question."""
    quotes = [str(quote) for quote in row["quotes"]]  # type: ignore[attr-defined]
    if not quotes:
        asked = set(str(row["question"]).lower().split())
        nearest = max(chunks, key=lambda piece: len(asked & set(piece.text.lower().split())))
        return Ground(nearest.text, nearest.title)
    for piece in chunks:
        if all(find_verbatim(piece.text, quote) for quote in quotes):
            return Ground(piece.text, piece.title)
    holding = [piece for piece in chunks if any(find_verbatim(piece.text, quote) for quote in quotes)]
    if not holding:
        return None
    return Ground("\n\n".join(piece.text for piece in holding), holding[0].title)


def stopped(rows: Sequence[Row], judge: str | None) -> dict[str, list[bool]]:
    """Return by gate, in their order, which pairs it stops."""
    gates: Sequence[Gate] = GATES
    stops = {gate.name: [gate.defect(row.pair, row.ground) is not None for row in rows] for gate in gates}
    stops |= weighed(rows)
    if judge is not None:
        stops |= asked(rows, judge)
    return stops


def weighed(rows: Sequence[Row]) -> dict[str, list[bool]]:
    """Return which pairs the gates stop that take a small model: an encoder, and the embedded language model."""
    from tunesmith.models.address import load_encoder
    from tunesmith.models.likelihood import Likelihood

    checking = [Checking(row.pair, row.ground.text.strip()) for row in rows]
    outcomes = {
        "relevance": relevance(checking, load_encoder("minilm")),
        "support": support(checking, Likelihood.load("smollm2")),
    }
    return {name: [each.state != "accepted" for each in found] for name, found in outcomes.items()}


def asked(rows: Sequence[Row], address: str) -> dict[str, list[bool]]:
    """Return which pairs a model stops, by answering again and by judging."""
    from tunesmith.models.address import load_chat

    asker = Asker(load_chat(address))
    checking = [Checking(row.pair, row.ground.text.strip()) for row in rows]
    outcomes = {
        "round trip": round_trip(checking, asker, default_prompts(), seed=0),
        "judge": judge_pairs(checking, asker, default_prompts(), threshold=4, seed=0),
    }
    return {name: [each.state != "accepted" for each in found] for name, found in outcomes.items()}


def figures_of(rows: Sequence[Row], stops: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Return the shares."""
    caught = [any(gate[number] for gate in stops.values()) for number in range(len(rows))]
    figures = {
        "recall": share(caught, [row.wrong is not None for row in rows]),
        "false_rejection": share(caught, [row.wrong is None for row in rows]),
        "wrong": float(sum(row.wrong is not None for row in rows)),
        "good": float(sum(row.wrong is None for row in rows)),
    }
    for kind in sorted({row.wrong for row in rows if row.wrong}):
        figures[f"recall.{kind}"] = share(caught, [row.wrong == kind for row in rows])
    for name, found in stops.items():
        figures[f"gate.{name}.recall"] = share(found, [row.wrong is not None for row in rows])
        figures[f"gate.{name}.false_rejection"] = share(found, [row.wrong is None for row in rows])
    return figures


def share(stops: Sequence[bool], among: Sequence[bool]) -> float:
    """Return the share of some that is stopped."""
    chosen = [stop for stop, one in zip(stops, among, strict=True) if one]
    return sum(chosen) / len(chosen) if chosen else 0.0


def show(rows: Sequence[Row], stops: Mapping[str, Sequence[bool]], kind: str | None) -> None:
    """Print the wrong pairs of a kind that pass, or the good ones that do not, by the gate that stops them."""
    by_gate: dict[str, list[Row]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row.wrong == kind:
            gate = next((name for name, found in stops.items() if found[number]), "-")
            by_gate[gate].append(row)
    reason: dict[str, Callable[[Pair, Ground], str | None]] = {gate.name: gate.defect for gate in GATES}
    for gate, found in by_gate.items():
        print(f"=== {gate}: {len(found)}")
        for row in found if (gate == "-") == (kind is not None) else ():
            said = reason[gate](row.pair, row.ground) if gate in reason else ""
            print(f"Q: {row.pair.question}\nA: {row.pair.answer}\n   {said}\n")


if __name__ == "__main__":
    main()
