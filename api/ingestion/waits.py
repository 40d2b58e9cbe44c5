"""Time limits for requests that wait; they shrink once the process has to end.

A request that waits has its change stored or accepted already: an answer that says so is better than none.
Work that is not done yet gets more time, but less than remains until requests are cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

LAST_S: Final = 3.0
"""How long a wait may go on after `begin_shutdown`, seconds: enough for work in hand, no more."""
WORK_S: Final = 15.0
"""How long work may go on after `begin_shutdown`, seconds."""


class Waits:
    """The time limits of one process.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop on which requests wait.
    last_s, work_s : float
        How long a wait, and work, may go on after `begin_shutdown`, seconds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, last_s: float = LAST_S, work_s: float = WORK_S
    ) -> None:
        self._loop = loop
        self._last_s = last_s
        self._work_s = work_s
        self._shutdown_at: float | None = None
        self._limits: dict[asyncio.Timeout, float] = {}

    def limit(self, timeout_s: float) -> AbstractAsyncContextManager[None]:
        """Wait inside for at most `timeout_s` seconds, less after `begin_shutdown`; raises TimeoutError."""
        return _Until(self, self._loop.time() + timeout_s, self._last_s)

    def work(self) -> AbstractAsyncContextManager[None]:
        """Work inside without a limit until `begin_shutdown`, which sets one; raises TimeoutError."""
        return _Until(self, None, self._work_s)

    def begin_shutdown(self) -> None:
        """Shorten all waits, now and from now on; from any thread, and from a signal handler."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._shorten_all)

    def enter(self, limit: asyncio.Timeout, last_s: float) -> None:
        """Add a limit, to be shortened on shutdown; for `_Until`."""
        self._limits[limit] = last_s
        self._shorten(limit)

    def leave(self, limit: asyncio.Timeout) -> None:
        """Remove a limit; for `_Until`."""
        del self._limits[limit]

    def _shorten_all(self) -> None:
        if self._shutdown_at is None:
            self._shutdown_at = self._loop.time()
            for limit in self._limits:
                self._shorten(limit)

    def _shorten(self, limit: asyncio.Timeout) -> None:
        if self._shutdown_at is None or limit.expired():
            return
        end, when = self._shutdown_at + self._limits[limit], limit.when()
        if when is None or when > end:
            limit.reschedule(end)


class _Until(AbstractAsyncContextManager[None]):
    """One wait, for `async with`: every add has one, and a generator costs several times as much."""

    __slots__ = ("_last_s", "_limit", "_waits")

    def __init__(self, waits: Waits, when: float | None, last_s: float) -> None:
        self._waits = waits
        self._last_s = last_s
        self._limit = asyncio.timeout_at(when)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._waits.enter(self._limit, self._last_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waits.leave(self._limit)
        await self._limit.__aexit__(kind, error, trace)
