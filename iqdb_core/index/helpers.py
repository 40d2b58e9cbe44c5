"""Threads that help a query when the process is idle.

Answers: how many threads may this query use, and who runs its parts? All queries of a process share one budget, so that a lone query is
quick and many queries do not get in each other's way. Knows nothing of what is run. Called by `scan`.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Helpers:
    """A budget of threads, and the threads: started when first needed, kept until the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_busy = 0
        self._pool: ThreadPoolExecutor | None = None
        self._pool_size = 0

    @contextmanager
    def share(self, wanted: int, n_threads: int) -> Iterator[int]:
        """Count the calling thread as busy, and as many helpers as the budget allows.

        Parameters
        ----------
        wanted : int
            Threads that would be of use, the caller's included.
        n_threads : int
            Most threads that may be busy at a time, helpers and callers together. A caller is never turned away.

        Yields
        ------
        int
            Helpers granted: at least 0, below `wanted`.
        """
        with self._lock:
            n_helpers = max(min(wanted - 1, n_threads - 1 - self._n_busy), 0)
            self._n_busy += 1 + n_helpers
        try:
            yield n_helpers
        finally:
            with self._lock:
                self._n_busy -= 1 + n_helpers

    def run(self, help_with: Callable[[int], None], own: Callable[[], None], n_helpers: int) -> None:
        """Run `help_with(1)` .. `help_with(n_helpers)` in helpers and `own()` here; return when all are done.

        Raises
        ------
        Exception
            What any of them raised.
        """
        pool = self._pool_of(n_helpers)
        futures = [pool.submit(help_with, part) for part in range(1, n_helpers + 1)]
        try:
            own()
        finally:
            # Helpers write into memory of this query: none may be left running.
            errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error

    def _pool_of(self, n_helpers: int) -> ThreadPoolExecutor:
        """Return a pool that can run so many helpers at once, beside those of other queries."""
        with self._lock:
            needed = max(self._n_busy, n_helpers)
            if self._pool is None or needed > self._pool_size:
                if self._pool is not None:
                    self._pool.shutdown(wait=False)  # what was submitted is still run
                self._pool_size = 2 * needed
                self._pool = ThreadPoolExecutor(self._pool_size, thread_name_prefix="query-helper")
            return self._pool
