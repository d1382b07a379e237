"""What all request bodies share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Body(BaseModel):
    """A request's body: what it does not know is refused, as OpenAI does."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _clean(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a surrogate pair") from error
    return text


# What a database can keep and a file can hold.
Text = Annotated[str, AfterValidator(_clean)]
Name = Annotated[Text, Field(min_length=1, max_length=256)]
_Key = Annotated[Text, Field(min_length=1, max_length=64)]
_Value = Annotated[Text, Field(max_length=512)]
Metadata = Annotated[dict[_Key, _Value], Field(max_length=16)]


def refused(why: str) -> Any:
    """Return a validator for a field that may only be left out (or be null, empty or false)."""

    def check(value: Any) -> Any:
        if value:
            raise ValueError(why)
        return value

    # Before the shape is looked at: what is not read need not be right.
    return BeforeValidator(check)
