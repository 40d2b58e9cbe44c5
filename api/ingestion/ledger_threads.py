"""Questions to the ledger in threads of their own: a queue that hangs holds up no request without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from iqdb_core.errors import QueueUnavailable

THREADS: Final = 4
LIMIT_S: Final = 12.0
"""A call may take so long; it gives up by itself unless others that hang are before it."""

T = TypeVar("T")


class LedgerThreads:
    """A few threads for calls that wait for Redis.

    Parameters
    ----------
    limit_s : float
        How long a caller waits, seconds.
    """

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ledger")

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns; raises what it raises, and QueueUnavailable if it takes too long."""
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError:
            raise QueueUnavailable("the queue does not answer in time") from None

    def close(self) -> None:
        """Wait for the calls in flight and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
