"""What a rail is: a check that acts at one place, and what becomes of a text in which it finds something."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, get_args

from tunesmith.records import Passage

Where = Literal["input", "retrieval", "output", "tools"]
Action = Literal["allow", "redact", "ask_again", "refuse"]
# What a rail looks at in an answer: a sentence, a whole fenced block, or nothing less than all of it.
Unit = Literal["sentence", "block", "answer"]
PLACES: tuple[Where, ...] = get_args(Where)
LEFT_OUT: Final = "[left out]"
# From mild to strict: of several findings the strictest decides.
ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the text that was looked at, `text[start:end]`, and what stands there after it is redacted."""

    start: int
    end: int
    instead: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rail found: by its place and name, what is done about it, and why, in words that repeat no secret."""

    rail: str
    action: Action
    reason: str
    spans: tuple[Span, ...] = ()

    def __str__(self) -> str:
        return f"{self.action}: {self.rail}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Context:
    """What a rail may know beside the text: the question, what was retrieved, whose text it is, what came before.

    `source` is the id of the passage that is looked at; `before` ends where the text begins.
    """

    question: str = ""
    passages: tuple[Passage, ...] = ()
    source: str = ""
    before: str = ""


class Rail(Protocol):
    """A check; it keeps no state, so that threads may share it."""

    @property
    def name(self) -> str:
        """Its place and what it is about, such as input.injection."""
        ...

    @property
    def where(self) -> Where:
        """Where it acts."""
        ...

    @property
    def unit(self) -> Unit:
        """How much of an answer it must see at once."""
        ...

    def check(self, text: str, context: Context) -> Finding | None:
        """Return what it finds in a text, None if nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong with a text, and the stretches of it that are; none means all of it."""

    reason: str
    spans: tuple[Span, ...] = ()


Find = Callable[[str, Context], Found | None]


@dataclass(frozen=True, slots=True)
class Check:
    """A rail made of a function that finds, and of what a policy wants done about it."""

    where: Where
    about: str
    action: Action
    find: Find
    unit: Unit = "sentence"
    # Takes out of a reason what may not be repeated.
    tell: Callable[[str], str] = str

    @property
    def name(self) -> str:
        """Its place and what it is about."""
        return f"{self.where}.{self.about}"

    def check(self, text: str, context: Context) -> Finding | None:
        """Return what it finds in a text, None if nothing."""
        found = self.find(text, context)
        if found is None:
            return None
        spans = found.spans or (Span(0, len(text), LEFT_OUT),)
        return Finding(self.name, self.action, self.tell(found.reason), spans)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a text: the strictest action, the text that goes on (redacted if need be), and every finding."""

    action: Action
    text: str
    findings: tuple[Finding, ...] = ()

    @property
    def reason(self) -> str:
        """Why, by the first of the strictest findings; "" if there is none."""
        return next((each.reason for each in self.findings if each.action == self.action), "")


def look(rails: Iterable[Rail], text: str, context: Context) -> Outcome:
    """Return what becomes of a text that each of the rails has looked at; after a refusal no other one looks."""
    findings: list[Finding] = []
    for rail in rails:
        found = rail.check(text, context)
        if found is None:
            continue
        findings.append(found)
        if found.action == "refuse":
            break
    return outcome(text, findings)


def strictest(findings: Iterable[Finding]) -> Action:
    """Return the strictest action of findings, "allow" where there is none."""
    actions: list[Action] = [each.action for each in findings]
    return max(actions, key=ACTIONS.index, default="allow")


def outcome(text: str, findings: Sequence[Finding]) -> Outcome:
    """Return what findings come to: the strictest action, and the text without what is to be redacted."""
    action = strictest(findings)
    spans = [span for each in findings if each.action == "redact" for span in each.spans]
    return Outcome(action, redacted(text, spans), tuple(findings))


def redacted(text: str, spans: Iterable[Span]) -> str:
    """Return the text with something else in place of each span; of those that overlap, the first covers both."""
    parts, end = [], 0
    for span in sorted(spans, key=lambda each: (each.start, -each.end)):
        if span.start >= end:
            parts += [text[end : span.start], span.instead]
        end = max(end, span.end)
    return "".join([*parts, text[end:]])


def without(finds: Sequence[Find]) -> Callable[[str], str]:
    """Return what takes out of a text whatever is found in it, one search after the other."""

    def tell(text: str) -> str:
        for find in finds:
            found = find(text, Context())
            text = text if found is None else redacted(text, found.spans)
        return text

    return tell


def shifted(spans: Iterable[Span], by: int) -> tuple[Span, ...]:
    """Return spans of a text as those of its part from `by` on; what ends before it is left out."""
    return tuple(
        replace(span, start=max(0, span.start - by), end=span.end - by) for span in spans if span.end > by
    )
