"""Pages of lists: what stands after a cursor, in the wire's shape.

Old SDKs read on until a page is empty, so that a cursor is always honoured; one that names nothing is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Select

from tunesmith.serving.errors import invalid
from tunesmith.serving.store import Store

Row = TypeVar("Row")


def page(
    store: Store,
    query: Select[Any],
    table: type[Any],
    *,
    after: str | None,
    limit: int,
    descending: bool = True,
) -> tuple[list[Any], bool]:
    """Return at most `limit` rows of a query behind the row with the id `after`, and whether more follow.

    Rows are in the order of their `number`. Raises ApiError (400) if the query knows no row `after`.
    """
    with store.read() as session:
        if after is not None:
            cursor = session.scalars(query.where(table.id == after)).one_or_none()
            if cursor is None:
                raise invalid(f"There is nothing with the id '{after}' to read on from.", param="after")
            query = query.where(table.number < cursor.number if descending else table.number > cursor.number)
        order = table.number.desc() if descending else table.number
        rows = list(session.scalars(query.order_by(order).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def listed(rows: Sequence[Row], more: bool, show: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """Return a page as it travels."""
    data = [show(row) for row in rows]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }
