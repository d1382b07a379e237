"""Web pages as files: a page, or a site's pages, fetched once into a folder and read from there ever after.

    FOLDER/ab12.../          one address
    ├── snapshot.json        what was fetched, written last: until then the one before it holds, or none does
    ├── fetched.jsonl        each page as it came: its address, its file, how the server knows it again
    └── cd34....html         the bodies, by their SHA-256: never written over

Robots are told where they may go (RFC 9309, as "tunesmith"), one request at a time. Nothing is fetched from addresses
that only this machine or its network reaches, unless that is allowed, wherever names and redirects lead.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass
from urllib.robotparser import RobotFileParser

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.collecting.formats.refusal import Refusal
from tunesmith.errors import AddressError, SourceError

if TYPE_CHECKING:
    import httpx

SITE: Final = "site:"
OPENAPI: Final = "openapi:"
MOST_BYTES: Final = 20 * 2**20
_SECONDS: Final = 20.0
_REDIRECTS: Final = 5
_SITEMAPS: Final = 50
_LONGEST_WAIT: Final = 30.0
# How far it is, is said every so many pages.
_TOLD: Final = 25
_OK, _NOT_MODIFIED, _TOO_MANY, _SERVERS_FAULT = 200, 304, 429, 500
# What is kept, and the ending that it is read by.
_ENDINGS: Final[Mapping[str, str]] = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "application/pdf": ".pdf",
    "application/epub+zip": ".epub",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
}


# Of an API's description; what servers call YAML differs.
_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "application/json": ".json",
    "application/vnd.oai.openapi+json": ".json",
    "application/vnd.oai.openapi": ".yaml",
    "application/yaml": ".yaml",
    "application/x-yaml": ".yaml",
    "text/yaml": ".yaml",
    "text/x-yaml": ".yaml",
    "text/plain": ".yaml",
    "application/octet-stream": ".yaml",
}


class WebSettings(BaseModel):
    """How far a site is followed, how fast, and whether private addresses may be fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(default=3, ge=0)
    pages: int = Field(default=500, ge=1)
    seconds_apart: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    private: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it was fetched: the address it was asked at and that it was found at, and its file."""

    address: str
    found_at: str
    file: str
    etag: str | None
    modified: str | None


@dataclass(frozen=True, slots=True)
class Missing:
    """A page that was not fetched: the rule, and what exactly."""

    address: str
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What an address gave: pages in the order in which they were met, and those that were not to be had."""

    folder: Path
    pages: tuple[Page, ...]
    missing: tuple[Missing, ...]


def is_web(address: str) -> bool:
    """Tell whether a source is a page (https://...), a site (site:https://...) or an API (openapi:https://...)."""
    return re.match(rf"(?:{SITE}|{OPENAPI})?https?://", address) is not None


