"""Keys, tokens and passwords: by the prefix that their issuer gives them, or by what they are assigned to."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from tunesmith.curating.privacy.finding import Candidate, candidate, listed
from tunesmith.curating.privacy.reading import Reading, spelled

# Forms as their issuers document them. The first field is what must stand in a text for the pattern to be tried.
_TOKENS = tuple(
    (needles.split(), re.compile(pattern), why)
    for needles, pattern, why in (
        ("AKIA ASIA", r"\bA(?:KIA|SIA)[A-Z0-9]{16}\b", "AWS key"),
        ("ghp_ gho_ ghu_ ghs_ ghr_", r"\bgh[pousr]_[A-Za-z0-9]{36,251}\b", "GitHub token"),
        ("github_pat_", r"\bgithub_pat_\w{60,100}", "GitHub token"),
        ("glpat-", r"\bglpat-[\w-]{20,60}", "GitLab token"),
        ("sk-ant-", r"\bsk-ant-[\w-]{30,120}", "Anthropic key"),
        ("sk-", r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,200}", "OpenAI key"),
        ("xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{20,200}", "Slack token"),
        ("hooks.slack.com", r"https://hooks\.slack\.com/services/T\w+/B\w+/\w{16,}", "Slack webhook"),
        ("k_live_ k_test_", r"\b[rsp]k_(?:live|test)_[A-Za-z0-9]{16,100}", "Stripe key"),
        ("whsec_", r"\bwhsec_[A-Za-z0-9+/]{24,80}", "Stripe webhook secret"),
        ("AIza", r"\bAIza[\w-]{35}", "Google key"),
        ("GOCSPX-", r"\bGOCSPX-[\w-]{28}", "Google client secret"),
        ("ya29.", r"\bya29\.[\w-]{30,}", "Google token"),
        ("hf_", r"\bhf_[A-Za-z0-9]{30,40}\b", "Hugging Face token"),
        ("pypi-", r"\bpypi-AgE[\w-]{50,250}", "PyPI token"),
        ("npm_", r"\bnpm_[A-Za-z0-9]{36}\b", "npm token"),
        ("SG.", r"\bSG\.[\w-]{22}\.[\w-]{43}", "SendGrid key"),
        ("SK", r"\bSK[0-9a-f]{32}\b", "Twilio key"),
        ("dop_v1_", r"\bdop_v1_[0-9a-f]{64}\b", "DigitalOcean token"),
        (":AA", r"\b\d{8,10}:AA[\w-]{33}(?![\w-])", "Telegram token"),
        (". ", r"\b[MNO][A-Za-z0-9_-]{23,25}\.[\w-]{6}\.[\w-]{27,38}(?![\w-])", "Discord token"),
        ("eyJ", r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{16,}", "JSON web token"),
        (
            "PRIVATE",
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?:(?!-----)[\s\S]){20,20000}"
            r"(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----)?",
            "private key",
        ),
        ("earer", r"(?<=[Bb]earer )[\w.~+/-]{20,}=*", "bearer token"),
    )
)
_TWO_PARTS = re.compile(r"\beyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9\.eyJzdWIiOiIxMjM0NTY3ODkwIi")  # jwt.io's own

_NOUN = (
    r"pass(?:word|wd|phrase|wort|code)|\bpwd\b|kennwort|secret|token|api[_-]?key|apikey|access[_-]?key|private[_-]?key"
    r"|auth[_-]?key|contrase[ñn]a|mot de passe|wachtwoord|credential"
)
# A name in camel case is one word, so those that hold a noun are listed.
SECRET_WORDS = spelled(
    """
    password passwords passwd pwd passphrase passwort passcode kennwort secret secrets token tokens api
    apikey contraseña contrasena passe wachtwoord credential credentials
    """
) | frozenset(
    word.encode()
    for word in listed("""
    apiKey secretKey accessKey privateKey authKey clientSecret accessToken authToken refreshToken apiToken
    botToken userPassword dbPassword ApiKey SecretKey AccessKey ClientSecret AccessToken AuthToken
    """)
)
_ASSIGNED = re.compile(
    rf"(?i:{_NOUN})(?:s\b|[_-][\w-]{{0,20}}|[A-Z]\w{{0,20}}|\b)[\"']?\]?(?:\s{{0,3}}(?:[:=]|=>|:=)\s{{0,3}}|\s)[\"'`]?"
    r"([^\s\"'`,;<>&(){}\[\]|]{6,200}+)(?![\w(\[])"
)
_TOLD = re.compile(
    rf"(?i:{_NOUN})\w{{0,10}}(?: \w{{1,12}}){{0,3}}? (?i:is|was|lautet|ist|war|est|es|era|heißt|to|:)[ :]{{1,2}}[\"'`]?"
    r"([^\s\"'`,;<>(){}\[\]|]{6,100}+)(?![\w(\[])"
)
_IN_URL = re.compile(r"://[^\s:/@\"'<>]{0,60}:([^\s/@\"'<>${},]{4,100})@[\w.-]")
_PLACEHOLDER = re.compile(
    r"example|your|change|xxx|\*\*\*|\.\.\.|placeholder|dummy|redacted|^\$|%\(|^(?:none|null|true|false|password)\d{0,3}$"
    r"|^[\w.]*(?:environ|getenv|secrets?\.|self\.|settings\.|config\.)",
    re.I,
)
_IDENTIFIER = re.compile(r"[A-Za-z_]+(?:[._-][A-Za-z_]+)*\d{0,2}[.!?:]?")


def secrets(reading: Reading) -> Iterator[Candidate]:
    """Yield the keys, tokens and passwords of a text.

    A value without an issuer's prefix must stand after a word such as "password" and look drawn: letters with
    digits or signs among them, no word and no name of code, at least 2.5 bits a character.
    """
    text = reading.text
    if not reading.digits:
        return
    for needles, pattern, why in _TOKENS if reading.long_word else ():
        if not any(needle in text for needle in needles):
            continue
        for match in pattern.finditer(text):
            if _drawn(match[0], why):
                yield _secret(text, match.start(), match.end(), why)
    if "://" in text and "@" in text:
        for match in _IN_URL.finditer(text):
            if looks_drawn(match[1]):
                yield _secret(text, match.start(1), match.end(1), "password in a URL")
    if reading.has(SECRET_WORDS):
        yield from _worded(text)


def _worded(text: str) -> Iterator[Candidate]:
    for pattern in (_ASSIGNED, _TOLD):
        for match in pattern.finditer(text):
            value = match[1].rstrip(".?!:") if pattern is _TOLD else match[1].rstrip(".:")
            spaced = ":" not in match[0][: -len(match[1])] and "=" not in match[0][: -len(match[1])]
            if looks_drawn(value) and not (pattern is _ASSIGNED and spaced and len(value) < 16):
                end = match.start(1) + len(value)
                yield _secret(text, match.start(1), end, "assigned to a word for secrets")


def _drawn(value: str, why: str) -> bool:
    """Say whether a prefixed token is more than its prefix and words: `sk-learn-contrib-packages` is not."""
    if why in {"private key", "Slack webhook"}:
        return True
    return "EXAMPLE" in value or (any(c.isdigit() for c in value) and entropy(value) >= 3)


def looks_drawn(value: str) -> bool:
    """Say whether a value reads as a password or key rather than as a word, a placeholder or code."""
    if "EXAMPLE" in value:
        return True
    if len(value) < 6 or _PLACEHOLDER.search(value) or _IDENTIFIER.fullmatch(value):
        return False
    letters, numbers = any(c.isalpha() for c in value), any(c.isdigit() for c in value)
    return letters and numbers and entropy(value) >= 2.5 and "://" not in value and "\\" not in value


def entropy(value: str) -> float:
    """Return Shannon's entropy of a value's characters, in bits a character."""
    total = len(value)
    return -sum(count / total * math.log2(count / total) for count in Counter(value).values())


def _secret(text: str, start: int, end: int, why: str) -> Candidate:
    value = text[start:end]
    nobodys = "EXAMPLE" in value or _TWO_PARTS.match(value) is not None
    return candidate("secret", text, start, end, why, nobodys=nobodys)
