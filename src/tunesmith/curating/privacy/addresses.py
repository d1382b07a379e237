"""Postal addresses: a street with its number, as English, German, French, Spanish, Italian and others write it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunesmith.curating.privacy.finding import Candidate, candidate, listed
from tunesmith.curating.privacy.reading import Reading, spelled

_CAP = r"[A-ZÀ-ÖØ-Þ][\w'’.-]*"
_TOWN = r"[A-ZÀ-ÖØ-Þ][^\W\d_]*(?:['’.-][^\W\d_]+)*(?!\w)"
_CITY = rf"{_TOWN}(?: (?:am|an der|im|in|sur|de|del|la|upon|on|of|{_TOWN})){{0,3}}"
_STREET = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Close|Boulevard|Blvd|Way|Terrace|Crescent|Gardens"
    r"|Parkway|Pkwy|Place|Pl|Square|Sq|Circle|Cir|Trail|Hill|Mews|Grove|Row|Walk|Bend|Highway|Hwy|Reach|Rise|Quay)"
)
_UNIT = r"(?:Apt|Apartment|Unit|Suite|Ste|Flat|Floor|Room|#)\.? ?[\w-]{1,5}"
_UK = r"[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}"
_SEP = r"(?:, ?|\n| )"
_ENGLISH = re.compile(
    rf"[0-9](?<![\w.-].)\d{{0,4}}[A-Za-z]?(?:[ ][NSEW]\.?)?"
    rf"(?: (?:{_CAP}|Old|\d{{1,3}}(?:st|nd|rd|th))){{1,3}}? {_STREET}\b\.?"
    rf"(?! [A-Z][a-z]+ [a-z]|-)(?:{_SEP}{_UNIT})?"
    rf"(?:{_SEP}{_CITY})?(?:{_SEP}(?:[A-Z]{{2,3}} \d{{4,5}}(?:-\d{{4}})?|{_UK}|[A-Z]{{2}} [A-Z]\d[A-Z] \d[A-Z]\d)\b)?"
)
_BOX = re.compile(rf"\bP\.?O\.? Box \d{{1,6}}(?:, {_CITY})?(?:, [A-Z]{{2}} \d{{5}})?")
_NUMBER = r"\d{1,4}(?: ?[a-z]\b)?(?:[/-]\d{1,3})?"
_GERMAN = re.compile(
    rf"\b(?:(?:Am|An der|Im|Zum|Zur|Auf der|Unter den) (?:{_CAP} ){{1,2}}(?=\d{{1,3}}[a-z]?,? \d{{5}})"
    rf"|(?:{_CAP}[ -]){{0,2}}[A-ZÀ-Þ]?[\w-]*(?:[Ss]tra(?:ß|ss)e|[Ss]tr\.|weg|[Gg]asse|[Aa]llee"
    rf"|[Pp]latz"
    rf"|[Rr]ing(?= \d{{1,4}}[a-z]?,? \d{{5}})|[Dd]amm|ufer|straat|gracht|laan|plein|kade) )"
    rf"{_NUMBER}(?:,? (?:\d{{4,5}}|\d{{4}} ?[A-Z]{{2}}) {_CITY})?"
)
_FRENCH = re.compile(
    r"[0-9](?<![\w.].)\d{0,3}(?: bis| ter|[ab])?,? "
    r"(?i:rue|avenue|boulevard|place|chemin|quai|impasse|allée|route|cours|square)"
    rf" (?:(?:de|du|des|la|le|les|l'|d'|à) ?){{0,3}}(?:{_CAP} ?){{1,4}}(?:, \d{{4,5}} {_CITY})?"
)
_ROMANCE = re.compile(
    r"\b(?:Calle|C/|Avenida|Avda\.?|Av\.|Plaza|Paseo|Carrera|Camino|Via|Viale|Corso|Piazza|Rua|Travessa|Largo)"
    rf" (?:(?:de|del|della|delle|dei|di|los|las|la|el|da|das|do|dos) ){{0,2}}(?:{_CAP} ){{0,3}}{_CAP},? "
    rf"(?:n\.?º ?)?\d{{1,4}}\b"
    rf"(?:, ?\d{{1,2}}[ºª°][ \w]{{0,3}})?(?:, (?:\d{{5}}|\d{{4}}-\d{{3}}) {_CITY})?"
)
_NO_STREETS = re.compile(
    r"\b(?:Minutes?|Hours?|Days?|Years?|Windows|Python|The|Court Cases|Traffic|Place your)\b"
)


_ENGLISH_GATE = frozenset(
    word.encode()
    for word in listed("""
    Street St Avenue Ave Road Rd Lane Ln Drive Dr Court Ct Close Boulevard Blvd Way Terrace Crescent Gardens
    Parkway Pkwy Place Pl Square Sq Circle Cir Trail Hill Mews Grove Row Walk Bend Highway Hwy Reach Rise
    Quay
    """)
)
_FRENCH_GATE = spelled("rue avenue boulevard place chemin quai impasse allée route cours square")
_ROMANCE_GATE = spelled(
    "Calle C Avenida Avda Av Plaza Paseo Carrera Camino Via Viale Corso Piazza Rua Travessa Largo"
)
STREET_WORDS = _ENGLISH_GATE | _FRENCH_GATE | _ROMANCE_GATE
_GERMAN_ENDINGS = tuple(
    listed("straße strasse str. weg gasse allee platz ring damm ufer straat gracht laan plein kade")
) + tuple(listed("Straße Strasse Str. Weg Gasse Allee Platz Ring Damm Ufer"))
_WORD_AND_NUMBER = re.compile(r"[0-9](?<=[egzmtrn.] .)")
_OLD_PLACES = ("Am ", "An der ", "Im ", "Zum ", "Zur ", "Auf der ", "Unter den ")


def addresses(reading: Reading) -> Iterator[Candidate]:
    """Yield the postal addresses of a text; a street without a number is a place on a map."""
    text = reading.text
    if not reading.digits:
        return
    if reading.has(_ENGLISH_GATE):
        yield from _of(_ENGLISH, text, "number and street")
    if "Box" in text:
        yield from _of(_BOX, text, "box of a post office")
    if _may_be_german(text, reading.digits):
        yield from _of(_GERMAN, text, "Straße und Hausnummer")
    if reading.has(_FRENCH_GATE):
        yield from _of(_FRENCH, text, "numéro et rue")
    if reading.has(_ROMANCE_GATE):
        yield from _of(_ROMANCE, text, "calle y número")


def _may_be_german(text: str, digits: int) -> bool:
    """Say whether a word that ends as streets do is before a number, or a place such as "Am Markt"."""
    if digits >= 6 and any(place in text for place in _OLD_PLACES):
        return True
    return any(
        text.endswith(_GERMAN_ENDINGS, 0, match.start() - 1) for match in _WORD_AND_NUMBER.finditer(text)
    )


def _of(pattern: re.Pattern[str], text: str, why: str) -> Iterator[Candidate]:
    for match in pattern.finditer(text):
        value = match[0].rstrip(" ,\n")
        if not _NO_STREETS.search(value):
            yield candidate("address", text, match.start(), match.start() + len(value), why)
