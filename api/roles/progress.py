"""One line of progress on the terminal while something long is under way."""

from __future__ import annotations

import sys
import threading
import time
from typing import Final, TextIO

COMPILING: Final = "preparing for this machine, which takes half a minute, once"
_REDRAW_S = 0.5
_WIDTH = 30


class ProgressLine:
    """Shows a bar and "done of total" on standard error, redrawn in place on a terminal.

    Into a file or a log collector it writes one line when the work is first seen to be long, and none after.

    Parameters
    ----------
    label : str
        What is under way.
    delay_s : float
        Work that is over sooner than this is not mentioned at all.
    """

    def __init__(self, label: str, *, stream: TextIO | None = None, delay_s: float = 1.0) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._next = time.monotonic() + delay_s
        self._is_shown = False
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` are done."""
        with self._lock:
            if time.monotonic() < self._next or (self._is_shown and not self._is_terminal):
                return
            self._next = time.monotonic() + _REDRAW_S
            start, end = ("\r", "") if self._is_terminal else ("", "\n")
            share = min(1.0, done / total) if total else 1.0
            bar = f"[{'#' * round(share * _WIDTH):-<{_WIDTH}}] " if self._is_terminal else ""
            self._stream.write(f"{start}{self._label}: {bar}{share:.0%}, {done:,} of {total:,}{end}")
            self._stream.flush()
            self._is_shown = True

    def close(self) -> None:
        """End the line, if one was drawn."""
        with self._lock:
            if self._is_shown and self._is_terminal:
                self._stream.write("\n")
                self._stream.flush()
