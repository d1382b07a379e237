"""Run a script in the sandbox, and ask a second model to write one: what it gives, or why not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Final

from tunesmith.catalogue import Catalogue, Judgement, find_code
from tunesmith.errors import ModelError
from tunesmith.generating.script import MOST_TRIED, Script, dependencies, fault_of
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.records import Conversation, Message
from tunesmith.sandbox.run import Limits, Ran, call_function

#: What a script may use.
LIMITS: Final = Limits(seconds=30.0, cpu_seconds=20, memory_bytes=2 * 2**30)
#: A second model is asked so many times.
MOST_ASKED: Final = 3
_LONGEST = 4000
_PRELOADS = 3

_HARNESS: Final = """
import contextlib, io, linecache, traceback
def run(code, most):
    out, names = io.StringIO(), {"__name__": "__main__"}
    error = ""
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, "script", "exec"), names)
    except BaseException as raised:
        places = [each.lineno for each in traceback.extract_tb(raised.__traceback__) if each.filename == "script"]
        error = "".join(traceback.format_exception_only(raised)).strip()[:most]
        if places:
            error += f" (line {places[-1]})"
    kind = type(names["result"]).__name__ if "result" in names else ""
    return [out.getvalue()[:most], kind, error]
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a script printed and the type of its result, or the error; `confined` if the kernel held it too.

    `tried` are the scripts before it that did not run, each with its error.
    """

    printed: str
    kind: str
    error: str | None
    confined: bool
    tried: tuple[str, ...] = ()


def run_script(script: Script, catalogue: Catalogue, limits: Limits = LIMITS) -> Result:
    """Run a script with its package in the sandbox: no network, no files but the package's, limits of time and memory.

    Packages that the package uses when it is there (numpy for networkx) are loaded where a run asks for one.
    """
    modules = list(catalogue.importable)
    optional = [*dependencies(catalogue)]
    modules += [
        name for name in optional if re.search(rf"^\s*(import|from) {name}\b", script.text, re.MULTILINE)
    ]
    for _ in range(_PRELOADS):
        ran = call_function(_HARNESS, "run", [script.text, _LONGEST], limits, modules=modules)
        result = _result(ran)
        missing = _missing(result.error or "", optional, modules)
        if not missing:
            return result
        modules += [each for name in missing for each in _loaded_by(catalogue.importable, name)]
    return result


def first_that_runs(scripts: Iterable[Script], catalogue: Catalogue) -> tuple[Script, Result] | None:
    """Run scripts until one ends without an error, a few at most; else return the first, and why it did not.

    None where there is no script.
    """
    tried: list[tuple[Script, Result]] = []
    for script in islice(scripts, MOST_TRIED):
        result = run_script(script, catalogue)
        if result.error is None:
            errors = tuple(before.error or "" for _, before in tried)
            return script, Result(result.printed, result.kind, None, result.confined, errors)
        tried.append((script, result))
    return tried[0] if tried else None


def write_script(
    model: ChatModel, question: str, judgement: Judgement, catalogue: Catalogue, *, run: bool = False
) -> tuple[Script, Result | None]:
    """Have a model write a script around a call, and check it; asked again at most twice, with the reason.

    With `run` a script that fails in the sandbox is a reason too. Raises ModelError, with the last reason, when none of
    its scripts is sound; one that is sound and fails when it is run is returned with its error.
    """
    assert judgement.call is not None
    conversation: Conversation = (Message("user", _order(question, judgement, catalogue)),)
    reason, failed = "", None
    for _ in range(MOST_ASKED):
        [answer] = model.reply([conversation], Sampling(max_tokens=500))
        text = find_code(answer.text) or ""
        script = Script(text + "\n", judgement.called or "", judgement.call.text, (), model.name)
        fault = fault_of(script, catalogue) if text else "it holds no Python code that parses"
        result = run_script(script, catalogue) if fault is None and run else None
        if fault is None and (result is None or result.error is None):
            return script, result
        if fault is None and result is not None:
            failed, fault = (script, result), f"it fails: {result.error}"
        reason = fault or ""
        again = f"That script cannot be used: {reason}. Write it again, whole, with the call {judgement.call.text}"
        conversation = (*conversation, Message("assistant", answer.text), Message("user", again))
    if failed is not None:
        return failed
    raise ModelError(
        f"{model.name} wrote no script that can be used, in {MOST_ASKED} tries; the last: {reason}.",
        hint="Leave --writer out: the template writes one.",
    )


def _order(question: str, judgement: Judgement, catalogue: Catalogue) -> str:
    entry = catalogue.lookup(judgement.called or "")
    assert judgement.call is not None
    assert entry is not None
    examples = "\n".join(f">>> {each.code}" for each in entry.examples[:6])
    return (
        f"Question: {question}\nThe call that answers it: {judgement.call.text}\n"
        f"{entry.id}{entry.signature}: {entry.summary}\n{examples}\n\n"
        "Write one complete Python script in a ```python block: imports, small data for each variable that the call "
        "uses, the call exactly as it stands above, and a print of its result. Nothing else."
    )


def _result(ran: Ran) -> Result:
    if ran.failure is not None:
        return Result("", "", ran.message, ran.confined)
    printed, kind, error = ran.value
    return Result(printed, kind, error or None, ran.confined)


def _missing(error: str, optional: list[str], loaded: list[str]) -> list[str]:
    """Return the packages that a run asked for in vain: not there, or stopped while it loaded its parts."""
    named = re.search(r"No module named '([\w.]+)'", error)
    if named is not None:
        top = named[1].partition(".")[0]
        return [top] if top in optional and not {top, named[1]} <= set(loaded) else []
    if "cannot be imported here" not in error and "cannot be opened here" not in error:
        return []
    return [
        name
        for name in optional
        if name in loaded and not any(each.startswith(f"{name}.") for each in loaded)
    ]


@cache
def _loaded_by(packages: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return a package and those of its modules that the sources of `packages` name, which must be loaded before."""
    found = {name: None}
    for source in _sources(packages):
        aliases = re.findall(rf"^\s*import {name} as (\w+)", source, re.MULTILINE)
        paths = re.findall(rf"^\s*(?:import|from) ({name}(?:\.\w+)+)", source, re.MULTILINE)
        for alias in set(aliases):
            paths += [f"{name}.{path}" for path in re.findall(rf"\b{alias}\.(\w+(?:\.\w+)?)", source)]
        for path in paths:
            found |= dict.fromkeys(_modules(path))
    return tuple(found)


def _sources(packages: tuple[str, ...]) -> Iterator[str]:
    for package in packages:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in sorted(Path(folder).rglob("*.py")):
                if "tests" not in path.parts:
                    yield path.read_text(encoding="utf-8", errors="replace")


def _modules(path: str) -> Iterator[str]:
    """Yield those beginnings of a dotted path that are modules."""
    parts = path.split(".")
    for end in range(2, len(parts) + 1):
        try:
            spec = find_spec(".".join(parts[:end]))
        except (ImportError, AttributeError):
            return
        if spec is None:
            return
        yield ".".join(parts[:end])
