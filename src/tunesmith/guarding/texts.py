"""Rails that need the text alone: its length, private data and secrets in it, words that are not wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Final, Protocol

from tunesmith.guarding.rails import Context, Find, Found, Span, shifted
from tunesmith.guarding.readings import Reading, Seen, seen

_STOPS: Final = (".", "!", "?", "…", "。", "！", "？")


class Private(Protocol):
    """A stretch of a text that is private: `text[start:end]`, of a kind such as email."""

    @property
    def kind(self) -> str: ...  # noqa: D102 - the class says it
    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102


FindPrivate = Callable[[str], Sequence[Private]]


def too_long(most: int) -> Find:
    """Return what finds texts of more than so many characters."""

    def find(text: str, _: Context) -> Found | None:
        return Found(f"it has {len(text):,} characters, of {most:,} at most") if len(text) > most else None

    return find


def private(search: FindPrivate, what: str) -> Find:
    """Return what finds private data by a search; `what` it is called, its kinds are told and no value."""

    def find(text: str, context: Context) -> Found | None:
        before = len(context.before)
        found = [each for each in search(context.before + text) if each.end > before]
        if not found:
            return None
        kinds = ", ".join(dict.fromkeys(each.kind for each in found))
        spans = [Span(each.start, each.end, f"[{each.kind.upper()}]") for each in found]
        return Found(f"it holds {what}: {kinds}", shifted(spans, before))

    return find


def unwanted(lists: Mapping[str, Iterable[str]]) -> Find:
    """Return what finds words and phrases of named lists, as whole words; `*` at a word's end stands for any ending.

    Capitals, look-alike letters and digits in the place of letters hide none, and no line's end within a phrase does.
    """
    known = {name: tuple(words) for name, words in lists.items()}
    patterns = {name: pattern for name, words in known.items() if (pattern := _any_of(words)) is not None}
    phrases = [word for words in known.values() for word in words if len(word.split()) > 1]
    # So far before a text a phrase may begin that ends in it.
    reach = 2 * max(map(len, phrases), default=0)

    def search(reading: Reading) -> Iterator[Seen]:
        for name, pattern in patterns.items():
            for match in pattern.finditer(reading.text):
                yield Seen(f"it has a word of the list {name!r}", *reading.span(match.start(), match.end()))

    def find(text: str, context: Context) -> Found | None:
        # No phrase goes on where a sentence has ended.
        ended = context.before.rstrip().endswith(_STOPS)
        before = "" if ended else context.before[max(0, len(context.before) - reach) :]
        found = [each for each in seen(before + text, search) if each.end > len(before)]
        spans = [Span(each.start, each.end, "***") for each in found]
        return Found(found[0].why, shifted(spans, len(before))) if found else None

    return find


def refusing() -> Find:
    """Return what finds a model's own refusal: a sentence in which it says that it will not or cannot answer."""

    def find(text: str, context: Context) -> Found | None:
        first = not context.before.strip()
        return Found("the model refused by itself") if first and _REFUSAL.search(text.lower()) else None

    return find


_REFUSAL = re.compile(
    r"^\W*(?:(?:i['’]?m|i am) (?:very |so |really )?sorry,? (?:but )?(?:i|as an)\b.{0,40}(?:can(?:not|"
    r"['’]t)|unable|not able|won['’]t)"
    r"|sorry,? (?:but )?i (?:can(?:not|['’]t)|am unable|am not able|won['’]t)|i (?:can(?:not|['’]t)|"
    r"won['’]t|will not|am unable to|am not able to|must decline to) "
    r"(?:help|assist|answer|provide|do that|comply|fulfil|discuss|share|continue)|as an ai(?: language "
    r"model| assistant)?,? i (?:can(?:not|['’]t)|am unable|do not|don['’]t)"
    r"|unfortunately,? i (?:can(?:not|['’]t)|am unable|am not able)|(?:leider|es tut mir leid,? aber "
    r"ich) (?:kann ich|kann|darf)"
    r"|(?:je suis désolée?|désolée?),? (?:mais )?je ne (?:peux|puis)|lo siento,? (?:pero )?no puedo)"
)


@cache
def shipped(name: str) -> tuple[str, ...]:
    """Return the words of a list that comes with the package; KeyError where there is no such list."""
    path = files("tunesmith.guarding").joinpath("words", f"{name}.txt")
    if not path.is_file():
        raise KeyError(name)
    return words_in(path.read_text(encoding="utf-8"))


def words_in(text: str) -> tuple[str, ...]:
    """Return the words of a list: one a line, `#` begins a remark."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line)


def _any_of(words: Iterable[str]) -> re.Pattern[str] | None:
    parts = [r"\W+".join(map(_part, word.lower().split())) for word in words]
    return (
        re.compile(rf"(?<!\w)(?:{'|'.join(sorted(parts, key=len, reverse=True))})(?!\w)") if parts else None
    )


def _part(word: str) -> str:
    """Return an expression for a word; only at its end a star is any ending, for inside it may mask a letter."""
    bare = word.rstrip("*")
    if not bare:
        return r"\w+"
    return re.escape(bare) + (r"\w*" if bare != word else "")
