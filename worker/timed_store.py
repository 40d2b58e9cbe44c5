"""The store of a worker process, with every commit timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from iqdb_core.model import Write, WriteOutcome
from worker.handlers import Store

Observe = Callable[[str, float], None]


class TimedStore:
    """A store whose commits are timed."""

    def __init__(self, store: Store, observe: Observe) -> None:
        self._store = store
        self._observe = observe

    def apply(self, writes: Sequence[Write]) -> list[WriteOutcome]:
        """Commit `writes` in one transaction."""
        start = perf_counter()
        try:
            return self._store.apply(writes)
        finally:
            self._observe("commit", perf_counter() - start)
