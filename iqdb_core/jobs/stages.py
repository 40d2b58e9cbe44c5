"""How long workers take for the stages of their work: counted by each process, added up in Redis.

Workers have no port for a monitor, so front ends show their numbers. They need not be exact: a lost answer
may count some twice, and while Redis is unreachable they are late.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from iqdb_core.errors import QueueUnavailable
from iqdb_core.jobs.connection import Command, RedisPort
from iqdb_core.jobs.keys import DEFAULT_KEYS, Keys
from iqdb_core.jobs.model import BUCKETS_S

log = logging.getLogger(__name__)

STAGES: Final = ("decode", "hash", "commit")
FLUSH_S: Final = 2.0
AWAY_S: Final = 30.0
"""A Redis that hangs holds up a worker for ten seconds at each attempt, which its task has no time for."""
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class StageTotals:
    """The durations of one stage, of all workers since Redis was empty.

    Parameters
    ----------
    counts : tuple of int
        Runs by duration: one for each of `BUCKETS_S`, and one beyond.
    total_s : float
        Their sum, seconds.
    """

    counts: tuple[int, ...]
    total_s: float


class StageTally:
    """Counts in one process and adds to Redis now and then; not for several threads.

    Parameters
    ----------
    port : RedisPort
    keys : Keys
    clock : callable
        Seconds, of any origin.
    """

    def __init__(
        self, port: RedisPort, keys: Keys = DEFAULT_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._port = port
        self._key = stages_key(keys)
        self._clock = clock
        self._flush_at_s = clock() + FLUSH_S
        self._pending: Counter[str] = Counter()

    def observe(self, stage: str, seconds: float) -> None:
        """Count one run of a stage."""
        self._pending[f"{stage}:{bisect_left(BUCKETS_S, seconds)}"] += 1
        self._pending[f"{stage}:us"] += round(seconds * _MICROSECONDS)
        if self._clock() >= self._flush_at_s:
            self.flush()

    def flush(self) -> None:
        """Add what was counted to Redis; while that is away it is kept for later."""
        commands: list[Command] = [("HINCRBY", self._key, field, n) for field, n in self._pending.items()]
        pause_s = FLUSH_S
        try:
            if commands:
                self._port.read(commands)
        except QueueUnavailable as error:
            pause_s = AWAY_S
            log.debug("stages are counted later: %s", error, extra={"action": "stages_later"})
        else:
            self._pending.clear()
        self._flush_at_s = self._clock() + pause_s


def stages_key(keys: Keys) -> str:
    """Return the hash in Redis that holds the totals."""
    return f"{keys.prefix}stages"


def read_stages(port: RedisPort, keys: Keys) -> dict[str, StageTotals]:
    """Return the totals of each stage; raises QueueUnavailable."""
    (raw,) = port.read([("HGETALL", stages_key(keys))])
    pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
    found = {name.decode(): int(value) for name, value in pairs}
    places = range(len(BUCKETS_S) + 1)
    return {
        stage: StageTotals(
            tuple(found.get(f"{stage}:{place}", 0) for place in places),
            found.get(f"{stage}:us", 0) / _MICROSECONDS,
        )
        for stage in STAGES
    }
