"""A worker that is told to end does so in time, whatever Redis does.

Celery takes its leave of Redis when it ends, and its heartbeat asks a Redis that does not answer again for
ever: such a worker would run until somebody kills it. Nothing is lost when it goes without a word: jobs that
it had in hand are done by others when its lease has ended.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from typing import Any, Final

from billiard import active_children
from celery.signals import worker_shutting_down

logger = logging.getLogger(__name__)

LEAVE_S: Final = 5.0
"""How long a worker may take its leave when the tasks in hand have ended, or their time is over."""


def end_in_time(hostname: str, limit_s: float) -> None:
    """End this process so long after its worker was told to end, if it has not ended by then.

    Parameters
    ----------
    hostname : str
        Celery's name of the worker.
    limit_s : float
        Seconds; beyond the time limit of tasks.
    """

    def begin(sender: str, **_: Any) -> None:
        if sender == hostname:
            # A thread: the main one may be in a call that no signal interrupts, as the look-up of a name is.
            timer = threading.Timer(limit_s, _end_now, [limit_s])
            timer.daemon = True
            timer.start()

    worker_shutting_down.connect(begin, weak=False)


def _end_now(limit_s: float) -> None:
    logger.error("still not ended %g seconds after it was told to: ending without taking leave", limit_s)
    for child in active_children():
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    os._exit(1)
