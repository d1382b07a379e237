"""A Python package read without importing it: its catalogue, one document per entry, and what was left out.

The package's files are parsed by griffe; nothing of it is executed. Each function, class and method is listed
once, under the shortest public path that reaches it: `networkx.shortest_path`, not
`networkx.algorithms.shortest_paths.generic.shortest_path`. The other paths are its aliases. Not covered:
names made at run time (`setattr`, `__getattr__`, functions built by `functools.partial`), compiled modules
without stubs, and what properties return. Stubs (`.pyi` beside a module, and `PACKAGE-stubs`) say what there is in a
compiled module; what they leave undescribed stays so, for its docstring is only had by running it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunesmith.catalogue import Catalogue, Entry, EntryKind, Parameter, ParameterKind
from tunesmith.collecting.docstrings import (
    Described,
    Reading,
    Style,
    detect_style,
    imported_as,
    is_deprecated,
    read_docstring,
)
from tunesmith.errors import SourceError
from tunesmith.records import Document, Rejection, Source

if TYPE_CHECKING:
    import griffe

# What a class may inherit from without getting attributes that we cannot see.
_PLAIN_BASES = frozenset(
    {"object", "ABC", "abc.ABC", "Generic", "typing.Generic", "Protocol", "typing.Protocol"}
)


@dataclass(frozen=True, slots=True)
class PackageRead:
    """What a package, or the description of an API or of tools, gave.

    `left_out` counts by reason, `rejections` name what could not be read.
    """

    source: Source
    documents: tuple[Document, ...]
    catalogue: Catalogue
    left_out: dict[str, int]
    rejections: tuple[Rejection, ...]


def read_package(name: str) -> PackageRead:
    """Read a package by its import name; SourceError if it is not installed or has no Python source."""
    place = _find(name)
    source = package_source(name)
    root = _load(name, place)
    survey = _survey(root)
    style = detect_style(survey.docstrings())
    reader = _EntryReader(survey, style, name)
    listed, unlisted = reader.read()
    if not listed and not (unlisted and _stub_files(name, place)):
        raise SourceError(
            f"the package {name!r} has no documented public function or class.",
            hint="Only documented functions, classes and methods become entries. Is it the right package?",
        )
    catalogue = Catalogue(
        package=name,
        version=source.version or "unknown",
        entries=tuple(item.entry for item in listed),
        conventional_alias=imported_as(name, survey.docstrings()),
        unlisted=tuple(unlisted),
        attributes=tuple(sorted(survey.attributes)),
    )
    return PackageRead(
        source=source,
        documents=tuple(item.document for item in listed),
        catalogue=catalogue,
        left_out={reason: count for reason, count in sorted(survey.left_out.items()) if count},
        rejections=tuple(reader.rejections),
    )


def package_source(name: str) -> Source:
    """Return a package's Source, with a SHA-256 over its .py and .pyi files' paths and bytes, without parsing it."""
    place = _find(name)
    digest = hashlib.sha256()
    for file, root in _code_files(name, place):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0")
        digest.update(file.read_bytes() + b"\0")
    return Source(address=f"python:{name}", kind="python", digest=digest.hexdigest(), version=_version(name))


# --- finding and loading ---


def _find(name: str) -> Path:
    """Return the package's folder, or its file (a compiled module's stub) for a module of one, without importing it."""
    if not name.isidentifier():
        raise SourceError(
            f"python:{name} is not the import name of a package.",
            hint=f"Write the name that stands after `import`, up to the first dot.{_nearest(name)}",
        )
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module in sys.modules that has no spec, such as __main__
        spec = None
    if spec is None:
        raise SourceError(
            f"the package {name!r} is not installed.",
            hint=f"Install it: pip install {name}{_nearest(name)}",
        )
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec.origin is None or not spec.origin.endswith(".py"):
        stub = _stub_of_compiled(name, spec.origin)
        if stub is not None:
            return stub
        raise SourceError(
            f"the package {name!r} has no Python source to read ({spec.origin or 'no file'}).",
            hint="Only packages with .py files or stubs (.pyi) can be read.",
        )
    return Path(spec.origin)


def _stub_of_compiled(name: str, origin: str | None) -> Path | None:
    beside = Path(origin).with_name(f"{name}.pyi") if origin is not None else None
    return beside if beside is not None and beside.is_file() else _stubs_package(name)


def _stubs_package(name: str) -> Path | None:
    """Return the folder of the package of stubs for a package (PEP 561), if one is installed."""
    folders = (Path(entry or ".") / f"{name}-stubs" for entry in sys.path)
    return next((folder for folder in folders if folder.joinpath("__init__.pyi").is_file()), None)


def _code_files(name: str, place: Path) -> list[tuple[Path, Path]]:
    """Return the files that are parsed, each with the folder that its name in the digest starts at."""
    roots = dict.fromkeys([place, *filter(None, [_stubs_package(name)])])
    return [
        (file, root.parent)
        for root in roots
        for file in (sorted([*root.rglob("*.py"), *root.rglob("*.pyi")]) if root.is_dir() else [root])
    ]


def _stub_files(name: str, place: Path) -> bool:
    return any(file.suffix == ".pyi" for file, _ in _code_files(name, place))


def _nearest(name: str) -> str:
    """Return a sentence that names the installed package nearest to `name`, or nothing."""
    by_distribution = metadata.packages_distributions()
    importable = {
        distribution.lower(): package
        for package, distributions in by_distribution.items()
        for distribution in distributions
    }
    if name.lower() in importable:
        return (
            f"\n  {name} is imported as {importable[name.lower()]}: write python:{importable[name.lower()]}"
        )
    names = [known for known in {*by_distribution, *sys.stdlib_module_names} if not known.startswith("_")]
    nearest = get_close_matches(name, sorted(names), n=1)
    return f"\n  The nearest that is installed: python:{nearest[0]}" if nearest else ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        distributions = metadata.packages_distributions().get(name)
    return metadata.version(distributions[0]) if distributions else None


def _load(name: str, place: Path) -> griffe.Module:
    import griffe

    try:
        with _quiet():
            stubs = _stubs_package(name)
            if place.suffix == ".pyi":
                return _lone_stub(name, place)
            loaded = griffe.load(
                name,
                try_relative_path=False,
                find_stubs_package=stubs is not None,
                search_paths=list(dict.fromkeys([place.parent, *([stubs.parent] if stubs else [])])),
                extensions=griffe.load_extensions(_reading_stubs()),
                allow_inspection=False,
                resolve_aliases=True,
                resolve_external=False,
                store_source=False,
            )
    except (griffe.GriffeError, ImportError, SyntaxError) as error:
        raise SourceError(
            f"the package {name!r} cannot be read: {error}",
            hint="Only packages with .py files that parse can be read.",
        ) from error
    return cast("griffe.Module", loaded)


def _lone_stub(name: str, file: Path) -> griffe.Module:
    """Return the module that a stub beside a compiled module describes, which griffe looks for only beside `.py`."""
    import griffe

    extensions = griffe.load_extensions(_reading_stubs())
    modules = griffe.ModulesCollection()
    module = griffe.visit(
        name,
        filepath=file,
        code=file.read_text(encoding="utf-8-sig"),
        extensions=extensions,
        modules_collection=modules,
    )
    modules.set_member(name, module)
    return module


def _reading_stubs() -> griffe.Extension:
    """Return what makes griffe keep a stub's functions that are all overloads (`numpy.array`), and read `__name`."""
    import griffe

    class ReadingStubs(griffe.Extension):
        def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
            _mark_positional(func)

        def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
            _join_overloads(mod)

        def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
            _join_overloads(cls)

    return ReadingStubs()


