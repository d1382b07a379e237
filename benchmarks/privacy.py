"""How well private data is found in text, how often documentation alarms, and how fast it goes.

    python benchmarks/privacy.py [--json] [--show]

- `recall.KIND`, `precision.KIND`, `recall`, `precision`: on the half of data/privacy.jsonl that no rule was tuned on
  (the first byte of the text's SHA-256 is odd); a finding counts if it overlaps a labelled span of its kind.
  `covered`: the share of the labelled characters that findings of any kind cover, so would be blacked out. The other
  half's figures begin with `tuned_`. The texts were written for this before the rules were, and every value in them is
  made up; a secret's first character is escaped, so that scanners of repositories do not take it for a real one.
- `false_alarms_per_1000`: findings per 1,000 paragraphs of docstrings, READMEs and package metadata of DOCUMENTATION,
  on none of which the rules were tuned but the one against page ranges and floats (it was networkx, pydantic,
  transformers and typer). Mails and people's names are left out of it, for they are mostly true there
  (authors, references): `mails_per_1000` and `names_per_1000` count them; `--show` prints all for a look.
- `megabytes_per_s`: the same packages' paragraphs of plain sentences without findings, in texts of about 1 kB, in CPU
  seconds of one core, the best of three; `megabytes_per_s_short` takes the paragraphs one by one.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path

from hardware import as_json, versions_of

from tunesmith.curating.privacy import KINDS, Finding, find_private

DATA = Path(__file__).resolve().parent / "data" / "privacy.jsonl"
DOCUMENTATION = ("numpy", "scipy", "scikit-learn", "torch", "pandas", "sqlalchemy", "fastapi", "rich")
_NOT_PROSE = re.compile(r">>>|::|\[\d|[@`_\\|<>{}=]")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text with the spans that are private in it."""

    text: str
    spans: tuple[tuple[int, int, str], ...]


def labelled(half: int) -> Iterator[Labelled]:
    """Yield the texts of one half: 1 is the one that was not tuned on."""
    for line in DATA.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if hashlib.sha256(row["text"].encode()).digest()[0] % 2 == half:
            yield Labelled(row["text"], tuple((start, end, kind) for start, end, kind in row["spans"]))


def overlaps(finding: Finding, span: tuple[int, int, str]) -> bool:
    start, end, kind = span
    return finding.kind == kind and finding.start < end and start < finding.end


def quality(texts: Sequence[Labelled], *, show: bool) -> dict[str, float]:
    """Return recall and precision over all and by kind."""
    spans, found, right, alarms = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    characters = covered = 0
    for row in texts:
        findings = find_private(row.text)
        inside = {place for finding in findings for place in range(finding.start, finding.end)}
        for span in row.spans:
            characters += span[1] - span[0]
            covered += sum(place in inside for place in range(span[0], span[1]))
            spans[span[2]] += 1
            found[span[2]] += any(overlaps(finding, span) for finding in findings)
        for finding in findings:
            alarms[finding.kind] += 1
            right[finding.kind] += any(overlaps(finding, span) for span in row.spans)
            if show and not any(overlaps(finding, span) for span in row.spans):
                print(f"false: {finding.kind} {finding.value!r} ({finding.why}) in {row.text[:80]!r}")
        for span in row.spans:
            if show and not any(overlaps(finding, span) for finding in findings):
                print(f"missed: {span[2]} {row.text[span[0] : span[1]]!r} in {row.text[:80]!r}")
    figures = {f"recall.{kind}": found[kind] / spans[kind] for kind in KINDS}
    figures |= {f"precision.{kind}": right[kind] / alarms[kind] if alarms[kind] else 1.0 for kind in KINDS}
    return figures | {
        "recall": found.total() / spans.total(),
        "precision": right.total() / alarms.total(),
        "covered": covered / characters,
        "texts": len(texts),
    }


def paragraphs(package: str) -> list[str]:
    """Return the different paragraphs of an installed package's docstrings, READMEs and metadata."""
    different: dict[str, None] = {}
    for file in files(package) or ():
        path = Path(str(file.locate()))
        for text in texts_of(path) if path.is_file() else ():
            different |= {part: None for part in re.split(r"\n\s*\n", text) if len(part) > 20}
    return list(different)


def texts_of(path: Path) -> Iterator[str]:
    if path.name == "METADATA" or path.suffix in {".md", ".rst"}:
        yield path.read_text(encoding="utf-8", errors="replace")
    elif path.suffix == ".py":
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield ast.get_docstring(node) or ""


def alarms(documentation: Sequence[str], *, show: bool) -> dict[str, float]:
    """Return how often documentation alarms."""
    counts = Counter[str]()
    for paragraph in documentation:
        for finding in find_private(paragraph):
            counts[finding.kind] += 1
            if show:
                near = paragraph[max(0, finding.start - 40) : finding.end + 20]
                print(f"documentation: {finding.kind} {finding.value!r} ({finding.why}) in {near!r}")
    each = 1000 / len(documentation)
    return {
        "false_alarms_per_1000": each * (counts.total() - counts["name"] - counts["email"]),
        "names_per_1000": each * counts["name"],
        "mails_per_1000": each * counts["email"],
        "paragraphs": len(documentation),
    }


def speed(texts: Sequence[str]) -> float:
    """Return the megabytes that one core looks through in a second, the best of three."""
    size, seconds = sum(len(text.encode()) for text in texts) / 1e6, []
    for _ in range(3):
        start = time.process_time()
        for text in texts:
            find_private(text)
        seconds.append(time.process_time() - start)
    return size / min(seconds)


def plain_prose(documentation: Sequence[str]) -> list[str]:
    """Return the paragraphs that are sentences, and in which nothing is found."""
    return [
        part
        for part in documentation
        if len(part) > 150
        and part[0].isupper()
        and part.rstrip().endswith(".")
        and not _NOT_PROSE.search(part)
        and not find_private(part)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="How well private data is found in text.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--show", action="store_true", help="print what was missed and what alarmed")
    arguments = parser.parse_args()
    documentation = [part for package in DOCUMENTATION for part in paragraphs(package)]
    prose = plain_prose(documentation)
    figures = quality(list(labelled(1)), show=arguments.show)
    figures |= {f"tuned_{key}": value for key, value in quality(list(labelled(0)), show=False).items()}
    figures |= alarms(documentation, show=arguments.show)
    figures["megabytes_per_s"] = speed(["\n\n".join(prose[n : n + 4]) for n in range(0, len(prose), 4)])
    figures["megabytes_per_s_short"] = speed(prose)
    result = as_json(
        "privacy",
        figures,
        versions=versions_of(["tunesmith", "phonenumbers", "python-stdnum", *DOCUMENTATION]),
    )
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result["figures"].items():
        print(f"{key:32} {value:g}")


if __name__ == "__main__":
    main()
