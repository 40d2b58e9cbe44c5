"""Threads that help a query over its segments while they have nothing else to do.

Answers: how many threads may this query use now? A lone query gets them all, queries that run beside each
other get one each. Knows nothing of segments. Owned by `ImageIndex`, used by `scan`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Helpers:
    """A bounded number of helping threads, started when first needed.

    Parameters
    ----------
    count : int
        Threads beside the one that asks; 0 for none.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._running = 0
        self._claimed = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="scan") if count else None

    @contextmanager
    def claimed(self, wanted: int) -> Iterator[int]:
        """Yield how many helpers a query may use, at most `wanted`, while it runs."""
        with self._lock:
            self._running += 1
            # Every running query keeps a core of its own.
            idle = min(self._count - self._claimed, self._count + 1 - self._running)
            claim = max(0, min(wanted, idle)) if self._threads is not None else 0
            self._claimed += claim
        try:
            yield claim
        finally:
            with self._lock:
                self._running -= 1
                self._claimed -= claim

    def submit(self, work: Callable[[int], None], number: int) -> Future[None]:
        """Run `work(number)` in a helper, or here if they were closed meanwhile; only within `claimed`."""
        with self._lock:
            if self._threads is not None:
                return self._threads.submit(work, number)
        work(number)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """End the threads after what they are doing; a query that goes on does so alone."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True)
