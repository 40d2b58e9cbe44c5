"""The body of a request, read once: peek at its first bytes, then read it whole or as it arrives.

A picture may be the whole body: `curl --data-binary @a.jpg -H 'Content-Type: image/jpeg'`. Without that
header curl declares the body to be a form, a common mistake that is explained.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from api.ingestion.picture import BodyTooLarge
from api.web.errors import BadRequest
from iqdb_core.errors import IqdbError

MULTIPART: Final = "multipart/form-data"
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
_RAW_TYPES: Final = frozenset({"application/octet-stream", "binary/octet-stream"})
_LOOK_BYTES: Final = 512
_TEXT: Final = frozenset(range(0x20, 0x7F)) | {9, 10, 13}
MISTAKEN: Final = (
    "the body is not the form that its Content-Type says; if it is a picture, say so:"
    " curl --data-binary @FILE -H 'Content-Type: image/jpeg', or send it as a form: curl -F file=@FILE"
)


class Body:
    """Reads the body of a request.

    Parameters
    ----------
    request : Request
        Nothing else may read its body.
    """

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._first = b""
        self._is_complete = not has_body(request.scope["headers"])

    async def first(self) -> bytes:
        """Return the first bytes without consuming them; empty if the body is empty."""
        while not self._first and not self._is_complete:
            self._first = await self._next()
        return self._first

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        first = await self.first()
        self._first = b""
        if first:
            yield first
        while not self._is_complete:
            yield await self._next()

    async def whole(self, max_bytes: int) -> bytes:
        """Return the body; raises BodyTooLarge when it is over `max_bytes`."""
        data = await self.first()
        if not self._is_complete:
            parts, size = [data], len(data)
            while not self._is_complete and size <= max_bytes:
                parts.append(await self._next())
                size += len(parts[-1])
            data = b"".join(parts)
        if len(data) > max_bytes:
            raise BodyTooLarge(max_bytes)
        self._first = b""
        return data

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._is_complete = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk


async def disconnected(request: Request) -> None:
    """Return once the client has disconnected; only for use after its body was read."""
    with contextlib.suppress(IqdbError):  # a client that sends more than its body counts as disconnected
        while (await request.receive())["type"] != "http.disconnect":
            pass


def content_kind(headers: Headers) -> str:
    """Return the media type of a body, in lower case and without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_picture_type(kind: str) -> bool:
    """Return whether a body of this media type is a picture; its content decides the format."""
    return kind.startswith("image/") or kind in _RAW_TYPES


def require_form(first: bytes) -> None:
    """Raise BadRequest with advice if a body is declared to be a form but begins like a file."""
    if any(byte not in _TEXT for byte in first[:_LOOK_BYTES]):
        raise BadRequest(MISTAKEN)


def begins_json(first: bytes) -> bool:
    """Return whether a body that begins with these bytes is a JSON object, whatever its media type says."""
    return first[:1] == b"{" or first.lstrip()[:1] == b"{"


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a request announces a body: a length that is not 0, or chunks."""
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False
