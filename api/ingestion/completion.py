"""Waits for jobs to become final: one subscription and one reader per front end serve all requests.

Redis publishes which jobs became final. Those that a request waits for are read together, while the next ones
gather. Hints that are published while the subscription is down are missed: so all jobs are read when it is
back, and in any case at an interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from api.ingestion.ledger_threads import LedgerThreads
from api.ingestion.waits import Waits
from iqdb_core.errors import QueueUnavailable
from iqdb_core.jobs import Job, JobReader

log = logging.getLogger(__name__)

LOOK_S: Final = 3.0
"""Hints may be lost: at this interval, seconds, all jobs that a request waits for are read."""
_RETRY_S: Final = 0.5
_READ_JOBS: Final = 1000
_RECENT_JOBS: Final = 4096
"""Hints that are remembered: a job may become final before its request begins to wait."""


class CompletionWaiter:
    """Tells waiting requests when their jobs are final. Used on the event loop, except for the hints.

    Parameters
    ----------
    reader : JobReader
        Reads the records of jobs.
    threads : LedgerThreads
        For calls to the ledger.
    loop : asyncio.AbstractEventLoop
        The event loop of the requests.
    waits : Waits
        Time limits, which are shorter once the process has to end.
    """

    def __init__(
        self, reader: JobReader, threads: LedgerThreads, loop: asyncio.AbstractEventLoop, waits: Waits
    ) -> None:
        self._reader = reader
        self._threads = threads
        self._waits = waits
        self._loop = loop
        self._waiting: dict[str, asyncio.Future[Job | None]] = {}
        self._recent: dict[str, None] = {}
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def hint(self, job_ids: Sequence[str]) -> None:
        """Take a hint that jobs have become final; from any thread."""
        self._loop.call_soon_threadsafe(self._heard, job_ids)

    def look_at_all(self) -> None:
        """Take note that hints may have been missed; from any thread."""
        self._loop.call_soon_threadsafe(lambda: self._look_at(list(self._waiting)))

    async def wait(self, job_ids: Sequence[str], timeout_s: float) -> dict[str, Job | None]:
        """Wait until all jobs are final, at most `timeout_s` seconds, and no longer than `waits` allows.

        Returns
        -------
        dict
            The jobs that are final; None for a job whose record has expired meanwhile.
        """
        futures = {job_id: self._loop.create_future() for job_id in job_ids}
        self._waiting.update(futures)
        self._look_at(job_id for job_id in job_ids if job_id in self._recent)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read_what_is_due())
        try:
            with contextlib.suppress(TimeoutError):
                async with self._waits.limit(timeout_s):
                    await asyncio.wait(futures.values())
            return {job_id: future.result() for job_id, future in futures.items() if future.done()}
        finally:
            for job_id in futures:
                self._waiting.pop(job_id, None)

    def _heard(self, job_ids: Sequence[str]) -> None:
        self._recent.update(dict.fromkeys(job_ids))
        while len(self._recent) > _RECENT_JOBS:
            del self._recent[next(iter(self._recent))]
        self._look_at(job_ids)

    def _look_at(self, job_ids: Iterable[str]) -> None:
        self._due.update(job_id for job_id in job_ids if job_id in self._waiting)
        if self._due:
            self._wake.set()

    async def _read_what_is_due(self) -> None:
        """Read jobs while any request waits; jobs that become due meanwhile are read together."""
        while self._waiting:
            self._wake.clear()
            if not self._due:
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._wake.wait()
                except TimeoutError:
                    self._due.update(self._waiting)
            due = [job_id for job_id in self._due if job_id in self._waiting][:_READ_JOBS]
            self._due.difference_update(due)
            self._due.intersection_update(self._waiting)
            try:
                jobs = await self._threads.run(partial(self._reader.get_many, due))
            except QueueUnavailable as error:
                log.info("jobs cannot be read for now: %s", error, extra={"action": "completion_unread"})
                self._due.update(due)
                await asyncio.sleep(_RETRY_S)
                continue
            for job_id, job in zip(due, jobs, strict=True):
                future = self._waiting.get(job_id)
                if future is not None and not future.done() and (job is None or job.state.is_final):
                    future.set_result(job)
