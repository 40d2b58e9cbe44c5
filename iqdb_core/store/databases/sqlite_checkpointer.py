"""When is the WAL checkpointed? Soon after the last write, and now and then under load.

People copy the database file of a running server; what is only in the WAL beside it would be missing. One
thread per store that writes. Called by `sqlite_engine`.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

IDLE_S: Final = 1.0
"""How long after the last write the WAL is checkpointed."""
BUSY_S: Final = 30.0
"""How often it is checkpointed while writes go on."""


class Checkpointer:
    """Calls `checkpoint` when nothing is written any more.

    Parameters
    ----------
    checkpoint : callable
        Returns whether nothing is left in the WAL. May raise StoreError.
    idle_s : float
    """

    def __init__(self, checkpoint: Callable[[], bool], *, idle_s: float = IDLE_S) -> None:
        self._checkpoint = checkpoint
        self._idle_s = idle_s
        self._written_s = 0.0
        self._told = ""
        self._has_written = threading.Event()
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def note_write(self) -> None:
        """Say that something was committed just now. Never waits."""
        self._written_s = time.monotonic()
        self._has_written.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._is_closing.is_set():
                    thread = threading.Thread(target=self._run, name="sqlite-checkpoint", daemon=True)
                    thread.start()
                    self._thread = thread  # only now: `close` joins it, and an interrupt may come between

    def close(self) -> None:
        """End the thread; the last checkpoint is left to the caller."""
        with self._lock:
            self._is_closing.set()
            self._has_written.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._has_written.wait()
            self._wait_for_rest()
            if self._is_closing.is_set():
                return
            self._has_written.clear()
            if not self._is_checkpointed():
                self._written_s = time.monotonic()
                self._has_written.set()

    def _is_checkpointed(self) -> bool:
        try:
            is_whole = self._checkpoint()
        except StoreError as error:
            if str(error) != self._told:  # it is tried again every second
                self._told = str(error)
                _log.info("the WAL is checkpointed later: %s", error, extra={"action": "log_kept"})
            return False
        self._told = ""
        return is_whole

    def _wait_for_rest(self) -> None:
        latest = time.monotonic() + BUSY_S
        while not self._is_closing.is_set():
            left_s = min(self._written_s + self._idle_s, latest) - time.monotonic()
            if left_s <= 0:
                return
            self._is_closing.wait(left_s)
