"""Pages and sites: what is fetched, what is not and why, and that it is fetched once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.collecting import web
from tunesmith.collecting.collect import WEB, collect, digest_sources, fetch
from tunesmith.collecting.web import Snapshot, WebSettings, snapshot
from tunesmith.errors import AddressError, SourceError

from .site import Site, page, served

OPEN = WebSettings(private=True, seconds_apart=0)


@pytest.fixture
def site() -> Iterator[Site]:
    """A site with nothing in it."""
    with served() as running:
        yield running


def take(site: Site, folder: Path, address: str = "site:{}/docs/", **more: object) -> Snapshot:
    """Fetch an address of the site."""
    settings = OPEN.model_copy(
        update={key: more.pop(key) for key in ("depth", "pages", "private") if key in more}
    )
    return snapshot(address.format(site.url), folder, settings, **more)  # type: ignore[arg-type]


def found_at(site: Site, taken: Snapshot) -> list[str]:
    return [each.found_at.removeprefix(site.url) for each in taken.pages]


def test_a_page_is_that_page_alone(site: Site, tmp_path: Path) -> None:
    site.answers = {"/docs/a": page("A", "b")}
    taken = take(site, tmp_path, "{}/docs/a#part")
    assert found_at(site, taken) == ["/docs/a"]
    assert site.paths == ["/robots.txt", "/docs/a"]


def test_a_site_is_what_it_links_and_maps_below_its_first_page(site: Site, tmp_path: Path) -> None:
    """Each page once, whatever its address says beside; nothing above, elsewhere, or that is no page."""
    site.answers = {
        "/docs/": page("Start", "a.html", "a.html#x", "/docs/b", "/shop", "http://elsewhere.invalid/",
                       "mailto:x", "p.png"),
        "/docs/a.html": page("A", "deep"),
        "/docs/b": page("B", "a.html"),
        "/docs/deep": page("Deep"),
        "/docs/mapped": page("Mapped"),
        "/sitemap.xml": (200, {}, f"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>{site.url}/docs/mapped"
                                  f"</loc></url><url><loc>{site.url}/shop</loc></url></urlset>".encode()),
    }  # fmt: skip
    taken = take(site, tmp_path)
    assert sorted(found_at(site, taken)) == [
        "/docs/",
        "/docs/a.html",
        "/docs/b",
        "/docs/deep",
        "/docs/mapped",
    ]
    assert taken.missing == ()
    assert len(site.paths) == len(set(site.paths)) == 7


def test_robots_are_told_where_they_may_go(site: Site, tmp_path: Path) -> None:
    site.answers = {
        "/robots.txt": b"User-agent: *\nDisallow: /docs/secret\nCrawl-delay: 7\nSitemap: "
                       + site.url.encode() + b"/map.xml\n",
        "/docs/": page("Start", "secret/a", "open"),
        "/docs/open": page("Open"),
        "/docs/secret/a": page("Secret"),
    }  # fmt: skip
    waits: list[float] = []
    taken = take(site, tmp_path, sleep=waits.append)
    assert found_at(site, taken) == ["/docs/", "/docs/open"]
    assert [(each.rule, each.address) for each in taken.missing] == [("robots", site.url + "/docs/secret/a")]
    assert "/docs/secret/a" not in site.paths
    assert "/map.xml" in site.paths
    assert len(waits) >= 2
    assert all(6 < wait <= 7 for wait in waits)
    # Where it cannot be had nobody knows what it would forbid.
    site.answers["/robots.txt"] = (500, {}, b"")
    with pytest.raises(SourceError, match=r"robots\.txt keeps it"):
        take(site, tmp_path / "other")


def test_limits_are_kept_and_told(site: Site, tmp_path: Path) -> None:
    site.answers = {f"/docs/{n}": page(str(n), f"{n + 1}", f"x{n}") for n in range(9)}
    site.answers |= {f"/docs/x{n}": page(f"x{n}") for n in range(9)}
    shallow = take(site, tmp_path, "site:{}/docs/0", depth=1)
    assert sorted(found_at(site, shallow)) == ["/docs/0", "/docs/1", "/docs/x0"]
    assert [each.rule for each in shallow.missing] == ["limit"]
    assert shallow.missing[0].detail == "2 more pages lie beyond depth = 1, pages = 500 in [collect]"
    few = take(site, tmp_path, "site:{}/docs/0", pages=2)
    assert len(few.pages) == 2
    assert "pages = 2" in few.missing[0].detail


def test_pages_that_are_not_to_be_had_say_why(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MOST_BYTES", 5_000)
    site.answers = {
        "/docs/": page("Start", "gone", "picture", "large", "away", "round", "moved", "loop", "ftp"),
        "/docs/picture": (200, {"content-type": "image/png"}, b"PNG"),
        "/docs/large": b"<p>" + b"x" * 10_000,
        "/docs/away": (302, {"location": "/shop"}, b""),
        "/shop": page("Shop"),
        "/docs/moved": (301, {"location": "/docs/here"}, b""),
        "/docs/here": page("Here"),
        "/docs/round": (302, {"location": "/docs/round"}, b""),
        "/docs/loop": (302, {"location": "/docs/"}, b""),
        "/docs/ftp": (302, {"location": "ftp://127.0.0.1/x"}, b""),
    }
    taken = take(site, tmp_path)
    assert found_at(site, taken) == ["/docs/", "/docs/here"]
    assert {each.address.rpartition("/")[2]: each.rule for each in taken.missing} == {
        "gone": "status",
        "picture": "type",
        "large": "size",
        "away": "elsewhere",
        "round": "redirects",
        "ftp": "address",
    }


def test_what_only_this_network_reaches_is_not_fetched(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by its number, by a name, or by a name that leads elsewhere once it was looked up."""
    site.answers = {"/docs/a": page("A")}
    port = site.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::1]", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0"):
        with pytest.raises(SourceError, match="only this network reaches"):
            take(site, tmp_path, f"http://{host}:{port}/docs/a", private=False)
        with pytest.raises(SourceError, match="only this network reaches"):
            take(site, tmp_path, f"site:http://{host}:{port}/docs/a", private=False)
    assert site.asked == []
    honest = socket.getaddrinfo
    looked: list[str] = []

    def turned(host: str, *args: object, **kwargs: object) -> object:
        looked.append(host)
        found = honest("127.0.0.1", *args, **kwargs)  # type: ignore[arg-type]
        if len(looked) == 1:
            return [(*each[:4], ("93.184.216.34", *each[4][1:])) for each in found]
        return found

    monkeypatch.setattr(socket, "getaddrinfo", turned)
    with pytest.raises(SourceError, match=r"rebound\.example is 127\.0\.0\.1"):
        take(site, tmp_path, f"http://rebound.example:{port}/docs/a", private=False)
    assert not list(tmp_path.rglob("*.html"))


