"""Waiting on behalf of requests: never longer than asked for, and hardly at all once the process is to end.

What is waited for is stored or accepted already: an answer that tells so is better than none. Work that is
not done yet is given more time, but less than what remains until requests are cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

LAST_S: Final = 3.0
"""How long a wait may go on after `let_go`: enough for work in hand, far less than requests are given."""
WORK_S: Final = 15.0
"""How long work may go on after `let_go`, seconds."""


class Waits:
    """The waits of one process.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop on which requests wait.
    last_s, work_s : float
        How long a wait, and work, may go on after `let_go`, seconds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, last_s: float = LAST_S, work_s: float = WORK_S
    ) -> None:
        self._loop = loop
        self._last_s = last_s
        self._work_s = work_s
        self._let_go_at: float | None = None
        self._limits: dict[asyncio.Timeout, float] = {}

    def limit(self, timeout_s: float) -> AbstractAsyncContextManager[None]:
        """Wait inside for at most `timeout_s` seconds, less after `let_go`; raises TimeoutError."""
        return _Until(self, self._loop.time() + timeout_s, self._last_s)

    def work(self) -> AbstractAsyncContextManager[None]:
        """Work inside without a limit, but for `let_go`; raises TimeoutError."""
        return _Until(self, None, self._work_s)

    def let_go(self) -> None:
        """Say that the process is to end; from any thread, and from a signal's handler."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._hurry)

    def enter(self, limit: asyncio.Timeout, last_s: float) -> None:
        """Count a limit in; for `_Until`."""
        self._limits[limit] = last_s
        self._shorten(limit)

    def leave(self, limit: asyncio.Timeout) -> None:
        """Count a limit out; for `_Until`."""
        del self._limits[limit]

    def _hurry(self) -> None:
        if self._let_go_at is None:
            self._let_go_at = self._loop.time()
            for limit in self._limits:
                self._shorten(limit)

    def _shorten(self, limit: asyncio.Timeout) -> None:
        if self._let_go_at is None or limit.expired():
            return
        end, when = self._let_go_at + self._limits[limit], limit.when()
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
