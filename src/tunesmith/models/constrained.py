"""Decoding that can only speak calls of the catalogue, arguments bound: a grammar of answers for llguidance.

What is not covered: whether the call answers the question, argument values beyond their syntax, keyword
arguments in another order than the signature's, lambdas, comprehensions and calls as arguments; and requests of HTTP
APIs, which are refused. A tool's call is JSON under its schema.
"""

from __future__ import annotations

import builtins
import json
import keyword
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tunesmith.catalogue import Catalogue, Entry, Parameter
from tunesmith.errors import ModelError
from tunesmith.models.call_schemas import call_schema
from tunesmith.models.local import Constraint
from tunesmith.operations import ToolSchema
from tunesmith.records import Conversation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_MOST_STARRED = 4  # values for a parameter like *nodes
_KEPT_GRAMMARS = 64

# Of the sentence: no line break, no fence, and no dotted name in code style, which could be a call that the
# catalogue does not have. Of the values: what derived answers hold, and never a call. Numbers and strings are
# short, containers are small and nest three deep, so that a model that rambles comes to an end.
# Stretches of free text are plain classes with a bound, for which llguidance has prepared the masks (slices):
# 0.03 ms for a mask of 49,152 tokens, against 0.2 ms with the bound as an intersection.
_TERMINALS = r"""
speech: (SAID CODE){0,3} LAST
SAID: /[^`\x00-\x1f\x7f]{1,200}/
CODE: /`([^`.\x00-\x1f\x7f]|\.[^`A-Za-z_\x00-\x1f\x7f]){1,60}`/
LAST: /[^`\x00-\x1f\x7f]{0,200}\./
NAME: /[A-Za-z_][A-Za-z0-9_]{0,40}/ & ~/(KEYWORDS)/
NUMBER: /-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,15})?(e-?[1-9][0-9]?)?/
STRING: /b?'([\x20-\x26\x28-\x5b\x5d-\x5f\x61-\x7e]|\\[\\'nrt]){0,60}'/
DOUBLE: /b?"([\x20\x21\x23-\x5b\x5d-\x5f\x61-\x7e]|\\[\\"nrt]){0,60}"/
CONSTANT: "True" | "False" | "None"
scalar: NAME ("." NAME){0,3} | NUMBER | STRING | DOUBLE | CONSTANT
"""
_CONTAINERS = r"""
OUTER: scalar | list_OUTER | tuple_OUTER | set_OUTER | dict_OUTER
list_OUTER: "[" (INNER (", " INNER){0,7})? "]"
tuple_OUTER: "(" (INNER ("," | (", " INNER){1,7}))? ")"
set_OUTER: "{" INNER (", " INNER){0,7} "}"
dict_OUTER: "{" (INNER ": " INNER (", " INNER ": " INNER){0,7})? "}"
"""
_SLICES = [r"[^`\x00-\x1f\x7f]{1,10}", r"[^`\x00-\x1f\x7f]{1,30}", r"[^`\x00-\x1f\x7f]+"]
_LEVELS = ("value", "inner", "innermost", "scalar")


