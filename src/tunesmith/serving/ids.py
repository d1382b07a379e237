"""Ids as the API shows them: a prefix that says what they name, and enough chance that nobody guesses one."""

from __future__ import annotations

import secrets
import string

_LETTERS = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    """Return an id such as file-abc123...; `prefix` holds its own separator."""
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(length))
