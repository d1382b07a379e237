"""Prompt injection: words that mean to turn a model away from what it is for, in a question or in a document.

Rules, no model: families of expressions (`expressions`), tried on each reading of a text (`readings`). What they catch
and what they wrongly stop is measured (benchmarks/guardrails.py). Not covered: an attack that uses none of the usual
words, one spread over several messages, and stories that only lead towards harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from tunesmith.guarding.expressions import ASKED, FAMILIES, GLUED, QUOTES, TO_YOU, TONGUES, TOPIC
from tunesmith.guarding.rails import LEFT_OUT, Context, Find, Found, Span
from tunesmith.guarding.readings import readings

_EITHER: Final = "it tells the model to leave its instructions, or asks for them"
_ASKED_WITHIN: Final = 300  # characters


def injection(*, documents: bool = False, allow: Sequence[str] = ()) -> Find:
    """Return what finds injections; in `documents` also what speaks to a model that reads them.

    `allow` are regular expressions of what may be said: a find that lies within a match of one is none.
    """
    allowed = tuple(re.compile(each, re.IGNORECASE) for each in allow)

    def find(text: str, _: Context) -> Found | None:
        spans, why = list[Span](), ""
        for reading in readings(text):
            for reason, start, end in _found(reading.text, documents=documents, hidden=bool(reading.how)):
                place = reading.span(start, end)
                if any(
                    m.start() <= place[0] and place[1] <= m.end()
                    for each in allowed
                    for m in each.finditer(text)
                ):
                    continue
                why = why or (f"{reason} ({reading.how})" if reading.how else reason)
                spans.append(Span(*_sentence(text, *place), LEFT_OUT))
            if spans:
                break
        return Found(why, tuple(spans)) if spans else None

    return find


def _found(text: str, *, documents: bool, hidden: bool) -> Iterator[tuple[str, int, int]]:
    """Yield what is found in a reading: why, from where, to where."""
    for family in FAMILIES:
        if family.documents and not documents and not hidden:
            continue
        if not all(any(word in text for word in each) for each in family.needs):
            continue
        for match in family.pattern.finditer(text):
            if hidden or not (
                _is_quoted(text, match) or (family.asked and _is_asked(text, match, documents))
            ):
                yield family.why, match.start(), match.end()
                break
    for tongue in TONGUES:
        if not any(word in text for word in tongue.needs):
            continue
        said = tongue.pattern.search(text)
        if said and not _is_quoted(text, said):
            yield _EITHER, said.start(), said.end()
    if hidden and (glued := GLUED.search(text)):
        yield _EITHER, glued.start(), glued.end()


def _is_asked(text: str, match: re.Match[str], documents: bool) -> bool:
    """Tell whether a match is part of a question about something else than the model, or of a description."""
    begin = max(text.rfind(mark, 0, match.start()) for mark in (". ", "! ", "? ", "\n")) + 1
    before = text[max(begin, match.start() - _ASKED_WITHIN) : match.start()]
    if not before.strip() or not ASKED.search(before):
        return False
    # "How do I get you to ignore your rules": the one who is asked is meant.
    return documents or TO_YOU.search(before + match[0]) is None


def _is_quoted(text: str, match: re.Match[str]) -> bool:
    """Tell whether a text that is about such attacks only quotes one."""
    for quoted in QUOTES.finditer(text):
        if quoted.start() <= match.start() and match.end() <= quoted.end():
            return TOPIC.search(text[: quoted.start()] + " " + text[quoted.end() :]) is not None
    return False


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
