"""Documentation that Sphinx built: its inventory (objects.inv), what its pages say of each name, and its other pages.

An inventory lists every name that the documentation describes, with the page and the place on it. The formats are
those of Sphinx: version 1 is lines of text, version 2 has them packed by zlib. Of a page are read, for each name, its
signature and what stands below it, up to the next name. A name whose signature no page tells binds anything: it is
known to exist, and no more. Nothing is executed.
"""

from __future__ import annotations

import ast
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from doctest import DocTestParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

from tunesmith.catalogue import Catalogue, DocExample, Entry, EntryKind, Parameter, ParameterKind
from tunesmith.errors import SourceError
from tunesmith.records import Document

if TYPE_CHECKING:
    from lxml.html import HtmlElement

SPHINX: Final = "sphinx:"
FILE: Final = "objects.inv"
_MOST_BYTES: Final = 64 * 2**20
_KINDS: Final[dict[str, EntryKind]] = {
    "function": "function",
    "decorator": "function",
    "method": "method",
    "staticmethod": "method",
    "classmethod": "method",
    "decoratormethod": "method",
    "class": "class",
    "exception": "class",
}
_ANYTHING: Final = (Parameter("args", "var_positional"), Parameter("kwargs", "var_keyword"))


@dataclass(frozen=True, slots=True)
class Named:
    """A name of an inventory: what it names ("py", "method"), the page, the place on it, and how it is shown."""

    name: str
    domain: str
    role: str
    page: str
    anchor: str
    title: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """All names of a documentation."""

    project: str
    version: str
    names: tuple[Named, ...]

    @property
    def pages(self) -> tuple[str, ...]:
        """The pages of prose, in order; generated indexes and the search page are none."""
        return tuple(
            dict.fromkeys(each.page for each in self.names if (each.domain, each.role) == ("std", "doc"))
        )


def parse_inventory(data: bytes) -> Inventory:
    """Return what an objects.inv lists; raises SourceError for what is none."""
    head = re.match(rb"# Sphinx inventory version ([12])\s*\n# Project: (.*)\n# Version:(.*)\n", data)
    if head is None:
        raise SourceError(
            "this is no inventory of Sphinx: it does not begin with its version, 1 or 2.",
            hint=f"It is the file {FILE} beside the index.html of documentation that Sphinx built.",
        )
    project, version = (part.decode("utf-8", "replace").strip() for part in head.groups()[1:])
    rest = data[head.end() :]
    names = _names_of_first(rest) if head[1] == b"1" else _names_of_second(_unpacked(rest))
    return Inventory(project, version, tuple(names))


def _unpacked(rest: bytes) -> bytes:
    _, _, packed = rest.partition(b"\n")
    try:
        unpacking = zlib.decompressobj()
        lines = unpacking.decompress(packed, _MOST_BYTES)
    except zlib.error as error:
        raise SourceError(
            f"the inventory is damaged: {error}.", hint="Build the documentation again."
        ) from error
    if not unpacking.eof:
        raise SourceError(
            f"the inventory ends too early, or holds more than {_MOST_BYTES >> 20} MiB.",
            hint="Build the documentation again.",
        )
    return lines


def _names_of_first(data: bytes) -> Iterator[Named]:
    for line in data.decode("utf-8", "replace").splitlines():
        found = re.fullmatch(r"(\S+) (\S+) (\S+)", line.strip())
        if found is None:
            continue
        name, role, page = found.groups()
        is_module = role == "mod"
        role = "module" if is_module else role
        yield Named(name, "py", role, page, f"module-{name}" if is_module else name, name)


def _names_of_second(data: bytes) -> Iterator[Named]:
    for line in data.decode("utf-8", "replace").splitlines():
        found = re.fullmatch(r"(.+?)\s+([^\s:]+):(\S+)\s+(-?\d+)\s+(\S*)\s+(.*)", line.rstrip())
        if found is None:
            continue
        name, domain, role, _, place, title = found.groups()
        page, _, anchor = place.partition("#")
        # "$" at the end stands for the name, "-" for a title that is the name.
        if anchor.endswith("$"):
            anchor = anchor[:-1] + name
        if page.endswith("$"):
            page = page[:-1] + name
        yield Named(name, domain, role, page, anchor, name if title == "-" else title)