def _mark_positional(function: griffe.Function) -> None:
    """Take `__name` in a stub as positional only, which is how stubs said it before there was `/` (PEP 484)."""
    import griffe

    if Path(str(function.filepath)).suffix != ".pyi":
        return
    for each in function.parameters:
        if _is_positional(each) and each.name.startswith("__") and not each.name.endswith("__"):
            each.name, each.kind = each.name.removeprefix("__"), griffe.ParameterKind.positional_only


def _join_overloads(owner: griffe.Module | griffe.Class) -> None:
    import griffe

    if Path(str(owner.filepath)).suffix != ".pyi":
        return
    for name, overloads in owner.overloads.items():
        if not overloads or name in owner.members:
            continue
        docstring = next((each.docstring for each in overloads if each.docstring is not None), None)
        joined = griffe.Function(
            name,
            lineno=overloads[0].lineno,
            endlineno=overloads[-1].endlineno,
            parameters=griffe.Parameters(*_joined_parameters([each.parameters for each in overloads])),
            docstring=docstring,
            analysis="static",
        )
        for each in overloads:
            joined.labels |= each.labels
        owner.set_member(name, joined)


def _joined_parameters(overloads: Sequence[griffe.Parameters]) -> Iterator[griffe.Parameter]:
    """Yield parameters that bind whatever one of the overloads binds; the longest one names the positions."""
    positional = [[each for each in one if _is_positional(each)] for one in overloads]
    longest = max(positional, key=len)
    needed = min(sum(each.default is None for each in one) for one in positional)
    # Where a position has two names, either may be written, so that neither is needed.
    renamed = (
        number for number, each in enumerate(longest) if not _named_alike(each.name, number, positional)
    )
    needed = min([needed, *renamed])
    for number, each in enumerate(longest):
        yield _redefaulted(each, None if number < needed else each.default or "...")
    yield from [each for one in overloads for each in one if _kind(each) == "var_positional"][:1]
    named = {each.name for each in longest}
    keywords = {
        each.name: each
        for one in overloads
        for each in one
        if _kind(each) in ("positional_or_keyword", "keyword_only") and each.name not in named
    }
    for name, each in keywords.items():
        always = all(any(other.name == name and other.default is None for other in one) for one in overloads)
        yield _redefaulted(each, None if always else each.default or "...", keyword=True)
    yield from [each for one in overloads for each in one if _kind(each) == "var_keyword"][:1]


