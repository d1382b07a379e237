"""What a model's name in a request means: an address that the server was started with, or a tuned model."""

from __future__ import annotations

from tunesmith.serving.errors import not_found
from tunesmith.serving.options import Options
from tunesmith.serving.store import Store
from tunesmith.serving.tables import Model


def address_of(store: Store, options: Options, organisation: str, name: str, *, param: str = "model") -> str:
    """Return the address of the model that an organisation means by a name.

    That of one it has tuned, or of one that the server was started with: an alias leads to a name or an address.
    Raises ApiError (404) if there is none.
    """
    tuned = tuned_model(store, organisation, name)
    if tuned is not None:
        return tuned.address
    offered = options.models
    seen: set[str] = set()
    while name in offered and name not in seen:
        seen.add(name)
        name = offered[name]
    if not seen:
        raise not_found("model", name, param=param)
    return name


def tuned_model(store: Store, organisation: str, name: str) -> Model | None:
    """Return the tuned model of an organisation that has a name, or None."""
    from sqlalchemy import select

    return store.one(select(Model).where(Model.organisation == organisation, Model.name == name))
