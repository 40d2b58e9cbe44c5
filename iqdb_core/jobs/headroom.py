"""Checks the memory of Redis: the ledger refuses jobs while there is still room for Celery's small writes.

Only workers make room, and without those writes they cannot work. What counts is all that Redis uses of its
`maxmemory`: records, other programs and copies in transit need memory, too. A server that evicts keys to make
room is refused: it would lose accepted jobs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Final

from iqdb_core.errors import QueueFull, QueueRefused
from iqdb_core.jobs.connection import Memory, RedisPort

FULL: Final = 0.9
"""Beyond this part of `maxmemory` nothing is accepted."""
_IDLE_BYTES: Final = 2 * 1024 * 1024
"""About what a Redis without jobs uses: its own tables, scripts and connections."""
_EVICTS_ALL: Final = "allkeys-"
"""Policies that evict any key. The others evict only keys that expire: none of an accepted job."""
_ASK_S: Final = 1.0
_LONGEST_RETRY_S: Final = 60.0
_IDLE_RETRY_S: Final = 10.0
"""Used when nothing was done lately, so that the rate is unknown."""
ROOM: Final = 0.02
"""A refused client is to come back when about this part of the limits has been drained."""


class RedisFull(QueueFull):
    """The queue is below its limits, but Redis has too little memory left.

    Parameters
    ----------
    used, most : int
        Bytes of memory in use, and at most.
    held : tuple of int
        The first four arguments of `QueueFull`.
    retry_after_s : float
    """

    def __init__(self, used: int, most: int, held: tuple[int, int, int, int], retry_after_s: float) -> None:
        super().__init__(*held, retry_after_s)
        self.args = (f"the queue has no memory left for this: {used:,} of {most:,} bytes are in use",)


class Headroom:
    """Knows how full Redis is, asking once a second; safe to use from several threads.

    Parameters
    ----------
    port : RedisPort
    """

    def __init__(self, port: RedisPort) -> None:
        self._port = port
        self._asked_s = float("-inf")
        self._memory: Memory | None = None
        self._added = 0

    def shortage(self, payload_bytes: int, room: float) -> tuple[int, int] | None:
        """Return the bytes in use and `maxmemory` if this many more would be too many, else None.

        Parameters
        ----------
        payload_bytes : int
        room : float
            Factor by which `FULL` may be exceeded.

        Raises
        ------
        QueueUnavailable
            Redis is away; QueueRefused if it evicts any key when its memory is full.
        """
        now_s = time.monotonic()
        if now_s >= self._asked_s + _ASK_S:
            self._memory, self._added, self._asked_s = self._port.memory(), 0, now_s
        memory = self._memory
        if memory is None:
            return None
        if memory.policy.startswith(_EVICTS_ALL):
            mistake = f"its maxmemory-policy is {memory.policy}; set noeviction"
            raise QueueRefused(f"Redis would lose accepted jobs: {mistake}", mistake)
        used, most = memory.used + self._added, memory.most
        return (used, most) if used + payload_bytes > FULL * room * most else None

    def most_bytes(self) -> float:
        """Return the size of the largest payload, which Redis holds twice at first; inf without a limit."""
        return math.inf if self._memory is None else max(0, FULL * self._memory.most - _IDLE_BYTES) / 2

    def add(self, payload_bytes: int) -> None:
        """Count bytes sent to Redis since it was asked; a count lost between threads does no harm."""
        self._added += payload_bytes


def drained_s(over: float, limit: float, per_s: float) -> float:
    """Return when there is room again below a limit, by the rate at which the queue drains."""
    return (over + ROOM * limit) / per_s if per_s > 0 else _IDLE_RETRY_S


def retry_after_s(waits: Sequence[float]) -> float:
    """Return when to try again where there must be room below several limits."""
    return max(1.0, min(_LONGEST_RETRY_S, max(waits, default=1.0)))
