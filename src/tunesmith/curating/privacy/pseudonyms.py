"""Made-up values in place of private ones, the same for the same, with no table kept."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from hashlib import blake2b
from random import Random

from stdnum import luhn

from tunesmith.curating.privacy.find import replaced
from tunesmith.curating.privacy.finding import Finding, digits, listed
from tunesmith.curating.privacy.numbers import NATIONAL_IDS, TEST_CARDS, iban_holds
from tunesmith.curating.privacy.people import given_names
from tunesmith.curating.privacy.phones import international

_GIVEN = listed("""
    Anna Bruno Clara Diego Elena Felix Greta Henrik Irene Jonas Karin Laura Martin Nadia Oliver Paula Rafael
    Sofia Thomas Ursula Viktor Wendy Xavier Yusuf Zofia Astrid Bernard Camille Dieter Esther Fiona Gerard
    Hannah Ingrid Julia Kenneth Linda Miguel Norman Olga Patricia
    """)
_FAMILY = listed("""
    Abelson Birkmann Calloway Dunmore Eastlake Farnham Gellert Holloway Ivarsson Jessup Kellner Lindgren
    Morrow Nyberg Ostrander Pemberley Quimby Rasmus Sandoval Thornbury Ulrich Vandenberg Whitlock Yardley
    Zeller Ashdown Bramwell Corbin Delaney Ellsworth Fairbanks Gustafson Hargrove Isaksen Kirkwood Lockhart
    Merrick Northcott
    """)
_PLACES = listed("""
    Amber Birken Cedar Dorn Elder Falken Garten Hazel Iris Juniper Kirsch Linden Maple Nussbaum Olive Poplar
    Rowan Salvia Tannen Ulmen Violet Weiden
    """)
_STREET_WORDS = re.compile(
    r"(?i)^(?:street|st|avenue|ave|road|rd|lane|ln|drive|dr|court|ct|close|boulevard|blvd|way|terrace|crescent|gardens|parkway"
    r"|pkwy|place|pl|square|sq|circle|cir|trail|hill|mews|grove|row|walk|bend|highway|hwy|reach|rise|quay|apt|apartment|unit"
    r"|suite|ste|flat|floor|room|po|p|o|box|rue|quai|chemin|impasse|allée|route|cours|calle|c|avenida|avda|av|plaza|paseo"
    r"|carrera|camino|via|viale|corso|piazza|rua|travessa|largo|am|an|im|zum|zur|auf|unter|bis|ter|n|s|e|w|old)$"
)
_STREET_ENDING = re.compile(
    r"(straße|strasse|str|weg|gasse|allee|platz|ring|damm|ufer|straat|gracht|laan|plein|kade)$"
)
_PARTICLES = frozenset(listed("van der den de von la del da dos di al el bin ter le"))


class Pseudonyms:
    """Made-up values for findings: a value always gets the same one, in any text, order or run with the same seed.

    Forms are kept (groups of digits, a name's words, the country of an account), and the new values are
    nobody's where a range is set aside for that: test cards, example.com, films' phone numbers. These are
    ranges of some thousands, so in a large set two phones may get one number. National ids and names have no
    such range but for the US SSN and UK NINO: somebody may bear what is made up.
    """

    def __init__(self, seed: int = 0) -> None:
        self._key = f"tunesmith:{seed}".encode()

    def replace(self, text: str, findings: Iterable[Finding]) -> str:
        """Return the text with a made-up value of the same kind in place of each finding."""
        return replaced(text, findings, self._made_up)

    def _made_up(self, finding: Finding) -> str:
        value = finding.value
        for attempt in range(20):
            made = _MAKERS[finding.kind](value, self, attempt)
            if made != value:
                return made
        return f"[{finding.kind.upper()}]"

    def chance(self, *parts: object) -> Random:
        """Return a source of chance that depends on the seed and the parts alone."""
        digest = blake2b("\0".join(map(str, parts)).encode(), key=self._key, digest_size=16).digest()
        return Random(int.from_bytes(digest, "big"))


def _refill(shape: str, new: str) -> str:
    """Return a shape with its digits replaced in order; other characters stay."""
    supply = iter(new)
    return "".join(next(supply) if character in string.digits else character for character in shape)


def _number(chance: Random, length: int) -> str:
    return "".join(chance.choice(string.digits) for _ in range(length))


def _name(value: str, of: Pseudonyms, attempt: int) -> str:
    """Each word has its own, so that "Anna Vogt" and "Frau Vogt" stay one person."""
    return re.sub(r"[^\W\d_][\w'’-]*", lambda match: _name_word(match[0], of, attempt), value)


def _name_word(word: str, of: Pseudonyms, attempt: int) -> str:
    if word in _PARTICLES or len(word) == 1:
        return word
    listed = _GIVEN if word.capitalize() in given_names() or word in given_names() else _FAMILY
    chosen = of.chance("name", word.lower(), attempt).choice(
        [name for name in listed if name != word.capitalize()]
    )
    return chosen.lower() if word.islower() else chosen


def _email(value: str, of: Pseudonyms, attempt: int) -> str:
    chance = of.chance("email", value.lower(), attempt)
    return f"{chance.choice(_GIVEN)}.{chance.choice(_FAMILY)}{chance.randrange(1000)}@example.com".lower()


def _phone(value: str, of: Pseudonyms, attempt: int) -> str:
    chance = of.chance("phone", digits(value), attempt)
    if international(value, "GB") is not None and value.startswith(("+44", "0")):
        start = "+44 7700 900" if value.startswith("+") else "07700 900 "
        return start + _number(chance, 3)
    area = chance.choice(listed("212 303 312 404 415 503 602 617 702 713 773 808 917"))
    last = f"555-01{_number(chance, 2)}"
    return f"+1 {area}-{last}" if value.startswith("+") else f"({area}) {last}"


def _address(value: str, of: Pseudonyms, attempt: int) -> str:
    chance = of.chance("address", value.lower(), attempt)

    def word(match: re.Match[str]) -> str:
        old = match[0]
        ending = _STREET_ENDING.search(old)
        if any(character.isdigit() for character in old):
            return _refill(old, str(chance.randrange(1, 10)) + _number(chance, len(old)))
        if _STREET_WORDS.match(old) or not old[0].isupper() or old.isupper():
            return old
        return chance.choice(_PLACES) + (ending[0] if ending else "")

    return re.sub(r"\w+", word, value)


def _card(value: str, of: Pseudonyms, attempt: int) -> str:
    number = digits(value)
    start = TEST_CARDS.get(len(number), "424242")
    body = start + _number(of.chance("card", number, attempt), len(number) - len(start) - 1)
    return _refill(value, body + luhn.calc_check_digit(body))


def _iban(value: str, of: Pseudonyms, attempt: int) -> str:
    """Return an account of the same country whose bank is 0000 (or XXXX): no bank has that code."""
    compact = re.sub(r"[ -]", "", value)
    chance = of.chance("iban", compact, attempt)
    bank = "XXXX" if compact[4].isalpha() else "0000"
    rest = "".join(chance.choice(string.digits) if c.isdigit() else c for c in compact[8:])
    checked = next(
        f"{check:02}" for check in range(2, 99) if iban_holds(f"{compact[:2]}{check:02}{bank}{rest}")
    )
    supply = iter(f"{compact[:2]}{checked}{bank}{rest}")
    return "".join(character if character in " -" else next(supply) for character in value)


def _national_id(value: str, of: Pseudonyms, attempt: int) -> str:
    """Return a number of the same country and form whose check holds, found by trying."""
    known = [kind for kind in NATIONAL_IDS if kind.form.fullmatch(value) and kind.holds(value)]
    chance = of.chance("national_id", value, attempt)
    if not known or known[0].name == "US SSN":
        return _refill(
            value, "666" + _number(chance, 1) + "1" + _number(chance, 3) + "1" + _number(chance, 9)
        )
    for _ in range(20_000):
        made = "".join(_like(c, chance) if place >= len(value) - 9 else c for place, c in enumerate(value))
        if made != value and known[0].form.fullmatch(made) and known[0].holds(made):
            return made
    return value


def _like(character: str, chance: Random) -> str:
    if character in string.digits:
        return chance.choice(string.digits)
    return chance.choice(string.ascii_uppercase) if character in string.ascii_uppercase else character


def _secret(value: str, of: Pseudonyms, attempt: int) -> str:
    """Return a secret of the same form whose drawn part reads EXAMPLE."""
    chance = of.chance("secret", value, attempt)
    if value.startswith("-----"):
        head, _, _ = value.partition("\n")
        return f"{head}\nEXAMPLE{_number(chance, 24)}EXAMPLE\n{head.replace('BEGIN', 'END')}"
    place = max(0, len(value) - 16) // 2 + (len(value) > 16) * 4
    drawn = "".join(
        chance.choice(string.ascii_letters if c.isalpha() else string.digits)
        if c.isalnum() and n > place
        else c
        for n, c in enumerate(value)
    )
    return drawn[: len(value) - 8] + "EXAMPLE" + chance.choice(string.digits)


def _ip(value: str, of: Pseudonyms, attempt: int) -> str:
    chance = of.chance("ip", value, attempt)
    if ":" in value:
        return f"2001:db8::{chance.randrange(1, 65536):x}:{chance.randrange(1, 65536):x}"
    return chance.choice(("192.0.2.", "198.51.100.", "203.0.113.")) + str(chance.randrange(1, 255))


_MAKERS = {
    "name": _name,
    "email": _email,
    "phone": _phone,
    "address": _address,
    "card": _card,
    "iban": _iban,
    "national_id": _national_id,
    "secret": _secret,
    "ip": _ip,
}
