"""The names of contenders: parts joined by "+", and the contenders that are usually compared."""

from __future__ import annotations

from typing import Final

from tunesmith.errors import AddressError

PARTS: Final = ("base", "tuned", "few_shot", "retrieval", "tuned_retrieval", "constrained")
USUAL: Final = (
    "base",
    "few_shot",
    "retrieval",
    "tuned_retrieval",
    "tuned",
    "tuned+retrieval",
    "tuned+tuned_retrieval",
    "tuned+tuned_retrieval+constrained",
)


def check_name(name: str) -> frozenset[str]:
    """Return a contender's parts; raises AddressError for unknown or contradicting ones."""
    parts = name.split("+")
    strangers = [part for part in parts if part not in PARTS]
    if strangers or len(set(parts)) < len(parts):
        raise AddressError(
            f"{name!r} names no contender: {strangers[0] if strangers else parts[0]!r} is not understood there",
            hint=f"Join parts by '+': {', '.join(PARTS)}.",
        )
    for pair in (("base", "tuned"), ("retrieval", "tuned_retrieval")):
        if set(pair) <= set(parts):
            raise AddressError(
                f"{name!r} asks for {pair[0]} and {pair[1]} at once", hint="Choose one of them."
            )
    return frozenset(parts)
