"""Waiting on behalf of requests: never longer than asked for, and hardly at all once the process is to end.

What is waited for is stored or accepted already: an answer that tells so is better than none. Work that is
not done yet is given more time, but less than what remains until requests are cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

    @asynccontextmanager
    async def limit(self, timeout_s: float) -> AsyncIterator[None]:
        """Wait inside for at most `timeout_s` seconds, less after `let_go`; raises TimeoutError."""
        async with self._until(self._loop.time() + timeout_s, self._last_s):
            yield

    @asynccontextmanager
    async def work(self) -> AsyncIterator[None]:
        """Work inside without a limit, but for `let_go`; raises TimeoutError."""
        async with self._until(None, self._work_s):
            yield

    def let_go(self) -> None:
        """Say that the process is to end; from any thread, and from a signal's handler."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._hurry)

    @asynccontextmanager
    async def _until(self, when: float | None, last_s: float) -> AsyncIterator[None]:
        async with asyncio.timeout_at(when) as limit:
            self._limits[limit] = last_s
            self._shorten(limit)
            try:
                yield
            finally:
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
