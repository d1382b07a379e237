"""Gorilla's published metric: whether an answer's call is of the domain that was asked for, by the names in it.

Patil et al. 2023, Gorilla: Large Language Model Connected with Massive APIs (arXiv:2305.15334), as their evaluation
script for TorchHub computes it. Of a syntax tree nothing but the text of one call counts there, so a scanner for calls
and strings takes the parser's place; it also reads the published calls that are no Python. On the released answers of
Gorilla-7B without retrieval it gives the script's own figures to the digit (docs/log.md).

The metric is lenient, and its figures can only be held against figures of its own kind:

- A call is *correct* when the first known call all of whose names stand in it has the domain asked for. 77 of
  TorchHub's 94 calls share one domain, and so do 158 of the 186 published questions: one constant answer is correct for
  all of these.
- Names are looked for anywhere in the call: `vgg11_bn` is taken for `vgg11`, `vanilla_resnet50` for `resnet50`. A known
  call that names no model is found in any call of its repository.
- It is *hallucinated* when no known call fits, also where the call exists and only lacks an argument that the published
  list has; and *wrong* else, also when there is no call at all. An answer whose call stands in the same quotes as its
  arguments counts as hallucinated, whatever it calls: 17 of the 30 such answers of the released ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

PublishedVerdict = Literal["correct", "wrong", "hallucinated"]

_NAMING: Final = ("repo_or_dir", "model")
_TOKEN: Final = re.compile(r"""\\.|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|[\w.]+|.""", re.DOTALL)
_LOOKED_AT: Final = re.compile(r"""['"].|\w+\.\w""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Known:
    """A call that exists: the function, the values of its arguments that name what is loaded, and its domain."""

    function: str
    names: tuple[str, ...]
    domain: str


def known_calls(calls: Iterable[tuple[str, str]]) -> tuple[Known, ...]:
    """Return the calls of a catalogue, in its order, from each call's text and domain.

    What names a thing is an argument with `repo_or_dir` or `model` in it, as in the script: `model_math='fp16'` too.
    """
    return tuple(_known(text, domain) for text, domain in calls)


def _known(text: str, domain: str) -> Known:
    function, _, rest = text.partition("(")
    named = (
        one.partition("=") for one in _arguments(rest.rpartition(")")[0]) if any(n in one for n in _NAMING)
    )
    return Known(function, tuple(value.strip("'") for _, equals, value in named if equals), domain)


def _arguments(text: str) -> Iterator[str]:
    """Yield the arguments of a call; commas in brackets and quotes part nothing."""
    for match in re.finditer(r"(?:'[^']*'|\{[^}]*\}|[^,])+", text):
        yield match[0].strip()


def judge_answer(answer: str, domain: str, known: Sequence[Known]) -> PublishedVerdict:
    """Judge an answer in Gorilla's own form, of which only what stands after the word `api_call` counts."""
    call = call_in(answer)
    return "wrong" if call is None else judge_call(call, domain, known)


def call_in(answer: str) -> str | None:
    """Return what stands between the first `api_call` and `api_provider`, cut as the script cuts it.

    That is from two characters after the first colon to the last closing parenthesis (without one, to the last
    character but one). None for an answer that never says `api_call`.
    """
    parts = answer.split("api_call")
    if len(parts) == 1:
        return None
    said = parts[1].split("api_provider")[0]
    start = said.index(":") if ":" in said else 0
    end = said.rindex(")") if ")" in said else -2
    return said[start + 2 : end + 1]


def judge_call(call: str, domain: str, known: Sequence[Known]) -> PublishedVerdict:
    """Judge the code of a call against the domain that was asked for."""
    found = find_known(call, known)
    if found is None:
        return "hallucinated"
    return "correct" if found.domain == domain else "wrong"


def find_known(call: str, known: Sequence[Known]) -> Known | None:
    """Return the first known call all of whose names stand in the code of a call, None if there is none."""
    pieces = {function: _piece(call, function) for function in {one.function for one in known}}
    fitting = (one for one in known if one.names and all(name in pieces[one.function] for name in one.names))
    return next(fitting, None)


def _piece(code: str, function: str) -> str:
    """Return the text of the last whole call of a function, outside of strings.

    Where there is none that is the first string or dotted name, which is what the script comes to look at, else all.
    """
    tokens = [match[0] for match in _TOKEN.finditer(code)]
    starts = [at for at, token in enumerate(tokens) if token == function and tokens[at + 1 : at + 2] == ["("]]
    whole = [call for at in starts if (call := _balanced(tokens[at:]))]
    return whole[-1] if whole else next(filter(_LOOKED_AT.match, tokens), code)


def _balanced(tokens: Sequence[str]) -> str:
    """Return the text up to the parenthesis that closes the first one; "" where nothing does."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token == ")" and depth == 0:
            return "".join(tokens[: at + 1])
    return ""
