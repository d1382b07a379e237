"""API keys: made, shown once, kept as salted hashes, each with its organisation, scopes and limits.

A key is `sk-tsm-ID-SECRET`. The secret has 256 random bits, so that one SHA-256 with a salt keeps it as well as a slow
hash would: there is nothing to guess, and no request pays for it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, Literal, get_args

from sqlalchemy import select

from tunesmith.errors import UsageError
from tunesmith.serving.ids import new_id
from tunesmith.serving.store import Store
from tunesmith.serving.tables import Key, Organisation

Scope = Literal["inference", "fine-tuning", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

_KEY = re.compile(r"sk-tsm-(?P<id>[A-Za-z0-9]{12})-(?P<secret>[A-Za-z0-9_-]{43})", re.ASCII)
_ORGANISATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use; None: as much as it likes.

    Requests and tokens are counted per minute, an upload in bytes, jobs that are queued or run at once.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    upload_bytes: int | None = None
    queued_jobs: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: an organisation, by one of its keys (None: a program on this machine, where there are no keys)."""

    organisation: str
    key: str | None
    scopes: frozenset[str]
    limits: Limits = field(default_factory=Limits)

    def may(self, scopes: Sequence[Scope]) -> bool:
        """Tell whether one of the scopes is this caller's; an admin may do everything."""
        return "admin" in self.scopes or not self.scopes.isdisjoint(scopes)


def new_key(
    store: Store, *, organisation: str, name: str, scopes: Sequence[str], limits: Limits | None = None
) -> str:
    """Make a key, and its organisation if it is new; returns the key, which is not kept.

    Raises UsageError for a scope that does not exist, and for an organisation's name that cannot be part of a model's.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise UsageError(
            f"{', '.join(unknown) or 'no scope'} is not what a key may have.",
            hint=f"Use {', '.join(SCOPES)}.",
        )
    if not _ORGANISATION.fullmatch(organisation):
        raise UsageError(
            f"{organisation!r} cannot name an organisation: it becomes part of the names of its models.",
            hint="Use letters, digits, - and _, at most 64.",
        )
    id, secret, salt = new_id("", 12), secrets.token_urlsafe(32), secrets.token_hex(16)
    with store.write() as session:
        owner = session.scalars(select(Organisation).where(Organisation.name == organisation)).one_or_none()
        if owner is None:
            owner = Organisation(id=new_id("org-"), name=organisation, created_at=store.clock())
            session.add(owner)
            session.flush()
        session.add(
            Key(
                id=id,
                organisation=owner.id,
                name=name,
                salt=salt,
                digest=_digest(salt, secret),
                scopes=list(scopes),
                limits=asdict(limits or Limits()),
                created_at=store.clock(),
                revoked_at=None,
            )
        )
    return f"sk-tsm-{id}-{secret}"


def list_keys(store: Store) -> list[tuple[Key, str]]:
    """Return all keys, oldest first, each with its organisation's name."""
    with store.read() as session:
        query = select(Key, Organisation.name).join(Organisation, Key.organisation == Organisation.id)
        return [(key, name) for key, name in session.execute(query.order_by(Key.created_at, Key.id))]


def revoke_key(store: Store, id: str) -> None:
    """Make a key worthless from now on; raises UsageError if there is none with this id."""
    with store.write() as session:
        key = session.get(Key, id)
        if key is None:
            raise UsageError(f"There is no key {id!r}.", hint="tunesmith keys list shows them.")
        key.revoked_at = key.revoked_at or store.clock()


def caller_of(store: Store, token: str) -> Caller | None:
    """Return whose key a token is, or None; how long that takes tells nothing of the secret."""
    match = _KEY.fullmatch(token)
    if match is None:
        return None
    with store.read() as session:
        key = session.get(Key, match["id"])
    if key is None or not hmac.compare_digest(key.digest, _digest(key.salt, match["secret"])):
        return None
    if key.revoked_at is not None:
        return None
    return Caller(key.organisation, key.id, frozenset(key.scopes), Limits(**key.limits))


def caller_by_id(store: Store, organisation: str, key: str | None) -> Caller | None:
    """Return the caller that a piece of work was begun by; None if its key is worthless by now."""
    if key is None:
        return Caller(organisation, None, frozenset(SCOPES))
    with store.read() as session:
        row = session.get(Key, key)
    if row is None or row.revoked_at is not None or row.organisation != organisation:
        return None
    # What runs when nobody waits is not held to what a minute may take.
    return Caller(row.organisation, row.id, frozenset(row.scopes))


def has_keys(store: Store) -> bool:
    """Tell whether anybody needs a key here: once one has been made, everybody does, also when it is revoked."""
    return store.one(select(Key).limit(1)) is not None


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()
