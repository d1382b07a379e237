"""What is wrong with the words of a conversation, whoever wrote it: the rules that `check` and `curate` share.

A rule says what it found, where, and the way out, and mends what can be mended without a guess. Some of what it finds
is wrong in any data; some may be meant, and is shown for a person to look at.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Literal

from tunesmith.curating.privacy import PrivacySettings, find_private
from tunesmith.curating.privacy.examples import masked
from tunesmith.languages import differs

Severity = Literal["wrong", "look"]
LONG_TURN: Final = 100_000
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Words:
    """What one turn says; `calls` are (name, arguments as JSON text)."""

    role: str
    text: str
    calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found: in which turn (from 0; None: in the whole), what, the way out, and if `mended` takes it."""

    rule: str
    turn: int | None
    found: str
    way_out: str
    severity: Severity
    mendable: bool = False


def findings(turns: Sequence[Words], schemas: Mapping[str, Any] | None = None) -> Iterator[Finding]:
    """Yield what is wrong with a conversation; `schemas` are the JSON schemas of the functions it may call, by name."""
    yield from _order(turns)
    for number, turn in enumerate(turns):
        yield from _of_turn(number, turn)
        for name, arguments in turn.calls:
            yield from _of_call(number, name, arguments, schemas or {})
    yield from _language(turns)


def private_data(turns: Sequence[Words], settings: PrivacySettings) -> Iterator[Finding]:
    """Yield what is private in a conversation, each value shown in part."""
    for number, turn in enumerate(turns):
        for each in find_private(turn.text, settings):
            found = f"{masked(each)} ({each.why})"
            yield Finding(f"private data, {each.kind}", number, found, _PRIVATE_WAY, "look")


_PRIVATE_WAY: Final = "Take it out: --fix OUT --private redact (or pseudonymise); or --allow what may stay."


def mended(text: str) -> str:
    """Return an answer with everything mended that needs no guess."""
    text = without_junk(text)
    as_json = _python_as_json(text)
    return text if as_json is None else as_json


def without_junk(text: str) -> str:
    """Return a text without characters that nobody sees, and with those right that were read in a wrong encoding.

    What was wrong twice, or only together with what nobody sees, comes right in as many turns; each makes it shorter.
    """
    before = None
    while text != before:
        before = text
        text = _JUNK.sub(lambda match: match[0] if match[0] in _JOINERS else "", _unmangled(text))
    return text


# --- the order of turns


def _order(turns: Sequence[Words]) -> Iterator[Finding]:
    for number, (before, turn) in enumerate(pairwise(turns), 1):
        if turn.role == before.role and turn.role in ("user", "assistant", "system"):
            found = f"two turns of the {turn.role} follow each other"
            yield Finding("order", number, found, "Join them, or put in what was said between.", "look")
        if turn.role in ("system", "developer") and before.role not in ("system", "developer"):
            yield Finding("order", number, "the system speaks in the middle", "Put it first.", "look")


# --- one turn


def _of_turn(number: int, turn: Words) -> Iterator[Finding]:
    text = turn.text
    if not text.strip():
        if not turn.calls:
            yield Finding(
                "empty", number, f"the {turn.role} says nothing", "Fill it, or take the row out.", "wrong"
            )
        return
    if len(text) > LONG_TURN:
        found = f"{len(text):,} characters"
        yield Finding("long turn", number, found, f"Is a turn of over {LONG_TURN:,} meant?", "look")
    yield from _characters(number, text)
    yield from _repeats(number, text)
    if turn.role == "assistant":
        yield from _python(number, text)
    yield from _placeholders(number, text)


# Control characters (line feed, tab and carriage return apart), marks of direction, spaces of no width.
_JUNK = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_ASCII_JUNK = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# UTF-8 read as Windows-1252: é as Ã©, ’ as â€™.
_MANGLED = re.compile("[ÃÂ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ¡-¿]|â€[\x80-\xbf™œ“”˜¦¢]")


def _characters(number: int, text: str) -> Iterator[Finding]:
    if text.isascii():
        junk = _ASCII_JUNK.search(text)
        if junk is not None:
            yield _junk(number, junk)
        return
    if "\ufffd" in text:
        found = f"U+FFFD, where bytes could not be read: {_around(text, text.index(chr(0xFFFD)))}"
        yield Finding("encoding", number, found, "Read the source again with its right encoding.", "wrong")
    mangled = _MANGLED.search(text)
    if mangled is not None and _unmangled(text) != text:
        found = f"UTF-8 that was read as Windows-1252: {_around(text, mangled.start())}"
        yield Finding("encoding", number, found, "Read it as UTF-8.", "wrong", mendable=True)
    # Joined emoji and scripts that need the mark are no junk.
    junk = next((match for match in _JUNK.finditer(text) if match[0] not in _JOINERS), None)
    if junk is not None:
        yield _junk(number, junk)


_JOINERS: Final = frozenset("\u200c\u200d\u200e\u200f")


def _junk(number: int, found: re.Match[str]) -> Finding:
    text = f"U+{ord(found[0]):04X}, which nobody sees: {_around(found.string, found.start())}"
    return Finding("control character", number, text, "Take it out.", "wrong", mendable=True)


def _unmangled(text: str) -> str:
    """Return a text whose UTF-8 was read as Windows-1252 as it was meant; one for which that does not hold as it is."""
    if _MANGLED.search(text) is None:
        return text
    try:
        return text.encode("cp1252").decode()
    except UnicodeError:
        return _MANGLED.sub(_one_unmangled, text)


def _one_unmangled(match: re.Match[str]) -> str:
    try:
        return match[0].encode("cp1252").decode()
    except UnicodeError:
        return match[0]


