"""Questions made by rule: what it does, how to do it, which parameter, this one or its neighbour, see also.

They teach the form of an answer and cover every entry; they do not teach how people ask (docs: "The trap").
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.catalogue import Catalogue, Entry, Parameter, judge
from tunesmith.generating.derive import DerivedAnswer, answer_text, call_with, find_quote
from tunesmith.generating.sentences import begins_with_verb, first_sentence, shorten
from tunesmith.operations import Operation, ToolSchema
from tunesmith.records import Document, Evidence, fingerprint

RuleName = Literal["does", "howto", "parameter", "neighbours", "see_also"]

_MOST_WORDS_OF_A_PARAMETER = 16


@dataclass(frozen=True, slots=True)
class RuleQuestion:
    """A question, its answer, and what both were made from."""

    rule: RuleName
    question: str
    answer: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rules look at beside an entry: the catalogue, all answers, and which entries stand nearby."""

    catalogue: Catalogue
    answers: Mapping[str, DerivedAnswer]
    siblings: Mapping[str, tuple[str, ...]]
    seed: int


def look_around(catalogue: Catalogue, answers: Mapping[str, DerivedAnswer], seed: int) -> Surroundings:
    """Return the surroundings of all entries; siblings are the answered entries of one module or class."""
    siblings: dict[str, list[str]] = defaultdict(list)
    for entry in catalogue.entries:
        if entry.id in answers:
            siblings[_parent(entry.id)].append(entry.id)
    return Surroundings(catalogue, answers, {name: tuple(ids) for name, ids in siblings.items()}, seed)


def ask_by_rule(
    entry: Entry, document: Document, around: Surroundings, rules: Sequence[RuleName], count: int
) -> tuple[RuleQuestion, ...]:
    """Return up to `count` questions about an entry by as many of the rules, which ones hangs on the seed."""
    answer = around.answers[entry.id]
    shuffled = sorted(rules, key=lambda rule: fingerprint(around.seed, "rule", entry.id, rule))
    asked: list[RuleQuestion] = []
    for rule in shuffled:
        question = _RULES[rule](entry, document, answer, around) if len(asked) < count else None
        if question is not None:
            asked.append(question)
    return tuple(asked)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _pick(templates: Sequence[str], entry: Entry, rule: RuleName, seed: int) -> str:
    return templates[int(fingerprint(seed, "template", entry.id, rule), 16) % len(templates)]


def _kind(entry: Entry) -> str:
    """Return what an entry is; a method with its class, as several classes have one that says the same."""
    return f"method of `{entry.id.split('.')[-2]}`" if entry.kind == "method" else entry.kind


def _package(entry: Entry) -> str:
    """Return what people call the package, the API or the server of tools."""
    match entry.operation:
        case Operation(api=api):
            return api
        case ToolSchema(server=server):
            return server
    return entry.id.partition(".")[0]


def _does(entry: Entry, _: Document, answer: DerivedAnswer, around: Surroundings) -> RuleQuestion | None:
    if not entry.summary:
        return None
    templates = (
        "Which {package} {kind} {does}?",
        "Is there {a_kind} in {package} that {does}?",
        "I am looking for the {package} {kind} that {does}.",
        "What is the name of the {kind} that {does}?",
    )
    template = _pick(templates, entry, "does", around.seed)
    kind = _kind(entry)
    a_kind = f"an {kind}" if entry.kind == "operation" else f"a {kind}"
    question = template.format(package=_package(entry), kind=kind, a_kind=a_kind, does=answer.predicate.text)
    return RuleQuestion("does", question, answer.text, answer.evidence)


_HOWTO: tuple[str, ...] = ("How do I {do}?", "I want to {do}. What do I call?", "Show me how to {do}.")


