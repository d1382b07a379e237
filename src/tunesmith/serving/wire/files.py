"""What creates uploads and batches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.serving.wire.base import Body, Metadata, Name, Text

Life = Annotated[int, Field(ge=3600, le=30 * 24 * 3600)]


class ExpiresAfter(Body):
    """When a file is deleted by itself."""

    anchor: Literal["created_at"]
    seconds: Life


class CreateUpload(Body):
    """A file that will come in parts."""

    bytes: Annotated[int, Field(ge=1)]
    filename: Annotated[Text, Field(min_length=1, max_length=255)]
    mime_type: Annotated[Text, Field(min_length=1, max_length=200)]
    purpose: Annotated[Text, Field(max_length=64)]
    expires_after: ExpiresAfter | None = None


class CompleteUpload(Body):
    """The parts of a file, in their order."""

    part_ids: Annotated[list[Name], Field(min_length=1, max_length=10_000)]
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$")] | None = None


Endpoint = Literal[
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/moderations"
]


class CreateBatch(Body):
    """A file of requests to be answered within a day."""

    input_file_id: Name
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None
