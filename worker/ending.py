"""A worker that is told to end does so in order, and in time, whatever Redis does.

Celery says goodbye to Redis when it ends, and its heartbeat asks a Redis that does not answer again and
again: such a worker would run until somebody kills it. Nothing is lost if it just exits: the jobs that it had
in hand are done by others when its lease has run out.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from typing import Any, Final

from billiard import active_children
from celery.apps.worker import Worker, install_worker_int_handler, install_worker_term_handler
from celery.platforms import EX_OK
from celery.signals import worker_process_init, worker_shutting_down

log = logging.getLogger(__name__)

LEAVE_S: Final = 5.0
"""How long a worker may take to say goodbye when the tasks in hand have ended, or their time is over."""


class OrderlyWorker(Worker):  # type: ignore[misc]  # celery carries no types
    """A worker of Celery that ends after the tasks in hand, with status 0, at SIGINT and SIGHUP too.

    Celery exits with a failure at SIGINT, and at SIGHUP it runs the file of the program anew: that may not be
    found, and a closed terminal wants no new worker. A SIGHUP that is ignored, as by `nohup`, stays ignored.
    """

    def install_platform_tweaks(self, worker: Any) -> None:
        """Set the handlers of signals, as Celery does when it starts."""
        is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        super().install_platform_tweaks(worker)
        install_worker_int_handler(worker, exitcode=EX_OK)
        if is_ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            install_worker_term_handler(worker, sig="SIGHUP")
        worker_process_init.connect(_leave_hangups_to_the_parent, weak=False)


def _leave_hangups_to_the_parent(**_: Any) -> None:
    """Keep a child alive when its terminal is closed: the parent lets it finish, and no image is to blame."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def end_in_time(hostname: str, limit_s: float) -> None:
    """Kill this process some time after its worker was told to end, if it has not ended by then.

    Parameters
    ----------
    hostname : str
        Celery's name of the worker.
    limit_s : float
        Seconds; beyond the time limit of tasks.
    """

    def begin(sender: str, **_: Any) -> None:
        if sender == hostname:
            # A thread: the main one may be in a call that no signal interrupts, as a DNS lookup.
            timer = threading.Timer(limit_s, _end_now, [limit_s])
            timer.daemon = True
            timer.start()

    worker_shutting_down.connect(begin, weak=False)


def _end_now(limit_s: float) -> None:
    log.error(
        "still running %g seconds after it was told to end: exiting at once",
        limit_s,
        extra={"action": "ended_late"},
    )
    for child in active_children():
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    os._exit(1)
