"""Manages the checkpoint of a directory: when the next one is due, and which files may be removed.

Decides nothing about its content (see `checkpoint`). Called by `ImageIndex`, one call at a time.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from iqdb_core.errors import CheckpointInvalid
from iqdb_core.index.disk import checkpoint
from iqdb_core.index.disk.newest import note_newest, noted_newest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from iqdb_core.index.disk.checkpoint import Saved
    from iqdb_core.index.disk.sealer import Sealer
    from iqdb_core.index.options import IndexOptions
    from iqdb_core.index.segment.member import Member
    from iqdb_core.index.snapshot import Snapshot

_log = logging.getLogger(__name__)


class CheckpointKeeper:
    """The checkpoint of one directory.

    Parameters
    ----------
    sealer : Sealer
        Of the index's directory.
    store_id : str
        The store whose feed the index follows.
    options : IndexOptions
        Determines when a checkpoint is due.

    Attributes
    ----------
    store_id : callable
        Returns the store whose feed the index follows now.
    seq : int or None
        `applied_seq` of the checkpoint on disk; None without one.
    refused : str or None
        Why the checkpoint found at the start was not used.
    held : tuple of (int, Mark or None) or None
        The newest seq that an index of this directory held before, and the newest mark of the store at or
        below it; None if not known.
    """

    def __init__(self, sealer: Sealer, *, store_id: str, options: IndexOptions) -> None:
        self._sealer = sealer
        self._directory = sealer.directory
        self.store_id: Callable[[], str] = lambda: store_id
        self._options = options
        self._numbers: set[int] = set()
        self._time_s = time.monotonic()
        self.seq: int | None = None
        self.refused: str | None = None
        self.held = noted_newest(self._directory.newest, store_id)

    def note(self, snapshot: Snapshot) -> None:
        """Remember how far the index is, for `held` of the next process."""
        note_newest(self._directory.newest, self.store_id(), snapshot.applied_seq, snapshot.lineage)

    def load(self, get_ready: Callable[[], None]) -> Saved | None:
        """Return the checkpoint; None if there is none, or an unusable one, which is then set aside.

        Parameters
        ----------
        get_ready : callable
            See `checkpoint.load`.
        """
        try:
            loaded = checkpoint.load(self._directory, store_id=self.store_id(), get_ready=get_ready)
        except CheckpointInvalid as error:
            _log.warning("%s", error, extra={"action": "checkpoint_refused"})
            # The state of a server must not reveal its paths.
            self.refused = str(error).replace(f"{self._directory.path}/", "")
            self._directory.set_aside()
            return None
        if loaded is not None:
            self.seq = loaded.applied_seq
            self._numbers = numbers_of(loaded.members)
        self._directory.remove_leftovers(self._numbers)
        return loaded

    def age_s(self) -> float | None:
        """Return the age of the checkpoint on disk in seconds, from its file; None without one."""
        if self.seq is None:
            return None
        try:
            return max(0.0, time.time() - self._directory.manifest.stat().st_mtime)
        except OSError:
            return None  # it is being replaced or removed at this moment

    def is_due(self, snapshot: Snapshot) -> bool:
        """Return whether to save now: after many changes, after the interval, or once there is a segment."""
        changes = snapshot.applied_seq - (self.seq or 0)
        is_first = self.seq is None and bool(snapshot.members)
        is_late = time.monotonic() - self._time_s >= self._options.checkpoint_interval_s
        is_other = changes > 0 or numbers_of(snapshot.members) != self._numbers
        return changes >= self._options.checkpoint_changes or (is_other and (is_first or is_late))

    def save(self, snapshot: Snapshot, counts: NDArray[np.int32]) -> set[int]:
        """Save a snapshot as the checkpoint, unless the same state is on disk; see `checkpoint.save`.

        Returns
        -------
        set of int
            Segments of the previous checkpoint, whose files may be removed if nothing else needs them.
        """
        numbers = numbers_of(snapshot.members)
        if self.seq == snapshot.applied_seq and self._numbers == numbers:
            self._time_s = time.monotonic()
            return set()
        outdated = set(self._numbers)
        # If saving fails at the very end, either checkpoint may be the one on disk.
        self._numbers |= numbers
        content = checkpoint.Saved(
            snapshot.applied_seq, snapshot.lineage, snapshot.members, snapshot.head.live_rows(), counts
        )
        checkpoint.save(self._sealer, store_id=self.store_id(), content=content)
        self._time_s = time.monotonic()  # only now: after a failure it is due at the next attempt
        self._numbers = numbers
        self.seq = snapshot.applied_seq
        self._directory.forget_refused()
        return outdated

    def remove_unused(self, numbers: set[int], snapshot: Snapshot) -> None:
        """Remove the files of segments that neither the checkpoint nor the current snapshot needs."""
        self._directory.remove(numbers - self._numbers - numbers_of(snapshot.members))

    def forget(self, snapshot: Snapshot) -> None:
        """Remove the checkpoint and the files of a discarded snapshot."""
        self._directory.manifest.unlink(missing_ok=True)
        self._directory.newest.unlink(missing_ok=True)
        self._directory.remove(self._numbers | numbers_of(snapshot.members))
        self._numbers = set()
        self.seq = None


def numbers_of(members: Iterable[Member]) -> set[int]:
    """Return the numbers of sealed segments."""
    return {member.sealed.number for member in members}
