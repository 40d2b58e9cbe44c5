"""The Celery task: a name, its delivery rules, and one call.

Everything it does is in `worker.handlers`; what it works with is made after the fork, in
`worker.process_resources`.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from billiard import current_process
from celery import Celery
from celery.worker.request import Request
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from iqdb_core.errors import IqdbError
from iqdb_core.jobs.messages import TASK_INGEST
from worker.handlers import IngestHandler

log = logging.getLogger(__name__)

_SILENT_S: Final = 60.0
"""Every message and every sweep meets the same error, several times a second."""


def register(app: Celery, handler: Callable[[], IngestHandler], request: type[Request]) -> None:
    """Define the task `iqdb.ingest` on `app`.

    Parameters
    ----------
    app : Celery
    handler : callable
        Returns the handler of the process that runs the task.
    request : type
        The class by which Celery follows a message; see `worker.watched_request`.
    """
    complaint = Complaint()

    # Celery logs an IqdbError at level info, without a traceback. That is enough while Redis or the store is
    # away: the handler has warned at each of its tries. What trying again cannot mend is logged here.
    @app.task(name=TASK_INGEST, Request=request, throws=(IqdbError,), shared=False)
    def ingest() -> None:
        with undisturbed():
            try:
                is_more = handler().handle() > 0
            except IqdbError as error:
                if not error.retryable:
                    complaint.tell(error)
                raise
            if is_more:
                send_messages(app, 1)


class Complaint:
    """Logs why this process does nothing, at most once a minute.

    Parameters
    ----------
    now : callable
        Monotonic seconds.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._told_at_s = float("-inf")

    def tell(self, error: IqdbError) -> None:
        """Log the error, unless there was one within the last minute."""
        if self._now() < self._told_at_s + _SILENT_S:
            return
        self._told_at_s = self._now()
        log.error("this worker does nothing: %s", error, extra={"action": "does_nothing"})


def send_messages(app: Celery, count: int) -> None:
    """Put messages on the queue that say that there is work; the sweep replaces those that are not sent."""
    try:
        for _ in range(count):
            app.send_task(TASK_INGEST, ignore_result=True, retry=False)
    except (OperationalError, RedisError, OSError) as error:
        log.warning(
            "a message was not sent, the next sweep sends it: %s", error, extra={"action": "message_unsent"}
        )


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let a pool process finish the task in hand when the whole process group gets SIGTERM.

    Its parent gets the signal too, waits for the task and then ends the process itself. A process that
    overruns the time limit is killed all the same, by SIGKILL.
    """
    is_pool_process = current_process().name != "MainProcess"
    if not is_pool_process or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
