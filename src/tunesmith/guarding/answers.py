"""Rails of what is said as a whole: calls that exist and bind, and JSON of a schema."""

from __future__ import annotations

import json
import re

from tunesmith.catalogue import Catalogue, judge
from tunesmith.guarding.rails import Context, Find, Found
from tunesmith.operations import invalid

_FENCED = re.compile(r"^\s*```(?:json)?[ \t]*\n(.*?)\n?```\s*$", re.DOTALL)


def callable_only(catalogue: Catalogue) -> Find:
    """Return what finds a call that does not exist in the catalogue, or whose arguments do not bind."""

    def find(text: str, _: Context) -> Found | None:
        judgement = judge(text, (), catalogue)
        return Found(judgement.reason) if judgement.verdict in ("hallucinated", "wrong_arguments") else None

    return find


def of_schema(schema: str) -> Find:
    """Return what finds an answer that is not JSON of the schema; a fence around it is let pass."""

    def find(text: str, _: Context) -> Found | None:
        fenced = _FENCED.match(text)
        try:
            value = json.loads(fenced[1] if fenced else text)
        except ValueError as error:
            return Found(f"it is no JSON: {error}")
        reason = invalid(schema, value)
        return None if reason is None else Found(f"it does not fit the schema: {reason}")

    return find
