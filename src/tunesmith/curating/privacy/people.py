"""Names of people: by what is said before and after them, and by a list of common given names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from tunesmith.curating.privacy.finding import Candidate, candidate, listed
from tunesmith.curating.privacy.reading import Reading, spelled

_UPPER = "[A-ZÀ-ÖØ-ÞŁŚŻŽČŠĐŞİ]"
_CAP = rf"{_UPPER}(?:['’]{_UPPER})?[^\W\d_]+(?:['’-][^\W\d_]+)*"
_PARTICLE = r"(?:van der|van den|van de|van|von der|von|de la|del|de|da|dos|di|al|el|bin|ter|le|la)"
NAME = rf"{_CAP}(?: (?:[A-Z]\. ?)?(?:{_PARTICLE} )?{_CAP}){{0,3}}"
# Like NAME, with the class first so that the engine skips to the next capital by itself.
_RUN = re.compile(
    rf"[A-ZÀ-ÖØ-ÞŁŚŻŽČŠĐŞİ](?<![\w.'’-].)(?:[^\W\d_]+(?:['’-][^\W\d_]+)*)"
    rf"(?:(?: [A-Z]\.)?(?: {_PARTICLE})? (?:{_CAP})){{0,2}}"
)

_TITLE = (
    r"(?:[Mm]rs?|[Mm]s|Miss|Mister|[Dd]r|Prof|Professor|Herrn?|Hr|Frau|Mme|Madame|Monsieur|Mlle|Sra?|Señora?|Doña|Signora?"
    r"|[Mm]evrouw|[Mm]eneer|Sir|Dame|Rev)"
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A context that makes capitalised words a name.

    `words` are those of which the text must have one, `mark` a sign that it must have; `before` must end where
    the pattern begins, within 32 characters; `listed` asks that a word of the name be a common given name.
    """

    why: str
    pattern: re.Pattern[str]
    words: frozenset[bytes]
    mark: str = ""
    before: re.Pattern[str] | None = None
    listed: bool = False


def _rule(
    why: str, pattern: str, words: str, *, mark: str = "", before: str = "", listed: bool = False
) -> _Rule:
    whole = re.compile(pattern.replace("NAME", f"(?P<name>{NAME})"))
    return _Rule(why, whole, spelled(words), mark, re.compile(f"(?:{before})$") if before else None, listed)


_RELATIVES = """
    wife husband partner boss manager landlord landlady sister brother mother father mum mom dad son
    daughter friend colleague neighbour neighbor cousin uncle aunt doctor lawyer teacher girlfriend
    boyfriend roommate client frau mann chef chefin schwester bruder mutter vater tochter sohn freund
    freundin femme mari sœur frère fille fils hermana hermano hija hijo jefe jefa marido esposa
    """
