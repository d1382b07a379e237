"""Five prompts for one task and what each answer must be, before there is any data: a table and a verdict.

    python run.py [--test 40]

An answer is right if it passes all checks. The checks say nothing about taste: read the answers that are printed too.
"""

from __future__ import annotations

import argparse
import re
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from tunesmith import few_shot, load_chat, prompted
from tunesmith.evaluating.contest import contest
from tunesmith.models.base import Sampling
from tunesmith.records import Message

HERE = Path(__file__).parent
_SMALL = frozenset(
    (
        "a",
        "an",
        "and",
        "at",
        "by",
        "for",
        "from",
        "in",
        "into",
        "is",
        "it",
        "of",
        "on",
        "or",
        "the",
        "to",
        "was",
        "with",
    )
)


def checks(most: int) -> Mapping[str, Callable[[str, str], bool]]:
    """Return what an answer to a report must be, by name."""
    return {
        "short enough": lambda title, report: 0 < len(title.split()) <= most,
        "one line": lambda title, report: "\n" not in title,
        "no marks": lambda title, report: not re.search(r"[\"“”*#]|\.$|:", title),
        "about the report": lambda title, report: len(words(title) & words(report)) >= 2,
        "nothing added": lambda title, report: len(words(title) - words(report)) <= 2,
    }


def words(text: str) -> set[str]:
    """Return the words of a text that say something, by their first five letters."""
    return {word[:5] for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in _SMALL}


def main() -> None:
    """Try every prompt on every report, and print what failed, the table and the verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test", type=int, help="only so many reports")
    given = parser.parse_args()
    told = tomllib.loads((HERE / "prompts.toml").read_text(encoding="utf-8"))
    reports = (HERE / "reports.txt").read_text(encoding="utf-8").splitlines()[: given.test]
    base, wanted = load_chat("smollm2"), checks(int(told["task"]["max_words"]))
    right: dict[str, list[bool]] = {}
    for name, prompt in told["prompts"].items():
        start = time.perf_counter()
        shown = [
            (Message("user", report), Message("assistant", title))
            for report, title in prompt.get("shown", ())
        ]
        model = prompted(few_shot(base, shown), prompt["system"])
        asked = [(Message("user", report),) for report in reports]
        answers = [one.text.strip() for one in model.reply(asked, Sampling(max_tokens=32))]
        passed = {
            check: [passes(title, report) for title, report in zip(answers, reports, strict=True)]
            for check, passes in wanted.items()
        }
        right[name] = [all(row) for row in zip(*passed.values(), strict=True)]
        counts = ", ".join(f"{check} {sum(each)}" for check, each in passed.items())
        print(f"{name}: {counts}; of {len(reports)}, {time.perf_counter() - start:.0f} s")
        for report, title in list(zip(reports, answers, strict=True))[:2]:
            print(f"    {report[:60]}... -> {title!r}")
    found = contest(right)
    print(f"\n{found.table()}\n\n{found.verdict}")


if __name__ == "__main__":
    main()
