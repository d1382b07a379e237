"""What every example must hold: a question, an answer, true evidence; about a call, the one form and a right call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith.catalogue import Catalogue, judge
from tunesmith.curating.privacy import PrivacySettings
from tunesmith.curating.rules import Words, findings, private_data
from tunesmith.records import Document, Example

FEWEST_WORDS = 2
LONGEST_QUESTION = 600
LONGEST_ANSWER = 1500
LONGEST_TEXT_ANSWER = 6000

Documents = Mapping[str, Document]


@dataclass(frozen=True, slots=True)
class Check:
    """A named rule; `defect` returns what is wrong with an example, None if nothing is."""

    name: str
    defect: Callable[[Example, Documents, Catalogue], str | None]


@dataclass(frozen=True, slots=True)
class Failure:
    """The first rule that an example breaks, and how."""

    rule: str
    detail: str


def check(example: Example, documents: Documents, catalogue: Catalogue) -> Failure | None:
    """Return the first check that the example fails, None if it passes all; `documents` are by id."""
    for rule in CHECKS:
        detail = rule.defect(example, documents, catalogue)
        if detail is not None:
            return Failure(rule.name, detail)
    return None


def one_sentence(text: str) -> bool:
    """Tell whether a text is one line with one end; code in backticks and abbreviations may hold points."""
    bare = re.sub(r"`[^`]*`", "x", text.strip())
    bare = re.sub(r"\b(?:e\.g|i\.e|vs|cf|al|etc)\.", "x", bare)
    return bool(re.search(r"\S[.!?]$", bare)) and not re.search(r"[.!?]\s+[A-Z]|\n", bare)


def _question_too_short(example: Example, _: Documents, __: Catalogue) -> str | None:
    count = len(re.findall(r"[^\W_]+", example.question))
    return f"{count} words, at least {FEWEST_WORDS} make a question" if count < FEWEST_WORDS else None


def _too_long(example: Example, _: Documents, __: Catalogue) -> str | None:
    if len(example.question) > LONGEST_QUESTION:
        return f"the question has {len(example.question)} characters, at most {LONGEST_QUESTION} are allowed"
    most = LONGEST_TEXT_ANSWER if example.entry is None else LONGEST_ANSWER
    if len(example.answer) > most:
        return f"the answer has {len(example.answer)} characters, at most {most} are allowed"
    return None


def _words(example: Example, _: Documents, __: Catalogue) -> str | None:
    found = next((each for each in findings(turns_of(example)) if each.severity == "wrong"), None)
    return None if found is None else f"{found.rule}: {found.found}"


def turns_of(example: Example) -> tuple[Words, ...]:
    """Return an example as the rules about words see it."""
    before = tuple(Words(message.role, message.content) for message in example.messages)
    return (*before, Words("user", example.question), Words("assistant", example.answer))


@dataclass(frozen=True, slots=True)
class Remark:
    """What a rule found in an example that is kept, for a person to look at."""

    example: str
    rule: str
    found: str
    way_out: str


def remarks(examples: Iterable[Example], privacy: PrivacySettings | None = None) -> tuple[Remark, ...]:
    """Return what the rules about words, and about private data, find in examples that passed every check.

    What a project does about private data stands in its settings, and not in the options of `tunesmith check`.
    """
    return tuple(
        Remark(example.id, each.rule, each.found, _PRIVATE_WAY if private else each.way_out)
        for example in examples
        for turns in [turns_of(example)]
        for private, found in (
            (False, findings(turns)),
            (True, () if privacy is None else private_data(turns, privacy)),
        )
        for each in found
    )


_PRIVATE_WAY: Final = (
    'Set private = "redact" (or "pseudonymise") in [curate]; or allow_private for what may stay.'
)


def _names_the_function(example: Example, _: Documents, __: Catalogue) -> str | None:
    """Find the answer in the question; a name that is also a plain word ("density") counts only as code."""
    if example.origin.startswith("rule:"):
        return None
    for path in example.acceptable:
        name = path.rpartition(".")[2]
        as_word = "_" in name or re.search(r"[a-z][A-Z]", name)
        pattern = (
            rf"(?<!\w){re.escape(name)}(?!\w)"
            if as_word
            else rf"[.`]{re.escape(name)}(?!\w)|\b{re.escape(name)}\("
        )
        if re.search(pattern, example.question):
            return f"the question says {name!r}"
    return None


def _answer_form(example: Example, _: Documents, catalogue: Catalogue) -> str | None:
    if example.entry is None:
        return None if example.answer.strip() else "the answer is empty"
    entry = catalogue.resolve(example.entry)
    language, named = ("json", "JSON") if entry is not None and entry.kind == "tool" else ("python", "Python")
    parts = re.fullmatch(rf"(.+?)\n\n```{language}\n(.+?)\n```\s*", example.answer, flags=re.DOTALL)
    if parts is None or "```" in parts[2]:
        return f"the answer is not a sentence and one fenced {named} block"
    return None if one_sentence(parts[1]) else f"not one sentence: {parts[1]!r}"


def _call(example: Example, _: Documents, catalogue: Catalogue) -> str | None:
    if example.entry is None:
        return None
    judgement = judge(example.answer, example.acceptable, catalogue)
    return None if judgement.verdict == "exact" else f"{judgement.verdict}: {judgement.reason}"


def _evidence(example: Example, documents: Documents, _: Catalogue) -> str | None:
    for piece in example.evidence:
        document = documents.get(piece.document)
        if document is None:
            return f"the document {piece.document!r} is not there"
        if document.text[piece.start : piece.end] != piece.quote:
            return f"{piece.document}, {piece.start} to {piece.end}, does not read {piece.quote!r}"
    return None


CHECKS = (
    Check("question too short", _question_too_short),
    Check("too long", _too_long),
    Check("words", _words),
    Check("names the function", _names_the_function),
    Check("answer form", _answer_form),
    Check("call not exact", _call),
    Check("evidence not in the source", _evidence),
)
PASSED = tuple(rule.name for rule in CHECKS)