class CatalogueGrammar:
    """Makes the constraints under which a model can only answer with a call of the catalogue.

    An answer is a sentence that names the entry, and a Python block with the import and a call of that same
    entry, whose arguments bind. `restrict_to` says which entries a conversation may be answered with, as ids
    (none: all of the catalogue); the grammars of the last few restrictions are kept. All constraints share
    what the parser has learned about the tokens, so the first answers are slower than the later ones.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        tokenizer: PreTrainedTokenizerBase,
        *,
        restrict_to: Callable[[Conversation], Sequence[str]] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._restrict_to = restrict_to
        self._tokenizer = readable(tokenizer)
        self._matcher = lru_cache(maxsize=_KEPT_GRAMMARS)(self._compile)

    def constraint(self, conversation: Conversation) -> Constraint:
        """Return the constraint for one answer; raises ModelError for a restriction to an unknown entry."""
        allowed = () if self._restrict_to is None else tuple(self._restrict_to(conversation))
        return _CallConstraint(self._matcher(allowed).deep_copy())

    def accepts(self, answer: str) -> bool:
        """Tell whether the text is a whole answer that an unrestricted constraint lets pass."""
        matcher = self._matcher(()).deep_copy()
        tokens = self._tokenizer.tokenize_str(answer)
        return matcher.try_consume_tokens(tokens) == len(tokens) and bool(matcher.is_stopped())

    def _compile(self, allowed: tuple[str, ...]) -> Any:
        from llguidance import LLMatcher, LLParserLimits

        entries = tuple(map(self._entry, allowed)) or self._catalogue.entries
        grammar = LLMatcher.grammar_from_lark(answer_grammar(self._catalogue, entries))
        limits = LLParserLimits(
            max_items_in_row=10 * len(entries) + 2000,
            initial_lexer_fuel=10_000_000,
            step_lexer_fuel=2_000_000,
        )
        matcher = LLMatcher(self._tokenizer, grammar, limits=limits)
        _check(matcher)
        return matcher

    def _entry(self, entry_id: str) -> Entry:
        entry = self._catalogue.by_id.get(entry_id)
        if entry is None:
            raise ModelError(
                f"answers cannot be restricted to {entry_id!r}, which is not in the catalogue of "
                f"{self._catalogue.package} {self._catalogue.version}",
                hint="Use the catalogue that the passages were made from, or collect and index again.",
            )
        return entry


def one_of(
    answers: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, opening: str = ""
) -> Callable[[Conversation], Constraint]:
    """Return what makes constraints under which a model can only give one of some answers, word for word.

    `opening` is a regular expression for what it may say before, in its own words: what it says first would otherwise
    decide between answers that begin alike. Raises ModelError for no answers, or a tokenizer without a tokenizer.json.
    """
    from llguidance import LLMatcher

    if not answers:
        raise ModelError(
            "a model cannot be kept to one of no answers", hint="Give at least one answer that it may say."
        )
    said = " | ".join(map(_quoted, dict.fromkeys(answers)))
    rules = [f"start: OPENING ({said})", f"OPENING: /{opening}/"] if opening else [f"start: {said}"]
    lark = "\n".join(('%llguidance {"no_forcing": true}', *rules))
    matcher = LLMatcher(readable(tokenizer), LLMatcher.grammar_from_lark(lark))
    _check(matcher)
    return lambda conversation: _CallConstraint(matcher.deep_copy())


def readable(tokenizer: PreTrainedTokenizerBase) -> Any:
    """Return the tokenizer as llguidance reads it; raises ModelError for one without a tokenizer.json."""
    import llguidance.hf

    try:
        return llguidance.hf.from_tokenizer(tokenizer, slices=_SLICES)
    except ValueError as error:
        raise ModelError(
            f"answers cannot be constrained with the tokenizer {type(tokenizer).__name__}: {error}",
            hint="Use a model whose folder has a tokenizer.json.",
        ) from error


def shown_entries(catalogue: Catalogue) -> Callable[[Conversation], tuple[str, ...]]:
    """Return a restriction to the entries whose passages the last message shows (none shown: to nothing)."""

    def shown(conversation: Conversation) -> tuple[str, ...]:
        named = re.findall(r"^- ([\w.]+)\(", conversation[-1].content if conversation else "", re.MULTILINE)
        return tuple(dict.fromkeys(name for name in named if name in catalogue.by_id))

    return shown


def answer_grammar(catalogue: Catalogue, entries: Sequence[Entry]) -> str:
    """Return the Lark grammar, in llguidance's dialect, of all answers that call one of the entries."""
    rules = _Rules()
    answers: list[str] = []
    for number, entry in enumerate(entries):
        if entry.operation is not None:
            answers.append(_tool_answer(number, entry))
            continue
        spoken, imports = _quoted(f"`{entry.id}` "), _quoted(_fence(entry, catalogue))
        calls = " | ".join(_quoted(f"{callee}(") for callee in _callees(entry, catalogue))
        arguments = rules.arguments(_Arguments(entry.parameters))
        answers.append(f'e{number}: {spoken} speech {imports} ({calls}) {arguments} ")\\n```"')
    # Without forcing, text that the grammar leaves no choice about may still be cut into the tokens that the
    # model was trained on (a line break before a name is one token, at a text's end two make one).
    options = '%llguidance {"no_forcing": true}'
    start = "start: " + " | ".join(f"e{number}" for number in range(len(entries)))
    return "\n".join((options, start, *answers, *rules.lines, _values()))


def _tool_answer(number: int, entry: Entry) -> str:
    """Return the rules of a tool's answers: a sentence, and the JSON of a call that fits the tool's schema."""
    if not isinstance(entry.operation, ToolSchema):
        raise ModelError(
            f"answers cannot be constrained to requests of an HTTP API, such as {entry.id}",
            hint="Leave the constrained contenders out of [evaluate] contenders: calls of packages and tools can be.",
        )
    call = {
        **call_schema({entry.operation.name: json.loads(entry.operation.schema)}),
        # Written as derived answers are; rules that the engine does not know are left to the judge.
        "x-guidance": {
            "whitespace_flexible": False,
            "item_separator": ", ",
            "key_separator": ": ",
            "lenient": True,
        },
    }
    spoken, fence = _quoted(f"`{entry.id}` "), _quoted("\n\n```json\n")
    return f'e{number}: {spoken} speech {fence} t{number} "\\n```"\nt{number}: %json {json.dumps(call)}'


def _values() -> str:
    terminals = _TERMINALS.replace("KEYWORDS", "|".join(keyword.kwlist))
    levels = (
        _CONTAINERS.replace("OUTER", outer).replace("INNER", inner) for outer, inner in pairwise(_LEVELS)
    )
    return terminals + "".join(levels)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _fence(entry: Entry, catalogue: Catalogue) -> str:
    package = entry.id.partition(".")[0]
    alias = _alias(package, catalogue)
    imported = f"import {package}" if alias == package else f"import {package} as {alias}"
    return f"\n\n```python\n{imported}\n\n"


