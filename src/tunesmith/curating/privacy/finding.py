"""What a finding of private data is, and what the rules that look for it hand over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["name", "email", "phone", "address", "card", "iban", "national_id", "secret", "ip"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Finding:
    """A stretch of a text that is private: `text[start:end] == value`; `why` names the rule that says so."""

    kind: Kind
    start: int
    end: int
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finding, and whether its value is set aside for examples, tests or films, so that it is nobody's."""

    finding: Finding
    nobodys: bool = False


def candidate(kind: Kind, text: str, start: int, end: int, why: str, *, nobodys: bool = False) -> Candidate:
    """Return the candidate that stands at a place in a text."""
    return Candidate(Finding(kind, start, end, text[start:end], why), nobodys)


def digits(value: str) -> str:
    """Return the decimal digits of a text, in order."""
    return "".join(character for character in value if character in "0123456789")


def listed(words: str) -> tuple[str, ...]:
    """Return the words of a text that lists them with blanks between."""
    return tuple(words.split())
