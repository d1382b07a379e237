"""Which language a text is in, and whether a part of it is in another: py3langid, asked about what it can tell.

A sentence of five words tells little: a part counts as foreign if it is in letters of another script, or if the guess
is sure and most of its words stand nowhere in the text around it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

_SURE: Final = 0.9
_FEWEST_CHARACTERS: Final = 24
_FEWEST_FOREIGN_LETTERS: Final = 2


@dataclass(frozen=True, slots=True)
class Guess:
    """A language's code (ISO 639-1) and how sure the guess is, from 0 to 1."""

    code: str
    sure: float


def language_of(text: str) -> Guess | None:
    """Return the language of a text; None where it is too short to tell."""
    plain = _words(text)
    if len(plain) < _FEWEST_CHARACTERS:
        return None
    code, sure = _identifier().classify(plain)
    return Guess(str(code), float(sure))


def foreign_part(text: str, *, like: str) -> str | None:
    """Return what of a text is not in the language of another, if anything surely is not."""
    script = _foreign_script(text, like)
    if script is not None:
        return script
    expected = language_of(like)
    if expected is None:
        return None
    for part in _parts(text):
        found = language_of(part)
        if (
            found is not None
            and found.code != expected.code
            and found.sure >= _SURE
            and _odd_for(part, like, expected.code)
        ):
            return f"in another language ({found.code}, where {expected.code} is expected): {part[:80]!r}"
    return None


def _parts(text: str) -> Iterator[str]:
    yield from (part.strip() for part in re.split(r"(?<=[.!?;:])\s+|\n+", text) if part.strip())


def _odd_for(part: str, like: str, code: str) -> bool:
    """Tell whether most of a part's words do not stand in the other text: names and terms are in no language."""
    words = re.findall(r"[^\W\d_]+", part.lower())
    known = set(re.findall(r"[^\W\d_]+", like.lower())) | (_ENGLISH if code == "en" else set())
    return sum(word not in known for word in words) > len(words) / 2


def _foreign_script(text: str, like: str) -> str | None:
    known = {_script(character) for character in set(like) if character.isalpha()}
    for match in re.finditer(r"[^\W\d_]+", text):
        scripts = {_script(character) for character in match[0]} - known - {"LATIN"}
        if scripts and len(match[0]) >= _FEWEST_FOREIGN_LETTERS:
            return f"in letters that the source does not use ({', '.join(sorted(scripts)).lower()}): {match[0]!r}"
    return None


def _script(character: str) -> str:
    return unicodedata.name(character, "UNKNOWN").partition(" ")[0]


def _words(text: str) -> str:
    """Return the words of a text that are words: no addresses, no names of code."""
    return " ".join(re.findall(r"(?<![\w./@-])[^\W\d_]{2,}(?:['’-][^\W\d_]+)*(?![\w/@])", text))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


_ENGLISH_LIST = """
the a an and or of to in on for with from by is are was were be been it its this that these those you your they
    them their can could will would should may might must not no if when while then than as at into only also all any
    each every more most some such other one two how what which who where why do does did has have had use used using
    make makes made there here so but because about between after before over under out up
"""
_ENGLISH: Final = frozenset(_ENGLISH_LIST.split())


def differs(text: str, like: str) -> str | None:
    """Return both languages if a text is surely in another than the one it goes with, by their first words alone."""
    one, other = _quick(text), _quick(like)
    if one is None or other is None or one == other == "en":
        return None
    found, expected = (_surely(quick, each) for quick, each in ((one, text), (other, like)))
    if found is None or expected is None or found == expected:
        return None
    return f"{found} to {expected}"


def _surely(quick: str, text: str) -> str | None:
    if quick == "en":
        return "en"
    guess = language_of(_CODE_LINE.sub(" ", text[:_LOOKED_AT]))
    if guess is None or guess.sure < _VERY_SURE:
        return None
    words = text[:_LOOKED_AT].lower().split()
    unlikely = guess.code in _OTHER_CODES and len(_PLAINLY_OTHER.intersection(words)) < _FEWEST_OTHER
    return None if unlikely else guess.code


_LOOKED_AT, _VERY_SURE = 400, 0.98
_FEWEST_OTHER, _FEWEST_ENGLISH, _SHORT = 3, 2, 25
# Words that are English and nothing else where they come in numbers.
_PLAINLY_ENGLISH: Final = frozenset(
    (
        "the",
        "and",
        "to",
        "are",
        "with",
        "that",
        "this",
        "for",
        "you",
        "from",
        "by",
        "not",
        "be",
        "can",
        "if",
        "it",
    )
)
_CODE_LINE = re.compile(r"(?m)^\s*(?:>>>|\.\.\.|```|[$#%] ).*$|`[^`\n]*`")


_OTHERS_LIST = """
der die das und nicht ist ein eine einen mit von auf wird werden sie für bei oder zum zur dem den
le la les des est une que pour dans pas sur avec vous ne du et par ce
el los las una por con para del se lo como más
il che per di non sono della un nel si gli
os um uma não em da do na ao
het een van niet zijn voor met op
"""
_OTHER_CODES: Final = frozenset(("de", "fr", "es", "it", "pt", "nl"))
# Frequent words of other languages: a text without any of them and of English ones holds terms and code alone.
_PLAINLY_OTHER: Final = frozenset(_OTHERS_LIST.split())


def _quick(text: str) -> str | None:
    """Return "en" for what is plainly English, "?" for what must be looked at, None for what cannot be told."""
    words = text[:_LOOKED_AT].lower().split()
    if len(_PLAINLY_ENGLISH.intersection(words)) >= (_FEWEST_ENGLISH if len(words) > _SHORT else 1):
        return "en"
    if text.isascii():
        return "?" if len(_PLAINLY_OTHER.intersection(words)) >= _FEWEST_OTHER else None
    return "?" if len(text) >= _FEWEST_CHARACTERS else None
