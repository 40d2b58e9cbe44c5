"""Celery's transport to Redis, for which a Redis that refuses to serve is one that is away.

Redis refuses when it or its disk is full, or when the master became a replica. Celery takes such answers for
bugs and ends the worker; started again, it ends at once. Here they count as a lost connection, and a
connection is made only once Redis takes writes: until then Celery waits, longer and longer. Nor does an item
of the queue that is no message end a worker.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from kombu import transport
from kombu.transport import redis as plain
from kombu.transport.virtual.base import Message as PlainMessage
from redis.exceptions import InvalidResponse, ResponseError

log = logging.getLogger(__name__)

_PROBE: Final = "probe"
_CLASSES: Final = {"redis": "Transport", "rediss": "Transport", "sentinel": "SentinelTransport"}
_LOST: Final = (*plain.Transport.connection_errors, ResponseError, InvalidResponse)
"""All errors that Redis answers, not only refusals, which have no types of their own. A worker that goes on
connecting can be helped from outside; one that has ended must be started, too. InvalidResponse is the answer
of something that is not Redis."""


class _NoMessage(Exception):
    """An item of a queue that does not have the form of a message."""


class _Message(PlainMessage):
    """A message; raises _NoMessage for what is none."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **options)  # type: ignore[no-untyped-call]
            _ = self.delivery_info["exchange"], self.delivery_info["routing_key"]
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise _NoMessage(repr(error)) from error


class _Reading:
    """Drops items of a queue that are no messages: somebody else put them there."""

    Message = _Message

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except (_NoMessage, json.JSONDecodeError, UnicodeDecodeError) as error:
            log.warning(
                "an item of the queue that is no message was left out: %s",
                error,
                extra={"action": "item_left_out"},
            )
            return True


class Channel(_Reading, plain.Channel):
    """Queues in one Redis."""


class SentinelChannel(_Reading, plain.SentinelChannel):
    """Queues in the master that sentinels name."""


class Transport(plain.Transport):
    """Connections to one Redis."""

    Channel: Any = Channel
    connection_errors = _LOST

    def establish_connection(self) -> Any:
        """Return a connection to a Redis that takes writes; raises its answer if it does not."""
        return _writable(self, super().establish_connection())  # type: ignore[no-untyped-call]


class SentinelTransport(Transport, plain.SentinelTransport):
    """Connections to the master that sentinels name."""

    Channel: Any = SentinelChannel


def use() -> None:
    """Make Celery use these classes in this process, whatever the scheme of its address."""
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
