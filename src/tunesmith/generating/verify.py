"""Whether a teacher's question can be trusted: it parses, its quote is true, it gives nothing away."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from dataclasses import dataclass

from tunesmith.catalogue import Entry
from tunesmith.generating.derive import quote_evidence
from tunesmith.generating.parsing import json_objects
from tunesmith.records import Document, Evidence

_FEWEST_QUOTED_WORDS = 3


@dataclass(frozen=True, slots=True)
class Proposal:
    """A teacher's question, and the words of the document that it says make the entry the answer."""

    question: str
    quote: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reply holds: proposals in order, and the lines that were meant as one and are not."""

    proposals: tuple[Proposal, ...]
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The rule that a proposal breaks, and how."""

    rule: str
    detail: str


def parse_proposals(reply: str) -> Parsed:
    """Read the JSON objects of a reply; what begins like one and is none, or has no question, counts as broken."""
    objects = json_objects(reply)
    read = [(json.dumps(row, ensure_ascii=False), _proposal(row)) for row in objects.found]
    return Parsed(
        tuple(proposal for _, proposal in read if proposal is not None),
        (*objects.broken, *(line for line, proposal in read if proposal is None)),
    )


def _proposal(row: object) -> Proposal | None:
    if not isinstance(row, dict):
        return None
    question, quote = row.get("question"), row.get("quote")
    if not isinstance(question, str) or not isinstance(quote, str) or not question.strip():
        return None
    return Proposal(" ".join(question.split()), quote.strip())


def verify(proposal: Proposal, entry: Entry, document: Document, taken: Set[str]) -> Evidence | Refusal:
    """Return where the document has the quote, or the rule that the proposal breaks.

    `taken` are the questions there are already, as `folded` writes them.
    """
    if names_entry(proposal.question, entry):
        return Refusal("names the entry", f"{proposal.question!r} says {entry.name!r}")
    if folded(proposal.question) in taken:
        return Refusal("repeats a question", repr(proposal.question))
    words = proposal.quote.split()
    if len(words) < _FEWEST_QUOTED_WORDS:
        return Refusal("quote too short", f"{proposal.question!r} quotes {proposal.quote!r}")
    found = re.search(r"\s+".join(map(re.escape, words)), document.text)
    if found is None:
        return Refusal("quote not in the document", f"{proposal.question!r} quotes {proposal.quote!r}")
    return quote_evidence(document, found.start(), found.end())


def folded(question: str) -> str:
    """Return a question's letters and digits in lower case: what makes two questions the same."""
    return " ".join(re.findall(r"[^\W_]+", question.casefold()))


def names_entry(question: str, entry: Entry) -> bool:
    """Tell whether a question gives the name away: a compound name as such, a plain word only as code."""
    name = re.escape(entry.name)
    if "_" in entry.name or re.search(r"[a-z][A-Z]", entry.name):
        return re.search(rf"(?<!\w){name}(?!\w)", question, re.IGNORECASE) is not None
    return re.search(rf"[.`]{name}(?!\w)|(?<!\w){name}\(", question) is not None