_RULES = (
    _rule(
        "introduction",
        "NAME",
        "name heiße heisse appelle m’appelle llamo nombre chiamo heet naam nome",
        before=r"\b(?:[Nn]ame(?: is|'s)|Name ist|[Ii]ch hei(?:ß|ss)e|[Jj]e m['’]appelle|[Mm]e llamo"
        r"|[Nn]ombre es|[Mm]i chiamo"
        r"|[Ii]k heet|[Nn]aam is|[Nn]ome é) ",
    ),
    _rule(
        "title",
        rf"\b{_TITLE}\.? (?:{_TITLE}\.? ){{0,2}}NAME",
        """
    mr mrs ms miss dr prof professor herr herrn frau mme madame monsieur mlle sr sra señor señora doña
    signor signora mevrouw meneer mister sir dame rev hr
    """,
    ),
    _rule(
        "salutation",
        r"\b(?:Dear|Hi|Hello|Hey|Hallo|Liebe|Lieber|Moin|Bonjour|Cher|Chère|Salut|Hola|Estimad[oa]|Querid[oa]|Beste|Ciao|Car[oa]"
        r"|Olá) NAME(?=[,!:\n]|$)",
        """
    dear hi hello hey hallo liebe lieber moin bonjour cher chère salut hola estimado estimada querido
    querida beste ciao caro cara olá
    """,
    ),
    _rule(
        "signature",
        r"\n\s{0,3}NAME(?=\n|$|,)",
        """
    regards wishes thanks cheers sincerely truly faithfully yours best love signed Grüßen Grüße Gruß LG VG
    MfG cordialement amicalement saludo saludos abrazo atentamente groet groeten saluti atenciosamente
    """,
        mark="\n",
        before=r"(?i:regards|wishes|thanks|thank you|cheers|sincerely|truly|faithfully|yours|best|love|signed"
        r"|grüßen?|gruß|lg|vg"
        r"|mfg|cordialement|amicalement|saludos?|abrazo|atentamente|groeten?|saluti|atenciosamente),? ?",
    ),
    _rule(
        "field for a name",
        r"[:=]\s?[\"']?NAME(?=[\n,;&\"'<(|]|\.?$| <| and )",
        """
    name username customer patient employee contact person attn attention nombre nom kunde kundin
    Ansprechpartner Ansprechpartnerin Kontoinhaber Kontoinhaberin holder payee Absender Empfänger tenant
    client cardholder From To Cc sender author Von An De Para
    """,
        before=r"(?<![^\W_])(?:(?i:name|username|customer|patient|employee|contact(?: person)?|attn|attention"
        r"|nombre|nom|kunde|kundin"
        r"|ansprechpartner(?:in)?|kontoinhaber(?:in)?|account holder|payee|absender|empfänger|tenant|client"
        r"|cardholder|sender"
        r"|author)|From|To|C[Cc]|Von|An|De|Para)[\"']?\s?",
    ),
    _rule(
        "relation",
        r"\b(?:[Mm]y|[Oo]ur|[Hh]is|[Hh]er|[Tt]heir|[Mm]eine?|[Mm]on|[Mm]a|[Mm]i) (?:\w{2,8} )?(?:ex-)?"
        rf"(?i:{'|'.join(_RELATIVES.split())})(?:,| is| was| called| named)? NAME",
        _RELATIVES,
    ),
    _rule(
        "introduction",
        rf"\b(?:I am|I'm|I’m|Ich bin|Je suis) (?P<name>(?:{_CAP}) (?:{_CAP}))(?=[,.!\n]|$| from)",
        "I am bin suis",
    ),
    _rule(
        "name above an address",
        rf"(?P<name>{_CAP} {_CAP})(?=\n\d{{1,5}} [A-Z])",
        "street st avenue ave road rd lane ln drive dr court ct boulevard blvd",
        mark="\n",
        before=r"(?:^|\n)",
    ),
    _rule("surname, given name", rf'"(?P<name>(?:{_CAP}), (?:{_CAP}))"', "from to cc", mark='"', listed=True),
)
_PERSON_BEFORE = re.compile(
    r"(?:\b(?:[Cc]ustomer|[Uu]ser|[Pp]atient|[Pp]ayee|[Tt]enant|[Ee]mployee"
    r"|(?:[Ss]poke|[Tt]alked|[Mm]et|[Mm]eeting|[Ss]peak) (?:to|with)"
    r"|[Mm]essage for|[Aa]sk(?:ed)? for|[Cc]all|(?:[Ss]igned|[Ss]ent) by|[Hh]ired|[Ii]nterviewed|[Kk]unde|[Kk]undin"
    r"|[Tt]his is|I am|I'm|I’m|i'm|[Ii]ch bin|[Jj]e suis|[Ss]oy|[Ii]t's|[Tt]hank you,?|[Tt]hanks,?|Hi|Hey)) $"
)
_LOWER = re.compile(
    r"\b(?:my name is|i am|i'm|im|its|it's|this is|me llamo|mr|mrs|ms|dr)\.? (?P<name>[^\W\d_]{3,} [^\W\d_]{3,})\b"
)

# Words that begin with a capital beside the contexts above and are no names.
_NOT_NAMES = frozenset(
    listed("""
    chatgpt gpt gemini siri alexa copilot llama assistant resources studio sales help desk really still also always
    never tired excited happy
    the a an and or of in on at to for from with by is are was it its this that these those there here all
    any everyone everybody world customer customers client clients sir madam madame monsieur team support
    service services department office admin administrator user users guest member members friend friends
    folks colleague colleagues community editor manager committee board hiring company corporation group
    bank university institute school college hospital clinic street road river lake sea mountain beach falls
    valley county state city town island bay park bridge station airport day week month year january
    february march april june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday new old north south east west your our my his her their you we they i he
    she not no yes please thanks thank sorry happy glad sure ok okay note important warning error true false
    none null python java english german french spanish american british european chinese japanese russian
    italian dutch indian law theorem algorithm method test model data api http https file name type value
    key index list dict class function string integer float array matrix graph node edge optional parameter
    parameters default returns return see also example kunde kunden kundin damen herren kundenservice ihr
    ihre das die der den und ein eine sie wir service-team client cliente señor señora estimado equipo le la
    les un une votre notre prize award inc ltd llc gmbh corp street avenue mr mrs ms miss dr prof herr herrn
    frau mme mlle sr sra deutsche deutscher very so too just only let if when what who how why where which
    then now today tomorrow welcome cathedral church museum gallery palace castle house hotel restaurant
    club league cup festival press times post news magazine journal foundation society association union
    party army navy force court act bill treaty war battle king queen prince princess duke earl lord lady
    saint pope emperor president minister senator professor doctor captain general
    """)
)


