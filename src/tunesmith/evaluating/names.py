"""The names of contenders: parts joined by "+", and the contenders that are usually compared.

An adapter that was trained elsewhere is a part too, under the name that [evaluate] gives it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from tunesmith.errors import AddressError

#: What searches, from cheap to dear: words, vectors, both, vectors kept by a service, vectors of the tuned encoder.
RETRIEVERS: Final = ("bm25", "faiss", "retrieval", "pinecone", "tuned_retrieval")
PARTS: Final = (
    *("base", "tuned", "few_shot", "nearest_shots"),
    *(*RETRIEVERS, "reranked", "citations", "tools"),
    *("constrained", "json", "classifier"),
)
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


_ADAPTER: Final = re.compile("[a-z][a-z0-9_]*")
_SEARCH: Final = f"one of {', '.join(RETRIEVERS)}"
# Parts of which a name has at most one; what a part needs beside it; what it cannot stand beside.
_CHOICES: Final = (RETRIEVERS, ("few_shot", "nearest_shots"), ("constrained", "json"))
_NEEDS: Final = {"reranked": (*RETRIEVERS, "tools"), "citations": RETRIEVERS}
_APART: Final = (
    ("tools", "citations", "a tool's call has no words that could cite a passage"),
    ("tools", "few_shot", "the examples answer with code, and a model that calls answers with JSON"),
    ("tools", "nearest_shots", "the examples answer with code, and a model that calls answers with JSON"),
    ("tools", "json", "a call is JSON of its function's schema already: tools+constrained holds it to that"),
)


def check_name(name: str, adapters: Collection[str] = ()) -> frozenset[str]:
    """Return a contender's parts; raises AddressError for unknown or contradicting ones.

    `adapters` are the names of those that were trained elsewhere.
    """
    parts = name.split("+")
    known = (*PARTS, *adapters)
    strangers = [part for part in parts if part not in known]
    if strangers or len(set(parts)) < len(parts):
        raise AddressError(
            f"{name!r} names no contender: {strangers[0] if strangers else parts[0]!r} is not understood there",
            hint=f"Join parts by '+': {', '.join(known)}.",
        )
    for choice in (("base", "tuned", *adapters), *_CHOICES):
        asked = [part for part in choice if part in parts]
        if len(asked) > 1:
            raise AddressError(
                f"{name!r} asks for {asked[0]} and {asked[1]} at once", hint="Choose one of them."
            )
    _check_company(name, parts)
    return frozenset(parts)


def _check_company(name: str, parts: Sequence[str]) -> None:
    """Check that what a part needs stands beside it, and what it excludes does not; raises AddressError."""
    if "classifier" in parts and len(parts) > 1:
        raise AddressError(
            f"{name!r} puts something around classifier, which asks no language model",
            hint="Name it alone: classifier.",
        )
    for part, needed in _NEEDS.items():
        if part in parts and not set(needed) & set(parts):
            raise AddressError(
                f"{name!r} has {part} and nothing that searches",
                hint=f"Add {_SEARCH}, such as {name}+retrieval.",
            )
    for one, other, why in _APART:
        if one in parts and other in parts:
            raise AddressError(f"{name!r} has {one} beside {other}: {why}", hint="Leave one of them out.")


def retriever_of(name: str) -> str | None:
    """Return which retriever a contender shows passages of, or chooses its tools with; None for no retrieval.

    Tools are chosen by `retrieval` where the name says nothing else.
    """
    parts = name.split("+")
    usual = "retrieval" if "tools" in parts else None
    return next((part for part in parts if part in RETRIEVERS), usual)


def check_adapter(name: str) -> None:
    """Check that an adapter's name can be a part of a contender's; raises AddressError."""
    if name in PARTS or not _ADAPTER.fullmatch(name):
        raise AddressError(
            f"{name!r} cannot be an adapter's name" + (": it is a part's already" if name in PARTS else ""),
            hint="Use small letters, digits and underscores, and no part's name.",
        )


def with_adapters(contenders: Sequence[str], adapters: Collection[str]) -> tuple[str, ...]:
    """Return the contenders, before them each adapter that none of them names: alone and with the tuned retriever."""
    named = {part for name in contenders for part in name.split("+")}
    missing = [name for name in adapters if name not in named]
    return (*(one for name in missing for one in (name, f"{name}+tuned_retrieval")), *contenders)


def is_tuned(name: str) -> bool:
    """Tell whether a contender's language model was trained, here or elsewhere."""
    return "tuned" in name.split("+") or adapter_of(name) is not None


def adapter_of(name: str) -> str | None:
    """Return which adapter from elsewhere a contender uses; None if it uses none, as beside `base` or `tuned`."""
    parts = name.split("+")
    if "base" in parts or "tuned" in parts:
        return None
    return next((part for part in parts if part not in PARTS and _ADAPTER.fullmatch(part)), None)
