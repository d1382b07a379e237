"""Code in answers: does it parse, do its names exist, does it run, does it print what it should; the first no is kept.

An answer's program is all its blocks that say that they are Python, one after the other, as a reader would run them;
where none says so, the first block without a language (or another's: then there is no code). Doctest prompts are taken
away, with the output between them. It is taken as it stands: a program that the token limit cut off does not parse.

Names are looked up without importing anything: calls of the catalogue by its own judge, what else is imported in the
source files of the installed packages. What cannot be known that way (compiled modules, names that a module makes while
it is loaded) counts as there; running it tells. It runs in the sandbox only, with the packages that the caller names.

Not covered: whether names are bound before they are used (all of a program's own names count everywhere in it), and
attributes of objects that are no modules.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Final, Literal

from tunesmith.catalogue import Catalogue, judge
from tunesmith.errors import DatasetError
from tunesmith.evaluating.statistics import Estimate, clustered_mean
from tunesmith.progress import Progress, silent
from tunesmith.sandbox.run import Limits, call_function

Step = Literal["code", "parses", "resolves", "runs", "doctest"]

STEPS: Final[tuple[Step, ...]] = ("code", "parses", "resolves", "runs", "doctest")
LIMITS: Final = Limits(seconds=20.0, cpu_seconds=15, memory_bytes=2 * 2**30)
_PYTHON: Final = frozenset({"python", "py", "python3", "pycon"})
_MOST_SHOWN: Final = 2000
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Coded:
    """An answer with code; `expected` is what it must print, or a doctest that must pass after it ("" for neither)."""

    example: str
    text: str
    expected: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """How far an answer's code came: the first step that failed and why, None if none did.

    `shown` is what running it printed, cut short; `steps` are those that were asked for. `confined` tells whether the
    kernel held the process that ran it, None if nothing was run.
    """

    example: str
    group: str
    steps: tuple[Step, ...]
    failed: Step | None = None
    reason: str = ""
    shown: str = ""
    confined: bool | None = None

    def passed(self, step: Step) -> bool | None:
        """Tell whether a step and all before it passed; None for one that was not asked for."""
        if step not in self.steps:
            return None
        return self.failed is None or STEPS.index(step) < STEPS.index(self.failed)


@dataclass(frozen=True, slots=True)
class CodeReport:
    """How far the answers came: the share that passed each step and all before it, over those it was asked for of.

    `failures` counts the answers by the first step that failed. `unconfined` were run without the kernel's hold.
    """

    shares: Mapping[Step, Estimate]
    failures: Mapping[Step, int]
    unconfined: int
    checked: tuple[Checked, ...] = field(repr=False)


def check_codes(
    answers: Sequence[Coded],
    catalogue: Catalogue | None = None,
    *,
    modules: Sequence[str] = (),
    execute: bool = True,
    limits: Limits = LIMITS,
    on_progress: Progress = silent,
) -> CodeReport:
    """Check each answer's code, and sum up; shares have an interval of a bootstrap clustered by group.

    `modules` are packages that the code may import beside Python's own and the catalogue's. Without `execute`, nothing
    is run. Raises DatasetError without answers.
    """
    if not answers:
        raise DatasetError("there is no answer to check", hint="Ask at least one question.")
    checked = []
    for one in answers:
        checked.append(check_code(one, catalogue, modules=modules, execute=execute, limits=limits))
        on_progress(len(checked), len(answers))
    shares = {}
    for step in STEPS:
        asked = [(float(passed), one.group) for one in checked if (passed := one.passed(step)) is not None]
        if asked:
            shares[step] = clustered_mean([value for value, _ in asked], [group for _, group in asked])
    failed = Counter(one.failed for one in checked if one.failed is not None)
    return CodeReport(
        shares=shares,
        failures={step: failed[step] for step in STEPS if failed[step]},
        unconfined=sum(one.confined is False for one in checked),
        checked=tuple(checked),
    )


def check_code(
    answer: Coded,
    catalogue: Catalogue | None = None,
    *,
    modules: Sequence[str] = (),
    execute: bool = True,
    limits: Limits = LIMITS,
) -> Checked:
    """Check one answer's code, step by step, until one fails."""
    asked: tuple[Step, ...] = ("code", "parses", "resolves")
    if execute:
        asked = STEPS if answer.expected else STEPS[:-1]
    blank = Checked(answer.example, answer.group or answer.example, asked)
    code = program(answer.text)
    if code is None:
        return _failed(blank, "code", "the answer has no Python code")
    said = why_not_parsed(code)
    if said is not None:
        return _failed(blank, "parses", said)
    said = why_not_resolved(code, catalogue)
    if said is not None:
        return _failed(blank, "resolves", said)
    if not execute:
        return blank
    usable = tuple(dict.fromkeys((*(catalogue.importable if catalogue else ()), *modules)))
    return _run(blank, code, answer.expected, usable, limits)


