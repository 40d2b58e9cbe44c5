"""Merges the pieces of an answer into one write.

uvicorn writes head and body separately. Each write would be a system call and a packet, and would wake the
client for half an answer. Knows no HTTP. Used by `connections`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

MOST_BYTES: Final = 64 * 1024
"""Larger answers are not held back: their writer must notice when the client stops reading."""


class CoalescingTransport:
    """A transport that buffers writes until `flush`, the end of the loop's turn, or `close`.

    Parameters
    ----------
    transport : asyncio.Transport
        Writes, and does everything else.
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
        """Bytes handed to the transport so far."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows of itself.

        Its socket is withheld: uvicorn would ask that for both addresses, and uvloop makes and closes two
        sockets for each such question. Without it uvicorn takes the addresses from here, as pairs.
        """
        found = None if name == "socket" else self._transport.get_extra_info(name, default)
        return found[:2] if isinstance(found, tuple) else found

    def write(self, data: bytes) -> None:
        """Buffer a piece; write the buffer once it is large."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= MOST_BYTES:
            self.flush()
        elif not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._turn_ended)

    def flush(self) -> None:
        """Write the buffer."""
        if self._pieces:
            pieces, self._pieces, self._size = self._pieces, [], 0
            if not self._transport.is_closing():
                data = b"".join(pieces)
                self.n_written += len(data)
                self._transport.write(data)

    def write_eof(self) -> None:
        """Write the buffer, and signal the end of the stream."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Write the buffer, and close once that is sent."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection is closing, so that nothing can be written any more."""
        return self._transport.is_closing()

    def _turn_ended(self) -> None:
        self._is_called = False
        self.flush()
