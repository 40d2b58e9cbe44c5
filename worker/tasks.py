"""The Celery task: a name, its delivery rules, and one call.

Everything it does is in `worker.handlers`; what it works with is made after the fork, in
`worker.process_resources`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from billiard import current_process
from celery import Celery
from celery.worker.request import Request

from iqdb_core.errors import IqdbError
from iqdb_core.jobs.messages import TASK_INGEST
from worker.handlers import IngestHandler


def register(app: Celery, handler: Callable[[], IngestHandler], request: type[Request]) -> None:
    """Define the task `iqdb.ingest` on `app`.

    Parameters
    ----------
    app : Celery
    handler : callable
        Returns the handler of the process that runs the task.
    request : type
        By which Celery follows a message; see `worker.lost_acks`.
    """

    # An IqdbError here means that Redis stayed away: worth a line in the log, not a traceback.
    @app.task(name=TASK_INGEST, Request=request, throws=(IqdbError,))
    def ingest(job_ids: list[str]) -> None:
        with undisturbed():
            handler().handle(job_ids)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let a pool process finish the task in hand when the whole process group gets SIGTERM.

    Its parent gets the signal too, waits for the task and then ends the process itself. A process that
    overruns the time limit is killed all the same, by SIGKILL.
    """
    if current_process().name == "MainProcess":
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
