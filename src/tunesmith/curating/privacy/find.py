"""Look through a text for private data, and black out what is found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict

from tunesmith.curating.privacy.addresses import STREET_WORDS, addresses
from tunesmith.curating.privacy.finding import KINDS, Candidate, Finding, Kind
from tunesmith.curating.privacy.network import ips, mails
from tunesmith.curating.privacy.numbers import cards, ibans, national_ids
from tunesmith.curating.privacy.people import NAME_WORDS, names
from tunesmith.curating.privacy.phones import phones
from tunesmith.curating.privacy.reading import Reading, read
from tunesmith.curating.privacy.secrets import SECRET_WORDS, secrets

# Where two overlap the first of this order stands: what proves itself goes before what is only of a form.
_SCANS: dict[Kind, Callable[[Reading], Iterator[Candidate]]] = {
    "secret": secrets,
    "iban": ibans,
    "card": cards,
    "national_id": national_ids,
    "email": mails,
    "ip": ips,
    "phone": phones,
    "address": addresses,
    "name": names,
}
_ASKED = STREET_WORDS | NAME_WORDS | SECRET_WORDS
_RANK = {kind: rank for rank, kind in enumerate(_SCANS)}


class PrivacySettings(BaseModel):
    """Which kinds are looked for; `allow` are values that may stay, or patterns of them such as *@tunesmith.dev."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[Kind, ...] = KINDS
    allow: tuple[str, ...] = ()


_EVERYTHING = PrivacySettings()


def find_private(text: str, settings: PrivacySettings = _EVERYTHING) -> tuple[Finding, ...]:
    """Return what is private in a text, in order and not overlapping.

    Values set aside for examples and tests are nobody's and are not found: see `find_placeholders`.
    """
    return _found(text, settings, nobodys=False)


def find_placeholders(text: str, settings: PrivacySettings = _EVERYTHING) -> tuple[Finding, ...]:
    """Return the values of a text that read as private and are set aside for examples: user@example.com, 555-0142."""
    return _found(text, settings, nobodys=True)


def redact(text: str, findings: Iterable[Finding]) -> str:
    """Return the text with each finding's kind in its place: [EMAIL], [PHONE], [NATIONAL_ID]."""
    return replaced(text, findings, lambda finding: f"[{finding.kind.upper()}]")


def replaced(text: str, findings: Iterable[Finding], new: Callable[[Finding], str]) -> str:
    """Return the text with something new in place of each finding."""
    parts, end = [], 0
    for finding in sorted(findings, key=lambda finding: finding.start):
        parts += [text[end : finding.start], new(finding)]
        end = finding.end
    return "".join([*parts, text[end:]])


def _found(text: str, settings: PrivacySettings, *, nobodys: bool) -> tuple[Finding, ...]:
    reading = read(text, _ASKED)
    candidates = [found for kind, scan in _SCANS.items() if kind in settings.kinds for found in scan(reading)]
    if not candidates:
        return ()
    standing = _not_overlapping(candidates)
    return tuple(
        found.finding
        for found in standing
        if found.nobodys is nobodys and not _allowed(found.finding.value, settings.allow)
    )


def _not_overlapping(candidates: list[Candidate]) -> list[Candidate]:
    """Return candidates in order, of those that overlap the one of the first kind, then the longest."""
    starts: list[int] = []
    standing: list[Candidate] = []
    for new in sorted(candidates, key=lambda c: (_RANK[c.finding.kind], c.finding.start - c.finding.end)):
        place = bisect_left(starts, new.finding.start)
        if place and standing[place - 1].finding.end > new.finding.start:
            continue
        if place < len(starts) and starts[place] < new.finding.end:
            continue
        starts.insert(place, new.finding.start)
        standing.insert(place, new)
    return standing


def _allowed(value: str, allow: tuple[str, ...]) -> bool:
    return any(value == pattern or fnmatchcase(value, pattern) for pattern in allow)
