"""When was a write accepted? Revisions that only ever grow, from a clock that may not.

Knows no database: whoever accepts writes makes one, with the store's newest revision as its floor, so that
a restart on a machine whose clock was set back still counts on.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


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
        self._lock = threading.Lock()

    def next(self) -> int:
        """Return the time in microseconds, or one more than the last revision if that is later."""
        with self._lock:
            self._last = max(self._last + 1, self._now_us())
            return self._last
