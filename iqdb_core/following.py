"""What a follower stands between, what it may be doing, when it gives up, and who waits for it."""

from __future__ import annotations

import heapq
import itertools
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from iqdb_core.errors import StoreInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.errors import IndexStateError, StoreError
    from iqdb_core.model import ChangeBatch


class ChangeSource(Protocol):
    """What a follower reads: the feed side of a `SignatureStore`."""

    def changes_since(self, cursor: int, limit: int) -> ChangeBatch:
        """Return the next changes in commit order, with the state of the feed at that moment."""


class ChangeSink(Protocol):
    """What a follower feeds. Applying a batch twice must be harmless."""

    def apply(self, batch: ChangeBatch) -> None:
        """Apply a batch whole; it is visible when this returns.

        OSError means that nothing of it was applied, and that it may be given again.
        """

    def reset(self) -> None:
        """Forget everything that was applied."""


class FollowerState(StrEnum):
    """What the follower is doing."""

    STARTING = "starting"
    FOLLOWING = "following"
    REBUILDING = "rebuilding"
    STORE_AWAY = "store away"
    SINK_BLOCKED = "disk trouble"
    DEAD = "dead"
    STOPPED = "stopped"


class RestorePatience:
    """With a store that is no store of ours, as while a backup is put back.

    Parameters
    ----------
    patience_s : float
        A restore takes no longer.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._invalid_since_s: float | None = None

    def begin_anew(self) -> None:
        """Say that the store is one."""
        self._invalid_since_s = None

    def is_over(self, error: StoreError) -> bool:
        """Return whether the store, which cannot be read, has been none for longer than that."""
        if not isinstance(error, StoreInvalid):
            self.begin_anew()
            return False
        if self._invalid_since_s is None:
            self._invalid_since_s = time.monotonic()
        return time.monotonic() - self._invalid_since_s >= self._patience_s


class Waiter:
    """One callback to call once."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[IndexStateError | None], None]) -> None:
        self.callback: Callable[[IndexStateError | None], None] | None = callback


class Waiters:
    """Those who wait for a seq. Whoever calls holds the lock that guards them."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiter]] = []
        self._arrivals = itertools.count()
        self._withdrawn = 0

    def __len__(self) -> int:
        """Return how many entries there are, some of which may be withdrawn."""
        return len(self._heap)

    def add(self, seq: int, waiter: Waiter) -> None:
        """Let one wait."""
        heapq.heappush(self._heap, (seq, next(self._arrivals), waiter))

    def withdraw(self, waiter: Waiter) -> None:
        """Let one wait no longer; what it takes is freed once such ones may be more than half of all."""
        if waiter.callback is None:
            return
        waiter.callback = None
        self._withdrawn += 1
        if 2 * self._withdrawn > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._withdrawn = 0

    def take_up_to(self, seq: int) -> list[Waiter]:
        """Return those who wait for no more than `seq`; they wait no longer."""
        taken = []
        while self._heap and self._heap[0][0] <= seq:
            taken.append(heapq.heappop(self._heap)[2])
        return taken

    def take_all(self) -> list[Waiter]:
        """Return all; they wait no longer."""
        taken = [waiter for _, _, waiter in self._heap]
        self._heap.clear()
        return taken


def call_all(waiters: list[Waiter], failure: IndexStateError | None) -> None:
    """Call those that were not called yet."""
    for waiter in waiters:
        callback, waiter.callback = waiter.callback, None
        if callback is not None:
            callback(failure)
