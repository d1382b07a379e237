"""What may be called: functions, operations, parameters; parse a call, bind it, judge it.

An answer is judged by its syntax tree, never by its text: names are resolved through the answer's own
imports, and arguments are bound to the signature as Python would bind them. Nothing is executed. A request to
an API is matched and bound by its description, a tool's call by its schema (`operations`).

What is not covered: one flat namespace for the whole block (no function scopes), no flow of types through the
package's own functions (what `nx.path_graph(4)` returns is "some object"), and no check of argument *values*.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from tunesmith import records
from tunesmith.errors import DatasetError
from tunesmith.operations import (
    Operation,
    Request,
    Routes,
    ToolCall,
    ToolSchema,
    bind_request,
    bind_tool,
    curl_requests,
    requests_in,
    tool_calls,
)
from tunesmith.records import Verdict

ParameterKind = Literal[
    "positional_only", "positional_or_keyword", "var_positional", "keyword_only", "var_keyword"
]
EntryKind = Literal["function", "method", "class", "operation", "tool"]

_KINDS: Mapping[ParameterKind, inspect._ParameterKind] = {
    "positional_only": inspect.Parameter.POSITIONAL_ONLY,
    "positional_or_keyword": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "var_positional": inspect.Parameter.VAR_POSITIONAL,
    "keyword_only": inspect.Parameter.KEYWORD_ONLY,
    "var_keyword": inspect.Parameter.VAR_KEYWORD,
}
_BUILTIN_NAMES = frozenset(dir(builtins))
_CONTAINER_METHODS = frozenset(
    name for kind in (str, bytes, list, dict, set, tuple, int) for name in dir(kind)
)
_PYTHON_FENCES = frozenset({"", "python", "py", "python3", "pycon", "pyi"})
_MOST_LINES_CUT = 3


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a signature; `default` is source text, None where there is none.

    `annotation` is the signature's, else the type as the docstring names it ("NetworkX graph").
    """

    name: str
    kind: ParameterKind = "positional_or_keyword"
    default: str | None = None
    annotation: str | None = None
    description: str = ""

    @property
    def required(self) -> bool:
        """A call must give it a value."""
        return self.default is None and self.kind not in ("var_positional", "var_keyword")


