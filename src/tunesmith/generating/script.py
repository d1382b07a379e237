"""A script around a call: imports, small data for each name that the call needs, the call; and what it gives.

A call as answers show it (`nx.k_truss(G, k=2)`) leaves its variables to the user. Here each gets a value, from the
first of these that has one: what the user gives, the doctest of the entry itself, the doctests of other entries that
take a parameter of that name, a value by the type that the docstring names. Each script is checked against the
catalogue again and must still hold the same call.

What is not covered: whether the data means anything for the question. It shows that and how the call works.
"""

from __future__ import annotations

import ast
import builtins
import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tunesmith.catalogue import Call, Catalogue, Entry, Judgement, Parameter, calls_in, find_code, judge
from tunesmith.errors import UsageError
from tunesmith.generating.derive import call_text

#: So many scripts are tried, where one does not run.
MOST_TRIED: Final = 6
_SESSIONS = 40
_LONGEST_DATA = 100_000
_BUILTIN: Final = frozenset(dir(builtins))
# By the words of a type as docstrings write it, the first that is found.
_BY_TYPE: Final = (
    (r"bool", "True"),
    (r"iterable of (edges|tuples|pairs)|list of (edges|tuples|pairs)|ebunch", "[(0, 1), (1, 2)]"),
    (r"(list|iterable|sequence|container|set|array)[\w ]* of (str|string)", "['a', 'b']"),
    (r"(list|iterable|sequence|container|set|tuple|array|nbunch)", "[0, 1, 2]"),
    (r"dict|mapping", "{0: 1, 1: 2}"),
    (r"int|number of|positive", "2"),
    (r"float|number|probability|scalar", "0.5"),
    (r"str|text", "'text'"),
    (r"function|callable", "lambda *given: 1"),
    (r"node|vertex|label|object|key", "0"),
)


@dataclass(frozen=True, slots=True)
class Assumed:
    """A name that the script gives a value, and where the value is from: the user, a docstring or a type."""

    name: str
    origin: str


@dataclass(frozen=True, slots=True)
class Script:
    """A whole program: its text, the entry that it calls and the call, what it assumes, and who wrote it."""

    text: str
    entry: str
    call: str
    assumed: tuple[Assumed, ...]
    writer: str = "template"


@dataclass(frozen=True, slots=True)
class _Setup:
    """Statements that give names their values."""

    code: tuple[str, ...]
    assumed: tuple[Assumed, ...]


def checked_call(text: str, catalogue: Catalogue) -> Judgement:
    """Return the judgement of an answer whose call a script can be written around.

    Raises UsageError, with the reason, for an answer without a call, with one that is not valid, and for a call of an
    HTTP API or a tool, which is a whole program already and would leave the machine.
    """
    judgement = judge(text, (), catalogue)
    if judgement.call is None or judgement.verdict not in ("exact", "valid"):
        raise UsageError(
            f"no script is written around this answer: {judgement.reason}.",
            hint="Ask in other words, or another model: a constrained one cannot invent a call.",
        )
    entry = catalogue.lookup(judgement.called or "")
    if judgement.call.request is not None or entry is None or entry.operation is not None:
        raise UsageError(
            f"{judgement.called} is called over the network, and no script is written or run for that.",
            hint="Send the request of `tunesmith ask` yourself, against a server that may be written to.",
        )
    return judgement


def template_scripts(
    text: str, judgement: Judgement, catalogue: Catalogue, given: Mapping[str, str] | None = None
) -> Iterator[Script]:
    """Yield scripts around an answer's call, the best founded data first, each sound against the catalogue.

    `given` are the user's values: a name to the source of an expression. Yields nothing if a name can be given none.
    Raises UsageError for a value whose name the call does not use.
    """
    call, entry = judgement.call, catalogue.lookup(judgement.called or "")
    assert call is not None
    assert entry is not None
    given = given or {}
    whole = _with_import(text, catalogue)
    needed = free_names(whole)
    strange = [name for name in given if name not in needed]
    if strange:
        raise UsageError(
            f"the call {call.text} has no variable {', '.join(strange)}.",
            hint=f"Its variables: {', '.join(needed)}."
            if needed
            else "It has no variables: leave --data out.",
        )
    imports, body = _apart(whole)
    seen: set[str] = set()
    for setup in _setups(needed, call, _Need(_roles(needed, entry, call), entry, catalogue), given):
        code = [line for line in setup.code if line not in imports]
        made = "\n".join((*imports, "", *code, *([""] if code else []), *_shown(body, entry)))
        script = Script(made + "\n", judgement.called or "", call.text, setup.assumed)
        if made not in seen and fault_of(script, catalogue) is None:
            seen.add(made)
            yield script


