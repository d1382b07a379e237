"""Source addresses in; sources, documents and the catalogue out, with what was not read and why."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tunesmith.catalogue import Catalogue, merge
from tunesmith.collecting.archives import ARCHIVE, try_archive
from tunesmith.collecting.mcp import MCP, read_mcp
from tunesmith.collecting.openapi import read_openapi
from tunesmith.collecting.python_package import PackageRead, package_source, read_package
from tunesmith.collecting.readers import KINDS, try_file
from tunesmith.collecting.references import files_of
from tunesmith.collecting.sphinx import Built, Described, describe, is_sphinx, joined, open_built
from tunesmith.collecting.web import OPENAPI, Snapshot, WebSettings, is_fetched, is_web, snapshot
from tunesmith.errors import AddressError, SourceError
from tunesmith.records import Document, Rejection, Source

_UNDERSTOOD = (
    "Understood are: python:PACKAGE, openapi:FILE or openapi:https://..., mcp:FILE, documentation that Sphinx built "
    "(sphinx:FOLDER), a file, a folder, a pattern such as docs/**/*.md, a page (https://...), a site (site:https://...)."
)
# Where what the web gave is kept, below where relative paths start.
WEB = ".tunesmith/web"


@dataclass(frozen=True, slots=True)
class Collected:
    """All that the addresses gave; `left_out` counts what of a package is no entry, by reason."""

    sources: tuple[Source, ...]
    documents: tuple[Document, ...]
    catalogue: Catalogue | None
    rejections: tuple[Rejection, ...]
    left_out: dict[str, int]


def collect(
    addresses: Sequence[str],
    *,
    base: Path,
    web: WebSettings | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Collected:
    """Read what the addresses name; relative paths start at `base`.

    An address is `python:PACKAGE`, the description of an API (`openapi:FILE`, `openapi:https://...`), a list of tools
    (`mcp:FILE`), built documentation by its objects.inv (`sphinx:FOLDER`), a file, a folder (read with all below it,
    hidden files left out), a glob pattern, a web page (`https://...`) or a site (`site:https://...`: what lies below
    that page's folder); what is in a .zip archive is read like the files of a folder. What the web gave is kept in
    `base`, and read from there the next time. One file that cannot be read is a Rejection. Raises AddressError for an
    address of no such form, and SourceError that names what is missing, empty, or unreadable altogether.
    """
    packages: dict[str, PackageRead] = {}
    described: list[Described] = []
    documents: dict[str, Document] = {}
    rejections: list[Rejection] = []
    listings = [_listing_of(address, base, web or WebSettings(), say) for address in _each_once(addresses)]
    seen: set[Path] = set()
    for listing in listings:
        if listing.package is not None:
            packages[listing.address] = read_package(listing.package)
            continue
        if _is_described(listing.address):
            packages[listing.address] = _read_described(listing)
            continue
        if listing.built is not None:
            described.append(describe(listing.built))
        rejections += listing.hidden
        for file in listing.files:
            if file.path.resolve() in seen:
                rejections.append(Rejection("collect", "twice", file.name, "another address has read it"))
                continue
            seen.add(file.path.resolve())
            is_archive = file.path.suffix.lower() == ARCHIVE
            read = try_archive if is_archive else _try_one
            for outcome in read(file.path, name=file.name, source=listing.address):
                if isinstance(outcome, Rejection):
                    rejections.append(outcome)
                else:
                    documents[outcome.id] = outcome
    _check_names(packages)
    catalogue = merge(_with_documentation([each.catalogue for each in packages.values()], described))
    every = [
        *(each for package in packages.values() for each in package.documents),
        *_of_entries([each for built in described for each in built.documents], catalogue),
        *documents.values(),
    ]
    if not every:
        raise SourceError(_nothing_readable(addresses, rejections), hint=_readable_hint())
    return Collected(
        sources=tuple(
            packages[listing.address].source if listing.address in packages else _source(listing)
            for listing in listings
        ),
        documents=tuple(every),
        catalogue=catalogue,
        rejections=(*(each for package in packages.values() for each in package.rejections), *rejections),
        left_out=dict(sum((Counter(package.left_out) for package in packages.values()), Counter())),
    )


def _check_names(packages: Mapping[str, PackageRead]) -> None:
    """Raise SourceError where two sources' entries would have the same ids."""
    owners: dict[str, str] = {}
    for address, read in packages.items():
        name = read.catalogue.package
        if name in owners:
            raise SourceError(
                f"{owners[name]} and {address} are both called {name}.",
                hint="Leave one out, or change the title in the description, or the name of the file of tools.",
            )
        owners[name] = address


def _with_documentation(packages: Sequence[Catalogue], described: Sequence[Described]) -> list[Catalogue]:
    by_name = {catalogue.package: catalogue for catalogue in packages}
    for told in (catalogue for built in described for catalogue in built.catalogues):
        known = by_name.get(told.package)
        by_name[told.package] = told if known is None else joined(known, told)
    return list(by_name.values())


def _of_entries(documents: Sequence[Document], catalogue: Catalogue | None) -> Iterator[Document]:
    """Yield the documents that an entry is described by, under its id; the others repeat what the package says."""
    entries = () if catalogue is None else catalogue.entries
    ids = {entry.document: entry.id for entry in entries}
    yield from (replace(each, entry=ids[each.id]) for each in documents if each.id in ids)


def digest_sources(
    addresses: Sequence[str], base: Path, web: WebSettings | None = None
) -> tuple[Source, ...]:
    """Return the addresses' sources with digests of the bytes behind them, without parsing or fetching anything.

    What was not fetched yet from the web has an empty digest.

    Raises as `collect` does for what is missing, empty or not understood.
    """
    return tuple(
        Source(address, "web", "")
        if is_web(address) and not is_fetched(address, base / WEB, web or WebSettings())
        else _source(_listing_of(address, base, web or WebSettings(), lambda text: None))
        for address in _each_once(addresses)
    )


def fetch(
    addresses: Sequence[str],
    base: Path,
    web: WebSettings | None = None,
    *,
    again: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Snapshot]:
    """Return what the web gave for the addresses that are there, fetching what was not, or all `again`.

    Fetched again, pages that have not changed are not sent again.
    """
    return {
        address: snapshot(address, base / WEB, web or WebSettings(), again=again, say=say)
        for address in _each_once(addresses)
        if is_web(address)
    }


def _try_one(path: Path, *, name: str, source: str) -> Iterator[Document | Rejection]:
    yield try_file(path, name=name, source=source)


# --- from an address to files ---


@dataclass(frozen=True, slots=True)
class _File:
    """A file on disk, and its name as the address reaches it."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class _Listing:
    """What an address names: a package, or files with those that are hidden apart."""

    address: str
    package: str | None = None
    built: Built | None = None
    files: tuple[_File, ...] = ()
    hidden: tuple[Rejection, ...] = ()


def _each_once(addresses: Sequence[str]) -> list[str]:
    if not addresses:
        raise SourceError("no source is given.", hint=_UNDERSTOOD)
    return list(dict.fromkeys(addresses))


def _listing_of(address: str, base: Path, web: WebSettings, say: Callable[[str], None]) -> _Listing:
    if is_web(address):
        return _pages(snapshot(address, base / WEB, web, say=say), address)
    return _listing(address, base)


def _is_described(address: str) -> bool:
    return address.startswith((OPENAPI, MCP))


def _described(address: str, base: Path) -> _Listing:
    """Return the file that describes an API or tools, and for its digest those that it refers to."""
    name = address.partition(":")[2]
    path = (base / Path(name).expanduser()).resolve()
    if not path.is_file():
        raise SourceError(
            f"the source {address!r} does not exist.", hint=f"It was looked for at {path}. {_UNDERSTOOD}"
        )
    files = files_of(path) if address.startswith(OPENAPI) else (path,)
    return _Listing(address, files=tuple(_File(file, file.name) for file in files))


def _read_described(listing: _Listing) -> PackageRead:
    [file, *_] = listing.files
    if listing.address.startswith(MCP):
        return read_mcp(file.path, _source(listing))
    return read_openapi(file.path, _source(listing), found_at=file.name if is_web(listing.address) else "")


def _pages(found: Snapshot, address: str) -> _Listing:
    return _Listing(
        address,
        files=tuple(_File(found.folder / page.file, page.found_at) for page in found.pages),
        hidden=tuple(Rejection("collect", each.rule, each.address, each.detail) for each in found.missing),
    )


def _listing(address: str, base: Path) -> _Listing:
    if address.startswith("python:"):
        return _Listing(address, package=address.removeprefix("python:"))
    if _is_described(address):
        return _described(address, base)
    if is_sphinx(address):
        built = open_built(address, base)
        return _Listing(address, built=built, files=tuple(_File(*each) for each in built.prose))
    path = base / Path(address).expanduser()
    if path.is_file():
        return _Listing(address, files=(_File(path, Path(address).as_posix()),))
    if path.is_dir():
        return _folder(address, path)
    # One letter before the colon would be a Windows drive.
    if re.match(r"[A-Za-z][\w+.-]+:", address):
        raise AddressError(f"the source address {address!r} is not understood.", hint=_UNDERSTOOD)
    if re.search(r"[*?\[]", address):
        return _matches(address, base)
    raise SourceError(
        f"the source {address!r} does not exist.", hint=f"It was looked for at {path}. {_UNDERSTOOD}"
    )


def _folder(address: str, folder: Path) -> _Listing:
    files: list[_File] = []
    hidden: list[Rejection] = []
    prefix = Path(address)
    for path, is_hidden in _walk(folder):
        name = (prefix / path.relative_to(folder)).as_posix()
        if is_hidden:
            hidden.append(Rejection("collect", "hidden", name, "its name starts with a dot"))
        else:
            files.append(_File(path, name))
    if not files:
        raise SourceError(f"the folder {address!r} has no files to read.", hint=_readable_hint())
    return _Listing(address, files=tuple(files), hidden=tuple(hidden))


def _walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the files below a folder in sorted order, a hidden folder as one, and whether each is hidden."""
    for where, folders, files in os.walk(folder):
        hidden_folders = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders) - set(hidden_folders))
        for name in sorted([*files, *hidden_folders]):
            yield Path(where) / name, name.startswith(".")


