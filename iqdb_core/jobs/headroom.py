"""How much of the memory of Redis is left: the ledger refuses jobs while Celery's own small writes still fit.

Only work makes room, and without those writes no worker works. Of `maxmemory` and not of what the ledger
holds: records, other programs and copies on their way need memory, too. A server that makes room by
forgetting keys is refused: it would forget jobs that were accepted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from iqdb_core.errors import QueueFull, QueueRefused
from iqdb_core.jobs.connection import Memory, RedisPort

FULL: Final = 0.9
"""Beyond this part of `maxmemory` nothing is accepted."""
_FORGETTING: Final = "allkeys-"
"""Policies that take any key. The others take only keys that expire: none of an accepted job."""
_ASK_S: Final = 1.0
_LONGEST_RETRY_S: Final = 60.0
_IDLE_RETRY_S: Final = 10.0
"""Where nothing was worked off lately, nobody knows."""
ROOM: Final = 0.02
"""A refused client is to come back when about this part of the limits has been worked off."""


class RedisFull(QueueFull):
    """The queue is below its limits, but Redis has hardly any memory left.

    Parameters
    ----------
    used, most : int
        Bytes of memory in use, and at most.
    held : tuple of int
        The first four of `QueueFull`.
    retry_after_s : float
    """

    def __init__(self, used: int, most: int, held: tuple[int, int, int, int], retry_after_s: float) -> None:
        super().__init__(*held, retry_after_s)
        self.args = (f"the queue has no memory left for this: {used:,} of {most:,} bytes are in use",)


class Headroom:
    """Knows from second to second how full Redis is; safe to use from several threads.

    Parameters
    ----------
    port : RedisPort
    now : callable
        Monotonic seconds.
    """

    def __init__(self, port: RedisPort, now: Callable[[], float] = time.monotonic) -> None:
        self._port = port
        self._now = now
        self._asked_s = float("-inf")
        self._memory: Memory | None = None
        self._added = 0

    def shortage(self, payload_bytes: int, room: float) -> tuple[int, int] | None:
        """Return the bytes in use and the most if so many more are too many, else None.

        Parameters
        ----------
        payload_bytes : int
        room : float
            How much fuller than `FULL` Redis may be, as a factor.

        Raises
        ------
        QueueUnavailable
            Redis is away; QueueRefused if it forgets keys when its memory is full.
        """
        now_s = self._now()
        if now_s >= self._asked_s + _ASK_S:
            self._memory, self._added, self._asked_s = self._port.memory(), 0, now_s
        memory = self._memory
        if memory is None:
            return None
        if memory.policy.startswith(_FORGETTING):
            mistake = f"its maxmemory-policy is {memory.policy}; set noeviction"
            raise QueueRefused(f"Redis would forget accepted jobs: {mistake}", mistake)
        used, most = memory.used + self._added, memory.most
        return (used, most) if used + payload_bytes > FULL * room * most else None

    def most_bytes(self) -> float:
        """Return how large a payload may be, which Redis holds twice at first; infinity without a limit."""
        return math.inf if self._memory is None else FULL * self._memory.most / 2

    def add(self, payload_bytes: int) -> None:
        """Note that so much went to Redis since it was asked; a note lost between threads does no harm."""
        self._added += payload_bytes


def drained_s(over: float, limit: float, per_s: float) -> float:
    """Return when there is room again below a limit, by the rate at which the queue drains."""
    return (over + ROOM * limit) / per_s if per_s > 0 else _IDLE_RETRY_S


def retry_after_s(waits: Sequence[float]) -> float:
    """Return when to try again where there must be room below several limits."""
    return max(1.0, min(_LONGEST_RETRY_S, max(waits, default=1.0)))
