"""What a follower stands between, and what it may be doing: a source, a sink, its states."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
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
