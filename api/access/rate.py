"""Rate limits: a token bucket for each token or address, in bounded memory."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_CALLERS: Final = 20_000
"""Callers remembered at once. With more, the one idle for longest is forgotten, and starts with a full bucket
if it returns."""
BURST_S: Final = 5.0
"""An idle caller may send at once what the rate allows in this many seconds."""
LONGEST_WAIT_S: Final = 86_400.0
"""Upper limit of Retry-After, seconds."""


class RateLimit:
    """Buckets that fill at `per_s` requests per second; used on one event loop, so without a lock.

    Parameters
    ----------
    per_s : float
        Requests per second and caller; 0 means no limit.
    clock : callable
        Returns seconds since a fixed moment.
    """

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._size = max(1.0, per_s * BURST_S)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def is_on(self) -> bool:
        """Whether there is a limit."""
        return self._per_s > 0

    def take(self, caller: str, cost: float = 1.0) -> int:
        """Count a request that costs `cost` requests, at most 1.

        Returns
        -------
        int
            0 if it passes, else after how many whole seconds the caller may try again.
        """
        if not self._per_s:
            return 0
        now = self._clock()
        level = self._level(caller, now)
        wait_s = 0 if level >= cost else math.ceil(min(LONGEST_WAIT_S, (cost - level) / self._per_s))
        self._put(caller, level if wait_s else level - cost, now)
        return wait_s

    def charge(self, caller: str, count: int) -> None:
        """Count the further cost of an admitted request, which delays the caller's next requests."""
        if self._per_s and count > 0:
            now = self._clock()
            self._put(caller, self._level(caller, now) - count, now)

    def _level(self, caller: str, now: float) -> float:
        level, at = self._buckets.pop(caller, (self._size, now))
        return min(self._size, level + (now - at) * self._per_s)

    def _put(self, caller: str, level: float, now: float) -> None:
        self._buckets[caller] = (level, now)
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)


def caller_of(address: str) -> str:
    """Return the caller that an address stands for: for IPv6, the /64 network that one customer gets."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
