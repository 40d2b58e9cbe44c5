"""When was a write accepted? Revisions that only ever grow, from a clock that may not.

Knows no database: whoever accepts writes makes one, with the store's newest revision as its floor, so that
a restart on a machine whose clock was set back still counts on. Where two processes do so at once, neither
knows how far the other has counted; a write tells, when it meets one of the other's.
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
        """Revisions that another clock gave: above the first, up to the second."""
        self._lock = threading.Lock()

    def next(self) -> int:
        """Return the time in microseconds, or one more than the last revision if that is later."""
        with self._lock:
            self._last = max(self._last + 1, self._now_us())
            return self._last

    def is_outrun(self, revision: int, outcome: WriteOutcome) -> bool:
        """Tell whether a write was found stale only because another process had counted further.

        Then it has to be numbered anew. So it is where what it met is ahead of the clock and not of this one:
        another process counts on from there, or it came with a file that was put in place of another.
        From now on revisions are beyond all that the store had.

        Parameters
        ----------
        revision : int
            Of the write, from this clock.
        outcome : WriteOutcome
            What became of it.
        """
        with self._lock:
            if outcome.newest_revision > self._last:
                self._others = (self._last, outcome.newest_revision)
                self._last = outcome.newest_revision
            # Where revisions tell the time at which a write was accepted, what is newer was accepted later.
            if not outcome.is_stale or outcome.is_again or outcome.revision <= self._now_us():
                return False
            first, last = self._others
            return outcome.revision == revision or first < outcome.revision <= last
