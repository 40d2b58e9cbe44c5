"""The Celery task: a name, its delivery rules, and one call.

Everything it does is in `worker.handlers`; what it works with is made after the fork, by `Bench`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from billiard import current_process
from celery import Celery
from celery.worker.request import Request

from iqdb_core.errors import IqdbError
from iqdb_core.jobs import RedisPort, Retention, WorkLedger
from iqdb_core.jobs.contract import TASK_INGEST
from iqdb_core.signature import DecodeLimits, from_image_bytes
from iqdb_core.store import SignatureStore, open_store
from worker.handlers import IngestHandler, Patience
from worker.settings import WorkerSettings


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


def open_ledger(settings: WorkerSettings) -> WorkLedger:
    """Return a ledger with connections of its own."""
    return WorkLedger(
        RedisPort.connect(settings.redis_url),
        retention=Retention(settings.job_retention_s, settings.failed_retention_s, settings.max_job_records),
        visibility_timeout_s=settings.visibility_timeout_s,
    )


class Bench:
    """What one process works with; connections are never shared over a fork.

    Parameters
    ----------
    settings : WorkerSettings
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._pid = 0
        self._store: SignatureStore | None = None
        self._handler: IngestHandler | None = None

    def handler(self) -> IngestHandler:
        """Return this process's handler, made at the first call; connects to nothing yet."""
        if self._handler is None or self._pid != os.getpid():
            settings = self._settings
            self._pid = os.getpid()
            self._store = None
            self._handler = IngestHandler(
                ledger=open_ledger(settings),
                open_store=self._open_store,
                hash_image=partial(from_image_bytes, limits=DecodeLimits(max_pixels=settings.max_pixels)),
                patience=Patience(
                    budget_s=settings.task_time_limit_s / 4,
                    retry_s=settings.task_time_limit_s / 4,
                    max_attempts=settings.max_attempts,
                ),
            )
        return self._handler

    def _open_store(self) -> SignatureStore:
        if self._store is None:
            self._store = open_store(self._settings.database_url)
        return self._store
