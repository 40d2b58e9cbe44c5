"""What a worker's parent process does besides: find lost jobs, and report that the worker is there.

Runs on the timer of Celery's event loop, without a thread: the parent forks at any time. Sends what the
ledger hands out; decides nothing itself. Stops and starts with the connection to Redis.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery, bootsteps

from iqdb_core.errors import QueueUnavailable
from iqdb_core.jobs import WorkLedger
from iqdb_core.jobs.keys import QUEUE
from iqdb_core.jobs.messages import CHUNK_JOBS, TASK_INGEST
from worker.lost_acks import AcknowledgementWatch

logger = logging.getLogger(__name__)


def enqueue(app: Celery, job_ids: Sequence[str]) -> None:
    """Send jobs to the queue, in messages of at most CHUNK_JOBS."""
    for start in range(0, len(job_ids), CHUNK_JOBS):
        app.send_task(
            TASK_INGEST, args=[list(job_ids[start : start + CHUNK_JOBS])], queue=QUEUE, ignore_result=True
        )


class Sweeper:
    """One round of sweeping; plain calls, so that a test can make one.

    Parameters
    ----------
    ledger : WorkLedger
    send : callable
        Sends a list of job ids to the queue.
    name : str
        Of this worker, in the ledger's list.
    """

    def __init__(self, ledger: WorkLedger, send: Callable[[Sequence[str]], None], name: str) -> None:
        self._ledger = ledger
        self._send = send
        self._name = name

    def sweep(self) -> None:
        """Report that this worker is there, and send again what was lost; raises QueueUnavailable."""
        lost = self._ledger.sweep(self._name)
        if lost:
            logger.info("sending %s jobs again", len(lost))
            self._send(lost)

    def leave(self) -> None:
        """Take this worker off the list and close the connections; if Redis is away it is forgotten later."""
        try:
            self._ledger.leave(self._name)
        except QueueUnavailable as error:
            logger.warning("still on the list of workers: %s", error)
        self._ledger.close()


def sweep_step(
    open_ledger: Callable[[], WorkLedger], watch: AcknowledgementWatch, every_s: Callable[[], float]
) -> type[bootsteps.StartStopStep]:
    """Return the consumer step that sweeps every `every_s()` seconds while the worker is connected."""

    class SweepStep(bootsteps.StartStopStep):  # type: ignore[misc]  # celery carries no types
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, parent: Any, **options: Any) -> None:
            super().__init__(parent, **options)
            self._timer: Any = None
            self._sweeper: Sweeper | None = None

        def start(self, parent: Any) -> None:
            def send(job_ids: Sequence[str]) -> None:
                enqueue(parent.app, job_ids)

            watch.renew()
            sweeper = Sweeper(open_ledger(), send, parent.hostname)
            self._sweeper = sweeper
            self._timer = parent.timer.call_repeatedly(every_s(), lambda: _tick(sweeper, watch))

        def stop(self, parent: Any) -> None:  # noqa: ARG002
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._sweeper is not None:
                self._sweeper.leave()
                self._sweeper = None

    return SweepStep


def _tick(sweeper: Sweeper, watch: AcknowledgementWatch) -> None:
    """Sweep; a ConnectionError makes Celery's event loop end and the consumer connect anew."""
    if watch.has_lost():
        raise ConnectionError("an acknowledgement did not reach Redis")
    try:
        sweeper.sweep()
    except QueueUnavailable as error:
        raise ConnectionError(str(error)) from error
