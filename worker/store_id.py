"""The id of the store, as the parent of a worker knows it.

A parent that started while the store was away reads it when the store is back: a worker that does not name
its store counts as one of the store that the queue belongs to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from iqdb_core.errors import StoreError
from iqdb_core.store import StoreTimeouts, read_store_id

log = logging.getLogger(__name__)

_TIMEOUTS: Final = StoreTimeouts(connect_s=2.0, lock_s=2.0, statement_s=2.0)
"""The parent does nothing else meanwhile."""
_PAUSE_S: Final = 2.0
_PAUSES: Final = 10
"""A store that is slow to fail is asked less often: that takes a tenth of the parent's time at most."""


class StoreId:
    """The id of the store at an address, asked for until it is known.

    Parameters
    ----------
    database_url : callable
        Returns the address.
    now : callable
        Monotonic seconds.
    """

    def __init__(self, database_url: Callable[[], str], *, now: Callable[[], float] = time.monotonic) -> None:
        self._database_url = database_url
        self._now = now
        self._known = ""
        self._ask_at_s = float("-inf")

    def learn(self, store_id: str) -> None:
        """Take the id that was read at the start; '' if there was none."""
        self._known = store_id

    def __call__(self) -> str:
        """Return the id; '' while the store is away, or has no tables of ours yet."""
        start = self._now()
        if not self._known and start >= self._ask_at_s:
            try:
                self._known = read_store_id(self._database_url(), _TIMEOUTS)
            except StoreError as error:
                log.debug("still without the id of the store: %s", error, extra={"action": "store_away"})
            end = self._now()
            self._ask_at_s = end + max(_PAUSE_S, _PAUSES * (end - start))
        return self._known