def _named_alike(name: str, number: int, positional: Sequence[Sequence[griffe.Parameter]]) -> bool:
    others = [one[number] for one in positional if number < len(one)]
    return all(each.name == name or _kind(each) == "positional_only" for each in others)


def _redefaulted(
    parameter: griffe.Parameter, default: str | griffe.Expr | None, *, keyword: bool = False
) -> griffe.Parameter:
    import griffe

    kind = griffe.ParameterKind.keyword_only if keyword else parameter.kind
    return griffe.Parameter(parameter.name, kind=kind, annotation=parameter.annotation, default=default)


def _kind(parameter: griffe.Parameter) -> str:
    return parameter.kind.name if parameter.kind is not None else "positional_or_keyword"


def _is_positional(parameter: griffe.Parameter) -> bool:
    return _kind(parameter) in ("positional_only", "positional_or_keyword")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep griffe's notes about other people's docstrings off the screen."""
    import logging

    logger = logging.getLogger("griffe")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


# --- which objects there are, and under which paths ---


@dataclass(frozen=True, slots=True, order=True)
class _Path:
    """One dotted path of an object. Ordered by how much people would like to write it, best first."""

    private: bool
    inherited: bool
    dots: int
    renamed: bool
    implicit: bool
    length: int
    text: str


def _path(text: str, *, public: bool, renamed: bool, explicit: bool) -> _Path:
    return _Path(
        private=not public,
        inherited=False,
        dots=text.count("."),
        renamed=renamed,
        implicit=not explicit,
        length=len(text),
        text=text,
    )


@dataclass(slots=True)
class _Survey:
    """Everything callable of a package by its defining path, its other paths, and counts of the rest."""

    root: str
    objects: dict[str, griffe.Function | griffe.Class] = field(default_factory=dict)
    paths: dict[str, set[_Path]] = field(default_factory=dict)
    methods: set[str] = field(default_factory=set)
    shadows: dict[str, griffe.Function | griffe.Class] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    module_docstrings: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def docstrings(self) -> list[str]:
        """Return the docstrings of modules, functions, classes and methods."""
        own = [found.docstring.value for found in self.objects.values() if found.docstring is not None]
        return [*self.module_docstrings, *own]

    def best(self, canonical: str) -> _Path:
        """Return the path people use."""
        return min(self.paths[canonical])

    def add(self, found: griffe.Function | griffe.Class, path: _Path) -> None:
        """Note one more path of an object."""
        self.objects.setdefault(found.path, found)
        self.paths.setdefault(found.path, set()).add(path)


def _survey(root: griffe.Module) -> _Survey:
    imports = {module.path: _read_imports(module) for module in _init_modules(root)}
    survey = _Survey(root=root.path, shadows=_shadows(root, imports))
    seen: set[str] = set()
    counted: set[str] = set()
    pending: list[tuple[str, griffe.Module, bool, tuple[str, ...]]] = [(root.path, root, True, ())]
    while pending:
        path, module, public, chain = pending.pop(0)
        if path in seen:
            continue
        seen.add(path)
        if module.path not in counted:
            counted.add(module.path)
            if module.docstring is not None:
                survey.module_docstrings.append(module.docstring.value)
        members = _star_submodules(root, module, imports, ()) | module.members
        for name, member in members.items():
            step = _Step(path=path, name=name, module=module, public=public, chain=(*chain, module.path))
            _survey_member(survey, step, member, pending)
    _survey_methods(survey)
    return survey


@dataclass(frozen=True, slots=True)
class _Step:
    """A member `name` of `module`, which `path` reaches; `chain` are the modules on the way."""

    path: str
    name: str
    module: griffe.Module
    public: bool
    chain: tuple[str, ...]

    @property
    def full(self) -> str:
        return f"{self.path}.{self.name}"


def _survey_member(
    survey: _Survey,
    step: _Step,
    member: griffe.Object | griffe.Alias,
    pending: list[tuple[str, griffe.Module, bool, tuple[str, ...]]],
) -> None:
    target = _target(member)
    own = target is not None and (target.path == survey.root or target.path.startswith(f"{survey.root}."))
    if target is None or not own:
        if _is_offered(step, member):
            survey.left_out["not the package's own"] += 1
        return
    target = _assigned(target) or target
    if target.is_module:
        shadow = survey.shadows.get(target.path)
        if shadow is not None:
            public = step.public and _is_offered(step, member)
            survey.add(shadow, _path(step.full, public=public, renamed=False, explicit=True))
        _survey_module(survey, step, member, cast("griffe.Module", target), pending)
    elif target.is_function or target.is_class:
        if member.is_alias and not (step.module.is_init_module or _is_exported(step)):
            return  # A module's working imports are not paths that anybody writes.
        public = step.public and _is_offered(step, member)
        explicit = _is_exported(step) or not _is_wildcard(member)
        survey.add(
            cast("griffe.Function | griffe.Class", target),
            _path(step.full, public=public, renamed=step.name != target.name, explicit=explicit),
        )
    elif target.is_attribute and not _is_private(step.name):
        survey.attributes.add(step.full)


def _survey_module(
    survey: _Survey,
    step: _Step,
    member: griffe.Object | griffe.Alias,
    target: griffe.Module,
    pending: list[tuple[str, griffe.Module, bool, tuple[str, ...]]],
) -> None:
    if target.path in step.chain or (member.is_alias and not step.module.is_init_module):
        return
    if _is_test(step.name):
        if not member.is_alias:
            survey.left_out["tests"] += _count_callables(target)
        return
    shadowed = target.path in survey.shadows
    if shadowed and step.full != target.path:
        return  # Only `from package.module import name` still reaches the inside of a shadowed module.
    public = step.public and not _is_private(step.name) and not shadowed
    pending.append((step.full, target, public, step.chain))


def _assigned(attribute: griffe.Object) -> griffe.Object | None:
    """Return the function or class that `name = other` gives a second name."""
    import griffe

    if not isinstance(attribute, griffe.Attribute) or not isinstance(attribute.value, griffe.ExprName):
        return None
    if attribute.parent is None or attribute.value.name not in attribute.parent.members:
        return None
    target = _target(attribute.parent.members[attribute.value.name])
    same_package = target is not None and target.package.path == attribute.package.path
    return target if same_package and target is not None and (target.is_function or target.is_class) else None


# griffe keeps a submodule where, at run time, a function of the same name imported by the package's __init__
# replaces it (`networkx.bridges`), and does not pass on the submodules that a star import brings along
# (`networkx.nx_agraph`). Both follow from the import statements of the __init__ files.


@dataclass(frozen=True, slots=True)
class _Imports:
    """What an __init__ file imports: modules by star in order, names, and which of its own submodules."""

    stars: tuple[str, ...]
    names: frozenset[tuple[str, str]]
    submodules: frozenset[str]


def _init_modules(module: griffe.Module) -> Iterator[griffe.Module]:
    if not module.is_init_module:
        return
    yield module
    for member in module.members.values():
        if not member.is_alias and member.is_module:
            yield from _init_modules(cast("griffe.Module", member))


def _read_imports(module: griffe.Module) -> _Imports:
    tree = ast.parse(Path(str(module.filepath)).read_bytes())
    stars: list[str] = []
    names: set[tuple[str, str]] = set()
    reached: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            reached |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(module.path, node)
            reached |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
            stars += [origin for alias in node.names if alias.name == "*"]
            names |= {(origin, alias.name) for alias in node.names if alias.asname in (None, alias.name)}
    inside = f"{module.path}."
    submodules = {path.removeprefix(inside).partition(".")[0] for path in reached if path.startswith(inside)}
    return _Imports(tuple(stars), frozenset(names), frozenset(submodules))


def _absolute(package: str, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - (node.level - 1)]
    return ".".join([*base, *([node.module] if node.module else [])])


def _module_at(root: griffe.Module, path: str) -> griffe.Module | None:
    """Return the package's module with this defining path."""
    parts = path.split(".")
    if parts[0] != root.path:
        return None
    module = root
    for part in parts[1:]:
        member = module.members.get(part)
        if member is None or member.is_alias or not member.is_module:
            return None
        module = cast("griffe.Module", member)
    return module


