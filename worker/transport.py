"""Celery's way to Redis, for which a Redis that refuses to serve is one that is away.

Redis is full, or its disk is; a master became the replica of another. To Celery such answers are mistakes of
its own, for which it ends the worker; started again it ends at once. Here they count as a lost connection,
and a connection is made only once Redis takes writes: until then Celery waits, longer and longer.
"""

from __future__ import annotations

from typing import Any, Final

from kombu import transport
from kombu.transport import redis as plain
from redis.exceptions import InvalidResponse, ResponseError

_PROBE: Final = "probe"
_CLASSES: Final = {"redis": "Transport", "rediss": "Transport", "sentinel": "SentinelTransport"}
_LOST: Final = (*plain.Transport.connection_errors, ResponseError, InvalidResponse)
"""All answers that are errors, not the refusals alone: `except` goes by types, and theirs say little. A
worker that complains again and again can be mended from outside, one that has ended has to be started, too.
The last is the answer of something that is not Redis."""


class Transport(plain.Transport):
    """Connections to one Redis."""

    connection_errors = _LOST

    def establish_connection(self) -> Any:
        """Return a connection to a Redis that takes writes; raises what Redis says if it does not."""
        return _writable(self, super().establish_connection())  # type: ignore[no-untyped-call]


class SentinelTransport(Transport, plain.SentinelTransport):
    """Connections to the master that sentinels name."""


def use() -> None:
    """Have Celery use these in this process, for all of its addresses: it switches between sentinels."""
    for scheme, name in _CLASSES.items():
        transport.TRANSPORT_ALIASES[scheme] = f"{__name__}:{name}"
        transport._transport_cache.pop(scheme, None)  # noqa: SLF001 - somebody may have asked before


def _writable(own: Any, connection: Any) -> Any:
    """Return `connection` if Redis takes a write that needs memory, as Celery's start does."""
    channel = own._avail_channels[-1]  # noqa: SLF001 - made with the connection, to be used next
    try:
        with channel.conn_or_acquire() as client:
            client.set(_PROBE, "", px=1)
    except Exception:
        own._avail_channels.remove(channel)  # noqa: SLF001
        channel.close()
        raise
    return connection