def read_value(file: Path) -> str:
    """Return a file's value as Python writes it: JSON's, a CSV file's rows as dicts, or any other file's text.

    Raises UsageError for a file that is not there, too large to stand in a script, or not what its name says.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file} cannot be read: {error}", hint="Give --data NAME=FILE, a file of text."
        ) from error
    if len(text) > _LONGEST_DATA:
        raise UsageError(
            f"{file} has {len(text):,} characters, and a script holds its data as text, up to {_LONGEST_DATA:,}.",
            hint="Give a part of it, and read the whole in the script that you save.",
        )
    if file.suffix.lower() == ".csv":
        return repr(list(csv.DictReader(io.StringIO(text))))
    if file.suffix.lower() != ".json":
        return repr(text)
    try:
        return repr(json.loads(text))
    except ValueError as error:
        raise UsageError(f"{file} is no JSON: {error}", hint="Call it .txt if it is text.") from error


def fault_of(script: Script, catalogue: Catalogue) -> str | None:
    """Return why a script is not sound, None if it is.

    It must parse, hold the very call, call nothing of the package that does not exist or bind, import nothing but the
    package and Python's own library, and give every name that it uses a value.
    """
    try:
        tree = ast.parse(script.text)
    except (SyntaxError, ValueError) as error:
        return f"it does not parse: {error}"
    if script.call not in {call.text for call in calls_in(script.text, catalogue)}:
        return f"it does not hold the call {script.call}"
    judgement = judge(f"```python\n{script.text}\n```", (), catalogue)
    if judgement.verdict not in ("exact", "valid"):
        return judgement.reason
    allowed = {*sys.stdlib_module_names, *catalogue.importable, *dependencies(catalogue)}
    strange = [name for name in _imported(tree) if name.partition(".")[0] not in allowed]
    if strange:
        return f"it imports {', '.join(strange)}, which is neither Python's own nor of {catalogue.package}"
    open_names = free_names(script.text)
    return f"it uses {', '.join(open_names)} and gives no value to it" if open_names else None


def free_names(code: str) -> tuple[str, ...]:
    """Return the names that code uses and never binds, in the order of their use.

    One flat namespace, as the catalogue reads answers: what is bound anywhere is bound.
    """
    tree, bound = ast.parse(code), _bound(code)
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and _is_load(node)]
    used.sort(key=lambda node: (node.lineno, node.col_offset))
    return tuple(dict.fromkeys(node.id for node in used if node.id not in bound and node.id not in _BUILTIN))


def _is_load(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


@cache
def _required(package: str) -> tuple[str, ...]:
    from importlib.metadata import packages_distributions, requires

    named = {
        re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("-", "_")
        for distribution in packages_distributions().get(package, ())
        for line in requires(distribution) or ()
    }
    return tuple(sorted(each for each in named if each.isidentifier() and find_spec(each) is not None))


def dependencies(catalogue: Catalogue) -> tuple[str, ...]:
    """Return the packages that those of the catalogue say they need or can use, and that are installed.

    A package that is imported under another name than it is distributed as is not among them.
    """
    return tuple(dict.fromkeys(name for package in catalogue.importable for name in _required(package)))


# --- the parts of a script


def _with_import(text: str, catalogue: Catalogue) -> str:
    """Return an answer's code, with the import of the package's usual name if the answer left it out."""
    code = find_code(text) or ""
    used = [name for name in free_names(code) if name in catalogue.import_names]
    lines = [
        f"import {package}" if name == package else f"import {package} as {name}"
        for name in used
        for package in (catalogue.import_names[name],)
    ]
    return "\n".join((*lines, code))


def _apart(code: str) -> tuple[list[str], list[ast.stmt]]:
    """Return the import lines of code, and its other statements."""
    body = ast.parse(code).body
    imports = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom)]
    return [ast.unparse(each) for each in imports], [each for each in body if each not in imports]


def _shown(body: Sequence[ast.stmt], entry: Entry) -> Iterator[str]:
    """Yield the statements, the last one's value kept in `result` and printed."""
    *before, last = body
    yield from (ast.unparse(each) for each in before)
    if not isinstance(last, ast.Expr):
        yield ast.unparse(last)
        return
    yield f"result = {ast.unparse(last.value)}"
    yields = re.match(r"\W*(\w+\W+)?(generator|iterator|iter\b|yields?\b)", entry.returns, re.IGNORECASE)
    yield "print(list(result))" if yields else "print(result)"


