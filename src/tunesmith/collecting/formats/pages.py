"""Web pages and books of them (EPUB) as Markdown: what a page is about, without what stands around it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from tunesmith.collecting.formats.markdown import heading, joined
from tunesmith.collecting.formats.refusal import Refusal, parsing
from tunesmith.collecting.formats.zipped import opened

# The mark beside a heading by which one links to it.
_ANCHORS: Final = ['//a[contains(@class, "headerlink") or contains(@class, "anchor")]']


def page_file_text(path: Path) -> str:
    """Return an .html file's text; raises Refusal as `page_text` does."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refusal("unreadable", error.strerror or str(error)) from error
    return page_text(data)


def page_text(data: bytes, *, url: str | None = None) -> str:
    """Return what a page says as Markdown; raises Refusal where it says nothing.

    Trafilatura (Barbaresi 2021) finds the main text and leaves menus and footers out; where it finds none, all text of
    the page is taken. Headings, lists, tables and code are kept, links become their words.
    """
    import trafilatura

    if not data.strip():
        raise Refusal("empty", "it holds no text")
    with parsing("HTML"):
        found = trafilatura.extract(
            data,
            url=url,
            output_format="markdown",
            include_comments=False,
            include_formatting=True,
            include_tables=True,
            favor_recall=True,
            prune_xpath=_ANCHORS,
        )
        text = found or trafilatura.html2txt(data)
        title = trafilatura.extract_metadata(data, default_url=url)
    if not text or not text.strip():
        raise Refusal("empty", "no text is found in it")
    # Code ends where its fence does: what follows begins a block.
    text = re.sub(r"^(```)\n(?=\S)", _apart(), text, flags=re.MULTILINE).strip()
    if title is not None and title.title and not re.search(r"^#{1,2} ", text, re.MULTILINE):
        text = joined([heading(title.title, 1), text])
    return text


def _apart() -> Any:
    """Return a replacement that puts a blank line after each closing fence, of which every second fence is one."""
    opens = True

    def replaced(found: re.Match[str]) -> str:
        nonlocal opens
        opens = not opens
        return found[0] if not opens else f"{found[1]}\n\n"

    return replaced


def book_text(path: Path) -> str:
    """Return an .epub file's text, chapter after chapter; raises Refusal for what is none."""
    with opened(path) as archive, parsing("EPUB"):
        chapters = [_chapter(archive.read(name)) for name in _spine(archive)]
    text = joined(chapters)
    if not text:
        raise Refusal("empty", "it holds no text")
    return text


def _chapter(data: bytes) -> str:
    try:
        return page_text(data)
    except Refusal as refusal:
        if refusal.rule == "empty":
            # A picture, or a page left blank.
            return ""
        raise


def _spine(archive: Any) -> Iterator[str]:
    """Yield the names of a book's pages in reading order (EPUB 3, section 5.7)."""
    from lxml import etree

    # Nothing outside of the file is read, and no entity grows.
    parser = etree.XMLParser(resolve_entities=False, no_network=True)

    def parsed(name: str) -> Any:
        return etree.fromstring(archive.read(name), parser)

    container = parsed("META-INF/container.xml")
    [package, *_] = container.xpath('//*[local-name()="rootfile"]/@full-path')
    root = parsed(package)
    items = {
        item.get("id"): item for item in root.xpath('//*[local-name()="manifest"]/*[local-name()="item"]')
    }
    folder = posixpath.dirname(package)
    for reference in root.xpath('//*[local-name()="spine"]/*[local-name()="itemref"]'):
        item = items[reference.get("idref")]
        if "html" in (item.get("media-type") or ""):
            yield posixpath.normpath(posixpath.join(folder, unquote(item.get("href"))))