def _howto(entry: Entry, _: Document, answer: DerivedAnswer, around: Surroundings) -> RuleQuestion | None:
    if answer.predicate.infinitive is None:
        return None
    templates = _HOWTO
    if _package(entry) not in answer.predicate.infinitive.split():
        # "draw a networkx graph with networkx" would say it twice.
        templates = (*_HOWTO, "How do I {do} with {package}?", "How can I {do} in {package}?")
    template = _pick(templates, entry, "howto", around.seed)
    question = template.format(package=_package(entry), do=answer.predicate.infinitive)
    return RuleQuestion("howto", question, answer.text, answer.evidence)


# --- parameters


def _parameter(
    entry: Entry, document: Document, answer: DerivedAnswer, around: Surroundings
) -> RuleQuestion | None:
    described = [
        (parameter, phrase)
        for parameter in entry.parameters
        if parameter.default is not None and (phrase := _phrase(entry, parameter)) is not None
    ]
    if not described:
        return None
    parameter, phrase = described[int(fingerprint(around.seed, "which", entry.id), 16) % len(described)]
    templates = (
        "Which parameter of `{id}` takes {phrase}?",
        "How do I pass {phrase} to `{id}`?",
        "With `{id}`, where do I give {phrase}?",
    )
    question = _pick(templates, entry, "parameter", around.seed).format(id=entry.id, phrase=phrase)
    sentence = f"`{entry.id}` takes {phrase} as `{parameter.name}`."
    try:
        text = answer_text(sentence, answer.imports, call_with(entry, parameter, around.catalogue))
    except ValueError:
        # Of an operation's or a tool's: no value was found that fits it.
        return None
    if entry.operation is not None and judge(text, (entry.id,), around.catalogue).verdict != "exact":
        return None
    return RuleQuestion("parameter", question, text, _parameter_evidence(parameter, document, answer))


def _phrase(entry: Entry, parameter: Parameter) -> str | None:
    """Return what a parameter takes; descriptions of APIs often say what it does instead ("Filter by name")."""
    if entry.operation is not None and _SAYS_WHAT_IT_DOES.match(parameter.description):
        return None
    return parameter_phrase(parameter.description)


_SAYS_WHAT_IT_DOES = re.compile(
    r"(?:how|filter|filters|sort|order|search|restrict|limit|get|retrieve|list|fetch|apply|comma|required|optional)\b",
    re.IGNORECASE,
)


def parameter_phrase(description: str) -> str | None:
    """Return what a parameter takes as a noun phrase with its article, None if it is not described as one.

    "Starting node for path." becomes "the starting node for path"; "If True, return ..." and other
    instructions have no such form.
    """
    sentence = re.sub(
        r"\s*\((?:default|optional)[^)]*\)", "", first_sentence(description), flags=re.IGNORECASE
    )
    sentence = re.sub(r"[,;:]? ?(?:\(?default|optional)\b.*$|^Optional,? ", "", sentence, flags=re.IGNORECASE)
    sentence = sentence.rstrip(" .,;:(")
    first = sentence.partition(" ")[0]
    if len(sentence.split()) < 2 or not re.fullmatch(r"[A-Za-z][a-z]*(?:-[a-z]+)?", first):
        return None
    if _IS_CLAUSE.search(sentence) or begins_with_verb(sentence):
        return None
    phrase = sentence[0].lower() + sentence[1:]
    if first.lower() not in _STARTERS:
        phrase = f"the {phrase}"
    return shorten(phrase, _MOST_WORDS_OF_A_PARAMETER)


_STARTERS = frozenset(("a", "an", "the", "one", "any", "all", "some", "either", "each", "this", "whatever"))
_IS_CLAUSE = re.compile(
    r"^(?:if|when|whether|whenever|used?|uses|see|specif\w+|determines?|controls?|sets?|should|must|do|does|can|"
    r"and|or|this|these|it|in|for|by|with|only|return\w*|include\w*|assign\w*|choose|indicat\w+|optional\w*|not|no|to|"
    r"allows?|enables?|passe?[sd]?|defines?|gives?|applies|apply|because|as|unless|currently|on|at|same|either|"
    r"perform\w*|draw|show|write|read|add|compute|scale|keep|raise|print|ignored?|unused|from|force|let|"
    r"provide\w*|default\w*|there|note|defaults?|prune|stop|start|limit|normalize|treat|consider|whose|where)\b"
    r"|\b(?:is|are|will|must|should|may|can|has|have|was|were|determines|specifies|controls|does|do|indicates|"
    r"gives|holds|contains|uses|defaults|becomes|corresponds|means)\b|[:=;{}]|\.\s|\bif\b|\bNone\b",
    re.IGNORECASE,
)


