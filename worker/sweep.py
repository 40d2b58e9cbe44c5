"""Reports that a worker is there, replaces lost messages, and ends the claims of children that died.

Runs in the parent, on the timer of Celery's event loop, without a thread: the parent forks at any time. It
starts and stops with the connection to Redis.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable
from typing import Any

from celery import bootsteps

from iqdb_core.errors import ConfigError, ForeignQueue, QueueUnavailable
from iqdb_core.jobs import WorkLedger
from worker.lost_acks import AcknowledgementWatch
from worker.tasks import Complaint

log = logging.getLogger(__name__)


class Sweeper:
    """The ledger as the parent uses it; plain calls, so that a test can make them.

    Parameters
    ----------
    open_ledger : callable
        Returns a ledger of its own.
    send : callable
        Sends this many messages.
    """

    def __init__(self, open_ledger: Callable[[], WorkLedger], send: Callable[[int], None]) -> None:
        self._open_ledger = open_ledger
        self._send = send
        self._ledger: WorkLedger | None = None
        self._complaint = Complaint()

    def sweep(self, name: str) -> None:
        """Report that the worker `name` is there, and send what is missing; raises QueueUnavailable."""
        try:
            missing = self._opened().sweep(name)
        except (ForeignQueue, ConfigError) as error:
            self._complaint.tell(error)
            return
        if missing:
            log.info("jobs wait without a message: sending %s", missing, extra={"action": "messages_missing"})
            self._send(missing)

    def forfeit(self, claimant: str) -> None:
        """End the claim of a child that died; if Redis is away it ends with its lease."""
        try:
            self._opened().forfeit(claimant)
        except QueueUnavailable as error:
            log.warning(
                "a dead process keeps its jobs until its lease ends: %s",
                error,
                extra={"action": "not_forfeited"},
            )

    def leave(self, name: str) -> None:
        """Take the worker off the list and close the connections; if Redis is away it is forgotten later."""
        try:
            self._opened().leave(name)
        except QueueUnavailable as error:
            log.warning(
                "this worker stays on the list of workers for a while: %s",
                error,
                extra={"action": "still_listed"},
            )
        self._opened().close()
        self._ledger = None

    def _opened(self) -> WorkLedger:
        if self._ledger is None:
            self._ledger = self._open_ledger()
        return self._ledger


def sweep_step(
    sweeper: Sweeper, watch: AcknowledgementWatch, every_s: Callable[[], float]
) -> type[bootsteps.StartStopStep]:
    """Return the consumer step that sweeps every `every_s()` seconds while the worker is connected."""

    class SweepStep(bootsteps.StartStopStep):  # type: ignore[misc]  # celery carries no types
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, parent: Any, **options: Any) -> None:
            super().__init__(parent, **options)
            self._timer: Any = None
            self._channel: Any = None

        def start(self, parent: Any) -> None:
            watch.renew()
            lost, self._channel = self._channel, parent.connection.default_channel
            _replace(lost, self._channel)
            name = parent.hostname
            pool = parent.pool
            self._timer = parent.timer.call_repeatedly(every_s(), lambda: _tick(sweeper, name, watch, pool))

        def register_with_event_loop(self, parent: Any, hub: Any) -> None:  # noqa: ARG002
            # Only now: before, after a connection that was lost at once, the pool cannot read yet.
            _read_results(parent.pool)

        def stop(self, parent: Any) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
                sweeper.leave(parent.hostname)

    return SweepStep


def _replace(lost: Any, channel: Any) -> None:
    """Neither return nor acknowledge the messages that came over a lost connection.

    Celery would send them again, or acknowledge them, over the connection that it has given up, and end the
    worker because that cannot work. Nothing needs either: jobs are in the ledger, the sweep sends what is
    missing, and what is delivered twice finds nothing to do.
    """
    channel.do_restore = False
    if lost is not None and lost is not channel:
        lost.basic_ack = lost.basic_reject = lambda *_, **__: None


def _read_results(pool: Any) -> None:
    """Read what children have reported while there was no connection to Redis.

    Celery reads it in its event loop, which looks first whose time is up: a task that ended long ago would
    count as one that overran its limit, its process would be killed, and the images that it held be blamed.
    """
    processes = pool._pool  # noqa: SLF001
    read_one = getattr(processes, "handle_result_event", None)
    if read_one is None:  # a pool without processes
        return
    poll = select.poll()
    for pipe in processes._fileno_to_outq:  # noqa: SLF001
        poll.register(pipe, select.POLLIN)
    for pipe, _ in poll.poll(0):
        read_one(pipe)


def _tick(sweeper: Sweeper, name: str, watch: AcknowledgementWatch, pool: Any) -> None:
    """Sweep; a ConnectionError makes Celery's event loop end and the consumer connect anew."""
    pool.maintain_pool()  # Celery may look too early at a child that dies, and again after five seconds
    if watch.has_lost():
        raise ConnectionError("an acknowledgement did not reach Redis")
    try:
        sweeper.sweep(name)
    except QueueUnavailable as error:
        raise ConnectionError(str(error)) from error
