"""Ends a process while one of its threads is in a call that cannot be interrupted.

Such calls are the compiler's, and lookups of names in DNS. At exit Python tears its modules down while daemon
threads still run. A thread inside the compiler, which is written in C++, then uses freed memory, and the
process crashes after its work was done. A process with such a thread exits at once instead. Called by
composition roots, and by `detached`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn


class DetachedThread(threading.Thread):
    """A daemon thread that may be in a call that cannot be interrupted when the process ends.

    Parameters
    ----------
    target : callable
        Without arguments.
    name : str
    """

    def __init__(self, target: Callable[[], None], *, name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)


def has_detached_threads() -> bool:
    """Return whether a `DetachedThread` runs: then the process has to end by `exit_now`."""
    return any(isinstance(thread, DetachedThread) for thread in threading.enumerate())


def exit_now(code: int) -> NoReturn:
    """End the process without waiting for threads, and without tearing Python down.

    The caller has closed what must be closed; only the standard streams are flushed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
