"""Names of people: by what is said before and after them, and by a list of common given names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from tunesmith.curating.privacy.finding import Candidate, candidate

_CAP = r"[A-ZÀ-ÖØ-ÞŁŚŻŽČŠĐŞİ][^\W\d_]+(?:['’-][^\W\d_]+)*|[A-Z]['’][A-Z][^\W\d_]+"
_PARTICLE = r"(?:van der|van den|van de|van|von der|von|de la|del|de|da|dos|di|al|el|bin|ter|le|la)"
NAME = rf"(?:{_CAP})(?: (?:[A-Z]\. ?)?(?:{_PARTICLE} )?(?:{_CAP})){{0,3}}"
_PAIR = re.compile(rf"(?<![\w.'’-])(?:{_CAP})(?: [A-Z]\.)?(?: {_PARTICLE})? (?:{_CAP})(?: (?:{_CAP}))?")

_TITLE = (
    r"(?:[Mm]r|[Mm]rs|[Mm]s|Miss|[Dd]r|Prof|Professor|Herrn?|Frau|Mme|Madame|Monsieur|Mlle|Sra?|Señora?|Don|Doña|Signora?|Sig"
    r"|[Mm]evrouw|[Mm]eneer|Mister|Sir|Dame|Rev|Hr|Fr)"
)


def _rule(pattern: str, why: str, *needles: str) -> tuple[tuple[str, ...], re.Pattern[str], str]:
    return needles, re.compile(pattern.replace("NAME", f"(?P<name>{NAME})"), re.M), why


# Each rule: what must stand in the text in small letters for its pattern to be tried, the pattern, and why.
_STRONG = (
    _rule(
        r"(?i:\b(?:my name is|my name's|mein name ist|ich hei(?:ß|ss)e|je m'appelle|je m’appelle|me llamo|mi nombre es"
        r"|mi chiamo|ik heet|mijn naam is|meu nome é|is called|name is)) NAME",
        "introduction",
        "name", "ich hei", "appelle", "me llamo", "nombre", "mi chiamo", "ik heet", "naam is", "nome",
    ),
    _rule(
        rf"\b{_TITLE}\.? (?:{_TITLE}\.? ){{0,2}}NAME",
        "title",
        "mr", "ms", "miss", "dr", "prof", "herr", "frau", "mme", "madame", "monsieur", "sr", "señor", "don", "doña", "sig",
        "mevrouw", "meneer", "mister", "sir ", "dame", "mlle",
    ),
    _rule(
        r"(?:^|[\n\"] ?|: )(?:Dear|Hi|Hello|Hey|Hallo|Liebe|Lieber|Moin|Bonjour|Cher|Chère|Salut|Hola|Estimad[oa]|Querid[oa]"
        r"|Beste|Ciao|Car[oa]|Olá) NAME(?=[,!:.\n]|$)",
        "salutation",
        "dear", "hi ", "hello", "hey", "hallo", "liebe", "moin", "bonjour", "ch", "salut", "hola", "estimad", "querid", "beste",
        "ciao", "car", "olá",
    ),
    _rule(
        r"(?i:\b(?:regards|wishes|thanks|thank you|cheers|sincerely|truly|faithfully|yours|best|love|signed|grüßen?|gruß|lg|vg"
        r"|mfg|cordialement|amicalement|saludos?|abrazo|atentamente|groeten?|saluti|atenciosamente)),? ?\n\s{0,3}NAME(?=\n|$|,)",
        "signature",
        "\n",
    ),
    _rule(
        r"(?i:(?:^|[\n;,{&?\"(] ?)[\"']?(?:full name|first name|last name|name|customer|patient|employee(?: name)?|contact person"
        r"|contact|attn|attention|nombre|nom|kunde|kundin|ansprechpartner(?:in)?|kontoinhaber(?:in)?|account holder|payee"
        r"|absender|empfänger|tenant|client|cardholder|lieferadresse|from|to|cc|sender|author|von|an|de|para)[\"']?"
        r"\s?[:=]\s?[\"']?)(?-i:NAME)(?=[\n,;&\"'<(|]|\.?$| <| and )",
        "field for a name",
        ":", "=",
    ),
    _rule(
        r"(?i:\b(?:my|our|his|her|their|mein[e]?|mon|ma|mi)) (?:\w{2,8} )?(?:(?:ex-)?wife|husband|partner|boss|manager|landlord|landlady"
        r"|sister|brother|mother|father|mum|mom|dad|son|daughter|friend|colleague|neighbou?r|cousin|uncle|aunt|doctor|lawyer"
        r"|teacher|girlfriend|boyfriend|roommate|client|frau|mann|chef|chefin|schwester|bruder|mutter|vater|tochter|sohn"
        r"|freund|freundin|femme|mari|sœur|frère|fille|fils|hermana|hermano|hija|hijo|jefe|jefa|marido|esposa)"
        r"(?:,| is| was| called| named)? NAME",
        "relation",
        "my ", "our ", "his ", "her ", "their ", "mein", "mon ", "ma ", "mi ",
    ),
    _rule(
        r"(?i:\b(?:customer|user|patient|payee|tenant|employee|spoke to|talked to|spoke with|met with|the meeting with|message for"
        r"|ask for|asked for|call|signed by|sent by|hired|interviewed|kontoinhaber|kunde|kundin|name)) NAME",
        "person acting",
        "customer", "user", "patient", "payee", "tenant", "employee", "spoke", "talked", "with", " for", "call", " by",
        "hired", "interviewed", "kontoinhaber", "kund", "name",
    ),
)
_WEAK = (
    _rule(
        r"(?:\b(?:I am|I'm|I’m|i am|i'm|im|[Tt]his is|[Ii]ch bin|[Jj]e suis|[Ss]oy|it's|its|It's|Thank you|Thanks|Hi|Hey)),? NAME",
        "introduction",
        "i am", "i'm", "i’m", "im ", "this is", "ich bin", "je suis", "soy ", "it's", "its", "thank", "hi ", "hey",
    ),
)
_NEEDS_A_LISTED_NAME = frozenset({"person acting"})
_LOWER = re.compile(
    r"\b(?:my name is|i am|i'm|im|its|it's|this is|me llamo|mr|mrs|ms|dr)\.? (?P<name>[^\W\d_]{3,} [^\W\d_]{3,})\b"
)

# Words that begin with a capital beside the contexts above and are no names.
_NOT_NAMES = frozenset(
    """the a an and or of in on at to for from with by is are was it its this that these those there here all any everyone
    everybody world customer customers client clients sir madam madame monsieur team support service services department
    office admin administrator user users guest member members friend friends folks colleague colleagues community editor
    manager committee board hiring company corporation group bank university institute school college hospital clinic
    street road river lake sea mountain beach falls valley county state city town island bay park bridge station airport
    day week month year january february march april june july august september october november december monday tuesday
    wednesday thursday friday saturday sunday new old north south east west your our my his her their you we they i he she
    not no yes please thanks thank sorry happy glad sure ok okay note important warning error true false none null python
    java english german french spanish american british european chinese japanese russian italian dutch indian law theorem
    algorithm method test model data api http https file name type value key index list dict class function string
    integer float array matrix graph node edge optional parameter parameters default returns return see also example
    kunde kunden kundin damen herren kundenservice ihr ihre das die der den und ein eine sie wir service-team client
    cliente señor señora estimado equipo le la les un une votre notre prize award inc ltd llc gmbh corp street avenue
    deutsche deutscher very so too just only let if when what who how why where which then now today tomorrow welcome
    cathedral church museum gallery palace castle house hotel restaurant club league cup festival press times post news
    magazine journal foundation society association union party army navy force court act bill treaty war battle king queen
    prince princess duke earl lord lady saint pope emperor president minister senator professor doctor captain general""".split()
)


@cache
def given_names() -> frozenset[str]:
    """Return common given names of many languages, none of them an ordinary word that begins English titles."""
    listed = files("tunesmith.curating.privacy").joinpath("given_names.txt").read_text(encoding="utf-8")
    return frozenset(listed.split())


def names(text: str) -> Iterator[Candidate]:
    """Yield the names of people in a text.

    A name counts where an introduction, a title, a salutation, a signature or a field says that it is one, or
    where a common given name stands before a capitalised word.
    """
    small = text.lower()
    for needles, pattern, why in _STRONG:
        if any(needle in small for needle in needles):
            for match in pattern.finditer(text):
                yield from _named(text, match, why, listed=why in _NEEDS_A_LISTED_NAME)
    for needles, pattern, why in _WEAK:
        if any(needle in small for needle in needles):
            for match in pattern.finditer(text):
                yield from _named(text, match, why, listed=True)
    yield from _pairs(text)
    yield from _small(text)


def _named(text: str, match: re.Match[str], why: str, *, listed: bool) -> Iterator[Candidate]:
    """Yield the name that a rule found, without the words after it that are none; `listed` asks for a given name."""
    start = match.start("name")
    words = match["name"].split(" ")
    while words and _plain(words[-1]):
        words.pop()
    if not words or any(_plain(word) for word in words):
        return
    if listed and not any(word in given_names() for word in words):
        return
    if why == "field for a name" and len(words) == 1 and words[0] not in given_names():
        return
    yield candidate("name", text, start, start + len(" ".join(words)), why)


def _plain(word: str) -> bool:
    return word.lower() in _NOT_NAMES or word.isupper()


def _pairs(text: str) -> Iterator[Candidate]:
    known = given_names()
    for match in _PAIR.finditer(text):
        words = match[0].split(" ")
        start = match.start()
        if words[0] not in known and len(words) > 2 and words[1] in known:
            start, words = start + len(words[0]) + 1, words[1:]
        if words[0] not in known or _plain(words[-1]) or any(word.lower() in _NOT_NAMES for word in words):
            continue
        if _plain_follows(text, match.end()):
            continue
        yield candidate("name", text, start, match.end(), "common given name and surname")


def _plain_follows(text: str, end: int) -> bool:
    """Say whether a capitalised ordinary word goes on: "Martin Luther King Day" is a day."""
    following = text[end : end + 24].split(" ")
    return len(following) > 1 and following[0] == "" and following[1][:1].isupper() and _plain(following[1].strip(".,;:!?"))


def _small(text: str) -> Iterator[Candidate]:
    """Yield introductions and titles typed without capitals, if the first word is a given name."""
    for match in _LOWER.finditer(text):
        first, _, second = match["name"].partition(" ")
        if first.islower() and first.capitalize() in given_names() and second not in _NOT_NAMES:
            yield candidate("name", text, match.start("name"), match.end("name"), "introduction")
