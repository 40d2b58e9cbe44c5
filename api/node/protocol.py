"""The protocol between front end and query node: fixed-size binary records, no JSON.

A match is 8 bytes of id, 8 of score and the signature's 264; a query is a signature. All little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iqdb_core import codec
from iqdb_core.errors import InvalidHash
from iqdb_core.model import Match

MEDIA_TYPE: Final = "application/x-iqdb-matches"
NODE_HEADER: Final = "X-IQDB-Node"
PROTOCOL_VERSION: Final = "1"
"""Sent in `NODE_HEADER` with every answer of a query node, so that a front end notices a wrong address."""
_MATCH: Final = struct.Struct(f"<qd{codec.SIGNATURE_BYTES}s")


def pack_matches(matches: Sequence[Match]) -> bytes:
    """Return the records of `matches`, in their order."""
    return b"".join(
        _MATCH.pack(match.image_id, match.score, codec.to_bytes(match.signature)) for match in matches
    )


def unpack_matches(raw: bytes) -> list[Match]:
    """Return what `pack_matches` packed.

    Raises
    ------
    InvalidHash
        The bytes are not a whole number of records, or the signature of a record is invalid.
    """
    if len(raw) % _MATCH.size:
        raise InvalidHash(f"an answer of {len(raw)} bytes is not a list of matches")
    return [
        Match(image_id, score, codec.from_bytes(signature))
        for image_id, score, signature in _MATCH.iter_unpack(raw)
    ]


class NodeHeader:
    """Mark every answer of `app`, errors included, as that of a query node."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and put the header on its answer."""

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[NODE_HEADER] = PROTOCOL_VERSION
            await send(message)

        await self._app(scope, receive, signed)
