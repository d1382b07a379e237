"""Cards, accounts and national ids: numbers that prove themselves by check digits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from stdnum import verhoeff
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.it import codicefiscale
from stdnum.luhn import is_valid as luhn_holds
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.se import personnummer

from tunesmith.curating.privacy.finding import Candidate, candidate, digits, listed
from tunesmith.curating.privacy.reading import Reading

_CARD = re.compile(r"[0-9](?<![\w.+-].)(?:[ -]?\d){11,18}(?![\w]|[.-]\d)")
_CARD_GROUPS = re.compile(r"\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{1,4}(?:[ -]\d{1,3})?|\d{4}[ -]\d{6}[ -]\d{4,5}")
# The ranges of issuers after ISO/IEC 7812, as the networks publish them.
_ISSUERS = (
    (re.compile(r"4"), (13, 16, 19), "Visa"),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,), "Mastercard"),
    (re.compile(r"3[47]"), (15,), "American Express"),
    (re.compile(r"6011|64[4-9]|65"), (16, 19), "Discover"),
    (re.compile(r"30[0-5]|3[689]"), (14,), "Diners Club"),
    (re.compile(r"35(?:2[89]|[3-8])"), (16,), "JCB"),
    (re.compile(r"5018|5020|5038|5893|6304|6759|676[1-3]"), (12, 13, 14, 15, 16, 17, 18, 19), "Maestro"),
    (re.compile(r"62"), (16, 17, 18, 19), "UnionPay"),
)
_CARD_WORDS = re.compile(
    r"card|karte|carte|tarjeta|carta|visa|master|amex|diners|credit|debit|\bpan\b|\bcc\b|kaart", re.I
)
# What the networks and Stripe publish for tests; the first six digits of one of the first four are what
# `Pseudonyms` writes, so every number that begins so is a test's.
TEST_CARDS = {16: "424242", 15: "378282", 14: "385200", 13: "422222"}
_TEST_CARD_NUMBERS = frozenset(
    listed("""
    4111111111111111 4012888888881881 4000056655665556 5555555555554444 5105105105105100 2223003122003222
    5200828282828210 6011111111111117 6011000990139424 6011981111111113 371449635398431 378734493671000
    38520000023237 3056930009020004 36227206271667 3530111333300000 3566002020360505 6200000000000005
    5454545454545454 4000000000000002 4000000000003220 4917610000000000
    """)
)

_IBAN = re.compile(r"[A-Z](?<!\w.)[A-Z]\d{2}(?=(?:[ ]?[A-Z0-9]){11})(?:[ -]?[A-Z0-9]){11,40}")
# Lengths after the registry that SWIFT keeps (ISO 13616).
_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO",
        "16": "BE",
        "18": "DK FI FO GL NL",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU XK",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS",
        "23": "AE GI IL IQ OM TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU",
        "31": "MT SC",
    }.items()
    for country in countries.split()
}
_PUBLISHED_IBANS = frozenset(
    listed("""
    DE89370400440532013000 GB29NWBK60161331926819 GB82WEST12345698765432 FR1420041010050500013M02606
    ES9121000418450200051332 IT60X0542811101000000123456 NL91ABNA0417164300 CH9300762011623852957
    AT611904300234573201 BE68539007547034 PL61109010140000071219812874 SE4550000000058398257466
    IE29AIBK93115212345678 LU280019400644750000 PT50000201231234567890154 DK5000400440116243 NO9386011117947
    FI2112345600000785
    """)
)


def cards(reading: Reading) -> Iterator[Candidate]:
    """Yield the card numbers of a text: an issuer's prefix and length, and the Luhn digit.

    A run of digits in no card's groups needs a word such as "card" nearby unless it has a card's usual 15 or 16.
    """
    text = reading.text
    if not reading.long_number:
        return
    for match in _CARD.finditer(text):
        number = digits(match[0])
        issuer = _issuer(number)
        if issuer is None or not luhn_holds(number) or len(set(number)) < 2:
            continue
        grouped = match[0] == number or _CARD_GROUPS.fullmatch(match[0])
        usual = issuer not in {"Maestro", "UnionPay"} and len(number) in {15, 16}
        if not grouped or not (
            usual or _CARD_WORDS.search(text, max(0, match.start() - 60), match.end() + 30)
        ):
            continue
        test = number in _TEST_CARD_NUMBERS or number.startswith(TEST_CARDS.get(len(number), "424242"))
        yield candidate("card", text, match.start(), match.end(), f"{issuer}, Luhn holds", nobodys=test)


def _issuer(number: str) -> str | None:
    return next(
        (name for prefix, lengths, name in _ISSUERS if len(number) in lengths and prefix.match(number)), None
    )


def ibans(reading: Reading) -> Iterator[Candidate]:
    """Yield the account numbers of a text: a country's length, and 1 as the rest by 97."""
    text = reading.text
    if reading.digits < 8:
        return
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2])
        end = _end_of(match[0], length) if length else None
        if end is None or not iban_holds(match[0][:end]):
            continue
        if match.start() + end < len(text) and text[match.start() + end].isalnum():
            continue
        compact = re.sub(r"[ -]", "", match[0][:end])
        # No bank has such a code: accounts in documentation do, and so do pseudonyms.
        published = compact in _PUBLISHED_IBANS or compact[4:8] in {"0000", "XXXX"}
        yield candidate(
            "iban", text, match.start(), match.start() + end, "the rest by 97 is 1", nobodys=published
        )


