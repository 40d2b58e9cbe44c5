"""Wait for jobs to become final: woken by Redis, and by polling where no message came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from iqdb_core.jobs import Job, JobLedger

POLL_S: Final = 0.5


class CompletionWaiter:
    """Tells waiting requests when their jobs are final.

    Parameters
    ----------
    ledger : JobLedger
        The truth about jobs.
    loop : asyncio.AbstractEventLoop
        The loop on which requests wait.
    """

    def __init__(self, ledger: JobLedger, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger = ledger
        self._loop = loop
        self._heard: dict[str, asyncio.Event] = {}

    def hint(self, job_ids: Sequence[str]) -> None:
        """Say that jobs may have become final; from any thread."""
        self._loop.call_soon_threadsafe(self._wake, job_ids)

    def _wake(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            event = self._heard.get(job_id)
            if event is not None:
                event.set()

    async def wait(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Return the jobs once all are final; None for one whose record has expired meanwhile."""
        results: dict[str, Job | None] = {}
        wake = asyncio.Event()
        for job_id in job_ids:
            self._heard[job_id] = wake
        try:
            while True:
                wake.clear()
                left = [job_id for job_id in job_ids if job_id not in results]
                jobs = await asyncio.to_thread(self._ledger.get_many, left)
                found = zip(left, jobs, strict=True)
                results |= {job_id: job for job_id, job in found if job is None or job.state.is_final}
                if len(results) == len(set(job_ids)):
                    return [results[job_id] for job_id in job_ids]
                try:
                    async with asyncio.timeout(POLL_S):
                        await wake.wait()
                except TimeoutError:
                    continue  # no message came: look again
        finally:
            for job_id in job_ids:
                self._heard.pop(job_id, None)