_LOOP, _FEWEST_LOOPS = 32, 4
_FEWEST_LINES, _DIFFERENT_LINES = 12, 0.34


def _repeats(number: int, text: str) -> Iterator[Finding]:
    """Find a text that goes round in circles, as models do that were not stopped."""
    tail = text[-_LOOP:]
    if len(text) > _LOOP * _FEWEST_LOOPS and len(set(tail)) > 4 and text.count(tail) >= _FEWEST_LOOPS:
        found = f"its last words stand there {text.count(tail)} times: {_short(tail)}"
        yield Finding("repeated text", number, found, "Cut it where it begins to repeat.", "look")
        return
    if text.count("\n") >= _FEWEST_LINES:
        lines = [line for line in map(str.strip, text.split("\n")) if len(line) > 20]
        if len(lines) >= _FEWEST_LINES and len(set(lines)) < _DIFFERENT_LINES * len(lines):
            found = f"{len(set(lines))} different lines of {len(lines)}"
            yield Finding("repeated text", number, found, "Cut it where it begins to repeat.", "look")


def _python(number: int, text: str) -> Iterator[Finding]:
    if not text.lstrip().startswith(("{", "[")):
        return
    as_json = _python_as_json(text)
    value = _literal(text) if as_json is not None else _json(text)
    if as_json is not None:
        found = f"a Python literal, which no JSON parser reads: {_short(text)}"
        yield Finding("Python for JSON", number, found, f"Write {_short(as_json)}", "wrong", mendable=True)
    for key, stray in _strays(value):
        found = f"{key} has a quotation mark that belongs to nothing: {_short(stray)}"
        yield Finding("stray quote", number, found, "Take it out.", "look")
    for key, said in _pairs(value):
        if said.lower() in _DUMMIES or (said == key and said not in ("id", "name", "type")):
            yield Finding("placeholder", number, f"{key} is {said!r}", "Put in a real value.", "look")


def _python_as_json(text: str) -> str | None:
    """Return the JSON of a text that is a Python dict or list and no JSON."""
    stripped = text.strip()
    if (
        not stripped.startswith(("{", "["))
        or not stripped.endswith(("}", "]"))
        or _json(stripped) is not None
    ):
        return None
    value = _literal(stripped)
    if not isinstance(value, dict | list):
        return None
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str):
                yield str(key), inner
            else:
                yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


def _strays(value: Any) -> Iterator[tuple[str, str]]:
    for key, said in _pairs(value):
        bare = said.strip()
        if bare.count('"') % 2 and (bare.startswith('"') or bare.endswith('"')):
            yield key, said


_DUMMIES: Final = frozenset(
    {"string", "model_type", "xxx", "todo", "tbd", "n/a", "placeholder", "value", "foo", "bar"}
)


def _hints(lowered: str) -> bool:
    """Tell whether there may be a placeholder: a plain search costs a tenth of the expression."""
    return (
        "your" in lowered
        or "todo" in lowered
        or "xxx" in lowered
        or "insert" in lowered
        or "replace" in lowered
        or "placeholder" in lowered
        or "fixme" in lowered
        or "tbd" in lowered
        or "enter" in lowered
        or "lorem" in lowered
        or "model_type" in lowered
    )


_PLACEHOLDER = re.compile(
    r"\byour[_-](?:\w+[_-])?(?:key|token|secret|id|name|url|path|password)\b"
    r"|[<\[{](?:your|insert|replace|enter|placeholder)\b[^<>\[\]{}\n]{0,40}[>\]}]"
    r"|\blorem ipsum\b|\b(?:todo|fixme|tbd|xxx+)\b(?=[\s:,.!)]|$)|(['\"])model_type\1",
    re.IGNORECASE,
)


def _placeholders(number: int, text: str) -> Iterator[Finding]:
    if not _hints(text.lower()):
        return
    match = _PLACEHOLDER.search(text)
    if match is not None:
        yield Finding("placeholder", number, _around(text, match.start()), "Put in a real value.", "look")


# --- calls


def _of_call(number: int, name: str, arguments: str, schemas: Mapping[str, Any]) -> Iterator[Finding]:
    schema = schemas.get(name)
    if schema is None:
        return
    try:
        value = json.loads(arguments)
    except ValueError:
        return  # told where the row is read
    validate = _validator(json.dumps(schema, sort_keys=True))
    if isinstance(validate, str):
        found = f"the schema of {name} is none: {validate}"
        yield Finding("tool schema", number, found, "Mend it in the row's tools.", "wrong")
        return
    for message in validate(value):
        found = f"{name}({_short(arguments)}): {message}"
        yield Finding(
            "tool call", number, found, "Mend the arguments, or the schema in the row's tools.", "wrong"
        )


@lru_cache(maxsize=256)
def _validator(schema: str) -> Callable[[Any], list[str]] | str:
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for(json.loads(schema))
    except (ValueError, jsonschema_rs.ValidationError) as error:
        return str(error).partition("\n")[0]
    return lambda value: [
        f"{''.join(f'[{part!r}]' for part in error.instance_path)} {error.message}".strip()
        for error in validator.iter_errors(value)
    ]


# --- language


def _language(turns: Sequence[Words]) -> Iterator[Finding]:
    asked = ""
    for number, turn in enumerate(turns):
        if turn.role == "user":
            asked = turn.text
        elif turn.role == "assistant" and asked and "translat" not in asked.lower():
            found = differs(turn.text, asked)
            if found is not None:
                way = "Is the answer meant to be in another language than the question?"
                yield Finding("language", number, f"{found}: {_short(turn.text)}", way, "look")


def _around(text: str, place: int) -> str:
    start = max(0, place - _SHOWN // 2)
    return _short(text[start : place + _SHOWN // 2])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}...")