def program(text: str) -> str | None:
    """Return the program of an answer, None if it has none; a text without any fence is one if it parses and calls."""
    blocks = [
        (match[1].strip().lower(), match[2])
        for match in re.finditer(r"```([^\n`]*)\n(.*?)(?:\n[ \t]*```|```|\Z)", text, flags=re.DOTALL)
    ]
    if not blocks:
        bare = _without_prompts(textwrap.dedent(text).strip())
        return bare if _calls(bare) else None
    python = [code for language, code in blocks if language in _PYTHON]
    untold = [code for language, code in blocks if not language]
    chosen = python or untold[:1]
    joined = "\n".join(_without_prompts(textwrap.dedent(code)) for code in chosen).strip("\n")
    return joined if joined.strip() else None


def why_not_parsed(code: str) -> str | None:
    """Return why a program is no Python, with the line; None if it is."""
    try:
        ast.parse(code)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        # A null byte; nesting beyond sense.
        return f"{type(error).__name__}: {error}"
    return None


def why_not_resolved(code: str, catalogue: Catalogue | None = None) -> str | None:
    """Return the first name of a program that does not exist, or catalogue's call that does not bind; else None."""
    tree = ast.parse(code)
    known = catalogue.importable if catalogue is not None else ()
    for said in (*_imports_amiss(tree, known), *_names_amiss(tree), *_attributes_amiss(tree, known)):
        return said
    if catalogue is not None:
        judgement = judge(f"```python\n{code}\n```", (), catalogue)
        if judgement.verdict in ("hallucinated", "wrong_arguments"):
            return judgement.reason
    return None


def _failed(
    blank: Checked, step: Step, reason: str, shown: str = "", confined: bool | None = None
) -> Checked:
    return Checked(blank.example, blank.group, blank.steps, step, reason, shown, confined)


def _without_prompts(code: str) -> str:
    lines = code.splitlines()
    if not any(re.match(r"\s*>>>", line) for line in lines):
        return code
    prompted = (re.match(r"\s*(?:>>>|\.\.\.)(?: (.*)|$)", line) for line in lines)
    return "\n".join(match[1] or "" for match in prompted if match)


def _calls(code: str) -> bool:
    return why_not_parsed(code) is None and any(
        isinstance(node, ast.Call) for node in ast.walk(ast.parse(code))
    )


# --- names


