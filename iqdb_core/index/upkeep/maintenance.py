"""The background thread that merges, compacts and saves, and its error state.

Knows nothing of the work that it runs. Called by `ImageIndex`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_S: Final = 1.0
"""Interval at which the thread checks for work without being woken, seconds."""
RETRY_S: Final = 10.0
"""Pause after a disk error, seconds."""

WARN_AGAIN_S: Final = 60.0
"""Interval of warnings about an error that persists, seconds."""

State = Literal["off", "running", "failed"]
_log = logging.getLogger(__name__)


class Maintenance:
    """Runs a function repeatedly in a thread of its own.

    Parameters
    ----------
    work : callable
        Does everything that is due, and returns whether there was anything to do. Raises OSError for errors
        that may pass, any other exception for permanent ones.
    retry_s : float
        Seconds between an OSError and the next attempt.
    """

    def __init__(self, work: Callable[[], bool], *, retry_s: float = RETRY_S) -> None:
        self._work = work
        self._retry_s = retry_s
        self._wake = threading.Event()
        self._is_stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.state: State = "off"
        self.last_error: str | None = None
        self._warned_s = -math.inf

    def start(self) -> None:
        """Start the thread; starting twice is harmless."""
        if self._thread is None:
            self.state = "running"
            self._thread = threading.Thread(target=self._run, name="index-maintenance", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Make the thread check for work now. Never waits."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread after its current work, and wait for it; stopping twice is harmless."""
        self._is_stopping.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None
        if self.state == "running":
            self.state = "off"

    def report(self, error: OSError, message: str, action: str) -> None:
        """Keep an error that may pass for `stats`, and log a warning: at once, and then once a minute."""
        self.last_error = error.strerror or str(error)
        if time.monotonic() - self._warned_s >= WARN_AGAIN_S:
            self._warned_s = time.monotonic()
            _log.warning("%s: %s", message, error, extra={"action": action})

    @property
    def is_stopping(self) -> bool:
        """Whether long work should end early."""
        return self._is_stopping.is_set()

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            self._wake.wait(IDLE_S)
            self._wake.clear()
            if self._is_stopping.is_set():
                return
            try:
                if self._work():
                    # Only completed work clears the error: finding nothing to do does not.
                    self.last_error = None
                    self._warned_s = -math.inf
            except OSError as error:
                self.report(error, "index maintenance failed and will be retried", "index_maintenance_retry")
                self._is_stopping.wait(self._retry_s)
            except Exception as error:  # noqa: BLE001 - the thread ends; state and log report it
                self.state = "failed"
                self.last_error = f"{type(error).__name__}: {error}"
                _log.error(
                    "index maintenance failed and has stopped",
                    exc_info=error,
                    extra={"action": "index_maintenance_failed"},
                )
                return