@dataclass(frozen=True, slots=True)
class DocExample:
    """One statement of an entry's doctests, without prompts, and the output it promises ("" for none).

    The examples of an entry run one after the other as one session: a later one may need the earlier ones.
    """

    code: str
    want: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that may be called, under the name people use.

    `parameters` are without `self` or `cls`; a class has those of its constructor. `summary` is one plain
    sentence, `description` the rest of the docstring's prose. `aliases` are other dotted paths of the same
    object. `members` of a class are all attribute names of its instances, inherited ones included; empty
    where they cannot be known. `operation` says how an operation of an HTTP API, or a tool, is called.
    """

    id: str
    kind: EntryKind
    parameters: tuple[Parameter, ...] = ()
    summary: str = ""
    description: str = ""
    examples: tuple[DocExample, ...] = ()
    see_also: tuple[str, ...] = ()
    returns: str = ""
    document: str = ""
    aliases: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    operation: Operation | ToolSchema | None = None

    @property
    def name(self) -> str:
        """The last part of the id."""
        return self.id.rpartition(".")[2]

    @property
    def signature(self) -> str:
        """The parameters as in a `def`, without annotations: "(G, source=None, *, weight=None)"."""
        return f"({', '.join(_signature_parts(self.parameters))})"


def _signature_parts(parameters: Sequence[Parameter]) -> Iterator[str]:
    star_seen = False
    for index, parameter in enumerate(parameters):
        if parameter.kind == "var_positional":
            star_seen = True
        if parameter.kind == "keyword_only" and not star_seen:
            star_seen = True
            yield "*"
        prefix = {"var_positional": "*", "var_keyword": "**"}.get(parameter.kind, "")
        default = "" if parameter.default is None else f"={parameter.default}"
        yield f"{prefix}{parameter.name}{default}"
        following = parameters[index + 1].kind if index + 1 < len(parameters) else None
        if parameter.kind == "positional_only" and following != "positional_only":
            yield "/"


@dataclass(frozen=True)
class Catalogue:
    """All that may be called of one package (of several after `merge`), in the entries' order.

    `conventional_alias` is the name that people import the package under ("nx"); `conventions` holds (alias,
    package) pairs of further packages. `unlisted` are callables that exist but are no entries, because they
    are undocumented, deprecated or not exported; `attributes` are public paths of objects that are not
    callables we read. Both keep `judge` from calling something hallucinated that exists.
    """

    package: str
    version: str
    entries: tuple[Entry, ...]
    conventional_alias: str | None = None
    conventions: tuple[tuple[str, str], ...] = ()
    unlisted: tuple[Entry, ...] = ()
    attributes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def packages(self) -> tuple[str, ...]:
        """The import names of the packages, and the short names of APIs and of tools' servers."""
        return tuple(self.package.split(", "))

    @cached_property
    def importable(self) -> tuple[str, ...]:
        """The packages that Python imports."""
        described = {
            entry.id.partition(".")[0]
            for entry in (*self.entries, *self.unlisted)
            if entry.operation is not None
        }
        return tuple(package for package in self.packages if package not in described)

    @cached_property
    def by_id(self) -> dict[str, Entry]:
        """The entries under their ids."""
        return {entry.id: entry for entry in self.entries}

    @cached_property
    def import_names(self) -> dict[str, str]:
        """What an answer may write without an import, and the package it means: {"nx": "networkx"}."""
        names = {package: package for package in self.importable}
        if self.conventional_alias is not None:
            names[self.conventional_alias] = self.packages[0]
        return names | dict(self.conventions)

    @cached_property
    def _paths(self) -> dict[str, Entry]:
        paths = {alias: entry for entry in self.entries for alias in entry.aliases}
        return paths | self.by_id

    @cached_property
    def _unlisted_paths(self) -> dict[str, Entry]:
        return {path: entry for entry in self.unlisted for path in (*entry.aliases, entry.id)}

    @cached_property
    def _methods(self) -> dict[str, tuple[Entry, ...]]:
        found: dict[str, list[Entry]] = {}
        for entry in (*self.entries, *self.unlisted):
            if entry.kind == "method":
                found.setdefault(entry.name, []).append(entry)
        return {name: tuple(entries) for name, entries in found.items()}

    @cached_property
    def routes(self) -> Routes | None:
        """The operations of HTTP APIs, None where there are none."""
        found = [
            (entry.id, entry.operation)
            for entry in (*self.entries, *self.unlisted)
            if isinstance(entry.operation, Operation)
        ]
        return Routes(found) if found else None

    @cached_property
    def tools(self) -> dict[str, tuple[str, ...]]:
        """The ids of tools by the name that they are called by, several where servers share one."""
        found: dict[str, tuple[str, ...]] = {}
        for entry in self.entries:
            if isinstance(entry.operation, ToolSchema):
                name = entry.operation.name
                found[name] = (*found.get(name, ()), entry.id)
        return found

    @cached_property
    def _attribute_set(self) -> frozenset[str]:
        return frozenset(self.attributes)

    def resolve(self, path: str) -> Entry | None:
        """Return the entry with this id or alias."""
        return self._paths.get(path)

    def lookup(self, path: str) -> Entry | None:
        """Return what `path` names, an entry or an unlisted callable."""
        return self._paths.get(path) or self._unlisted_paths.get(path)

    def methods(self, name: str) -> tuple[Entry, ...]:
        """Return every class's method of this name, unlisted ones included."""
        return self._methods.get(name, ())

    def is_attribute(self, path: str) -> bool:
        """Tell whether `path` is, or is reached through, an object that exists and is no callable we read."""
        parts = path.split(".")
        return any(".".join(parts[:end]) in self._attribute_set for end in range(2, len(parts) + 1))

    def suggest(self, path: str, count: int = 3) -> tuple[str, ...]:
        """Return the ids nearest to `path` in spelling, by their last part first and then as a whole."""
        by_name: dict[str, list[str]] = {}
        for entry in self.entries:
            by_name.setdefault(entry.name, []).append(entry.id)
        names = difflib.get_close_matches(path.rpartition(".")[2], by_name, n=count)
        ids = [entry_id for name in names for entry_id in by_name[name]]
        ids += difflib.get_close_matches(path, list(self.by_id), n=count)
        return tuple(dict.fromkeys(ids))[:count]

    def to_json(self) -> str:
        """Return the catalogue as one line of JSON."""
        return records.to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Catalogue:
        """Return the catalogue that `to_json` wrote; raises DatasetError that names the field."""
        from pydantic import ValidationError

        try:
            return records.from_json(cls, text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the text"
            raise DatasetError(
                f"this is not a catalogue: {place}: {first['msg']}",
                hint="Collect the package again: tunesmith run collect",
            ) from error


def merge(catalogues: Sequence[Catalogue]) -> Catalogue | None:
    """Join catalogues of different packages, the first's alias as the conventional one; None of none."""
    if len(catalogues) < 2:
        return catalogues[0] if catalogues else None
    aliases = [
        (catalogue.conventional_alias, catalogue.packages[0])
        for catalogue in catalogues[1:]
        if catalogue.conventional_alias is not None
    ]
    return Catalogue(
        package=", ".join(catalogue.package for catalogue in catalogues),
        version=", ".join(catalogue.version for catalogue in catalogues),
        entries=tuple(entry for catalogue in catalogues for entry in catalogue.entries),
        conventional_alias=catalogues[0].conventional_alias,
        conventions=(*aliases, *(pair for catalogue in catalogues for pair in catalogue.conventions)),
        unlisted=tuple(entry for catalogue in catalogues for entry in catalogue.unlisted),
        attributes=tuple(path for catalogue in catalogues for path in catalogue.attributes),
    )


# --- the code of an answer


def find_code(answer_text: str) -> str | None:
    """Return the Python code of an answer, or None where there is none that parses.

    That is the first fenced block (```, ```python), one that an answer cut at its token limit left open
    included; without any fence, the whole text if it is Python with a call in it. Doctest prompts are taken
    away, and up to three trailing lines that do not parse (a line cut off) are dropped.
    """
    block = _first_fence(answer_text)
    if block is not None:
        return _parsable(_without_prompts(textwrap.dedent(block)))
    text = _without_prompts(textwrap.dedent(answer_text).strip())
    return text if _has_call(text) else None


def _first_fence(text: str) -> str | None:
    for match in re.finditer(r"```(.*?)(?:```|\Z)", text, flags=re.DOTALL):
        first, newline, rest = match[1].partition("\n")
        language = first.strip().lower()
        if language in _PYTHON_FENCES:
            return rest
        inline = re.match(r"(?:python3?|py)\s+(.*)", first.strip(), flags=re.IGNORECASE)
        if inline:
            return inline[1] + newline + rest
        another_language = newline and re.fullmatch(r"[\w+#.-]+", language)
        if not another_language:
            return match[1]
    return None


def _without_prompts(code: str) -> str:
    lines = code.splitlines()
    if not any(re.match(r"\s*>>>", line) for line in lines):
        return code.strip("\n")
    prompted = (re.match(r"\s*(?:>>>|\.\.\.)(?: (.*)|$)", line) for line in lines)
    return "\n".join(match[1] or "" for match in prompted if match)


def _tree(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    # A null byte is a ValueError; absurdly deep nesting a RecursionError or MemoryError.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _has_call(code: str) -> bool:
    tree = _tree(code)
    return tree is not None and any(isinstance(node, ast.Call) for node in ast.walk(tree))


def _parsable(code: str) -> str | None:
    lines = code.rstrip().splitlines()
    for dropped in range(_MOST_LINES_CUT + 1):
        kept = "\n".join(lines[: len(lines) - dropped])
        if kept.strip() and _tree(kept) is not None:
            return kept
    return None


# --- the calls in it


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the package in an answer's code; arguments as source text.

    `path` is the entry's id, or the dotted path that resolves to nothing. `starred` says that `*args` or
    `**kwargs` are unpacked in it. `candidates` are the entry ids it may mean: none if it does not exist,
    several for a method of an object whose class is unknown. `statement` counts statements in source order;
    `outer` says that no other call of the package encloses it; `unbound` that a method is called on its class
    (`Graph.copy(G)`). `request` is what the call sends to an API, or asks of a tool; the path of one that
    means no operation is its method and address, or the tool's name.
    """

    path: str
    positional: tuple[str, ...] = ()
    keywords: tuple[tuple[str, str], ...] = ()
    starred: bool = False
    text: str = ""
    candidates: tuple[str, ...] = ()
    statement: int = 0
    outer: bool = True
    unbound: bool = False
    request: Request | ToolCall | None = None


def calls_in(code: str, catalogue: Catalogue) -> tuple[Call, ...]:
    """Return the package's calls in source order, an enclosing call before those in its arguments.

    Imports and their aliases are followed; the package's own name and its conventional alias are understood
    without an import. A method counts when its object comes from a constructor call of a class of the
    catalogue, or, for an object of unknown class, when any class of the catalogue has a method of that name
    (unless a container of Python has one too and the arguments do not bind: `path.pop(0)`). All other
    methods, and calls of other packages, builtins and the block's own functions, are not calls of the
    package. A request to a server of an API counts as a call of it. Code that does not parse has no calls.
    """
    tree = _tree(code)
    if tree is None:
        return ()
    reader = _CallReader(catalogue)
    try:
        if catalogue.routes is not None:
            reader.requests = requests_in(tree)
        reader.visit_body(tree.body)
    except RecursionError:
        return ()
    return tuple(reader.calls)


@dataclass(frozen=True, slots=True)
class _Binding:
    """What a name or expression of the block stands for: a dotted path, an object of a class, or neither."""

    kind: Literal["path", "instance", "foreign", "unknown"]
    path: str = ""


_FOREIGN = _Binding("foreign")
_UNKNOWN = _Binding("unknown")
_PLAIN_VALUES = (
    ast.Constant,
    ast.JoinedStr,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.Compare,
    ast.Lambda,
)


class _CallReader(ast.NodeVisitor):
    """Walks a block in source order, keeping what each name stands for and the calls seen so far."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.requests: dict[ast.Call, Request] = {}
        self.calls: list[Call] = []
        self.scope: dict[str, _Binding] = {}
        self.stars: list[str] = []
        self.statement = 0
        self.loops = 0
        self.depth = 0

    # Statements. A loop is one statement, its iterator first: what it walks over is what the answer is about.

    def visit_body(self, body: Sequence[ast.stmt]) -> None:
        """Visit statements one by one, counting them outside loops."""
        for statement in body:
            if self.loops == 0:
                self.statement += 1
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        """Bind `import a.b` to its first part and `import a.b as c` to the whole path."""
        for alias in node.names:
            root = alias.name.partition(".")[0]
            path = alias.name if alias.asname else root
            known = root in self.catalogue.importable
            self.scope[alias.asname or root] = _Binding("path", path) if known else _FOREIGN

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Bind the imported names, or remember a star import."""
        module = node.module or ""
        known = node.level == 0 and module.partition(".")[0] in self.catalogue.importable
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(module if known else "")
            else:
                path = f"{module}.{alias.name}"
                self.scope[alias.asname or alias.name] = _Binding("path", path) if known else _FOREIGN

    def visit_Assign(self, node: ast.Assign) -> None:
        """Read the value, then bind the targets to it."""
        self.visit(node.value)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Read an annotated assignment as a plain one."""
        if node.value is not None:
            self.visit(node.value)
            self._assign(node.target, node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        """Read the value, then bind the name."""
        self.visit(node.value)
        self._assign(node.target, node.value)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        """Read what is iterated over, then the body as part of the same statement."""
        self.visit(node.iter)
        self._forget(node.target)
        self._loop([*node.body, *node.orelse])

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        """Read the condition, then the body as part of the same statement."""
        self.visit(node.test)
        self._loop([*node.body, *node.orelse])

    def visit_If(self, node: ast.If) -> None:
        """Read the condition, then each statement of the branches."""
        self.visit(node.test)
        self.visit_body([*node.body, *node.orelse])

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        """Read what is opened, then each statement of the body."""
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, item.context_expr)
        self.visit_body(node.body)

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        """Read the tried statements, then those of the handlers."""
        handlers = [statement for handler in node.handlers for statement in handler.body]
        for handler in node.handlers:
            if handler.name is not None:
                self.scope[handler.name] = _FOREIGN
        # The handlers come first, so that what was tried counts as the later, main statement.
        self.visit_body([*handlers, *node.body, *node.orelse, *node.finalbody])

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Bind the function and its parameters, then read each statement of its body."""
        self.scope[node.name] = _FOREIGN
        for expression in (*node.decorator_list, *_defaults(node.args)):
            self.visit(expression)
        self._bind_parameters(node.args)
        self.visit_body(node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Bind the class, then read each statement of its body."""
        self.scope[node.name] = _FOREIGN
        for expression in node.decorator_list:
            self.visit(expression)
        self.visit_body(node.body)

    # Expressions.

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Bind the parameters, then read the body."""
        self._bind_parameters(node.args)
        self.visit(node.body)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, *results: ast.expr
    ) -> None:
        for generator in node.generators:
            self.visit(generator.iter)
            self._forget(generator.target)
            for condition in generator.ifs:
                self.visit(condition)
        for result in results:
            self.visit(result)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        """Read what is iterated over before what is made of it."""
        self._comprehension(node, node.elt)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        """Read what is iterated over before what is made of it."""
        self._comprehension(node, node.elt)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        """Read what is iterated over before what is made of it."""
        self._comprehension(node, node.elt)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        """Read what is iterated over before what is made of it."""
        self._comprehension(node, node.key, node.value)

    def visit_Call(self, node: ast.Call) -> None:
        """Keep the call if it is one of the package, then read what is inside it."""
        call = self._package_call(node)
        if call is None:
            self.generic_visit(node)
            return
        self.calls.append(call)
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    # What names and expressions stand for.

    def _loop(self, body: Sequence[ast.stmt]) -> None:
        self.loops += 1
        self.visit_body(body)
        self.loops -= 1

    def _forget(self, target: ast.expr) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self.scope[node.id] = _UNKNOWN

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.scope[target.id] = self._meaning(value)
        elif isinstance(target, ast.Tuple | ast.List | ast.Starred):
            self._forget(target)

    def _bind_parameters(self, arguments: ast.arguments) -> None:
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
        for argument in every:
            self.scope[argument.arg] = _UNKNOWN

    def _meaning(self, node: ast.expr) -> _Binding:
        if isinstance(node, ast.Name):
            return self._meaning_of_name(node.id)
        if isinstance(node, ast.Attribute):
            base = self._meaning(node.value)
            return _Binding("path", f"{base.path}.{node.attr}") if base.kind == "path" else _opaque(base)
        if isinstance(node, ast.Call):
            return self._meaning_of_result(node)
        if isinstance(node, ast.Subscript):
            return _opaque(self._meaning(node.value))
        return _FOREIGN if isinstance(node, _PLAIN_VALUES) else _UNKNOWN

    def _meaning_of_name(self, name: str) -> _Binding:
        if name in self.scope:
            return self.scope[name]
        if name in self.catalogue.import_names:
            return _Binding("path", self.catalogue.import_names[name])
        if name in _BUILTIN_NAMES:
            return _FOREIGN
        return self._meaning_of_starred(name) or _UNKNOWN

    def _meaning_of_starred(self, name: str) -> _Binding | None:
        for module in filter(None, self.stars):
            if self.catalogue.lookup(f"{module}.{name}") is not None:
                return _Binding("path", f"{module}.{name}")
        return None

    def _meaning_of_result(self, node: ast.Call) -> _Binding:
        function = self._meaning(node.func)
        if function.kind != "path":
            return _opaque(function)
        entry = self.catalogue.lookup(function.path)
        return _Binding("instance", entry.id) if entry is not None and entry.kind == "class" else _UNKNOWN

    # Which call it is.

    def _package_call(self, node: ast.Call) -> Call | None:
        if node in self.requests:
            call = _request_call(self.requests[node], self.catalogue)
            if call is not None:
                return replace(call, text=ast.unparse(node), statement=self.statement, outer=self.depth == 0)
        if isinstance(node.func, ast.Name):
            return self._call_of_name(node, node.func.id)
        if isinstance(node.func, ast.Attribute):
            return self._call_of_attribute(node, node.func)
        return None

    def _call_of_name(self, node: ast.Call, name: str) -> Call | None:
        meaning = self._meaning_of_name(name)
        if meaning.kind == "path":
            return self._call_of_path(node, meaning.path)
        # After `from package import *` alone, a name that nothing binds can only have been meant as the
        # package's.
        unbound = meaning == _UNKNOWN and name not in self.scope
        if unbound and self.stars and all(self.stars):
            return self._call_of_path(node, f"{self.stars[-1]}.{name}")
        return None

    def _call_of_attribute(self, node: ast.Call, function: ast.Attribute) -> Call | None:
        base = self._meaning(function.value)
        if base.kind == "path":
            return self._call_of_path(node, f"{base.path}.{function.attr}")
        if base.kind == "instance":
            return self._call_of_method(node, base.path, function.attr)
        if base.kind == "unknown":
            return self._call_of_some_method(node, function.attr)
        return None

    def _call_of_path(self, node: ast.Call, path: str) -> Call | None:
        entry = self.catalogue.lookup(path)
        if entry is not None:
            return self._call(node, entry.id, (entry.id,), unbound=entry.kind == "method")
        if path in self.catalogue.importable or self.catalogue.is_attribute(path):
            return None
        return self._call(node, path, ())

    def _call_of_method(self, node: ast.Call, class_id: str, name: str) -> Call | None:
        entry = self.catalogue.lookup(f"{class_id}.{name}")
        if entry is not None:
            return self._call(node, entry.id, (entry.id,))
        owner = self.catalogue.lookup(class_id)
        if owner is None or not owner.members or name in owner.members or name.startswith("__"):
            return None
        return self._call(node, f"{class_id}.{name}", ())

    def _call_of_some_method(self, node: ast.Call, name: str) -> Call | None:
        entries = self.catalogue.methods(name)
        if not entries:
            return None
        call = self._call(node, entries[0].id, tuple(entry.id for entry in entries))
        binding = tuple(entry.id for entry in entries if bind(entry, call) is None)
        if binding:
            return self._call(node, binding[0], binding)
        return None if name in _CONTAINER_METHODS else call

    def _call(self, node: ast.Call, path: str, candidates: tuple[str, ...], *, unbound: bool = False) -> Call:
        positional = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
        named = [(keyword.arg, keyword.value) for keyword in node.keywords]
        return Call(
            path=path,
            positional=tuple(ast.unparse(argument) for argument in positional),
            keywords=tuple((name, ast.unparse(value)) for name, value in named if name is not None),
            starred=len(positional) < len(node.args) or any(name is None for name, _ in named),
            text=ast.unparse(node),
            candidates=candidates,
            statement=self.statement,
            outer=self.depth == 0,
            unbound=unbound,
        )


def described_calls(text: str, catalogue: Catalogue) -> tuple[Call, ...]:
    """Return an answer's calls that are no Python: its curl commands, else its tool calls.

    They stand in the first fence of their kind, or are the whole text. Catalogues of Python packages have none.
    """
    if catalogue.routes is not None:
        block = _fence_of(_SHELL_FENCES, text)
        requests = curl_requests(text.strip() if block is None else block)
        calls = [call for one in requests if (call := _request_call(one, catalogue)) is not None]
        if calls:
            return tuple(replace(call, statement=number) for number, call in enumerate(calls))
    if not catalogue.tools:
        return ()
    block = _fence_of(_JSON_FENCES, text)
    asked = tool_calls(text.strip() if block is None else block)
    return tuple(
        Call(
            path=next(iter(catalogue.tools.get(one.name, ())), one.name),
            text=one.arguments,
            candidates=catalogue.tools.get(one.name, ()),
            statement=number,
            request=one,
        )
        for number, one in enumerate(asked)
    )


_SHELL_FENCES = ("", "bash", "sh", "shell", "console", "zsh", "curl")
_JSON_FENCES = ("", "json", "tool_call")


def _fence_of(languages: Sequence[str], text: str) -> str | None:
    for match in re.finditer(r"```([\w-]*)[ \t]*\n(.*?)(?:```|\Z)", text, flags=re.DOTALL):
        if match[1].lower() in languages:
            return match[2]
    return None


def _request_call(request: Request, catalogue: Catalogue) -> Call | None:
    """Return the call that a request is, None if it goes to a server of no API in the catalogue."""
    candidates = None if catalogue.routes is None else catalogue.routes.find(request)
    if candidates is None:
        return None
    path = candidates[0] if candidates else request.shown
    call = Call(path, candidates=candidates, text=request.shown, request=request)
    entries = [entry for each in candidates if (entry := catalogue.lookup(each)) is not None]
    binding = tuple(entry.id for entry in entries if bind(entry, call) is None)
    return replace(call, path=binding[0], candidates=binding) if binding else call


def _opaque(binding: _Binding) -> _Binding:
    """Return what an attribute, item or result of such a thing is: foreign if that is, else unknown."""
    return _FOREIGN if binding.kind == "foreign" else _UNKNOWN


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [default for default in (*arguments.defaults, *arguments.kw_defaults) if default is not None]


# --- binding and judging


def bind(entry: Entry, call: Call) -> str | None:
    """Return why the call's arguments do not bind to the entry's signature, None if they do.

    Binding is Python's own (`inspect.Signature.bind`, PEP 362). What `*args` or `**kwargs` in the call hold
    cannot be known: then required parameters may be missing, but what is written out must still fit. Requests
    and tools' calls are bound by their descriptions.
    """
    match entry.operation, call.request:
        case Operation() as operation, Request() as request:
            return bind_request(operation, request)
        case ToolSchema() as tool, ToolCall() as asked:
            return bind_tool(tool, asked)
    reason = _bind_values(entry, call.positional, call)
    if reason is not None and call.unbound and call.positional:
        # `Graph.copy(G)`: the object is the first argument.
        return _bind_values(entry, call.positional[1:], call)
    return reason


def _bind_values(entry: Entry, positional: Sequence[str], call: Call) -> str | None:
    signature = _inspect_signature(entry)
    try:
        if call.starred:
            signature.bind_partial(*positional, **dict(call.keywords))
        else:
            signature.bind(*positional, **dict(call.keywords))
    except TypeError as error:
        return str(error)
    return None


def _inspect_signature(entry: Entry) -> inspect.Signature:
    return inspect.Signature(
        [
            inspect.Parameter(
                parameter.name,
                _KINDS[parameter.kind],
                default=inspect.Parameter.empty if parameter.default is None else parameter.default,
            )
            for parameter in entry.parameters
        ]
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer's code is worth; `called` is an entry id, or the dotted path that does not exist."""

    verdict: Verdict
    called: str | None
    call: Call | None
    reason: str


def judge(text: str, acceptable: Sequence[str], catalogue: Catalogue) -> Judgement:
    """Judge an answer by its main call: the outermost package call of its last statement that has one.

    What comes before is set-up, which must exist and bind too. In order: no_call without code or package
    call; hallucinated if the main call or any other does not exist; wrong_arguments if the main call or any
    other does not bind; exact if the main call is one of `acceptable` (ids or aliases); else valid.
    """
    code = find_code(text)
    calls = calls_in(code, catalogue) if code is not None else ()
    calls = calls or described_calls(text, catalogue)
    if code is None and not calls:
        return Judgement("no_call", None, None, "the answer has no code that parses")
    if not calls:
        return Judgement("no_call", None, None, f"the code calls nothing of {catalogue.package}")
    main = main_call(calls)
    in_order = (main, *(call for call in calls if call is not main))
    for call in in_order:
        if not call.candidates:
            return Judgement("hallucinated", call.path, call, _does_not_exist(call, catalogue))
    for call in in_order:
        reason = _reason_not_bound(call, catalogue)
        if reason is not None:
            return Judgement("wrong_arguments", call.path, call, f"{call.path}: {reason}")
    return _judge_choice(main, acceptable, catalogue)


def main_call(calls: Sequence[Call]) -> Call:
    """Return the first outermost call of the last statement that has a call; `calls` must not be empty."""
    last = max(call.statement for call in calls)
    return next(call for call in calls if call.statement == last and call.outer)


def _does_not_exist(call: Call, catalogue: Catalogue) -> str:
    if isinstance(call.request, Request) and catalogue.routes is not None:
        nearest = catalogue.routes.nearest(call.request)
    else:
        nearest = catalogue.suggest(call.path)
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    return f"{call.path} does not exist in {catalogue.package} {catalogue.version}{hint}"


def _reason_not_bound(call: Call, catalogue: Catalogue) -> str | None:
    """Return why no candidate binds (the first one's reason), None if one does."""
    entries = [entry for path in call.candidates if (entry := catalogue.lookup(path)) is not None]
    reasons = [bind(entry, call) for entry in entries]
    return None if None in reasons else reasons[0]


def _judge_choice(main: Call, acceptable: Sequence[str], catalogue: Catalogue) -> Judgement:
    wanted = {entry.id for path in acceptable if (entry := catalogue.resolve(path)) is not None}
    chosen = next((path for path in main.candidates if path in wanted), None)
    if chosen is not None:
        return Judgement("exact", chosen, main, "an acceptable call, and its arguments bind")
    if catalogue.resolve(main.path) is None:
        return Judgement(
            "valid", main.path, main, "exists and binds, but is undocumented, deprecated or not exported"
        )
    return Judgement("valid", main.path, main, "exists and binds, but is not what was asked for")
