"""Mail addresses and public IP addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from tunesmith.curating.privacy.finding import Candidate, candidate, listed
from tunesmith.curating.privacy.reading import Reading

# It begins only where a word begins: otherwise a long word without an @ costs the square of its length.
_MAIL = re.compile(r"(?<![\w.+%'&/-])[\w+][\w.+%'&-]*@((?:[\w-]+\.)+[^\W\d_]{2,24})(?![\w@])(?!\.\w)")
# RFC 2606 sets the first aside; the last are what people write who do not know it.
_EXAMPLE_DOMAIN = re.compile(
    r"(?:^|\.)(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost|(?:your|my)?(?:domain|company)\.com|(?:foo|bar)\.com)$",
    re.I,
)
_FILE_ENDINGS = frozenset(listed("png jpg jpeg gif svg webp py js ts css html json yaml yml md txt so dll"))

_IPV4 = re.compile(r"[0-9](?<![\w.].)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(
    r"[0-9a-fA-F](?<![\w:.].)[0-9a-fA-F]{0,3}:(?:[0-9a-fA-F]{1,4}:){1,6}(?::?[0-9a-fA-F]{1,4})?(?:[0-9a-fA-F:]*)(?![\w:])"
)
_IP_WORDS = re.compile(
    r"\b(?:ip|ipv[46]|host|hosts|server|address|adresse|from|client|login|ssh|ping|src|dst|deny|banned|allow|whois)\b",
    re.I,
)
_VERSION_WORDS = re.compile(
    r"(?:version|release|section|chapter|build|windows|python|oid|rfc|§|[=~<>!]=|\bv|table|figure|v\.)\s*$",
    re.I,
)
_RESOLVERS = frozenset(listed("8.8.8.8 8.8.4.4 1.1.1.1 1.0.0.1 9.9.9.9 208.67.222.222 208.67.220.220"))
_DOCUMENTATION = tuple(
    ipaddress.ip_network(block)
    for block in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")  # RFC 5737 and 3849
)


def mails(reading: Reading) -> Iterator[Candidate]:
    """Yield the mail addresses of a text; `git@host` is a service, not a person's."""
    text = reading.text
    if "@" not in text:
        return
    for match in _MAIL.finditer(text):
        domain, ending = match[1], match[1].rpartition(".")[2].lower()
        if ending in _FILE_ENDINGS or match[0].startswith("git@"):
            continue
        nobodys = _EXAMPLE_DOMAIN.search(domain) is not None
        yield candidate("email", text, match.start(), match.end(), "mail address", nobodys=nobodys)


def ips(reading: Reading) -> Iterator[Candidate]:
    """Yield the public addresses of a text; private, local and reserved ones name nobody."""
    text = reading.text
    if reading.digits < 4:
        return
    if reading.long_number:
        for match in _IPV4.finditer(text):
            if _is_version(text, match):
                continue
            yield from _ip(text, match.start(), match.end())
    if "::" in text or text.count(":") >= 7:
        for match in _IPV6.finditer(text):
            if match[0].count(":") >= 3:
                yield from _ip(text, match.start(), match.end())


def _is_version(text: str, match: re.Match[str]) -> bool:
    """Say whether four numbers read as a version or a section rather than as an address."""
    before = text[max(0, match.start() - 24) : match.start()]
    if _VERSION_WORDS.search(before):
        return True
    small = all(int(part) < 32 for part in match[0].split("."))
    return small and not _IP_WORDS.search(before)


def _ip(text: str, start: int, end: int) -> Iterator[Candidate]:
    try:
        address = ipaddress.ip_address(text[start:end])
    except ValueError:
        return
    documented = any(address in block for block in _DOCUMENTATION)
    if documented or str(address) in _RESOLVERS:
        yield candidate("ip", text, start, end, "address in a documented range", nobodys=True)
    elif address.is_global and not address.is_multicast:
        yield candidate("ip", text, start, end, "public address")
