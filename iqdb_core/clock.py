"""Revisions: numbers that only grow, from a system clock that may be set back.

Knows no database. A process that accepts writes creates one with the store's newest revision as its floor, so
that revisions keep growing after a restart on a machine whose clock was set back. Two processes that do this
at once do not know each other's revisions; they notice when one of their writes meets a newer one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.model import WriteOutcome


class RevisionClock:
    """A source of strictly increasing revisions, safe to use from any thread.

    Parameters
    ----------
    now_us : callable returning int
        Microseconds since 1970, or any clock; may stand still or run backwards.
    floor : int
        No revision is at or below it.
    """

    def __init__(self, now_us: Callable[[], int], floor: int) -> None:
        self._now_us = now_us
        self._last = floor
        self._others = (floor, floor)
        """Revisions given out by another clock: above the first, up to the second."""
        self._lock = threading.Lock()

    def next(self) -> int:
        """Return the time in microseconds, or one more than the last revision if that is larger."""
        with self._lock:
            self._last = max(self._last + 1, self._now_us())
            return self._last

    def is_outrun(self, revision: int, outcome: WriteOutcome) -> bool:
        """Return whether a write is only stale because another process had counted further.

        Then it needs a new revision. This is the case if the write that it met has a revision that is ahead
        of the time and was not given out here: by another process, or in a file that replaced the database.
        Afterwards this clock gives out revisions above all in the store.

        Parameters
        ----------
        revision : int
            Of the write, from this clock.
        outcome : WriteOutcome
            The outcome of the write.
        """
        with self._lock:
            if outcome.newest_revision > self._last:
                self._others = (self._last, outcome.newest_revision)
                self._last = outcome.newest_revision
            # As long as revisions are times, a newer revision was accepted later.
            if not outcome.is_stale or outcome.is_again or outcome.revision <= self._now_us():
                return False
            first, last = self._others
            return outcome.revision == revision or first < outcome.revision <= last
