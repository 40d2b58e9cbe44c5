"""Waiting on behalf of requests: never longer than asked for, and hardly at all once the process is to end.

What is waited for is stored or accepted already: an answer that tells so is better than none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

LAST_S: Final = 3.0
"""How long a wait may go on after `let_go`: enough for work in hand, far less than requests are given."""


class Waits:
    """The waits of one process.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop on which requests wait.
    last_s : float
        How long a wait may go on after `let_go`, seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, last_s: float = LAST_S) -> None:
        self._loop = loop
        self._last_s = last_s
        self._end: float | None = None
        self._limits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def limit(self, timeout_s: float) -> AsyncIterator[None]:
        """Wait inside for at most `timeout_s` seconds, less after `let_go`; raises TimeoutError."""
        when = self._loop.time() + timeout_s
        async with asyncio.timeout_at(when if self._end is None else min(when, self._end)) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def let_go(self) -> None:
        """Say that the process is to end; from any thread, and from a signal's handler."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._hurry)

    def _hurry(self) -> None:
        if self._end is not None:
            return
        self._end = self._loop.time() + self._last_s
        for limit in self._limits:
            when = limit.when()
            if not limit.expired() and (when is None or when > self._end):
                limit.reschedule(self._end)
