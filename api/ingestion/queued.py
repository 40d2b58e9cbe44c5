"""Ingestion through the queue: accept for good, let workers do it, and tell when it is done and findable.

Nothing is hashed here. Redis holds what was accepted; Celery messages carry job ids only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from api.ingestion.acceptor import JobAcceptor
from api.ingestion.completion import CompletionWaiter
from api.ingestion.interface import Added, Failed, Outcome, Queued
from api.ingestion.picture import Channels, Picture, read_upload
from api.search.interface import Search
from iqdb_core.errors import (
    IndexNotReady,
    IqdbError,
    JobFailed,
    QueueUnavailable,
    SearchUnavailable,
    UnknownJob,
)
from iqdb_core.jobs import Job, JobLedger, JobPage, JobState, Submission
from iqdb_core.model import Signature

GROUP_BYTES: Final = 32 * 1024 * 1024
"""A batch is accepted in groups of about this much, so that Redis is never held up for long by one script."""
GROUP_JOBS: Final = 256
_READS: Final = 8


class QueueIngestion:
    """Implements `Ingestion` over the job ledger.

    Parameters
    ----------
    ledger : JobLedger
    acceptor : JobAcceptor
        Accepts and sends, many requests at a time.
    completion : CompletionWaiter
        Tells when a job is final.
    search : Search
        Tells when a commit is findable on every node.
    hash_channels : callable
        Computes the signature of channels, which are small and come decoded.
    max_upload_bytes : int
    timeout_s : float
        How long a synchronous write may take.
    """

    def __init__(
        self,
        *,
        ledger: JobLedger,
        acceptor: JobAcceptor,
        completion: CompletionWaiter,
        search: Search,
        hash_channels: Callable[[Picture], Awaitable[Signature]],
        max_upload_bytes: int,
        timeout_s: float,
    ) -> None:
        self._ledger = ledger
        self._acceptor = acceptor
        self._completion = completion
        self._search = search
        self._hash_channels = hash_channels
        self._max_upload_bytes = max_upload_bytes
        self._timeout_s = timeout_s
        self._reads = asyncio.Semaphore(_READS)

    async def add(self, image_id: int, picture: Picture, *, wait: bool) -> Added | Queued:
        """See `Ingestion`."""
        submission = await self._submission(image_id, picture)
        (accepted,) = await self._acceptor.accept([submission])
        if not wait:
            return Queued(image_id, accepted.job_id)
        outcome = (await self._settle([accepted.job_id]))[0]
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome

    async def add_many(self, items: Sequence[tuple[int, Picture]], *, wait: bool) -> list[Outcome]:
        """See `Ingestion`; what was accepted before the queue was full stays so, the rest says it was not."""
        outcomes: list[Outcome] = []
        job_ids: list[str] = []
        group: list[Submission] = []
        last = len(items) - 1
        for number, (image_id, picture) in enumerate(items):
            group.append(await self._submission(image_id, picture))
            is_full = sum(len(one.payload) for one in group) >= GROUP_BYTES or len(group) >= GROUP_JOBS
            if not (is_full or number == last):
                continue
            try:
                accepted = await self._acceptor.accept(group)
            except IqdbError as error:
                if not outcomes:
                    raise
                outcomes += [Failed(one.image_id, error) for one in group]
            else:
                outcomes += [Queued(one.image_id, one.job_id) for one in accepted]
                job_ids += [one.job_id for one in accepted]
            group = []
        if not wait:
            return outcomes
        settled = iter(await self._settle(job_ids))
        return [next(settled) if isinstance(outcome, Queued) else outcome for outcome in outcomes]

    async def delete(self, image_ids: Sequence[int]) -> None:
        """See `Ingestion`: through the queue as well, so that order is that of acceptance."""
        accepted = await self._acceptor.accept([Submission.of_delete(image_id) for image_id in image_ids])
        for outcome in await self._settle([one.job_id for one in accepted]):
            if isinstance(outcome, Failed):
                raise outcome.error

    async def job(self, job_id: str) -> Job:
        """See `Ingestion`. A job is shown as done only when no query node that answers lacks its image."""
        job = await asyncio.to_thread(self._ledger.get, job_id)
        if job.state is JobState.DONE and job.seq is not None:
            # Without a node nothing old can be shown either: each has caught up before it answers again.
            with contextlib.suppress(SearchUnavailable):
                await self._search.wait_applied(job.seq, self._timeout_s)
        return job

    async def jobs(self, state: JobState | None, cursor: str | None, limit: int) -> JobPage:
        """See `Ingestion`."""
        return await asyncio.to_thread(self._ledger.list, state, cursor, limit)

    async def status(self) -> dict[str, Any]:
        """See `Ingestion`."""
        try:
            depth, workers = await asyncio.gather(
                asyncio.to_thread(self._ledger.depth), asyncio.to_thread(self._ledger.workers)
            )
        except QueueUnavailable as error:
            return {"queue": {"state": "away", "message": str(error)}}
        return {
            "queue": {
                "state": "ready",
                "queued": depth.queued,
                "running": depth.running,
                "failed": depth.failed,
                "bytes": depth.payload_bytes,
                "oldest_s": round(depth.oldest_s, 3),
            },
            "workers": {name: round(age_s, 1) for name, age_s in workers.items()},
        }

    async def _submission(self, image_id: int, picture: Picture) -> Submission:
        if isinstance(picture, Signature):
            return Submission.of_signature(image_id, picture)
        if isinstance(picture, Channels):
            return Submission.of_signature(image_id, await self._hash_channels(picture))
        async with self._reads:
            return Submission.of_image(image_id, await read_upload(picture, self._max_upload_bytes))

    async def _settle(self, job_ids: Sequence[str]) -> list[Added | Failed]:
        """Wait until all jobs are final and what they wrote is findable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                jobs = await self._completion.wait(job_ids)
        except TimeoutError:
            raise IndexNotReady(
                f"accepted, but not done within {self._timeout_s:g} seconds; see /jobs/{job_ids[0]}"
            ) from None
        newest = max((job.seq for job in jobs if job is not None and job.seq is not None), default=0)
        if newest:
            await self._search.wait_applied(newest, self._timeout_s)
        return [_outcome(job_id, job) for job_id, job in zip(job_ids, jobs, strict=True)]


def _outcome(job_id: str, job: Job | None) -> Added | Failed:
    if job is None:
        return Failed(0, UnknownJob(f"the record of job {job_id} has expired"))
    if job.state is JobState.FAILED:
        return Failed(job.image_id, JobFailed(job.reason or "failed", job.error))
    empty = Signature((0.0, 0.0, 0.0), b"")  # a deletion has no signature, and nobody looks at this one
    return Added(job.image_id, job.signature or empty)