def _alias(package: str, catalogue: Catalogue) -> str:
    names = catalogue.import_names.items()
    return next((alias for alias, name in names if name == package and alias != package), package)


def _callees(entry: Entry, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the ways to write what is called: one, or for a method one for each name its object may have."""
    package, _, path = entry.id.partition(".")
    if entry.kind != "method":
        return (f"{_alias(package, catalogue)}.{path}",)
    class_name = entry.id.split(".")[-2]
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower().lstrip("_")
    taken = keyword.iskeyword(words) or hasattr(builtins, words) or words in catalogue.import_names
    receiver = f"my_{words}" if taken else words
    names = ("G", receiver) if class_name.endswith("Graph") else (receiver,)
    return tuple(f"{name}.{entry.name}" for name in names)


@dataclass(frozen=True, slots=True)
class _Arguments:
    """What may still come in a call: the parameters `left`, by position too or by name only.

    `first` says that no argument was given yet, so that no comma comes before the next.
    """

    left: tuple[Parameter, ...]
    first: bool = True
    by_name: bool = False


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules written so far; arguments that may go on in the same ways share one."""

    lines: list[str] = field(default_factory=list)
    names: dict[_Arguments, str] = field(default_factory=dict)

    def arguments(self, still: _Arguments) -> str:
        """Return the name of the rule for all ways to go on, which is written if it is new."""
        key = _Arguments(tuple(map(_bare, still.left)), still.first, still.by_name)
        if key not in self.names:
            name = self.names[key] = f"a{len(self.names)}"
            ways = self._ways_by_name(key) if key.by_name else self._ways(key)
            self.lines.append(f"{name}: {' | '.join(ways)}")
        return self.names[key]

    def _ways(self, still: _Arguments) -> Iterator[str]:
        """Yield the ways on from where arguments may still be given by position."""
        if not any(one.kind == "positional_only" and one.required for one in still.left):
            yield self.arguments(_Arguments(still.left, still.first, by_name=True))
        if not still.left:
            return
        parameter, rest = still.left[0], still.left[1:]
        value = _after(still, "value")
        if parameter.kind in ("positional_only", "positional_or_keyword"):
            yield f"{value} {self.arguments(_Arguments(rest, first=False))}"
        elif parameter.kind == "var_positional":
            more = self.arguments(_Arguments(rest, first=False, by_name=True))
            yield f'{value} (", " value){{0,{_MOST_STARRED - 1}}} {more}'

    def _ways_by_name(self, still: _Arguments) -> Iterator[str]:
        """Yield the ways on from where arguments can only be given by name, in the signature's order."""
        if not still.left:
            yield '""'
            return
        parameter, rest = still.left[0], still.left[1:]
        if parameter.kind in ("positional_or_keyword", "keyword_only"):
            named = _after(still, f"{_quoted(f'{parameter.name}=')} value")
            yield f"{named} {self.arguments(_Arguments(rest, first=False, by_name=True))}"
        if not parameter.required:
            yield self.arguments(_Arguments(rest, still.first, by_name=True))


def _after(still: _Arguments, argument: str) -> str:
    # The comma is a lexeme of its own: in ", weight=" the lexer, which is greedy, would not see ", w" end.
    return argument if still.first else f'", " {argument}'


def _bare(parameter: Parameter) -> Parameter:
    """Return the parameter with what matters to binding, so that like signatures share their rules."""
    return Parameter(parameter.name, parameter.kind, None if parameter.default is None else "")


@dataclass(frozen=True, slots=True)
class _CallConstraint:
    """The state of one answer."""

    matcher: Any

    def allow(self, logits_V: torch.Tensor) -> None:
        """Set the logits of forbidden tokens to minus infinity, in place."""
        import numpy as np
        import torch

        packed = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        _check(self.matcher)
        bits = np.unpackbits(packed, bitorder="little")[: logits_V.shape[0]]
        # A model's output may be wider than its tokenizer's vocabulary.
        forbidden_V = torch.ones(logits_V.shape[0], dtype=torch.bool)
        forbidden_V[: len(bits)] = torch.from_numpy(bits == 0)
        logits_V.masked_fill_(forbidden_V.to(logits_V.device), float("-inf"))

    def advance(self, token: int) -> None:
        """Take note of the token that was picked; raises ModelError for one that was forbidden."""
        self.matcher.consume_token(token)
        _check(self.matcher)

    def finished(self) -> bool:
        """Tell whether the closing fence was spoken."""
        return bool(self.matcher.is_stopped())


def _check(matcher: Any) -> None:
    if matcher.is_error():
        raise ModelError(
            f"the grammar of calls cannot go on: {matcher.get_error()}",
            hint="Restrict answers to fewer entries, or ask without the constraint.",
        )