def _shadows(
    root: griffe.Module, imports: Mapping[str, _Imports]
) -> dict[str, griffe.Function | griffe.Class]:
    """Return the functions and classes that replace a submodule of the same name, by the submodule's path."""
    found: dict[str, griffe.Function | griffe.Class] = {}
    for package, imported in imports.items():
        module = _module_at(root, package)
        if module is None:
            continue
        for name in imported.submodules & module.members.keys():
            origins = {*imported.stars} | {origin for origin, each in imported.names if each == name}
            for origin in sorted(origins - {package}):
                replaced = _callable_in(_module_at(root, origin), name)
                if replaced is not None and module.members[name].is_module:
                    found[f"{package}.{name}"] = replaced
    return found


def _callable_in(module: griffe.Module | None, name: str) -> griffe.Function | griffe.Class | None:
    if module is None or name not in module.members:
        return None
    target = _target(module.members[name])
    if target is None or not (target.is_function or target.is_class):
        return None
    return cast("griffe.Function | griffe.Class", target)


def _star_submodules(
    root: griffe.Module, module: griffe.Module, imports: Mapping[str, _Imports], chain: tuple[str, ...]
) -> dict[str, griffe.Object | griffe.Alias]:
    """Return the submodules that a module's star imports bring in, as Python does without __all__."""
    if module.path not in imports or module.path in chain:
        return {}
    found: dict[str, griffe.Object | griffe.Alias] = {}
    for origin in imports[module.path].stars:
        package = _module_at(root, origin)
        if package is None or package.exports is not None or origin not in imports:
            continue
        found |= _star_submodules(root, package, imports, (*chain, module.path))
        found |= {
            name: package.members[name]
            for name in imports[origin].submodules & package.members.keys()
            if package.members[name].is_module and not _is_private(name)
        }
    return found