def _end_of(run: str, length: int) -> int | None:
    """Return where a run's first `length` letters and digits end; None of a shorter run."""
    ends = [place + 1 for place, character in enumerate(run) if character.isalnum()]
    return ends[length - 1] if len(ends) >= length else None


def iban_holds(value: str) -> bool:
    """Say whether the check digits of ISO 7064 (mod 97-10) hold."""
    compact = re.sub(r"[ -]", "", value)
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


@dataclass(frozen=True, slots=True)
class NationalId:
    """A country's number for a person: its form, its check, and whether a word must say what it is.

    `shape` is what a reading must have for the form to be tried.
    """

    name: str
    form: re.Pattern[str]
    holds: Callable[[str], bool]
    needs_word: bool = True
    shape: Literal["long number", "long word", "any"] = "long number"


def _form(first: str, rest: str) -> re.Pattern[str]:
    """Return the pattern of a number that stands alone; its first character's class is apart to be found fast."""
    return re.compile(rf"{first}(?<![\w.+-].)(?:{rest})(?![\w]|[.-]\d)")


def _ssn_holds(value: str) -> bool:
    """Say whether a number can be a US SSN; it has no check digit, but areas that are never issued."""
    number = digits(value)
    return number[3:5] != "00" and number[5:] != "0000" and number[:3] != "000" and number[0] != "9"


def _nobodys_ssn(value: str) -> bool:
    """Say whether an SSN belongs to nobody: area 666 is not issued; two were printed in advertisements."""
    return digits(value).startswith("666") or digits(value) in {"078051120", "219099999", "123456789"}


def _nino_holds(value: str) -> bool:
    return value[:2] not in {"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"}


def _luhn_9(value: str) -> bool:
    return luhn_holds(digits(value)) and value[0] not in "08"


def _ahv_holds(value: str) -> bool:
    """Say whether the EAN-13 check digit of a Swiss AHV number holds."""
    number = [int(character) for character in digits(value)]
    return sum(digit * (3 if place % 2 else 1) for place, digit in enumerate(number)) % 10 == 0