def _matches(address: str, base: Path) -> _Listing:
    pattern = Path(address).expanduser()
    anchor = Path(pattern.anchor) if pattern.is_absolute() else base
    relative = pattern.relative_to(pattern.anchor) if pattern.is_absolute() else pattern
    found = sorted(path for path in anchor.glob(str(relative)) if path.is_file())
    if not found:
        raise SourceError(
            f"the pattern {address!r} matches no file.", hint=f"It was looked for below {anchor}."
        )
    inside = [(path, path.relative_to(anchor)) for path in found]
    hidden = [each for each in inside if any(part.startswith(".") and part != ".." for part in each[1].parts)]
    return _Listing(
        address,
        files=tuple(_File(path, _shown(path, base)) for path, _ in inside if (path, _) not in hidden),
        hidden=tuple(
            Rejection("collect", "hidden", _shown(path, base), "its name starts with a dot")
            for path, _ in hidden
        ),
    )


def _shown(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def _source(listing: _Listing) -> Source:
    if listing.package is not None:
        return package_source(listing.package)
    if listing.built is not None:
        return Source(
            listing.address, "files", listing.built.digest(), listing.built.inventory.version or None
        )
    digest = hashlib.sha256()
    for file in listing.files:
        digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(_file_digest(file.path, whatever=_is_described(listing.address)))
    kind: Literal["files", "web"] = "web" if is_web(listing.address) else "files"
    return Source(address=listing.address, kind=kind, digest=digest.hexdigest())


def _file_digest(path: Path, *, whatever: bool) -> bytes:
    """Return the bytes' SHA-256; nothing for a file that is refused unseen, unless `whatever` it is called."""
    if not whatever and path.suffix.lower() not in (*KINDS, ARCHIVE):
        return b""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""


def _nothing_readable(addresses: Sequence[str], rejections: Sequence[Rejection]) -> str:
    shown = "\n".join(f"  {each.item}: {each.detail}" for each in rejections[:10])
    more = f"\n  and {len(rejections) - 10} more" if len(rejections) > 10 else ""
    return f"nothing of {', '.join(addresses)} can be read:\n{shown}{more}"


def _readable_hint() -> str:
    return f"What can be read: {', '.join(KINDS)}, and .zip archives of these; text is UTF-8."