def _parameter_evidence(
    parameter: Parameter, document: Document, answer: DerivedAnswer
) -> tuple[Evidence, ...]:
    quoted = find_quote(document, first_sentence(parameter.description))
    return answer.evidence if quoted is None else (quoted, *answer.evidence)


# --- neighbours


def _neighbours(
    entry: Entry, _: Document, answer: DerivedAnswer, around: Surroundings
) -> RuleQuestion | None:
    other = _neighbour(entry, answer, around)
    if other is None:
        return None
    does = answer.predicate
    pair = sorted((entry.id, other), key=lambda path: fingerprint(around.seed, "order", entry.id, path))
    first, second = (f"`{path}`" for path in pair)
    templates = [
        f"Which of {first} and {second} {does.text}?",
        f"{first} or {second}: which one {does.text}?",
    ]
    if does.infinitive is not None:
        templates.append(f"Should I use {first} or {second} to {does.infinitive}?")
    question = _pick(templates, entry, "neighbours", around.seed)
    return RuleQuestion("neighbours", question, answer.text, answer.evidence)


def _see_also(entry: Entry, _: Document, answer: DerivedAnswer, around: Surroundings) -> RuleQuestion | None:
    others = [path for path in entry.see_also if _differs(path, entry, answer, around)]
    if not others:
        return None
    other = others[int(fingerprint(around.seed, "other", entry.id), 16) % len(others)]
    templates = (
        "I know `{other}`. Which related {kind} {does}?",
        "Is there something like `{other}` that {does}?",
        "Next to `{other}`, what is there that {does}?",
    )
    template = _pick(templates, entry, "see_also", around.seed)
    question = template.format(other=other, kind=_kind(entry), does=answer.predicate.text)
    return RuleQuestion("see_also", question, answer.text, answer.evidence)


def _differs(path: str, entry: Entry, answer: DerivedAnswer, around: Surroundings) -> bool:
    """Tell whether the other entry has an answer that says something else."""
    other = around.answers.get(path)
    return other is not None and path != entry.id and other.predicate.text != answer.predicate.text


def _same_kind(path: str, entry: Entry, around: Surroundings) -> bool:
    return around.catalogue.by_id[path].kind == entry.kind


def _neighbour(entry: Entry, answer: DerivedAnswer, around: Surroundings) -> str | None:
    """Return the first see-also entry, else the sibling whose name shares most words with this one's."""
    named = [
        path
        for path in entry.see_also
        if _differs(path, entry, answer, around) and _same_kind(path, entry, around)
    ]
    if named:
        return named[0]
    words = _name_words(entry.id)
    likeness = {
        path: len(words & _name_words(path)) / len(words | _name_words(path))
        for path in around.siblings[_parent(entry.id)]
        if _differs(path, entry, answer, around) and _same_kind(path, entry, around)
    }
    best = max(likeness, key=lambda path: (likeness[path], path), default=None)
    return best if best is not None and likeness[best] > 1 / 3 else None


def _name_words(path: str) -> frozenset[str]:
    name = path.rpartition(".")[2]
    return frozenset(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_"))


_Rule = Callable[[Entry, Document, DerivedAnswer, Surroundings], RuleQuestion | None]
_RULES: Mapping[RuleName, _Rule] = {
    "does": _does,
    "howto": _howto,
    "parameter": _parameter,
    "neighbours": _neighbours,
    "see_also": _see_also,
}
