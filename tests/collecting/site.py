"""A site on loopback: pages by path, what was asked for, and oddities."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

WORDS = "This page is about a kettle, and it has enough words to be the text of a page. "


@dataclass
class Site:
    """Paths with what they answer: a body, or (status, headers, body); `asked` are path and If-None-Match."""

    url: str = ""
    answers: dict[str, bytes | tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """What was asked for."""
        return [path for path, _ in self.asked]


def page(title: str, *links: str) -> bytes:
    """Return a page with links."""
    anchors = "".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
    return (
        f"<html><head><title>{title}</title></head><body><main><h1>{title}</h1><p>{WORDS}{title}.</p></main>"
        f"<nav><ul>{anchors}</ul></nav></body></html>"
    ).encode()


@contextmanager
def served() -> Iterator[Site]:
    """Serve a site until the block ends; every page has an ETag of its bytes."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("if-none-match")
            site.asked.append((self.path, known))
            found = site.answers.get(self.path, (404, {}, b"none"))
            status, headers, body = (200, {}, found) if isinstance(found, bytes) else found
            tag = f'"{hash(body)}"'
            if status == 200 and known == tag:
                status, body = 304, b""
            self.send_response(status)
            for name, value in ({"content-type": "text/html", "etag": tag} | headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