def test_what_was_fetched_is_kept_and_only_changes_are_sent_again(site: Site, tmp_path: Path) -> None:
    """A source is read from its snapshot; a page that has changed makes another digest, and one that has gone goes."""
    site.answers = {"/docs/": page("Start", "a", "b"), "/docs/a": page("A"), "/docs/b": page("B")}
    addresses = [f"site:{site.url}/docs/"]
    [before] = digest_sources(addresses, tmp_path, OPEN)
    assert (before.kind, before.digest, site.asked) == ("web", "", [])
    found = collect(addresses, base=tmp_path, web=OPEN)
    assert [(each.id, each.title) for each in found.documents] == [
        (f"file:{site.url}/docs/", "Start"),
        (f"file:{site.url}/docs/a", "A"),
        (f"file:{site.url}/docs/b", "B"),
    ]
    asked = len(site.asked)
    [first] = digest_sources(addresses, tmp_path, OPEN)
    assert collect(addresses, base=tmp_path, web=OPEN) == found
    assert found.sources == (first,)
    assert len(site.asked) == asked
    site.answers |= {"/docs/": page("Start", "a"), "/docs/a": page("A changed")}
    fetch(addresses, tmp_path, OPEN, again=True)
    again = dict(site.asked[asked:])
    assert all(again[path] for path in ("/docs/", "/docs/a"))
    assert digest_sources(addresses, tmp_path, OPEN) != (first,)
    titles = [each.title for each in collect(addresses, base=tmp_path, web=OPEN).documents]
    assert titles == ["Start", "A changed"]
    [second] = digest_sources(addresses, tmp_path, OPEN)
    fetch(addresses, tmp_path, OPEN, again=True)
    assert digest_sources(addresses, tmp_path, OPEN) == (second,)


