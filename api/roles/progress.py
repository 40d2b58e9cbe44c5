"""A line of progress on the terminal during long work."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Final, Self, TextIO

COMPILING: Final = "preparing for this machine, which takes half a minute, once"
WAITING: Final = "waiting for the database: it is busy, locked by another program, or away"
_SILENT_S: Final = 2.0
_REDRAW_S = 0.5
_WIDTH = 30
_COLUMNS = 80
"""Assumed width of a terminal that does not report it."""


class ProgressLine:
    """Shows a bar and "done of total" on standard error, redrawn in place on a terminal.

    If standard error is no terminal, it writes one line when the work turns out to be long, and no more.
    After it is closed (also by the end of a `with` block) or erased, output continues on a new line.

    Parameters
    ----------
    label : str
        The name of the work.
    delay_s : float
        Nothing is printed about work that ends sooner than this.
    if_silent : str, optional
        A line to print if a `with` block reports nothing for two seconds.
    """

    def __init__(
        self, label: str, *, stream: TextIO | None = None, delay_s: float = 1.0, if_silent: str = ""
    ) -> None:
        self._label = label
        self._silence = threading.Timer(_SILENT_S, self._break_silence, [if_silent])
        self._silence.daemon = True
        self._is_silent = bool(if_silent)
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._next = time.monotonic() + delay_s
        self._shown = ""
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        with self._lock:
            self._is_silent = False
            if time.monotonic() < self._next or (self._shown and not self._is_terminal):
                return
            self._next = time.monotonic() + _REDRAW_S
            share = min(1.0, done / total) if total else 1.0
            bar = f"[{'#' * round(share * _WIDTH):-<{_WIDTH}}] "
            counts = f"{share:.0%}, {done:,} of {total:,}"
            self._shown = f"{self._label}: {counts}"
            if self._is_terminal:
                # A wider line would wrap, and could not be overwritten.
                room = _columns(self._stream) - 1
                whole = f"{self._label}: {bar}{counts}"
                self._shown = whole if len(whole) <= room else self._shown[:room]
            start, end = ("\r", "") if self._is_terminal else ("", "\n")
            self._stream.write(f"{start}{self._shown}{end}")
            self._stream.flush()

    def erase(self) -> None:
        """Erase the line, if one is drawn; the next report draws it again."""
        self._leave("\r" + " " * len(self._shown) + "\r")

    def close(self) -> None:
        """End the line, if one is drawn. Closing twice is harmless."""
        self._leave("\n")
        self._silence.cancel()

    def _break_silence(self, words: str) -> None:
        with self._lock:
            if self._is_silent:
                self._stream.write(f"{words}\n")
                self._stream.flush()

    def _leave(self, last: str) -> None:
        with self._lock:
            self._is_silent = False
            if self._shown and self._is_terminal:
                self._stream.write(last)
                self._stream.flush()
                self._shown = ""

    def __enter__(self) -> Self:
        if self._is_silent:
            self._silence.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):  # no real terminal
        return _COLUMNS
