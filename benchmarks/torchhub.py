"""TorchHub's part of APIBench as Tunesmith sees it: its calls as a catalogue, its rows as examples, answers judged.

What is called is always `torch.hub.load`, and which entry is meant stands in the arguments' values, which Tunesmith's
own judge does not look at. So an answer's code is parsed, resolved and bound as everywhere, and then held against the
repositories and names of the 94 calls that exist.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from tunesmith.catalogue import Call, Catalogue, Entry, Parameter, bind, calls_in, find_code
from tunesmith.records import Example, Score, Verdict, fingerprint

API_FILE: Final = "torchhub_api.jsonl"
ROWS_FILE: Final = "torchhub_train.json"  # JSON lines in spite of its name
SYSTEM: Final = (
    "You recommend models of PyTorch Hub. Say what for, and give one Python code block that imports torch and "
    "loads the model."
)
_LOAD: Final = Entry(
    "torch.hub.load",
    "function",
    (
        Parameter("repo_or_dir"),
        Parameter("model", default="None"),  # two of the 94 calls name none
        Parameter("args", kind="var_positional"),
        Parameter("kwargs", kind="var_keyword"),
    ),
)
# What answers are parsed with: `torch.hub.load` under whatever name their imports give it.
TORCH: Final = Catalogue(package="torch", version="hub", entries=(_LOAD,))


@dataclass(frozen=True, slots=True)
class Listed:
    """One of the calls that exist; `call` is Python, the dataset's own words stand in `published`."""

    repo: str
    model: str
    call: str
    published: str
    domain: str
    functionality: str
    name: str
    description: str

    @property
    def id(self) -> str:
        """The model's name, or the repository's; without dots, which in an id would part modules."""
        return (self.model or self.repo).replace(".", "-")

    @property
    def answer(self) -> str:
        """The right answer: what it is for, and one block of code."""
        return f"{self.what}:\n\n```python\nimport torch\n\nmodel = {self.call}\n```"

    @property
    def what(self) -> str:
        """What it is for, and its family where the dataset names one."""
        return self.functionality if self.name == _LOAD.id else f"{self.functionality} with {self.name}"

    @property
    def entry(self) -> Entry:
        """What retrievers index."""
        return Entry(
            self.id, "function", summary=f"{self.domain}, {self.what}.", description=self.description
        )


@dataclass(frozen=True)
class Hub:
    """The calls that exist, in the dataset's order."""

    listed: tuple[Listed, ...]

    @cached_property
    def by_id(self) -> dict[str, Listed]:
        """The calls under their ids."""
        return {one.id: one for one in self.listed}

    @cached_property
    def by_published(self) -> dict[str, Listed]:
        """The calls under the dataset's own words."""
        return {one.published: one for one in self.listed}

    def alike(self, entry: str) -> frozenset[str]:
        """Return the ids of all calls with the same functionality, as the dataset names it."""
        wanted = self.by_id[entry].functionality
        return frozenset(one.id for one in self.listed if one.functionality == wanted)

    def find(self, repo: str, names: Sequence[str]) -> str | None:
        """Return the id of what a repository and the names given to its `load` mean, None if there is none such.

        A version behind the repository's name (`pytorch/vision:v0.10.0`) may be named where the dataset names none.
        """
        fitting = [one for one in self.listed if repo == one.repo or repo.partition(":")[0] == one.repo]
        found = [one for name in reversed(names) for one in fitting if one.model == name]
        if not names:
            found = [one for one in fitting if not one.model]
        return found[0].id if found else None


def read_hub(folder: Path) -> Hub:
    """Return the calls that exist."""
    rows = (json.loads(line) for line in (folder / API_FILE).read_text(encoding="utf-8").splitlines())
    return Hub(
        tuple(
            Listed(
                repo=_value(row["api_call"], "repo_or_dir"),
                model=_value(row["api_call"], "model"),
                call=as_python(row["api_call"]),
                published=row["api_call"],
                domain=row["domain"],
                functionality=row["functionality"],
                name=row["api_name"],
                description=row["description"],
            )
            for row in rows
        )
    )


def _value(call: str, name: str) -> str:
    found = re.search(rf"\b{name}='([^']*)'", call)
    return found[1] if found else ""


def as_python(call: str) -> str:
    """Return a call as Python reads it, repository and model by position, as the dataset's questions have them.

    Eight of the dataset's calls are no Python, a positional argument after a keyword: for MEAL V2, whose entry point
    takes the model's name as a further positional argument.
    """
    return re.sub(r"\b(?:repo_or_dir|model)=(?=')", "", call)


def read_examples(folder: Path, hub: Hub) -> tuple[Example, ...]:
    """Return the dataset's rows as examples whose answer is the right call in Tunesmith's form."""
    lines = (folder / ROWS_FILE).read_text(encoding="utf-8").splitlines()
    found: dict[str, Example] = {}
    for number, line in enumerate(lines, 1):
        row = json.loads(line)
        listed, question = hub.by_published[row["api_call"]], question_of(row["code"])
        example = Example(
            id=fingerprint(question, listed.id),
            question=question,
            answer=listed.answer,
            origin=f"written:{ROWS_FILE}:{number}",
            entry=listed.id,
            acceptable=(listed.id,),
        )
        found.setdefault(example.id, example)
    return tuple(found.values())


def question_of(code: str) -> str:
    """Return the question in a row's `code`, a dict in which Python's quotes went lost (none of them parses)."""
    rest = code.partition("'Instruction':")[2]
    question = re.split(r",?\s*\\?['\"](?:In|Out)put\\?['\"]\s*:", rest, maxsplit=1)[0]
    return question.strip().strip("'\"").strip()


# --- judging


@dataclass(frozen=True, slots=True)
class Heard:
    """What an answer calls: the text of its call of `torch.hub.load`, if any, and the entry that this means."""

    call: str | None
    entry: str | None
    reason: str


def hear(answer: str, hub: Hub) -> Heard:
    """Return what the last `torch.hub.load` of an answer's code means; nothing is executed."""
    code = find_code(answer)
    calls = [one for one in calls_in(code, TORCH) if one.path == _LOAD.id] if code is not None else []
    if not calls:
        return Heard(None, None, "no call of torch.hub.load that parses")
    call = calls[-1]
    values = _values(call)
    if bind(_LOAD, call) is not None or values is None:
        return Heard(call.text, None, "the arguments do not bind, or are no plain strings")
    repo, *names = values
    found = hub.find(repo, names)
    return Heard(call.text, found, "" if found else f"no {' '.join(names) or 'call'} in {repo}")


def _values(call: Call) -> list[str] | None:
    """Return the repository and the names given to its `load`, as they stand in the call."""
    keywords = dict(call.keywords)
    sources = [*call.positional, *(keywords[name] for name in ("repo_or_dir", "model") if name in keywords)]
    if "repo_or_dir" in keywords:
        sources.insert(0, sources.pop(len(call.positional)))
    values = [_literal(source) for source in sources]
    strings = [value for value in values if isinstance(value, str)]
    return strings if strings and len(strings) == len(values) else None


def _literal(source: str) -> object:
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return None


def judged(score: Score, example: Example, hub: Hub) -> Score:
    """Return a score with the verdict that the hub's calls give its answer."""
    heard = hear(score.answer.text, hub)
    if heard.call is None:
        return replace(score, verdict="no_call", called=None, reason=heard.reason)
    if heard.entry is None:
        return replace(score, verdict="hallucinated", called=heard.call, reason=heard.reason)
    verdict: Verdict = "exact" if heard.entry == example.entry else "valid"
    return replace(score, verdict=verdict, called=heard.entry, reason="")
