"""Pieces of an answer that are written one after the other leave in one write.

uvicorn writes head and body apart, and each write would be a system call, a packet and a client that wakes
up for half an answer. Knows no HTTP. Used by `connections`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

MOST_BYTES: Final = 64 * 1024
"""More is not kept back: whoever writes it must learn whether it gets away."""


class OneWriteTransport:
    """A transport that keeps what is written until `flush`, the end of the loop's turn, or the close.

    Parameters
    ----------
    transport : asyncio.Transport
        Does the rest.
    loop : asyncio.AbstractEventLoop
    """

    __slots__ = ("_is_called", "_loop", "_pieces", "_size", "_transport", "n_written")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_called = False
        self.n_written = 0
        """Bytes that the transport was given."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep a piece, or write all that is kept."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= MOST_BYTES:
            self.flush()
        elif not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._turn_ended)

    def flush(self) -> None:
        """Write what is kept."""
        if self._pieces:
            pieces, self._pieces, self._size = self._pieces, [], 0
            if not self._transport.is_closing():
                data = b"".join(pieces)
                self.n_written += len(data)
                self._transport.write(data)

    def write_eof(self) -> None:
        """Write what is kept, and say that nothing follows."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Write what is kept, and close when it is gone."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether nothing can be written any more."""
        return self._transport.is_closing()

    def _turn_ended(self) -> None:
        self._is_called = False
        self.flush()
