"""Helpers of a follower: its source and sink, states, another history, when it gives up, its waiters."""

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
    from iqdb_core.model import ChangeBatch, Mark


class ChangeSource(Protocol):
    """The source of a follower: the feed of a `SignatureStore`."""

    def changes_since(self, cursor: int, limit: int) -> ChangeBatch:
        """Return the next changes in commit order, with the state of the feed at that moment."""


class ChangeSink(Protocol):
    """The sink of a follower. Applying a batch twice must be harmless."""

    def apply(self, batch: ChangeBatch) -> None:
        """Apply a batch whole; it is visible when this returns.

        OSError means that nothing of it was applied, and that the same batch may be retried.
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


def other_history(batch: ChangeBatch, seq: int, lineage: Mark | None) -> str | None:
    """Return why the store has another history than an index that held `seq`; None if it has the same.

    Parameters
    ----------
    batch : ChangeBatch
        The changes after `seq`.
    seq : int
    lineage : Mark or None
        The newest mark at or below it, if known.
    """
    feed = batch.feed
    if feed is None:
        return None
    if feed.head_seq < seq:
        return f"the store ends at seq {feed.head_seq}, but the index held {seq}"
    if lineage is not None and feed.before != lineage:
        return f"the store's history up to seq {seq} is not the one that the index held"
    return None


class RestorePatience:
    """Decides how long a store without our tables is waited for, as while a backup is restored.

    Parameters
    ----------
    patience_s : float
        How long a restore may take, seconds.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._invalid_since_s: float | None = None

    def reset(self) -> None:
        """Note that the store is valid."""
        self._invalid_since_s = None

    def is_over(self, error: StoreError) -> bool:
        """Note an error; return whether the store has been invalid for longer than a restore may take."""
        if not isinstance(error, StoreInvalid):
            self.reset()
            return False
        if self._invalid_since_s is None:
            self._invalid_since_s = time.monotonic()
        return time.monotonic() - self._invalid_since_s >= self._patience_s


class Waiter:
    """A callback that is called at most once."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[IndexStateError | None], None]) -> None:
        self.callback: Callable[[IndexStateError | None], None] | None = callback


class Waiters:
    """Callbacks that wait for a seq. The caller holds the lock that guards them."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiter]] = []
        self._arrivals = itertools.count()
        self._withdrawn = 0

    def __len__(self) -> int:
        """Return the number of entries, withdrawn ones included."""
        return len(self._heap)

    def add(self, seq: int, waiter: Waiter) -> None:
        """Add a waiter."""
        heapq.heappush(self._heap, (seq, next(self._arrivals), waiter))

    def withdraw(self, waiter: Waiter) -> None:
        """Withdraw a waiter; memory is freed once more than half of the entries may be withdrawn."""
        if waiter.callback is None:
            return
        waiter.callback = None
        self._withdrawn += 1
        if 2 * self._withdrawn > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._withdrawn = 0

    def take_up_to(self, seq: int) -> list[Waiter]:
        """Remove and return the waiters for `seq` or less."""
        taken = []
        while self._heap and self._heap[0][0] <= seq:
            taken.append(heapq.heappop(self._heap)[2])
        return taken

    def take_all(self) -> list[Waiter]:
        """Remove and return all waiters."""
        taken = [waiter for _, _, waiter in self._heap]
        self._heap.clear()
        return taken


def call_all(waiters: list[Waiter], failure: IndexStateError | None) -> None:
    """Call each waiter that was not called yet."""
    for waiter in waiters:
        callback, waiter.callback = waiter.callback, None
        if callback is not None:
            callback(failure)
