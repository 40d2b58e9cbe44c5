"""Calls to the ledger in threads of their own: a hanging queue delays only requests that need it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from iqdb_core.errors import QueueUnavailable

THREADS: Final = 4
LIMIT_S: Final = 12.0
"""How long a caller waits, seconds. A call gives up earlier, unless it is queued behind hanging ones."""

T = TypeVar("T")


class LedgerThreads:
    """A few threads for calls that wait for Redis."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ledger")

    async def run(self, call: Callable[[], T]) -> T:
        """Run `call`; raises what it raises, and QueueUnavailable if it takes too long."""
        try:
            async with asyncio.timeout(LIMIT_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError:
            raise QueueUnavailable("the queue does not answer in time") from None

    def close(self) -> None:
        """Wait for calls in flight, and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
