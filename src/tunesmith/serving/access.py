"""Who may do what: the caller of a request, from its key, and the scope that a route needs."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi import Request

from tunesmith.serving.errors import ApiError
from tunesmith.serving.keys import SCOPES, Caller, Scope, caller_of, has_keys
from tunesmith.serving.store import LOCAL, Store

_REMEMBERED_SECONDS = 1.0
_EVERYONE = Caller(LOCAL, None, frozenset(SCOPES))


class Access:
    """Tells callers by their keys.

    While no key has been made, each program on this machine is taken for its owner, whatever key it sends; a page in a
    browser, which also is on this machine, is not: it gives itself away by its Origin or by another Host.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keyed, self._looked = False, float("-inf")
        self._known: dict[str, tuple[float, Caller]] = {}

    def caller(self, request: Request) -> Caller:
        """Return who asks; raises ApiError (401 or 403) if that is nobody whom this server knows.

        A revoked key may be let in for a second more.
        """
        if not self._has_keys():
            _refuse_pages(request)
            return _EVERYONE
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise ApiError(
                401,
                "You did not give an API key. Send it as the header 'Authorization: Bearer KEY', as the SDK does with "
                "OPENAI_API_KEY.",
                kind="invalid_request_error",
            )
        caller = self._caller_of(token.strip())
        if caller is None:
            raise ApiError(
                401,
                "The API key is not known here, or was revoked.",
                code="invalid_api_key",
                kind="invalid_request_error",
            )
        asked = request.headers.get("openai-organization")
        if asked and asked != caller.organisation:
            raise ApiError(
                401,
                "The header OpenAI-Organization names another organisation than the API key's.",
                code="mismatched_organization",
                kind="invalid_request_error",
            )
        return caller

    def _has_keys(self) -> bool:
        """Tell whether a key was ever made; the first is noticed after a second at the latest."""
        moment = time.monotonic()
        if not self._keyed and moment - self._looked >= _REMEMBERED_SECONDS:
            self._keyed, self._looked = has_keys(self._store), moment
        return self._keyed

    def _caller_of(self, token: str) -> Caller | None:
        moment = time.monotonic()
        since, caller = self._known.get(token, (0.0, None))
        if caller is not None and moment - since < _REMEMBERED_SECONDS:
            return caller
        found = caller_of(self._store, token)
        if found is None:
            self._known.pop(token, None)
        else:
            self._known[token] = (moment, found)
        return found


def needs(*scopes: Scope) -> Callable[[Request], Caller]:
    """Return a dependency that gives the caller, who must have one of the scopes."""

    def dependency(request: Request) -> Caller:
        caller: Caller = request.state.caller
        if not caller.may(scopes):
            raise ApiError(
                403,
                f"This key's scopes are {', '.join(sorted(caller.scopes))}; this needs {' or '.join(scopes)}.",
                code="insufficient_permissions",
            )
        return caller

    return dependency


def is_loopback(host: str) -> bool:
    """Tell whether an address or name can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _refuse_pages(request: Request) -> None:
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    origin = request.headers.get("origin")
    if is_loopback(host) and (origin is None or is_loopback(urlsplit(origin).hostname or "")):
        return
    raise ApiError(
        403,
        "Without API keys this server answers only programs on its own machine, by the name localhost or 127.0.0.1. "
        "Make a key with `tunesmith keys new`.",
        code="keys_required",
    )