def _target(member: griffe.Object | griffe.Alias) -> griffe.Object | None:
    import griffe

    if not isinstance(member, griffe.Alias):
        return member
    try:
        return member.final_target
    except (griffe.AliasResolutionError, griffe.CyclicAliasError):
        return None


def _is_wildcard(member: griffe.Object | griffe.Alias) -> bool:
    import griffe

    return isinstance(member, griffe.Alias) and member.wildcard_imported


def _is_exported(step: _Step) -> bool:
    return step.module.exports is not None and step.name in {str(name) for name in step.module.exports}


def _is_offered(step: _Step, member: griffe.Object | griffe.Alias) -> bool:
    """Tell whether a module offers a name to its users: by `__all__`, else by defining or re-exporting it."""
    if step.module.exports is not None:
        return _is_exported(step)
    if _is_private(step.name):
        return False
    return not member.is_alias or step.module.is_init_module


def _is_private(name: str) -> bool:
    return name.startswith("_")


def _is_test(name: str) -> bool:
    return name in ("tests", "test", "testing", "conftest") or name.startswith("test_")


def _count_callables(module: griffe.Module) -> int:
    own = [member for member in module.members.values() if not member.is_alias]
    inside = sum(_count_callables(cast("griffe.Module", member)) for member in own if member.is_module)
    return inside + sum(1 for member in own if member.is_function or member.is_class)


def _survey_methods(survey: _Survey) -> None:
    """Add the methods of public classes, each once, with the paths of every class that has it."""
    for found in [found for found in survey.objects.values() if found.is_class]:
        if not survey.best(found.path).private:
            _survey_class(survey, cast("griffe.Class", found))