@cache
def given_names() -> frozenset[str]:
    """Return common given names of many languages, none of them an ordinary word that begins English titles."""
    listed = files("tunesmith.curating.privacy").joinpath("given_names.txt").read_text(encoding="utf-8")
    return frozenset(listed.split())


# A reading cuts words at hyphens, so the parts stand for Jean-Luc.
_GIVEN_WORDS = frozenset(part.encode() for name in given_names() for part in name.split("-"))
_SMALL_GIVEN_WORDS = frozenset(word.lower() for word in _GIVEN_WORDS)
NAME_WORDS = _GIVEN_WORDS.union(_SMALL_GIVEN_WORDS, *(rule.words for rule in _RULES))


def names(reading: Reading) -> Iterator[Candidate]:
    """Yield the names of people in a text.

    A name counts where an introduction, a title, a salutation, a signature or a field says that it is one, or
    where a common given name stands before a capitalised word.
    """
    text = reading.text
    listed = reading.has(_GIVEN_WORDS)
    for rule in _RULES:
        if (listed or not rule.listed) and rule.mark in text and reading.has(rule.words):
            for match in rule.pattern.finditer(text):
                start = match.start()
                if rule.before is None or rule.before.search(text, max(0, start - 32), start):
                    yield from _named(text, match, rule)
    if listed:
        yield from _with_given_names(text)
    if reading.has(_SMALL_GIVEN_WORDS):
        yield from _small(text)


def _named(text: str, match: re.Match[str], rule: _Rule) -> Iterator[Candidate]:
    """Yield the name that a rule found, without the ordinary words after it."""
    start = match.start("name")
    words = match["name"].split(" ")
    while words and _plain(words[-1]):
        words.pop()
    if not words or _nobody(words):
        return
    alone = rule.why == "field for a name" and len(words) == 1
    if (rule.listed or alone) and not any(word in given_names() for word in words):
        return
    yield candidate("name", text, start, start + len(_unpossessed(" ".join(words))), rule.why)


def _unpossessed(name: str) -> str:
    return name.removesuffix("'s").removesuffix("’s")


def _nobody(words: list[str]) -> bool:
    """Say whether one of the words is no name; "Claude" alone is an assistant, though people have the name too."""
    if words == ["Claude"]:
        return True
    return any(_plain(word) for word in words if word[0].isupper() and not re.fullmatch(r"[A-Z]\.", word))


def _plain(word: str) -> bool:
    return word.lower() in _NOT_NAMES or word.isupper()


def _with_given_names(text: str) -> Iterator[Candidate]:
    """Yield capitalised words with a common given name: two, or one after a word for people."""
    known = given_names()
    for match in _RUN.finditer(text):
        words = match[0].split(" ")
        start = match.start()
        if words[0] not in known and len(words) > 1 and words[1].removesuffix("'s") in known:
            start, words = start + len(words[0]) + 1, words[1:]
        if words[0] not in known or _nobody(words):
            continue
        if len(words) == 1 and not _PERSON_BEFORE.search(text, max(0, start - 16), start):
            continue
        if _plain_follows(text, match.end()):
            continue
        end = start + len(_unpossessed(" ".join(words)))
        yield candidate("name", text, start, end, "common given name")


def _plain_follows(text: str, end: int) -> bool:
    """Say whether a capitalised ordinary word goes on: "Martin Luther King Day" is a day."""
    following = text[end : end + 24].split(" ")
    return (
        len(following) > 1
        and following[0] == ""
        and following[1][:1].isupper()
        and _plain(following[1].strip(".,;:!?"))
    )


def _small(text: str) -> Iterator[Candidate]:
    """Yield introductions and titles typed without capitals, if the first word is a given name."""
    for match in _LOWER.finditer(text):
        first, _, second = match["name"].partition(" ")
        if first.islower() and first.capitalize() in given_names() and second not in _NOT_NAMES:
            yield candidate("name", text, match.start("name"), match.end("name"), "introduction")
