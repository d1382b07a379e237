"""Phone numbers: what libphonenumber calls valid, where form or words say that it is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import phonenumbers

from tunesmith.curating.privacy.finding import Candidate, candidate, digits
from tunesmith.curating.privacy.reading import Reading

_RUN = re.compile(
    r"[+(0-9](?<![\w.,:/+-].)(?<![+]\()(?:(?<=[+]) ?\d|(?<=[(])\d|)(?:[ ./()\u00a0-]{0,3}\d){6,16}(?![\w]|[.,:-]\d)"
)
_WORDS = re.compile(
    r"phone|\btel\b|tel[eé]f|t[ée]l[ée]?\b|\bcall\b|calling|\bmobil|m[óo]vil|\bcell|\btext me|\bsms\b|\bfax|whatsapp"
    r"|\bring\b|\bdial"
    r"|\breach|handy|erreich|\bruf|anruf|num[ée]ro|n[úu]mero|\bnumber|ll[áa]ma|appel|portable|contact|kontakt|cellulare"
    r"|dzwo|hotline|\bt:",
    re.I,
)
_AMERICAN = re.compile(r"(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}")
_FLOAT = re.compile(r"\d{1,2}\.\d{5}")
_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "AT", "CH", "BE", "IN", "AU", "IE", "BR", "PL")
# Numbers for films and examples, as the regulators name them: NANPA, Ofcom, ACMA, Bundesnetzagentur, ARCEP.
_FICTIONAL = re.compile(
    r"\+1\d{3}55501\d\d|\+447700900\d{3}|\+442079460\d{3}|\+441632960\d{3}|\+44\d{3}4960\d{3}|\+448081570\d{3}"
    r"|\+61491570\d{3}|\+61255501\d\d|\+4917139200\d\d|\+493023125\d{3}|\+498999998\d{3}|\+492214710\d{3}"
    r"|\+496990009\d{3}|\+494066969\d{3}|\+33639980\d{3}|\+3363998\d{4}|\+33199004\d{3}|\+33199\d{6}"
)
_LOCAL_FICTIONAL = re.compile(r"(?<!\d)555[ .-]01\d\d$")


def phones(reading: Reading) -> Iterator[Candidate]:
    """Yield the phone numbers of a text.

    One with its country's code, or written as Americans do, speaks for itself; any other needs a word such
    as "call" within 60 characters, and must be valid in one of fifteen countries.
    """
    text = reading.text
    if not reading.long_number:
        return
    for match in _RUN.finditer(text):
        value = match[0]
        number = _number(value, text, match)
        if number is None:
            continue
        start = match.start() + (value.startswith("(") and value.count("(") > value.count(")"))
        nobodys = _FICTIONAL.fullmatch(number) is not None or _LOCAL_FICTIONAL.search(value) is not None
        yield candidate("phone", text, start, match.end(), "valid phone number", nobodys=nobodys)


def _number(value: str, text: str, match: re.Match[str]) -> str | None:
    """Return a run of digits as an international number if it is one and stands as one."""
    if value.startswith("+"):
        return international(value, "ZZ")
    if value.startswith("00"):
        return international("+" + value[2:], "ZZ")
    if _AMERICAN.fullmatch(value):
        return international(value, "US")
    if len(digits(value)) < 9 or value.count("(") != value.count(")") or _FLOAT.match(value):
        return None
    before = text[max(0, match.start() - 60) : match.start()]
    if not _WORDS.search(before) and not _WORDS.search(text, match.end(), match.end() + 12):
        return None
    found = (international(value, region) for region in _REGIONS)
    return next((number for number in found if number is not None), None)


@lru_cache(maxsize=65_536)
def international(value: str, region: str) -> str | None:
    """Return a number in its E.164 form as dialled from a region; None if nobody can have it."""
    if not 7 <= len(digits(value)) <= 15:
        return None
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
