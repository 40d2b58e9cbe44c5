"""Parses multipart/form-data into named values; files are spooled as they arrive.

A part is a file if it has a filename or is named `file`, because some clients send the picture without a
filename. Every other part is text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import UploadFile

from api.ingestion.picture import SPOOL_BYTES
from api.web.errors import BadRequest
from api.web.reading.body import Body

PICTURE: Final = "file"
"""The part that is the picture, whatever its headers say."""
MAX_HEADER_BYTES: Final = 8 * 1024

Items = list[tuple[str, str | UploadFile]]


@asynccontextmanager
async def form_items(body: Body, content_type: str, **limits: int) -> AsyncIterator[Items]:
    """Yield the parts of a form in their order; files are closed afterwards. See `read_form`."""
    form = await read_form(body, content_type, **limits)
    try:
        yield form.items
    finally:
        form.close()


async def read_form(
    body: Body, content_type: str, *, max_files: int, max_fields: int, max_field_bytes: int
) -> Form:
    """Read a form; the caller closes it.

    Raises
    ------
    BadRequest
        The body is no form, or has too many parts.
    """
    _, options = parse_options_header(content_type.encode("latin-1"))
    boundary = options.get(b"boundary")
    if not boundary:
        raise BadRequest("a multipart form needs a 'boundary' in its Content-Type")
    form = Form(max_files, max_fields, max_field_bytes)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in body.chunks():
            parser.write(chunk)
            await form.flush()
        parser.finalize()
        form.check_ended()
    except FormParserError as error:
        form.close()
        raise BadRequest(f"the multipart form is malformed: {error}") from None
    except BaseException:
        form.close()
        raise
    return form


class _Part:
    """The part that is being read."""

    def __init__(self) -> None:
        self.disposition = b""
        self.name = ""
        self.text = bytearray()
        self.file: SpooledTemporaryFile[bytes] | None = None
        self.size = 0


class Form:
    """Collects the parts from the parser, in their order, as `items`."""

    def __init__(self, max_files: int, max_fields: int, max_field_bytes: int) -> None:
        self.items: Items = []
        self._is_ended = False
        self._left = {True: max_files, False: max_fields}
        self._max_field_bytes = max_field_bytes
        self._part = _Part()
        self._header = bytearray()
        self._value = bytearray()
        self._header_bytes = 0
        self._pending: list[bytes] = []
        self._files: list[SpooledTemporaryFile[bytes]] = []

    def callbacks(self) -> Any:
        """Return the callbacks for the parser."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def check_ended(self) -> None:
        """Raise BadRequest if the form is incomplete."""
        if not self._is_ended:
            raise BadRequest("the multipart form ends in the middle")

    async def flush(self) -> None:
        """Write pending bytes of a file that no longer fits in memory, off the event loop."""
        if self._pending and self._part.file is not None:
            data, self._pending = b"".join(self._pending), []
            await asyncio.to_thread(self._part.file.write, data)

    def close(self) -> None:
        """Free all files."""
        for file in self._files:
            file.close()

    def _on_part_begin(self) -> None:
        self._part = _Part()
        self._header_bytes = 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise BadRequest(f"a part of the form has headers of more than {MAX_HEADER_BYTES} bytes")

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._part.disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._part.disposition)
        if b"name" not in options:
            raise BadRequest("a part of the form has no name")
        part = self._part
        part.name = options[b"name"].decode("utf-8", "replace")
        is_file = b"filename" in options or part.name == PICTURE
        self._left[is_file] -= 1
        if self._left[is_file] < 0:
            raise BadRequest(f"the form has too many {'files' if is_file else 'fields'}")
        if is_file:
            part.file = SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - closed with the form
            self._files.append(part.file)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.size += end - start
        if part.file is None:
            if part.size > self._max_field_bytes:
                raise BadRequest(f"{part.name!r} has more than {self._max_field_bytes} bytes; is it a file?")
            part.text += data[start:end]
        elif part.size <= SPOOL_BYTES:
            part.file.write(data[start:end])
        else:
            self._pending.append(data[start:end])

    def _on_part_end(self) -> None:
        part = self._part
        if part.file is None:
            try:
                self.items.append((part.name, part.text.decode()))
            except UnicodeDecodeError:
                raise BadRequest(f"{part.name!r} is not UTF-8") from None
            return
        if self._pending:  # a part may end, and the next one begin, within the same bytes
            part.file.write(b"".join(self._pending))
            self._pending = []
        part.file.seek(0)
        self.items.append((part.name, UploadFile(part.file, size=part.size)))  # type: ignore[arg-type]

    def _on_end(self) -> None:
        self._is_ended = True