# --- values for names


@dataclass(frozen=True, slots=True)
class _Need:
    """The names that a call's script must give values, each with the parameter that it is given to ("" for none)."""

    roles: Mapping[str, str]
    entry: Entry
    catalogue: Catalogue


def _setups(needed: Sequence[str], call: Call, need: _Need, given: Mapping[str, str]) -> Iterator[_Setup]:
    """Yield ways to give the needed names their values, the best founded first."""
    mine = _Setup(
        tuple(f"{name} = {_as_object(name, given[name], need)}" for name in needed if name in given),
        tuple(Assumed(name, "yours") for name in needed if name in given),
    )
    rest = [name for name in needed if name not in given]
    if not rest:
        yield mine
        return
    for session in _sessions(rest, need):
        filled = _filled(rest, session, need)
        if filled is not None:
            yield _Setup((*filled.code, *mine.code), (*mine.assumed, *filled.assumed))


def _as_object(name: str, value: str, need: _Need) -> str:
    """Return a user's value as the object that the parameter's type names, where that is a class of the package."""
    parameter = _parameter(need.roles.get(name) or name, need.entry)
    said = (parameter.annotation or "").lower().split() if parameter is not None else []
    classes = [one for one in need.catalogue.entries if one.kind == "class" and one.name.lower() in said[-1:]]
    plain = min(classes, key=lambda one: len(one.id), default=None)
    if plain is None or not value.startswith(("[", "{")):
        return value
    return call_text(plain, value, need.catalogue)


def _roles(names: Sequence[str], entry: Entry, call: Call) -> dict[str, str]:
    told = {value: name for name, value in _arguments(entry, call).items()}
    return {name: told.get(name, "") for name in names}


@dataclass(frozen=True, slots=True)
class _Session:
    """A docstring's statements up to a call, and what that call gave to each parameter."""

    entry: str
    before: tuple[str, ...]
    arguments: Mapping[str, str]


def _sessions(names: Sequence[str], need: _Need) -> Iterator[_Session]:
    """Yield sessions that may have values for the names: the entry's own, then others' by how much they share."""
    entry = need.entry
    yield from _sessions_of(entry, need.catalogue)
    wanted = {need.roles[name] or name for name in names}
    kinds = {one.name: _kind(one.annotation) for one in entry.parameters if one.name in wanted}
    ranked: list[tuple[int, int, Entry]] = []
    for number, other in enumerate(need.catalogue.entries):
        if other.id == entry.id or not other.examples:
            continue
        alike = sum(
            1 + 3 * (_kind(one.annotation) == kinds[one.name])
            for one in other.parameters
            if one.name in kinds
        )
        beside = other.id.rpartition(".")[0] == entry.id.rpartition(".")[0]
        if alike:
            ranked.append((-(2 * alike + beside + (other.name in entry.see_also)), number, other))
    for _, _, other in sorted(ranked, key=lambda each: each[:2])[:_SESSIONS]:
        yield from list(_sessions_of(other, need.catalogue))[:1]
    yield _Session("", (), {})


