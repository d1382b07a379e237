"""Prompt injection: words that mean to turn a model away from what it is for, in a question or in a document.

Rules first: families of expressions (`expressions`), tried on each reading of a text (`readings`); then, on what they
do not find, a linear classifier of its letters (`likeness`). What they catch and what they wrongly stop is measured
(benchmarks/guardrails.py, benchmarks/injection_weights.py). Not covered: an attack spread over several messages, and
stories that only lead towards harm.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tunesmith.guarding.expressions import ASKED, FAMILIES, GLUED, QUOTES, TO_YOU, TONGUES, TOPIC, Family
from tunesmith.guarding.rails import LEFT_OUT, Context, Find, Found, Span
from tunesmith.guarding.readings import Reading, Seen, readings, seen

_EITHER: Final = "it tells the model to leave its instructions, or asks for them"
_LIKE: Final = "it is like words that turn a model from its instructions"
_ASKED_WITHIN: Final = 300  # characters

#: How likely the classifier must think an injection to be: from here on it stopped three in a thousand honest texts of
#: five folds, about a quarter of which were written to look like attacks (benchmarks/injection_weights.py).
LEAST: Final = 0.945


def injection(*, documents: bool = False, allow: Sequence[str] = (), least: float = LEAST) -> Find:
    """Return what finds injections; in `documents` also what speaks to a model that reads them.

    `allow` are regular expressions of what may be said: a find that lies within a match of one is none, and the
    classifier does not read the match. `least` is how likely that must think an injection to be for a find of its own;
    1 leaves it unasked.
    """
    allowed = tuple(re.compile(each, re.IGNORECASE) for each in allow)

    def find(text: str, _: Context) -> Found | None:
        may = [match.span() for each in allowed for match in each.finditer(text)]

        def search(reading: Reading) -> Iterator[Seen]:
            for reason, start, end in _found(reading.text, documents=documents, hidden=bool(reading.how)):
                first, last = reading.span(start, end)
                if not any(begin <= first and last <= finish for begin, finish in may):
                    why = f"{reason} ({reading.how})" if reading.how else reason
                    yield Seen(why, *_sentence(text, first, last))

        found = seen(text, search)
        if least < 1:
            from tunesmith.guarding.likeness import likeness

            plain = next(iter(readings(text)))
            known = [plain.within(*span) for span in (*may, *((each.start, each.end) for each in found))]
            found += [Seen(_LIKE, *plain.span(*part)) for part in likeness().alike(plain.text, least, known)]
        spans = tuple(Span(each.start, each.end, LEFT_OUT) for each in found)
        return Found(found[0].why, spans) if found else None

    return find


def _found(text: str, *, documents: bool, hidden: bool) -> Iterator[tuple[str, int, int]]:
    """Yield what is found in a reading: why, from where, to where."""
    matches = list(_matches(text, documents=documents or hidden))
    quoted = _quoted(text) if matches else lambda _: False
    for family, match in matches:
        if family is None:
            honest = quoted(match)
        else:
            honest = not hidden and (quoted(match) or (family.asked and _is_asked(text, match, documents)))
        if not honest:
            yield _EITHER if family is None else family.why, match.start(), match.end()
    for glued in GLUED.finditer(text) if hidden else ():
        yield _EITHER, glued.start(), glued.end()


def _matches(text: str, *, documents: bool) -> Iterator[tuple[Family | None, re.Match[str]]]:
    """Yield what the expressions match, with the family in English."""
    for family in FAMILIES:
        if family.documents and not documents:
            continue
        if all(any(word in text for word in each) for each in family.needs):
            yield from ((family, match) for match in family.pattern.finditer(text))
    for tongue in TONGUES:
        if any(word in text for word in tongue.needs):
            yield from ((None, match) for match in tongue.pattern.finditer(text))


def _is_asked(text: str, match: re.Match[str], documents: bool) -> bool:
    """Tell whether a match is part of a question about something else than the model, or of a description."""
    begin = max(text.rfind(mark, 0, match.start()) for mark in (". ", "! ", "? ", "\n")) + 1
    before = text[max(begin, match.start() - _ASKED_WITHIN) : match.start()]
    if not before.strip() or not ASKED.search(before):
        return False
    # "How do I get you to ignore your rules": the one who is asked is meant.
    return documents or TO_YOU.search(before + match[0]) is None


def _quoted(text: str) -> Callable[[re.Match[str]], bool]:
    """Return what tells whether a match is only quoted, in a text that is about such attacks outside of the quote."""
    quotes = [quote.span() for quote in QUOTES.finditer(text)]
    topics = [topic.span() for topic in TOPIC.finditer(text)]

    def quoted(match: re.Match[str]) -> bool:
        at = bisect_right(quotes, match.start(), key=lambda quote: quote[0]) - 1
        if not topics or at < 0 or match.end() > quotes[at][1]:
            return False
        start, end = quotes[at]
        return topics[0][0] < start or end < topics[-1][1]

    return quoted


def _sentence(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the stretch of the sentences, or the line, that a stretch of a text is in."""
    begin = max(text.rfind(mark, 0, start) for mark in (". ", "! ", "? ", "\n"))
    ends = [
        place for mark in (". ", "! ", "? ", "\n") if (place := text.find(mark, max(start, end - 1))) >= 0
    ]
    finish = min(ends) + 1 if ends else len(text)
    first = begin + 1 if begin >= 0 else 0
    while first < start and text[first].isspace():
        first += 1
    return first, max(finish, end)