def _imports_amiss(tree: ast.AST, known: Sequence[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        paths: list[tuple[str, tuple[str, ...]]]
        if isinstance(node, ast.Import):
            paths = [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            paths = [(node.module, (alias.name,)) for alias in node.names if alias.name != "*"]
        else:
            continue
        for module, names in paths:
            said = _why_absent(module.split("."), names, known)
            if said is not None:
                yield f"line {node.lineno}: {said}"


def _names_amiss(tree: ast.Module) -> Iterator[str]:
    """Yield names that are used and that nothing in the program binds; nothing where a star import may bind them."""
    found = _bound(tree, everywhere=True)
    if found.star:
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        if not (node.id in found.names or hasattr(builtins, node.id) or node.id in _MODULE_NAMES):
            yield f"line {node.lineno}: {node.id} is used and defined nowhere"


_MODULE_NAMES = frozenset({"__name__", "__file__", "__doc__", "__builtins__", "__annotations__"})


def _attributes_amiss(tree: ast.Module, known: Sequence[str]) -> Iterator[str]:
    """Yield attributes of imported modules that these do not have, for names that stand for one thing throughout."""
    means: dict[str, str] = {}
    others = Counter(_other_bindings(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                means[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                means[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        path = _dotted(node)
        if path is None or path[0] not in means or others[path[0]]:
            continue
        said = _why_absent(means[path[0]].split("."), path[1:], known)
        if said is not None:
            yield f"line {node.lineno}: {said}"


def _dotted(node: ast.expr) -> list[str] | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def _why_absent(module: Sequence[str], names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return why a dotted path does not exist, None if it does or may; the catalogue's packages know their own."""
    root = module[0]
    if root in known:
        return None
    where = _place_of(root)
    if where is None:
        return f"there is no module {root} here"
    path = root
    for part in (*module[1:], *names):
        if where == _UNKNOWN:
            return None
        inner = _submodule(where, part)
        if inner is None:
            found = _names_of(where)
            # What an object that is no module has is not known.
            return None if found.star or part in found.names else f"{path} has no {part}"
        path, where = f"{path}.{part}", inner
    return None


_UNKNOWN: Final = "?"


@lru_cache(maxsize=256)
def _place_of(root: str) -> str | None:
    """Return the file of a top-level module, `_UNKNOWN` if it has no source, None if there is none."""
    if root in sys.builtin_module_names:
        return _UNKNOWN
    spec = PathFinder.find_spec(root)
    if spec is None:
        return _UNKNOWN if root in sys.stdlib_module_names else None
    return spec.origin if spec.origin is not None and spec.origin.endswith(".py") else _UNKNOWN


@lru_cache(maxsize=4096)
def _submodule(file: str, name: str) -> str | None:
    """Return the file of a submodule of the package whose `__init__.py` this is, None if it has none."""
    place = Path(file)
    if place.name != "__init__.py":
        return None
    for inner in (place.parent / name / "__init__.py", place.parent / f"{name}.py"):
        if inner.is_file():
            return str(inner)
    compiled = any(place.parent.glob(f"{name}.*.so")) or any(place.parent.glob(f"{name}*.pyd"))
    return _UNKNOWN if compiled or (place.parent / name).is_dir() else None


@dataclass(frozen=True, slots=True)
class _Bound:
    """Names that a module binds; `star`: there may be others, which cannot be known without loading it."""

    names: frozenset[str]
    star: bool


@lru_cache(maxsize=512)
def _names_of(file: str, depth: int = 0) -> _Bound:
    """Return the names of a module by its source, following `from ... import *` into packages' own modules."""
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return _Bound(frozenset(), star=True)
    found = _bound(tree)
    # Names that are made while it is loaded.
    dynamic = any(
        isinstance(node, ast.Name) and node.id in ("globals", "vars", "setattr", "exec")
        for node in _scope(tree, everywhere=False)
    )
    if dynamic or "__getattr__" in found.names:
        return _Bound(found.names, star=True)
    names, star = set(found.names), False
    for source in _starred(tree, file):
        inner = _names_of(source, depth + 1) if source is not None and depth < _DEEPEST else None
        star = star or inner is None or inner.star
        names |= inner.names if inner is not None else set()
    return _Bound(frozenset(names), star)


def _starred(tree: ast.Module, file: str) -> Iterator[str | None]:
    """Yield the files that a module imports all names of, None for one that cannot be found by its source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                folder = Path(file).parents[node.level - 1]
                where: str | None = str(folder / "__init__.py")
            else:
                where = _place_of(parts.pop(0)) if parts else None
            for part in parts:
                where = _submodule(where, part) if where not in (None, _UNKNOWN) else None
            yield None if where == _UNKNOWN else where


def _bound(tree: ast.AST, *, everywhere: bool = False) -> _Bound:
    """Return the names that a module binds at its top, or, `everywhere`, in all its scopes."""
    nodes = list(_scope(tree, everywhere=everywhere))
    star = any(
        isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names) for node in nodes
    )
    return _Bound(frozenset(name for node in nodes for name in _binds(node)), star)


def _scope(tree: ast.AST, *, everywhere: bool) -> Iterator[ast.AST]:
    """Yield the nodes of a module's top, what its functions and classes hold left out, or all."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if everywhere or not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
        ):
            waiting.extend(ast.iter_child_nodes(node))


def _binds(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    else:
        yield from _binds_otherwise(node)


def _binds_otherwise(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.arg(arg=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name


def _other_bindings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        yield from _binds_otherwise(node)


# --- running

_HARNESS = '''
import ast, contextlib, io, sys, traceback


def _shown(value):
    if value is not None:
        print(repr(value))


def _why(error, file):
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    said = traceback.format_exception_only(type(error), error)[-1].strip()
    return said, (lines or [getattr(error, "lineno", None)])[-1]


def _execute(tree, names, file, out):
    body, last = tree.body, None
    if body and isinstance(body[-1], ast.Expr):
        last = ast.Interactive([body.pop()])
    sys.displayhook = _shown
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(tree, file, "exec"), names)
            if last is not None:
                exec(compile(last, file, "single"), names)
    except MemoryError:
        raise
    except BaseException as error:
        return _why(error, file)
    return None


def run(code, statements, most):
    """Run a program, then statements one by one; what each prints, and why the first that fails does."""
    names, out = {"__name__": "__main__"}, io.StringIO()
    why = _execute(ast.parse(code), names, "answer", out)
    given = []
    for statement in statements if why is None else ():
        said = io.StringIO()
        failed = _execute(ast.parse(statement), names, "doctest", said)
        given.append([said.getvalue()[:most], failed and failed[0]])
    return {"shown": out.getvalue()[:most], "why": why, "given": given}
'''


def _run(blank: Checked, code: str, expected: str, modules: Sequence[str], limits: Limits) -> Checked:
    try:
        examples = doctest.DocTestParser().get_examples(expected) if expected else []
    except ValueError as error:
        raise DatasetError(
            f"the doctest of {blank.example} cannot be read: {error}",
            hint="Write prompts (>>>) with a space behind them, and the output below.",
        ) from error
    statements = [one.source for one in examples]
    wanted = [name for name in modules if _place_of(name) is not None]
    ran = call_function(_HARNESS, "run", [code, statements, _MOST_SHOWN], limits, modules=wanted)
    if ran.failure is not None:
        return _failed(blank, "runs", ran.message, confined=ran.confined)
    shown: str = ran.value["shown"]
    if ran.value["why"] is not None:
        said, line = ran.value["why"]
        where = f" (line {line})" if line is not None else ""
        return _failed(blank, "runs", f"{said}{where}", shown, ran.confined)
    said = _why_not_expected(expected, examples, shown, ran.value["given"]) if expected else None
    if said is not None:
        return _failed(blank, "doctest", said, shown, ran.confined)
    return Checked(blank.example, blank.group, blank.steps, shown=shown, confined=ran.confined)


def _why_not_expected(
    expected: str, examples: Sequence[doctest.Example], shown: str, given: Sequence[Sequence[Any]]
) -> str | None:
    """Return how what was printed differs from what was wanted, None if it does not.

    Spaces and `...` are taken as in doctests with NORMALIZE_WHITESPACE and ELLIPSIS.
    """
    if not examples:
        return _difference(expected.strip() + "\n", shown.strip() + "\n", "the program")
    for example, (said, failed) in zip(examples, given, strict=True):
        name = example.source.strip().partition("\n")[0]
        if failed is not None:
            if example.exc_msg is not None and _difference(example.exc_msg, failed + "\n", name) is None:
                continue
            return f"{name}: {failed}"
        if example.exc_msg is not None:
            return f"{name}: raised nothing, and not {example.exc_msg.strip()}"
        found = _difference(example.want, said, name)
        if found is not None:
            return found
    return None


def _difference(want: str, got: str, name: str) -> str | None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if doctest.OutputChecker().check_output(want, got, flags):
        return None
    return f"{name}: printed {got.strip()[:200]!r} and not {want.strip()[:200]!r}"