def test_a_bad_day_of_the_server_costs_nothing(site: Site, tmp_path: Path) -> None:
    """Fetched again while it is down, all is kept; a page that does not answer stays, one that is gone goes."""
    site.answers = {"/docs/": page("Start", "a", "b"), "/docs/a": page("A"), "/docs/b": page("B")}
    first = take(site, tmp_path)
    whole = dict(site.answers)
    site.answers = {path: (503, {}, b"") for path in whole}
    with pytest.raises(SourceError, match="nothing of") as caught:
        take(site, tmp_path / "new", again=True)
    assert "What was fetched before" not in str(caught.value.hint)
    down = take(site, tmp_path, again=True)
    assert [each.rule for each in down.missing] == ["old"] * 3
    assert down.pages == first.pages
    site.answers = whole | {"/docs/": (404, {}, b"")}
    with pytest.raises(SourceError) as caught:
        take(site, tmp_path, again=True)
    assert "What was fetched before is kept." in str(caught.value.hint)
    assert take(site, tmp_path) == down
    assert all((first.folder / each.file).is_file() for each in first.pages)
    site.answers = whole | {"/docs/a": (503, {}, b""), "/docs/b": (404, {}, b"")}
    again = take(site, tmp_path, again=True)
    assert found_at(site, again) == ["/docs/", "/docs/a"]
    assert [(each.rule, each.address.rpartition("/")[2]) for each in again.missing] == [
        ("old", "a"),
        ("status", "b"),
    ]
    left = {each.name for each in first.folder.glob("*.html")}
    assert left == {each.file for each in again.pages}


@pytest.mark.parametrize(
    "link", ["http://[bad/", "http://x:99999999/", "http://" + "a" * 300 + "/", "//[::1", "http:///x"]
)
def test_links_that_are_no_addresses_are_passed_over(site: Site, tmp_path: Path, link: str) -> None:
    """In a page, in a redirect, in a sitemap, and as a source."""
    site.answers = {
        "/docs/": page("Start", link, "moved"),
        "/docs/moved": (302, {"location": link}, b""),
        "/sitemap.xml": f"<urlset><url><loc>{link}</loc></url></urlset>".encode(),
    }
    taken = take(site, tmp_path)
    assert found_at(site, taken) == ["/docs/"]
    assert [each.address.rpartition("/")[2] for each in taken.missing] == ["moved"]
    for settings in (OPEN, WebSettings(seconds_apart=0)):
        with pytest.raises((SourceError, AddressError)):
            snapshot(link if link[:2] != "//" else f"http:{link}", tmp_path / "x", settings)


def test_not_modified_is_no_answer_to_who_has_nothing(site: Site, tmp_path: Path) -> None:
    """A server that says so unasked gives nothing."""
    site.answers = {"/docs/": (304, {}, b"")}
    with pytest.raises(SourceError, match="it was never fetched"):
        take(site, tmp_path)


def test_a_full_disk_is_named_and_leaves_the_old_snapshot(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No half of a page is left, and what was there is there."""
    site.answers = {"/docs/": page("Start")}
    first = take(site, tmp_path)
    site.answers = {"/docs/": page("Changed")}
    honest = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        honest(path, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        take(site, tmp_path, again=True)
    assert take(site, tmp_path) == first
    assert (first.folder / first.pages[0].file).read_bytes() == page("Start")
    assert not list(first.folder.glob("*.part"))


def test_a_snapshot_that_was_begun_is_gone_on_with(site: Site, tmp_path: Path) -> None:
    """Killed before its end, it is no snapshot; what was fetched is asked for by its ETag."""
    site.answers = {"/docs/": page("Start", "a"), "/docs/a": page("A")}
    whole = take(site, tmp_path)
    (whole.folder / "snapshot.json").unlink()
    with (whole.folder / "fetched.jsonl").open("a") as journal:
        journal.write('{"address": "cut')
    site.asked.clear()
    assert take(site, tmp_path) == whole
    assert all(tag for path, tag in site.asked if path.startswith("/docs/"))


def test_a_site_is_named_by_its_pages_in_what_is_collected(site: Site, tmp_path: Path) -> None:
    """A page that cannot be read is a rejection under its address, and the others are read."""
    site.answers = {
        "/docs/": page("Start", "a.pdf"),
        "/docs/a.pdf": (200, {"content-type": "application/pdf"}, b"%PDF-broken"),
    }
    found = collect([f"site:{site.url}/docs/"], base=tmp_path, web=OPEN)
    assert [each.title for each in found.documents] == ["Start"]
    assert [(each.rule, each.item) for each in found.rejections] == [("damaged", f"{site.url}/docs/a.pdf")]
    assert (tmp_path / WEB).is_dir()


def test_behind_a_proxy_names_are_looked_up_by_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who answers is the proxy, on this network; an address in numbers is refused all the same."""
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.setenv("no_proxy", "")
    site.answers = {"http://docs.example/a": page("A")}
    taken = take(site, tmp_path, "http://docs.example/a", private=False)
    assert [each.found_at for each in taken.pages] == ["http://docs.example/a"]
    with pytest.raises(SourceError, match="only this network reaches"):
        take(site, tmp_path, "http://10.0.0.1/a", private=False)
