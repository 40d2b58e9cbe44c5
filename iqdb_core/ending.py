"""Ends a process while a thread of it is deep in other people's code, which cannot be interrupted.

Python takes its modules apart at the end, and leaves a daemon thread where it is. One in the middle of the
compiler, which is written in C++, then uses what is gone, and the process crashes after its work was done. A
process with such a thread is left at once instead. Called by composition roots.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn


class UnendingThread(threading.Thread):
    """A thread that nobody waits for when the process ends, and that may be in the middle of compiling.

    Parameters
    ----------
    target : callable
        Without arguments.
    name : str
    """

    def __init__(self, target: Callable[[], None], *, name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)


def has_unending_threads() -> bool:
    """Tell whether one of them runs, so that this process should end by `end_now`."""
    return any(isinstance(thread, UnendingThread) for thread in threading.enumerate())


def end_now(code: int) -> NoReturn:
    """End the process without waiting for anything, and without taking Python apart.

    Whoever calls it has closed what must be closed; only the standard streams are flushed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
