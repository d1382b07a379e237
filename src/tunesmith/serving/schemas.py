"""JSON schemas that strangers send: they fetch nothing, and no pattern takes longer than its text is long."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from tunesmith.serving.errors import invalid


def validator_of(schema: dict[str, Any], param: str) -> jsonschema_rs.Draft202012Validator:
    """Return what tells whether values fit a schema (draft 2020-12).

    Raises ApiError (400) for what is no schema, for references to anything outside it, and for patterns with
    look-around or back references: Rust's regex crate has none, and in turn runs in linear time.
    """
    try:
        return jsonschema_rs.Draft202012Validator(
            schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except jsonschema_rs.ValidationError as error:
        told = error.message
        if told.endswith('is not a "regex"'):
            told += " that is read here: look-around and back references are not"
        raise invalid(f"The item schema cannot be used: {told}.", param=param) from error
    except ValueError as error:
        # Deeper than can be read.
        raise invalid(f"The item schema cannot be used: {error}.", param=param) from error