NATIONAL_IDS = (
    NationalId("US SSN", _form("[0-9]", r"\d{2}-\d{2}-\d{4}"), _ssn_holds, needs_word=False),
    NationalId("Swiss AHV", _form("7", r"56\.\d{4}\.\d{4}\.\d{2}"), _ahv_holds, needs_word=False),
    NationalId("Brazilian CPF", _form("[0-9]", r"\d{2}\.\d{3}\.\d{3}-\d{2}"), cpf.is_valid, needs_word=False),
    NationalId(
        "Italian codice fiscale",
        _form("[A-Z]", r"[A-Z]{5}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]"),
        codicefiscale.is_valid,
        needs_word=False,
        shape="long word",
    ),
    NationalId(
        "French NIR",
        _form("[12]", r" ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}"),
        nir.is_valid,
        needs_word=False,
    ),
    NationalId(
        "UK NINO",
        _form("[A-CEGHJ-PR-TW-Z]", r"[A-CEGHJ-NPR-TW-Z] \d{2} \d{2} \d{2} [A-D]"),
        _nino_holds,
        needs_word=False,
        shape="any",
    ),
    NationalId(
        "UK NINO",
        _form("[A-CEGHJ-PR-TW-Z]", r"[A-CEGHJ-NPR-TW-Z] ?\d{6} ?[A-D]"),
        _nino_holds,
        shape="any",
    ),
    NationalId("Spanish DNI", _form("[0-9]", r"\d\.?\d{3}\.?\d{3}[ -]?[A-Z]"), dni.is_valid),
    NationalId("Spanish NIE", _form("[XYZ]", r"[ -]?\d{7}[ -]?[A-Z]"), nie.is_valid),
    NationalId("Swedish personnummer", _form("[0-9]", r"(?:\d{2})?\d{5}[-+]\d{4}"), personnummer.is_valid),
    NationalId(
        "Belgian Rijksregisternummer", _form("[0-9]", r"\d\.?\d{2}\.?\d{2}[ -]?\d{3}\.?\d{2}"), nn.is_valid
    ),
    NationalId("German Steuer-ID", _form("[0-9]", r"\d ?\d{3} ?\d{3} ?\d{3}"), idnr.is_valid),
    NationalId("Polish PESEL", _form("[0-9]", r"\d{10}"), pesel.is_valid),
    NationalId("Brazilian CPF", _form("[0-9]", r"\d{10}"), cpf.is_valid),
    NationalId(
        "Indian Aadhaar",
        _form("[2-9]", r"\d{3} ?\d{4} ?\d{4}"),
        lambda value: verhoeff.is_valid(digits(value)),
    ),
    NationalId("US SSN", _form("[0-9]", r"\d{2} ?\d{2} ?\d{4}"), _ssn_holds),
    NationalId("Canadian SIN", _form("[0-9]", r"\d{2}[ -]?\d{3}[ -]?\d{3}"), _luhn_9),
    NationalId("Dutch BSN", _form("[0-9]", r"\d{8}|\d{3}\.\d{2}\.\d{3}"), bsn.is_valid),
)
_ID_WORDS = re.compile(
    r"\b(?:ssn|social|socialn?umber|nino?|insurance|versicherung\w*|steuer\w*|idnr|tax\w*|bsn|burgerservice\w*|s[eé]cu\w*"
    r"|nir|dni|nif|nie|codice|fiscale|cpf|pesel|personnummer|rijksregister\w*|registre|sin|aadhaar|aadhar|ahv|avs"
    r"|national (?:id|number)|id number|identity|ausweis\w*|seguridad|documento)\b",
    re.I,
)


def _may_hold(reading: Reading, known: NationalId) -> bool:
    if known.shape == "any":
        return True
    return reading.long_word if known.shape == "long word" else reading.long_number


def national_ids(reading: Reading) -> Iterator[Candidate]:
    """Yield the numbers by which states know people; a form that other numbers share needs a word nearby."""
    text = reading.text
    if reading.digits < 6:
        return
    for known in NATIONAL_IDS:
        if not _may_hold(reading, known):
            continue
        for match in known.form.finditer(text):
            near = (
                text[max(0, match.start() - 60) : match.start()] + " " + text[match.end() : match.end() + 30]
            )
            if known.needs_word and not _ID_WORDS.search(near):
                continue
            if known.holds(match[0]):
                nobodys = known.name == "US SSN" and _nobodys_ssn(match[0])
                yield candidate("national_id", text, match.start(), match.end(), known.name, nobodys=nobodys)
