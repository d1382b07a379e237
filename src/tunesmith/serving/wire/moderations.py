"""What asks whether texts are harmful."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith.models.messages import TextPart
from tunesmith.serving.wire.base import Body, Name, Text

Texts = Annotated[list[Text], Field(min_length=1, max_length=2048)]
Parts = Annotated[list[TextPart], Field(min_length=1, max_length=2048)]


class CreateModeration(Body):
    """Texts to be judged; parts are read as one text."""

    input: Text | Texts | Parts
    model: Name = "omni-moderation-latest"

    @property
    def texts(self) -> list[str]:
        """The texts, each of which is judged by itself."""
        if isinstance(self.input, str):
            return [self.input]
        parts = [part for part in self.input if isinstance(part, TextPart)]
        if parts:
            return ["\n".join(part.words or "" for part in parts)]
        return [text for text in self.input if isinstance(text, str)]
