"""A multipart form read as it comes: its one file goes straight to the disk, its few fields stay in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import Message
from typing import Any, Final

import anyio.to_thread
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from starlette.requests import Request

from tunesmith.serving.blobs import Incoming
from tunesmith.serving.errors import ApiError, invalid

_FIELD_BYTES: Final = 64 * 1024
_FIELDS: Final = 32


def described(file: str, **fields: dict[str, Any]) -> dict[str, Any]:
    """Return how a route that reads a form is described in OpenAPI: its file and its other fields, by JSON schema.

    All fields that have no default are needed.
    """
    schema = {
        "type": "object",
        "properties": {file: {"type": "string", "format": "binary"}} | fields,
        "required": [file, *(name for name, field in fields.items() if not field.pop("optional", False))],
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


class Form:
    """The parts of a form so far: `fields` by name, `filename` and `mime_type` of the file named `file`."""

    def __init__(self, file: str, incoming: Incoming, most_bytes: int) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.mime_type = "application/octet-stream"
        self.ended = False
        self._file, self._incoming, self._most = file, incoming, most_bytes
        self._header, self._value, self._headers = b"", b"", dict[str, str]()
        self._name, self._is_file, self._content = "", False, b""

    # --- called by the parser, in the order of the bytes

    def on_part_begin(self) -> None:
        """Begin a part."""
        self._headers, self._content = {}, b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a header's name."""
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a header's value."""
        self._value += data[start:end]

    def on_header_end(self) -> None:
        """Note a header."""
        self._headers[_text(self._header).lower()] = _text(self._value)
        self._header = self._value = b""

    def on_headers_finished(self) -> None:
        """Know what the part is."""
        disposition = Message()
        disposition["content-disposition"] = self._headers.get("content-disposition", "")
        self._name = str(disposition.get_param("name", "", header="content-disposition"))
        filename = disposition.get_filename()
        self._is_file = self._name == self._file
        if self._is_file:
            if self.filename is not None:
                raise invalid(f"The form has more than one '{self._file}'.", param=self._file)
            self.filename = _filename(filename, self._file)
            self.mime_type = self._headers.get("content-type", self.mime_type)
        elif not self._name or self._name in self.fields or len(self.fields) == _FIELDS:
            raise invalid(f"The form has a field too much: '{self._name}'.", param=self._name or None)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of the part."""
        if self._is_file:
            if self._incoming.bytes + end - start > self._most:
                raise too_large(self._most)
            self._incoming.write(data[start:end])
            return
        self._content += data[start:end]
        if len(self._content) > _FIELD_BYTES:
            raise invalid(f"The field '{self._name}' is too long.", param=self._name)

    def on_part_end(self) -> None:
        """Note a field."""
        if not self._is_file:
            self.fields[self._name] = _text(self._content)

    def on_end(self) -> None:
        """Know that the form is whole."""
        self.ended = True


async def read_form(request: Request, file: str, incoming: Incoming, *, most_bytes: int) -> Form:
    """Return a form whose part named `file` was written to `incoming`.

    Raises ApiError (400) for what is no whole form with one such file, and 413 for a file of too many bytes.
    """
    form = Form(file, incoming, most_bytes)
    parser = MultipartParser(_boundary(request), _callbacks(form))
    try:
        async for block in _blocks(request):
            await anyio.to_thread.run_sync(parser.write, block)
    except FormParserError as error:
        raise invalid(f"The body is no multipart form: {error}.") from error
    if not form.ended:
        raise invalid("The body ends before the form does.")
    if form.filename is None:
        raise invalid(f"The form has no file: send it as the part '{file}'.", param=file)
    return form


def too_large(most_bytes: int) -> ApiError:
    """Return the error of a file that is larger than it may be."""
    return ApiError(
        413, f"The file is larger than the {most_bytes:,} bytes that are allowed.", param="file", retry=False
    )


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in blocks large enough that a hop to another thread pays."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        parts.append(chunk)
        size += len(chunk)
        if size >= 2**18:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _boundary(request: Request) -> bytes:
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/form-data" or not boundary or len(boundary) > 200:
        raise ApiError(415, "Send the file as multipart/form-data with a boundary.", retry=False)
    return boundary.encode("latin-1", "replace")


def _callbacks(form: Form) -> Any:
    names = (
        "on_part_begin", "on_part_data", "on_part_end", "on_header_field", "on_header_value", "on_header_end",
        "on_headers_finished", "on_end",
    )  # fmt: skip
    return {name: getattr(form, name) for name in names}


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid("The form holds bytes that are not UTF-8.") from error
    if "\0" in text:
        raise invalid("The form holds a NUL character.")
    return text


def _filename(given: str | None, file: str) -> str:
    """Return a file's name as it is shown: never a path, and nothing that a terminal or header would obey."""
    name = (given or "").replace("\\", "/").rpartition("/")[2]
    if not name or len(name) > 255 or not name.isprintable():
        raise invalid(f"The part '{file}' has no usable filename.", param=file)
    return name