def snapshot(
    address: str,
    folder: Path,
    settings: WebSettings,
    *,
    again: bool = False,
    say: Callable[[str], None] = lambda text: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Snapshot:
    """Return what an address gave when it was fetched, fetching it if that has not been done, or `again`.

    Fetched again, pages that have not changed are not sent again, and one whose server does not answer now stays as it
    was. Raises SourceError where not one page is had; what was fetched before is then kept.
    """
    place = _place(address, folder, settings)
    done = place / "snapshot.json"
    before = _read(place) if done.is_file() else None
    if before is not None and not again:
        return before
    place.mkdir(parents=True, exist_ok=True)
    found = _Fetching(address, place, settings, before=before, say=say, sleep=sleep).all()
    if not found.pages:
        told = "; ".join(f"{each.address}: {each.detail}" for each in found.missing[:5])
        kept = "" if before is None else " What was fetched before is kept."
        raise SourceError(
            f"nothing of {address} can be fetched: {told}", hint=f"Look at it in a browser.{kept}"
        )
    noted = {
        "pages": [asdict(each) for each in found.pages],
        "missing": [asdict(each) for each in found.missing],
    }
    _put(done, json.dumps(noted, ensure_ascii=False, indent=1).encode())
    needed = {page.file for page in found.pages}
    for page in () if before is None else before.pages:
        if page.file not in needed:
            (place / page.file).unlink(missing_ok=True)
    return found


def is_fetched(address: str, folder: Path, settings: WebSettings) -> bool:
    """Tell whether an address was fetched, with these settings."""
    return (_place(address, folder, settings) / "snapshot.json").is_file()


def _place(address: str, folder: Path, settings: WebSettings) -> Path:
    # How fast it was fetched changes nothing.
    whole = json.dumps([address, settings.model_dump(exclude={"seconds_apart"})], sort_keys=True)
    return folder / sha256(whole.encode()).hexdigest()[:16]


def _read(place: Path) -> Snapshot:
    noted = json.loads((place / "snapshot.json").read_text(encoding="utf-8"))
    return Snapshot(
        place,
        tuple(Page(**each) for each in noted["pages"]),
        tuple(Missing(**each) for each in noted["missing"]),
    )


def _put(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@dataclass(slots=True)
class _Answer:
    """What a server gave: where it was found, what kind it is, and the body, None where it has not changed."""

    url: str
    kind: str
    body: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)


class _Fetching:
    """One address being fetched."""

    def __init__(
        self,
        address: str,
        place: Path,
        settings: WebSettings,
        *,
        before: Snapshot | None,
        say: Callable[[str], None],
        sleep: Callable[[float], None],
    ) -> None:
        self._is_site = address.startswith(SITE)
        self._endings = _DESCRIPTIONS if address.startswith(OPENAPI) else _ENDINGS
        try:
            self._start = _normal(address.removeprefix(SITE).removeprefix(OPENAPI))
        except ValueError as error:
            raise AddressError(f"the source address {address!r} is none of the web: {error}.") from error
        self._old = {} if before is None else {page.address: page for page in before.pages}
        self._place, self._settings, self._say, self._sleep = place, settings, say, sleep
        self._before = {page.address: page for page in self._journal()}
        self._robots: dict[str, RobotFileParser] = {}
        self._asked_at: float | None = None
        parts = urlsplit(self._start)
        self._origin = parts.scheme, parts.netloc
        self._below = parts.path[: parts.path.rfind("/") + 1] or "/"

    def all(self) -> Snapshot:
        """Fetch the page, or the site's pages."""
        import httpx

        agent = f"tunesmith/{version('tunesmith')}"
        with httpx.Client(headers={"user-agent": agent}, timeout=_SECONDS, follow_redirects=False) as client:
            self._client = client
            pages, missing = self._pages()
        return Snapshot(self._place, tuple(pages), tuple(missing))

    def _pages(self) -> tuple[list[Page], list[Missing]]:
        pages: dict[str, Page] = {}
        missing: list[Missing] = []
        waiting = deque([(self._start, 0)])
        if self._is_site:
            waiting += [(url, 1) for url in self._mapped()]
        seen = {url for url, _ in waiting}
        beyond = 0
        while waiting:
            url, depth = waiting.popleft()
            if len(pages) == self._settings.pages:
                beyond += 1 + len(waiting)
                break
            try:
                page = self._page(url)
            except Refusal as refusal:
                old = self._old.get(url)
                if old is None or refusal.rule not in ("unreachable", "busy"):
                    missing.append(Missing(url, refusal.rule, refusal.detail))
                    continue
                missing.append(Missing(url, "old", f"{refusal.detail}; it stays as it was fetched before"))
                page = old
            if page.found_at in pages:
                # Another address of the same page.
                continue
            pages[page.found_at] = page
            if len(pages) % _TOLD == 0:
                self._say(f"{len(pages)} pages of {self._start}")
            for link in self._links(page) if self._is_site else ():
                if link in seen:
                    continue
                seen.add(link)
                if depth == self._settings.depth:
                    beyond += 1
                else:
                    waiting.append((link, depth + 1))
        if beyond:
            limits = f"depth = {self._settings.depth}, pages = {self._settings.pages}"
            missing.append(
                Missing(self._start, "limit", f"{beyond} more pages lie beyond {limits} in [collect]")
            )
        return list(pages.values()), missing

    # --- one page

    def _page(self, url: str) -> Page:
        before = self._before.get(url)
        kept = before is not None and (self._place / before.file).is_file()
        headers = {}
        if before is not None and kept:
            headers = {
                name: value
                for name, value in (("if-none-match", before.etag), ("if-modified-since", before.modified))
                if value
            }
        answer = self._get(url, headers)
        if answer.body is None:
            if before is None or not kept:
                raise Refusal("status", "the server says that it has not changed, and it was never fetched")
            return before
        if self._is_site and not self._inside(answer.url):
            raise Refusal("elsewhere", f"it leads to {answer.url}, which is no part of the site")
        ending = self._endings.get(answer.kind)
        if ending is None:
            raise Refusal("type", f"{answer.kind or 'an unknown type'} is none that can be read")
        file = sha256(answer.body).hexdigest()[:24] + ending
        _put(self._place / file, answer.body)
        page = Page(url, answer.url, file, answer.headers.get("etag"), answer.headers.get("last-modified"))
        self._before[url] = page
        with (self._place / "fetched.jsonl").open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(asdict(page), ensure_ascii=False) + "\n")
        return page

    def _journal(self) -> Iterator[Page]:
        try:
            lines = (self._place / "fetched.jsonl").read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return
        for line in lines:
            try:
                yield Page(**json.loads(line))
            except ValueError:
                # Cut by a kill, or the end.
                continue

    def _get(self, url: str, headers: Mapping[str, str] | None = None, *, robots: bool = True) -> _Answer:
        """Ask for an address, following it where it leads; raises Refusal for what is not to be had."""
        import httpx

        for _ in range(_REDIRECTS + 1):
            self._check_reach(url)
            if robots and not self._may(url):
                raise Refusal("robots", "the site's robots.txt keeps it from programs like this one")
            self._wait(url)
            try:
                with self._client.stream("GET", url, headers=dict(headers or {})) as response:
                    self._check_peer(response)
                    if response.has_redirect_location:
                        url = _normal(urljoin(url, response.headers["location"]))
                        continue
                    return self._answered(url, response)
            except (httpx.InvalidURL, ValueError) as error:
                # Also a redirect to what is none.
                raise Refusal("address", f"it is, or leads to, no address: {error}") from error
            except httpx.HTTPError as error:
                raise Refusal("unreachable", str(error) or type(error).__name__) from error
        raise Refusal("redirects", f"it leads on more than {_REDIRECTS} times")

    def _answered(self, url: str, response: httpx.Response) -> _Answer:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code == _NOT_MODIFIED:
            return _Answer(url, kind, None)
        if response.status_code != _OK:
            later = response.status_code == _TOO_MANY or response.status_code >= _SERVERS_FAULT
            raise Refusal("busy" if later else "status", f"the server answers {response.status_code}")
        body = b""
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise Refusal("size", f"it has more than {MOST_BYTES:,} bytes")
        return _Answer(url, kind, body, response.headers)

    def _wait(self, url: str) -> None:
        """Let the server rest between two requests, as long as it wants up to half a minute."""
        robots = self._robots.get(_origin(url))
        wanted = 0.0 if robots is None else float(robots.crawl_delay("tunesmith") or 0)
        apart = max(self._settings.seconds_apart, min(wanted, _LONGEST_WAIT))
        now = time.monotonic()
        if self._asked_at is not None and now < self._asked_at + apart:
            self._sleep(self._asked_at + apart - now)
        self._asked_at = time.monotonic()

    # --- where it may go

    def _may(self, url: str) -> bool:
        origin = _origin(url)
        if origin not in self._robots:
            robots = RobotFileParser()
            self._robots[origin] = robots
            try:
                answer = self._get(origin + "/robots.txt", robots=False)
            except Refusal as refusal:
                if refusal.rule in ("private", "unreachable"):
                    del self._robots[origin]
                    raise
                # RFC 9309, 2.3.1: one that is not there allows all, one that cannot be had nothing.
                robots.parse([] if refusal.rule == "status" else ["User-agent: *", "Disallow: /"])
            else:
                robots.parse((answer.body or b"").decode("utf-8", "replace").splitlines())
        return self._robots[origin].can_fetch("tunesmith", url)

    def _check_reach(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError as error:
            raise Refusal("address", f"{url} is no address: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refusal("address", f"{url} is no address of the web")
        if self._settings.private:
            return
        if _is_proxied(url):
            # Who asks for us looks names up as well; a number is known here.
            with suppress(ValueError):
                _check_public(str(ipaddress.ip_address(parts.hostname)), parts.hostname)
            return
        try:
            found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Refusal("unreachable", f"{parts.hostname} is not known: {error}") from error
        for *_, address in found:
            _check_public(str(address[0]), parts.hostname)

    def _check_peer(self, response: httpx.Response) -> None:
        """Check who answers: a name may lead elsewhere than when it was looked up."""
        if self._settings.private or _is_proxied(str(response.url)):
            return
        stream = response.extensions.get("network_stream")
        peer = None if stream is None else stream.get_extra_info("server_addr")
        if peer is not None:
            _check_public(str(peer[0]), response.url.host)

    def _inside(self, url: str) -> bool:
        parts = urlsplit(url)
        return (parts.scheme, parts.netloc) == self._origin and parts.path.startswith(self._below)

    # --- what a site has

    def _links(self, page: Page) -> Iterator[str]:
        """Yield the addresses of the site that a page leads to, each once."""
        if not page.file.endswith(".html"):
            return
        from lxml import etree, html

        try:
            tree = html.document_fromstring((self._place / page.file).read_bytes())
        except (etree.LxmlError, ValueError):
            return
        base = tree.find(".//base[@href]")
        start = page.found_at if base is None else _joined(page.found_at, base.get("href")) or page.found_at
        told = " ".join(tree.xpath('//meta[@name="robots"]/@content')).lower()
        if "nofollow" in told:
            return
        links = (_joined(start, link) for link in tree.xpath("//a[@href]/@href") if _is_link(link))
        yield from dict.fromkeys(
            link for link in links if link and self._inside(link) and not _is_other(link)
        )

    def _mapped(self) -> list[str]:
        """Return the pages that the site's own map names (sitemaps.org), as far as they are inside."""
        origin = _origin(self._start)
        try:
            self._check_reach(self._start)
            self._may(self._start)
        except Refusal:
            # Told of the first page.
            return []
        maps = deque(self._robots[origin].site_maps() or [origin + "/sitemap.xml"])
        found: dict[str, None] = {}
        read: set[str] = set()
        while maps and len(read) < _SITEMAPS:
            url = maps.popleft()
            if url in read:
                continue
            read.add(url)
            try:
                answer = self._get(url)
            except Refusal:
                # Most sites have none; what is linked is found anyway.
                continue
            more, pages = _map_in(answer.body or b"")
            maps += more
            named = (_joined(url, page) for page in pages)
            found |= dict.fromkeys(page for page in named if page and self._inside(page))
        found.pop(self._start, None)
        return list(found)


def _map_in(data: bytes) -> tuple[list[str], list[str]]:
    """Return the maps and the pages that a sitemap names; nothing of what is none."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    try:
        root: Any = etree.fromstring(data, parser)
    except (etree.LxmlError, ValueError):
        return [], []
    if root is None:
        return [], []
    within = partial("//*[local-name()='{}']/*[local-name()='loc']/text()".format)
    maps, pages = ([str(text).strip() for text in root.xpath(within(name))] for name in ("sitemap", "url"))
    return maps, pages


def _is_link(link: str) -> bool:
    return not re.match(r"(?i)\s*(?:mailto|javascript|data|tel|ftp):", link)


def _is_other(link: str) -> bool:
    """Tell whether an address is that of a picture or a program, by its ending."""
    return (
        re.search(
            r"(?i)\.(?:png|jpe?g|gif|svg|ico|css|js|zip|gz|tar|whl|exe|mp4|woff2?)$", urlsplit(link).path
        )
        is not None
    )


def _joined(base: str, link: str) -> str | None:
    """Return where a link leads as it is compared, None for what is no address."""
    try:
        return _normal(urljoin(base, link))
    except ValueError:
        return None


def _normal(url: str) -> str:
    """Return an address as it is compared: no fragment, names in small letters, no usual port, a path."""
    parts = urlsplit(urldefrag(url.strip()).url)
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme.lower(), "")
    host = parts.netloc.lower().removesuffix(usual) if usual else parts.netloc.lower()
    return urlunsplit((parts.scheme.lower(), host, parts.path or "/", parts.query, ""))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _is_proxied(url: str) -> bool:
    """Tell whether a proxy of the environment asks for an address, as httpx has it."""
    parts = urlsplit(url)
    return not getproxies().keys().isdisjoint({parts.scheme, "all"}) and not proxy_bypass(
        parts.hostname or ""
    )


def _check_public(address: str, host: str) -> None:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None) or found
    if not mapped.is_global or mapped.is_multicast:
        raise Refusal(
            "private",
            f"{host} is {address}, which only this network reaches; private = true in [collect] allows it",
        )