def _kind(annotation: str | None) -> tuple[str, ...]:
    """Return the words of a type: "NetworkX graph" and "NetworkX Graph" are one."""
    return tuple(sorted(re.findall(r"[a-z]+", (annotation or "").lower())))


def _sessions_of(entry: Entry, catalogue: Catalogue) -> Iterator[_Session]:
    """Yield for each call of the entry in its doctests what stands before it and what it is given.

    Many docstrings call their function by its bare name, as doctest lets them.
    """
    module, _, name = entry.id.rpartition(".")
    bare = [f"from {module} import {name}"] if entry.kind == "function" else []
    before: list[str] = []
    for example in entry.examples:
        if not _parses("\n".join((*before, example.code))):
            continue
        earlier = len(calls_in("\n".join((*bare, *before)), catalogue))
        for call in calls_in("\n".join((*bare, *before, example.code)), catalogue)[earlier:]:
            if entry.id in call.candidates and not call.starred:
                yield _Session(entry.id, tuple(before), _arguments(entry, call))
        before.append(example.code)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


def _arguments(entry: Entry, call: Call) -> dict[str, str]:
    places = [
        one.name for one in entry.parameters if one.kind in ("positional_only", "positional_or_keyword")
    ]
    return dict(zip(places, call.positional, strict=False)) | dict(call.keywords)


def _filled(names: Sequence[str], session: _Session, need: _Need) -> _Setup | None:
    """Return the statements that give all names a value, from the session where it can, else by type; None if not."""
    bound, borrows = _bound("\n".join(session.before)), False
    code, assumed = [], []
    for name in names:
        role = need.roles[name] or name
        value = session.arguments.get(role)
        if value is None or not all(
            one in bound or one in need.catalogue.import_names for one in free_names(value)
        ):
            value = name if name in bound else None
        if value is None:
            value, origin = _by_type(name, role, need), f"the type of {role}"
        else:
            borrows, origin = borrows or bool(free_names(value)), f"the example of {session.entry}"
        if value is None:
            return None
        code += [f"{name} = {value}"] if value != name else []
        assumed.append(Assumed(name, origin))
    return _Setup((*(_trimmed(session.before) if borrows else ()), *code), tuple(assumed))


def _bound(code: str) -> frozenset[str]:
    """Return the names that code binds, in whatever block."""
    bound: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                bound |= {alias.asname or alias.name.partition(".")[0] for alias in names}
    return frozenset(bound)


def _trimmed(before: Sequence[str]) -> tuple[str, ...]:
    """Return a session's statements without those that only look at something, and imports that nothing else uses."""
    kept = [each for each in before if not all(map(_looks, ast.parse(each).body))]
    used = {name for each in kept for name in free_names(each)}
    return tuple(each for each in kept if not _imports(each) or used & _bound(each))


def _imports(code: str) -> bool:
    return all(isinstance(each, ast.Import | ast.ImportFrom) for each in ast.parse(code).body)


def _looks(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    return not isinstance(value, ast.Call) or (isinstance(value.func, ast.Name) and value.func.id in _BUILTIN)


def _by_type(name: str, role: str, need: _Need) -> str | None:
    parameter = _parameter(role, need.entry)
    if parameter is None:
        return _receiver(name, need)
    if parameter.default is not None:
        return parameter.default
    said = (parameter.annotation or "").lower()
    return next((value for pattern, value in _BY_TYPE if re.search(rf"\b({pattern})", said)), None)


def _parameter(name: str, entry: Entry) -> Parameter | None:
    return next((one for one in entry.parameters if one.name == name), None)


def _receiver(name: str, need: _Need) -> str | None:
    """Return a new object of the class whose method is called, if it needs nothing."""
    owner = need.catalogue.lookup(need.entry.id.rpartition(".")[0])
    if need.entry.kind != "method" or owner is None or any(one.required for one in owner.parameters):
        return None
    return call_text(owner, "", need.catalogue)
