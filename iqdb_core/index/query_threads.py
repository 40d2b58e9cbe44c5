"""Schedules queries: which run now, and with how many threads each.

At most as many queries run at once as there are cores. The others wait in order of arrival, because a dozen
scans sharing two cores would all be late. A query that finds idle cores gets helper threads. Knows nothing of
segments. Owned by `ImageIndex`, used by `search`.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class QueryThreads:
    """Gives queries their turns, and a bounded number of helper threads, which start when first needed.

    Parameters
    ----------
    turns : int
        Queries that run at once, at least 1.
    helpers : int
        Helper threads beside the querying threads; 0 for none.
    """

    def __init__(self, turns: int, helpers: int) -> None:
        self._turns = turns
        self._helpers = helpers
        self._cores = max(turns, helpers + 1)
        self._running = 0
        self._helping = 0
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._pool = ThreadPoolExecutor(helpers, thread_name_prefix="scan") if helpers else None

    @property
    def has_free_turn(self) -> bool:
        """Whether a query that starts now would probably not have to wait."""
        return self._running < self._turns

    def turn(self, wanted: int) -> _Turn:
        """Return a context manager that waits for a turn and gives the number of helpers (<= `wanted`)."""
        return _Turn(self, wanted)

    def take(self, wanted: int) -> int:
        """Wait for a turn, and return the number of helpers; for `_Turn`."""
        self._wait_for_turn()
        with self._lock:
            # Every running query has a core of its own.
            idle = min(self._helpers - self._helping, self._cores - self._running - self._helping)
            count = max(0, min(wanted, idle)) if self._pool is not None else 0
            self._helping += count
        return count

    def give_back(self, count: int) -> None:
        """End a turn and return its helpers; for `_Turn`."""
        with self._lock:
            self._helping -= count
            if self._waiting:
                # The turn goes directly to the next in line, so that no newcomer can take it first.
                self._waiting.popleft().release()
            else:
                self._running -= 1

    def submit(self, work: Callable[[int], None], number: int) -> Future[None]:
        """Run `work(number)` in a helper, or in this thread after `close`; only within a turn."""
        with self._lock:
            if self._pool is not None:
                return self._pool.submit(work, number)
        work(number)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """End the helpers after their current work; running queries continue without them."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)

    def _wait_for_turn(self) -> None:
        with self._lock:
            if self._running < self._turns:
                self._running += 1
                return
            called = threading.Lock()
            called.acquire()
            self._waiting.append(called)
        called.acquire()


class _Turn:
    """One turn, for `with`; a class, because a generator costs several times as much."""

    __slots__ = ("_count", "_threads", "_wanted")

    def __init__(self, threads: QueryThreads, wanted: int) -> None:
        self._threads = threads
        self._wanted = wanted

    def __enter__(self) -> int:
        self._count = self._threads.take(self._wanted)
        return self._count

    def __exit__(self, *_: object) -> None:
        self._threads.give_back(self._count)
