"""What a follower stands between, what it may be doing, and who waits for it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.errors import IndexStateError
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


class Waiter:
    """One callback to call once."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[IndexStateError | None], None]) -> None:
        self.callback: Callable[[IndexStateError | None], None] | None = callback


def call_all(waiters: list[Waiter], failure: IndexStateError | None) -> None:
    """Call those that were not called yet."""
    for waiter in waiters:
        callback, waiter.callback = waiter.callback, None
        if callback is not None:
            callback(failure)