# --- from an address to a documentation


@dataclass(frozen=True, slots=True)
class Built:
    """Documentation on disk: its address, its folder and its inventory."""

    address: str
    folder: Path
    inventory: Inventory

    @property
    def prose(self) -> tuple[tuple[Path, str], ...]:
        """The pages of prose that are there, each with its name below the address."""
        below = self.address.removeprefix(SPHINX).removesuffix(FILE).rstrip("/")
        found = ((self.file(page), page) for page in self.inventory.pages)
        return tuple((file, f"{below}/{page}") for file, page in found if file is not None)

    def file(self, page: str) -> Path | None:
        """Return a page's file, if it is there; none that lies outside of the folder."""
        named = self.folder / unquote(page)
        path = named / "index.html" if page.endswith("/") or not page else named
        inside = path.resolve().is_relative_to(self.folder.resolve())
        return path if inside and path.is_file() else None

    def digest(self) -> str:
        """Return the SHA-256 over the inventory and the pages that it names."""
        digest = hashlib.sha256((self.folder / FILE).read_bytes())
        for page in sorted({each.page for each in self.inventory.names}):
            file = self.file(page)
            if file is not None:
                digest.update(page.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


def is_sphinx(address: str) -> bool:
    """Tell whether an address names documentation that Sphinx built."""
    return address.startswith(SPHINX)


def open_built(address: str, base: Path) -> Built:
    """Return the documentation that `sphinx:FOLDER` or `sphinx:FOLDER/objects.inv` names.

    Raises SourceError where there is none, and for an address in the web.
    """
    place = address.removeprefix(SPHINX)
    if re.match(r"https?://", place):
        raise SourceError(
            f"{address} lies in the web, and only built documentation on this machine is read by its inventory.",
            hint=f"Give sphinx: the folder of the built HTML, or take its pages as site:{place}",
        )
    path = base / Path(place).expanduser()
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise SourceError(
            f"{address} names no objects.inv.",
            hint=f"It was looked for at {file}: give the folder into which Sphinx wrote the HTML.",
        )
    return Built(address, file.parent, parse_inventory(file.read_bytes()))


# --- what the pages say


@dataclass(frozen=True, slots=True)
class Described:
    """The callables that a documentation names, by package: `documents` are those of the entries."""

    catalogues: tuple[Catalogue, ...]
    documents: tuple[Document, ...]


def describe(built: Built) -> Described:
    """Return what a documentation says can be called.

    What has words below its signature is an entry; what is only named is unlisted. Names at one place are one thing:
    the shortest one is its id, the others are aliases.
    """
    documents: list[Document] = []
    by_package: dict[str, tuple[list[Entry], list[Entry], list[str]]] = {}
    pages = _Pages(built)
    for names in _things(built.inventory):
        package = names[0].name.partition(".")[0]
        entries, unlisted, attributes = by_package.setdefault(package, ([], [], []))
        kind = _KINDS.get(names[0].role)
        if kind is None:
            attributes += [each.name for each in names if each.role != "module" and "." in each.name]
            continue
        entry, text = pages.entry(names, kind)
        if not text:
            unlisted.append(entry)
            continue
        entry = replace(entry, document=f"{built.address}#{entry.id}")
        entries.append(entry)
        shown = f"{entry.id}{entry.signature}\n\n{text}"
        documents.append(Document(entry.document, built.address, entry.id, shown, kind="api", entry=entry.id))
    version = built.inventory.version or "unknown"
    catalogues = tuple(
        Catalogue(package, version, tuple(entries), unlisted=tuple(unlisted), attributes=tuple(attributes))
        for package, (entries, unlisted, attributes) in sorted(by_package.items())
        if entries or unlisted
    )
    return Described(catalogues, tuple(documents))


def _things(inventory: Inventory) -> Iterator[list[Named]]:
    places: dict[tuple[str, str], list[Named]] = {}
    for each in inventory.names:
        if each.domain == "py" and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", each.name):
            places.setdefault((each.page, each.anchor), []).append(each)
    for _, names in sorted(places.items(), key=lambda place: place[1][0].name):
        yield sorted(names, key=lambda each: (each.name.count("."), len(each.name), each.name))


class _Pages:
    """The pages of a documentation, each parsed once."""

    def __init__(self, built: Built) -> None:
        self._built = built
        self._places: dict[str, dict[str, HtmlElement]] = {}

    def entry(self, names: Sequence[Named], kind: EntryKind) -> tuple[Entry, str]:
        """Return what is known of a callable, and what its page says of it."""
        first = names[0]
        aliases = tuple(each.name for each in names[1:] if each.name != first.name)
        bare = Entry(first.name, kind, _ANYTHING, aliases=aliases)
        signature = self._places_of(first.page).get(first.anchor)
        if signature is None:
            return bare, ""
        body = next((each for each in signature.itersiblings() if each.tag == "dd"), None)
        parameters = _parameters(signature)
        if body is None:
            return replace(bare, parameters=parameters), ""
        _without_inner(body)
        prose = [text for each in body.iter("p") if not _is_beside(each) and (text := _text(each))]
        if body.find_class("deprecated") or not prose:
            return replace(bare, parameters=parameters), ""
        summary, _, more = prose[0].partition(". ")
        entry = replace(
            bare,
            parameters=_with_words(parameters, body),
            returns=_returned(body),
            summary=summary.rstrip(".") + ".",
            description="\n\n".join(filter(None, [more, *prose[1:]])),
            examples=tuple(_examples(body)),
        )
        return entry, "\n\n".join(_blocks(body))

    def _places_of(self, page: str) -> dict[str, HtmlElement]:
        if page not in self._places:
            from lxml import html

            file = self._built.file(page)
            data = b"" if file is None else file.read_bytes()
            # Sphinx writes UTF-8; lxml would guess where a theme leaves that unsaid.
            parser = html.HTMLParser(encoding="utf-8")
            tree = html.fromstring(data, parser=parser) if data.strip() else None
            found = [] if tree is None else tree.iter("dt")
            self._places[page] = {each.get("id", ""): each for each in found if each.get("id")}
        return self._places[page]


def _without_inner(body: HtmlElement) -> None:
    """Take out what describes other names: the members of a class, on the page of the class."""
    for inner in list(body.iter("dl")):
        if "py" in inner.get("class", "").split() or any(each.get("id") for each in inner.findall("dt")):
            parent = inner.getparent()
            if parent is not None:
                # Their own places are known already: the elements live on outside of this body.
                parent.remove(inner)


def _is_beside(element: HtmlElement) -> bool:
    """Tell whether a paragraph is a heading of its own, or stands in a list of parameters or in a box."""
    kinds = element.get("class", "").split()
    boxed = any("admonition" in each.get("class", "").split() for each in element.iterancestors("div"))
    return (
        "rubric" in kinds
        or boxed
        or any("field-list" in each.get("class", "").split() for each in element.iterancestors("dl"))
    )


def _fields(body: HtmlElement) -> Iterator[tuple[str, HtmlElement]]:
    """Yield the fields below a signature: their names ("Parameters") and what stands in them."""
    for fields in body.find_class("field-list"):
        for name, told in pairwise(fields):
            if name.tag == "dt" and told.tag == "dd":
                yield _text(name).rstrip(":"), told


def _with_words(parameters: tuple[Parameter, ...], body: HtmlElement) -> tuple[Parameter, ...]:
    told = [_text(each) for name, field in _fields(body) if name == "Parameters" for each in field.iter("p")]
    found = (re.match(r"\*{0,2}(\w+)(?: \((.*?)\))? – (.*)", text) for text in told)
    words = {match[1]: match for match in found if match is not None}
    return tuple(
        replace(each, description=match[3], annotation=each.annotation or match[2])
        if (match := words.get(each.name)) is not None
        else each
        for each in parameters
    )


def _returned(body: HtmlElement) -> str:
    return next((_text(field) for name, field in _fields(body) if name == "Returns"), "")


def _text(element: HtmlElement) -> str:
    return " ".join(element.text_content().split())


def _blocks(body: HtmlElement) -> Iterator[str]:
    for each in body.iter("p", "pre", "dt"):
        if each.tag == "pre":
            yield f"```python\n{each.text_content().strip()}\n```"
        elif text := _text(each):
            yield text


def _examples(body: HtmlElement) -> Iterator[DocExample]:
    for block in body.iter("pre"):
        try:
            found = DocTestParser().get_examples(block.text_content())
        except ValueError:  # a prompt without a space, or output that is indented less
            continue
        for each in found:
            yield DocExample(each.source.rstrip("\n"), each.want.rstrip("\n"))


def _parameters(signature: HtmlElement) -> tuple[Parameter, ...]:
    """Return the parameters that a signature shows, else what binds anything: also for one of several signatures."""
    around = signature.getparent()
    several = around is not None and sum(each.tag == "dt" for each in around) > 1
    parens = signature.find_class("sig-paren")
    if several or not parens:
        return _ANYTHING
    shown = [each for each in signature.iter("em") if "sig-param" in each.get("class", "").split()]
    if signature.find_class("optional"):
        # An old way of writing, `join(a[, b])`, that does not say how parameters may be given.
        return _ANYTHING
    # What has no source, such as a class, is shown in angles: `=<class 'int'>`.
    return _parsed(re.sub(r"=\s*<.*>$", "=...", _text(each)) for each in shown)


def _parsed(shown: Iterable[str]) -> tuple[Parameter, ...]:
    try:
        tree = ast.parse(f"def f({', '.join(shown)}): pass")
    except SyntaxError:
        return _ANYTHING
    return tuple(_arguments(cast("ast.FunctionDef", tree.body[0]).args))


def _arguments(found: ast.arguments) -> Iterator[Parameter]:
    positional = [*found.posonlyargs, *found.args]
    defaults: list[Any] = [*[None] * (len(positional) - len(found.defaults)), *found.defaults]
    for number, (each, default) in enumerate(zip(positional, defaults, strict=True)):
        only = number < len(found.posonlyargs)
        yield _argument(each, "positional_only" if only else "positional_or_keyword", default)
    if found.vararg is not None:
        yield _argument(found.vararg, "var_positional", None)
    for each, default in zip(found.kwonlyargs, found.kw_defaults, strict=True):
        yield _argument(each, "keyword_only", default)
    if found.kwarg is not None:
        yield _argument(found.kwarg, "var_keyword", None)


def _argument(found: ast.arg, kind: ParameterKind, default: ast.expr | None) -> Parameter:
    return Parameter(
        found.arg,
        kind,
        None if default is None else ast.unparse(default),
        None if found.annotation is None else ast.unparse(found.annotation),
    )


# --- beside an installed package


def joined(package: Catalogue, described: Catalogue) -> Catalogue:
    """Return a package's catalogue with what its documentation adds: aliases, names, and words for undescribed ones.

    Signatures are the package's wherever it has the name, for it is what runs; and so are the words, if it has any.
    """
    entries = {entry.id: entry for entry in package.entries}
    unlisted = {entry.id: entry for entry in package.unlisted}
    for told in (*described.entries, *described.unlisted):
        paths = (told.id, *told.aliases)
        known = next((found for path in paths if (found := package.lookup(path)) is not None), None)
        if known is None:
            if not any(map(package.is_attribute, paths)):
                (entries if told.document else unlisted)[told.id] = told
            continue
        aliases = tuple(sorted({*known.aliases, *paths} - {known.id}))
        if known.id in entries:
            entries[known.id] = replace(entries[known.id], aliases=aliases)
        elif told.document:
            del unlisted[known.id]
            entries[known.id] = replace(
                told,
                id=known.id,
                kind=known.kind,
                parameters=known.parameters,
                aliases=aliases,
                members=known.members,
            )
    return replace(
        package,
        entries=tuple(entries.values()),
        unlisted=tuple(unlisted.values()),
        attributes=tuple(dict.fromkeys((*package.attributes, *described.attributes))),
    )