def _survey_class(survey: _Survey, owner: griffe.Class) -> None:
    for name, member in owner.all_members.items():
        target = _target(member)
        if target is None or not target.path.startswith(f"{survey.root}.") or _is_dunder(name):
            continue
        defined_here = target.parent is not None and target.parent.path == owner.path
        if target.is_function and (defined_here or not _is_private(name)):
            survey.methods.add(target.path)
            for path in survey.paths[owner.path]:
                way = _method_path(path, name, defined_here=defined_here)
                survey.add(cast("griffe.Function", target), way)
        elif defined_here and not _is_private(name):
            survey.left_out["property"] += "property" in target.labels
            survey.left_out["nested class"] += target.is_class


def _method_path(owner: _Path, name: str, *, defined_here: bool) -> _Path:
    """Return a method's path through a class; those through the class that defines it come first."""
    return _Path(
        private=owner.private or _is_private(name),
        inherited=not defined_here,
        dots=owner.dots + 1,
        renamed=owner.renamed,
        implicit=owner.implicit,
        length=owner.length + 1 + len(name),
        text=f"{owner.text}.{name}",
    )


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


# --- from objects to entries ---


@dataclass(frozen=True, slots=True)
class _Listed:
    """An entry and the document it is described by."""

    entry: Entry
    document: Document


class _EntryReader:
    """Turns surveyed objects into entries, counting what is left out and why."""

    def __init__(self, survey: _Survey, style: Style, package: str) -> None:
        self.survey = survey
        self.style = style
        self.package = package
        self.rejections: list[Rejection] = []
        self.by_path = {
            path.text: survey.best(canonical).text
            for canonical, paths in survey.paths.items()
            for path in paths
        }

    def read(self) -> tuple[list[_Listed], list[Entry]]:
        """Return the entries with their documents, and the public callables not listed, sorted by id."""
        listed: list[_Listed] = []
        unlisted: list[Entry] = []
        for canonical in sorted(self.survey.objects, key=lambda path: self.survey.best(path).text):
            found = self.survey.objects[canonical]
            best = self.survey.best(canonical)
            if best.private:
                self.survey.left_out["private"] += 1
                if not any(_is_private(part) for part in best.text.split(".")):
                    unlisted.append(self._bare_entry(found, best.text))
                continue
            text = found.docstring.value.strip() if found.docstring is not None else ""
            entry = self._bare_entry(found, best.text)
            reading = self._reading(found, text, entry)
            if is_deprecated(text) or _has_deprecated_decorator(found):
                self.survey.left_out["deprecated"] += 1
                unlisted.append(entry)
            elif not reading.summary:
                self.survey.left_out["undocumented"] += 1
                unlisted.append(entry)
            else:
                listed.append(self._described(entry, text, reading))
        kept = {item.entry.id for item in listed}
        return [_with_see_also_in(item, kept) for item in listed], unlisted

    def _bare_entry(self, found: griffe.Function | griffe.Class, entry_id: str) -> Entry:
        aliases = {path.text for path in self.survey.paths[found.path]} | {found.path}
        kind: EntryKind = "class" if found.is_class else "function"
        if found.path in self.survey.methods:
            kind = "method"
        return Entry(
            id=entry_id,
            kind=kind,
            parameters=_parameters(found, kind),
            aliases=tuple(sorted(aliases - {entry_id})),
            members=_members(cast("griffe.Class", found)) if kind == "class" else (),
        )

    def _reading(self, found: griffe.Function | griffe.Class, text: str, entry: Entry) -> Reading:
        with _quiet():
            reading = read_docstring(found, self.style)
        if reading.broken_doctest is not None:
            self.rejections.append(Rejection("collect", "doctest", entry.id, reading.broken_doctest))
        return reading

    def _described(self, entry: Entry, text: str, reading: Reading) -> _Listed:
        see_also = tuple(dict.fromkeys(self._resolve_all(entry, reading.see_also)))
        document = Document(
            id=f"python:{self.package}#{entry.id}",
            source=f"python:{self.package}",
            title=entry.id,
            text=f"{entry.id}{entry.signature}\n\n{text}",
            kind="api",
            entry=entry.id,
        )
        described = Entry(
            id=entry.id,
            kind=entry.kind,
            parameters=tuple(_described_parameters(entry.parameters, reading.parameters)),
            summary=reading.summary,
            description=reading.description,
            examples=reading.examples,
            see_also=see_also,
            returns=reading.returns,
            document=document.id,
            aliases=entry.aliases,
            members=entry.members,
        )
        return _Listed(described, document)

    def _resolve_all(self, entry: Entry, names: Iterable[str]) -> Iterator[str]:
        """Yield the ids that names of a See Also mean, looked up from the entry's surroundings outwards."""
        prefixes = sorted(
            {
                ".".join(parts[:end])
                for path in (entry.id, *entry.aliases)
                for parts in [path.split(".")]
                for end in range(1, len(parts))
            },
            key=lambda prefix: (-prefix.count("."), prefix),
        )
        for name in names:
            tries = [name, *(f"{prefix}.{name}" for prefix in prefixes)]
            found = next((self.by_path[path] for path in tries if path in self.by_path), None)
            if found is None:
                self.rejections.append(Rejection("collect", "see_also", entry.id, f"{name} names nothing"))
            elif found != entry.id:
                yield found


