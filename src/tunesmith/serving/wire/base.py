"""What all request bodies share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith.models.messages import Body, Name, Text, refused

__all__ = ["Body", "Error", "Fault", "Metadata", "Name", "Text", "refused"]

_Key = Annotated[Text, Field(min_length=1, max_length=64)]
_Value = Annotated[Text, Field(max_length=512)]
Metadata = Annotated[dict[_Key, _Value], Field(max_length=16)]


class Fault(Body):
    """What is wrong with a request."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Body):
    """What is answered where something is wrong."""

    error: Fault