def _with_see_also_in(item: _Listed, kept: set[str]) -> _Listed:
    from dataclasses import replace

    see_also = tuple(name for name in item.entry.see_also if name in kept)
    return (
        item
        if see_also == item.entry.see_also
        else _Listed(replace(item.entry, see_also=see_also), item.document)
    )


def _described_parameters(
    parameters: Iterable[Parameter], described: Mapping[str, Described]
) -> Iterator[Parameter]:
    for parameter in parameters:
        found = described.get(parameter.name, Described())
        yield Parameter(
            name=parameter.name,
            kind=parameter.kind,
            default=parameter.default,
            annotation=parameter.annotation or found.type,
            description=found.text,
        )


def _has_deprecated_decorator(found: griffe.Function | griffe.Class) -> bool:
    return any(
        decorator.callable_path.rpartition(".")[2].startswith("deprecate") for decorator in found.decorators
    )


def _parameters(found: griffe.Function | griffe.Class, kind: EntryKind) -> tuple[Parameter, ...]:
    if kind == "class":
        return _constructor_parameters(cast("griffe.Class", found))
    function = cast("griffe.Function", found)
    own = [_parameter(parameter) for parameter in function.parameters]
    return tuple(_without_receiver(own) if kind == "method" and "staticmethod" not in found.labels else own)


def _constructor_parameters(owner: griffe.Class) -> tuple[Parameter, ...]:
    """Return the parameters of `__init__`, else of `__new__`; anything if an unseen base may have one."""
    members = owner.all_members
    for name in ("__init__", "__new__"):
        target = _target(members[name]) if name in members else None
        # griffe gives a dataclass an __init__ (line 0) even where it writes its own __new__ (`init=False`).
        replaced = target is not None and target.lineno == 0 and "__new__" in owner.members
        if target is not None and target.is_function and not replaced:
            function = cast("griffe.Function", target)
            return tuple(_without_receiver([_parameter(parameter) for parameter in function.parameters]))
    if _has_unseen_base(owner):
        return (Parameter("args", "var_positional"), Parameter("kwargs", "var_keyword"))
    return ()


def _without_receiver(parameters: list[Parameter]) -> list[Parameter]:
    takes_receiver = parameters and parameters[0].kind in ("positional_only", "positional_or_keyword")
    return parameters[1:] if takes_receiver else parameters


def _parameter(parameter: griffe.Parameter) -> Parameter:
    kind = _kind(parameter)
    variadic = kind in ("var_positional", "var_keyword")
    return Parameter(
        name=parameter.name.lstrip("*"),
        kind=cast("ParameterKind", kind),
        default=None if variadic or parameter.default is None else str(parameter.default),
        annotation=None if parameter.annotation is None else str(parameter.annotation),
    )


def _has_unseen_base(owner: griffe.Class) -> bool:
    """Tell whether a base, direct or not, is outside the package, so that its attributes are unknown."""
    for each in (owner, *owner.mro()):
        seen = {base.path for base in each.resolved_bases}
        for base in each.bases:
            text = re.sub(r"\[.*", "", str(base), flags=re.DOTALL)
            last = text.rpartition(".")[2]
            if text not in _PLAIN_BASES and not any(path.rpartition(".")[2] == last for path in seen):
                return True
    return False


def _members(owner: griffe.Class) -> tuple[str, ...]:
    names = owner.all_members
    if _has_unseen_base(owner) or "__getattr__" in names or "__getattribute__" in names:
        return ()
    return tuple(sorted(name for name in names if not _is_dunder(name)))
