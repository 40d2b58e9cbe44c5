"""Ingestion through the queue: accepts durably, and waits until workers are done and the image is findable.

Nothing is hashed here. Redis holds the accepted jobs; Celery messages say only that there is work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from api.ingestion.acceptor import GROUP_BYTES, GROUP_JOBS, JobAcceptor
from api.ingestion.completion import CompletionWaiter
from api.ingestion.interface import Added, Failed, Outcome, Queued, failed
from api.ingestion.ledger_threads import LedgerThreads
from api.ingestion.picture import Channels, NewImage, Picture, read_upload
from api.ingestion.waits import Waits
from api.search.applied import MergedWaits
from api.search.interface import Search
from iqdb_core.errors import (
    IndexNotReady,
    JobFailed,
    JobLost,
    QueueRefused,
    QueueUnavailable,
    SearchUnavailable,
)
from iqdb_core.jobs import Job, JobLedger, JobPage, JobState, Lane, Submission
from iqdb_core.model import Signature

_READS: Final = 8
_SHOW_S: Final = 2.0
"""For at most this long, a finished job is not shown as done while a query node lacks its image, seconds."""
_INTERACTIVE_JOBS: Final = 32
"""Larger batches go into the bulk lane even if a client waits: they would delay others."""

log = logging.getLogger(__name__)


class QueueIngestion:
    """Implements `Ingestion` over the job ledger.

    Parameters
    ----------
    ledger : JobLedger
    threads : LedgerThreads
        For calls to the ledger.
    acceptor : JobAcceptor
        Accepts the writes of many requests together.
    completion : CompletionWaiter
        Knows when a job is final.
    search : Search
        Knows when a commit is findable on every node.
    waits : Waits
        Time limits, which are shorter once the process has to end.
    hash_channels : callable
        Computes the signature of colour channels, which need no decoding.
    max_upload_bytes : int
    timeout_s : float
        How long a waiting write waits before it is answered with its job.
    """

    def __init__(
        self,
        *,
        ledger: JobLedger,
        threads: LedgerThreads,
        acceptor: JobAcceptor,
        completion: CompletionWaiter,
        search: Search,
        waits: Waits,
        hash_channels: Callable[[Picture], Awaitable[Signature]],
        max_upload_bytes: int,
        timeout_s: float,
    ) -> None:
        self._ledger = ledger
        self._threads = threads
        self._acceptor = acceptor
        self._completion = completion
        self._search = search
        self._waits = waits
        self._applied = MergedWaits(search, timeout_s)
        self._hash_channels = hash_channels
        self._max_upload_bytes = max_upload_bytes
        self._group_jobs = min(GROUP_JOBS, ledger.limits.max_jobs)
        self._delete_jobs = min(GROUP_JOBS, ledger.limits.reserved_jobs)
        self._timeout_s = timeout_s
        self._reads = asyncio.Semaphore(_READS)

    async def check_capacity(self, body_bytes: int, *, wait: bool) -> None:
        """See `Ingestion`."""
        # A larger body is split into groups, of which the first may fit.
        known = body_bytes if body_bytes <= self._group_bytes() else 0
        await self._acceptor.check_capacity(known, Lane.INTERACTIVE if wait else Lane.BULK)

    async def add(self, new: NewImage, *, wait: bool) -> Added | Queued:
        """See `Ingestion`."""
        submission = await self._submission(new, Lane.INTERACTIVE if wait else Lane.BULK)
        (accepted,) = await self._acceptor.accept([submission])
        queued = Queued(new.image_id, accepted.job_id)
        if not wait:
            return queued
        (outcome,) = await self._settle([queued], time.monotonic() + self._timeout_s)
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome

    async def add_many(self, news: Sequence[NewImage], *, wait: bool) -> list[Outcome]:
        """See `Ingestion`; images accepted before the queue was full stay accepted, the others fail."""
        lane = Lane.INTERACTIVE if wait and len(news) <= _INTERACTIVE_JOBS else Lane.BULK
        outcomes: dict[int, Outcome] = {}
        group: dict[int, Submission] = {}
        for number, new in enumerate(news):
            try:
                submission = await self._submission(new, lane)
            except Exception as error:  # noqa: BLE001 - of this image alone: others may be accepted already
                outcomes[number] = failed(new.image_id, error)
                continue
            if group and not self._fits(group.values(), submission):
                outcomes |= await self._accepted(group, is_first=not _any_queued(outcomes))
                group = {}
            group[number] = submission
        outcomes |= await self._accepted(group, is_first=not _any_queued(outcomes))
        queued = {number: one for number, one in outcomes.items() if isinstance(one, Queued)}
        if wait and queued:
            end_s = time.monotonic() + self._timeout_s
            outcomes |= zip(queued, await self._settle(list(queued.values()), end_s), strict=True)
        results = [outcomes[number] for number in range(len(news))]
        lost = [one.error for one in results if isinstance(one, Failed) and isinstance(one.error, JobLost)]
        if lost and len(lost) == len(results):
            raise lost[0]
        return results

    async def delete(self, image_ids: Sequence[int]) -> list[Queued]:
        """See `Ingestion`: through the queue as well, so that order is that of acceptance.

        A long list is deleted in groups, each after the one before it is done: as a whole it would be refused
        for as long as a crawler keeps the queue full.
        """
        end_s = time.monotonic() + self._timeout_s
        late: list[Queued] = []
        for start in range(0, len(image_ids), self._delete_jobs):
            group = image_ids[start : start + self._delete_jobs]
            accepted = await self._acceptor.accept(
                [Submission.of_delete(image_id, lane=Lane.INTERACTIVE) for image_id in group]
            )
            for outcome in await self._settle([Queued(one.image_id, one.job_id) for one in accepted], end_s):
                if isinstance(outcome, Failed):
                    raise outcome.error
                if isinstance(outcome, Queued):
                    late.append(outcome)
        return late

    async def job(self, job_id: str) -> Job:
        """See `Ingestion`. A job is shown as done once all healthy query nodes have its image.

        If that takes longer than a healthy node needs, it is shown as done all the same.
        """
        job = await self._threads.run(partial(self._ledger.get, job_id))
        if job.state is JobState.DONE and job.seq is not None:
            # If no node answers, none can give outdated answers: each catches up before it answers again.
            with contextlib.suppress(SearchUnavailable, IndexNotReady, TimeoutError):
                async with self._waits.limit(_SHOW_S):
                    await self._search.wait_applied(job.seq, _SHOW_S)
        return job

    async def jobs(self, state: JobState | None, cursor: str | None, limit: int) -> JobPage:
        """See `Ingestion`."""
        return await self._threads.run(partial(self._ledger.list, state, cursor, limit))

    async def status(self) -> dict[str, Any]:
        """See `Ingestion`."""
        store_id = self._ledger.store_id
        named = {"store_id": store_id} if store_id else {}
        return named | await self._queue_status()

    async def _queue_status(self) -> dict[str, Any]:
        try:
            depth, workers = await asyncio.gather(
                self._threads.run(self._ledger.depth), self._threads.run(self._ledger.workers)
            )
        except QueueRefused as error:
            return {"queue": {"state": "refuses", "message": error.mistake}}
        except QueueUnavailable as error:
            # The part after the colon names the machine.
            return {"queue": {"state": "away", "message": str(error).partition(":")[0]}}
        refusal = self._ledger.refusal
        state = {"state": "refuses", "message": refusal.mistake} if refusal else {"state": "ready"}
        if self._ledger.risk and not refusal:
            state["message"] = f"accepted images are lost if Redis ends: {self._ledger.risk}"
        return {
            "queue": {
                **state,
                "queued": depth.queued,
                "interactive": depth.interactive,
                "running": depth.running,
                "failed": depth.failed,
                "bytes": depth.payload_bytes,
                "oldest_s": round(depth.oldest_s, 3),
            },
            "workers": {name: round(age_s, 1) for name, age_s in workers.items()},
        }

    async def _accepted(self, group: Mapping[int, Submission], *, is_first: bool) -> dict[int, Outcome]:
        """Accept a part of a batch; raises its failure only if nothing of the batch is accepted yet."""
        try:
            accepted = await self._acceptor.accept(list(group.values())) if group else []
        except Exception as error:
            if is_first:
                raise
            return {number: failed(one.image_id, error) for number, one in group.items()}
        return {number: Queued(one.image_id, one.job_id) for number, one in zip(group, accepted, strict=True)}

    def _fits(self, group: Collection[Submission], more: Submission) -> bool:
        size = sum(len(one.payload) for one in group) + len(more.payload)
        return len(group) < self._group_jobs and size <= self._group_bytes()

    def _group_bytes(self) -> int:
        """Return the size limit of one group of a batch: for a small queue, half of what that can hold."""
        return min(GROUP_BYTES, self._ledger.most_bytes // 2)

    async def _submission(self, new: NewImage, lane: Lane) -> Submission:
        picture = new.picture
        if isinstance(picture, Channels):
            picture = await self._hash_channels(picture)
        if isinstance(picture, Signature):
            return Submission.of_signature(
                new.image_id, picture, lane=lane, source=new.source, if_absent=new.if_absent
            )
        async with self._reads:
            data = await read_upload(picture, min(self._max_upload_bytes, self._ledger.most_bytes))
            await picture.close()  # it may be in memory, and a batch waits long for its end
        return Submission.of_image(new.image_id, data, lane=lane, source=new.source, if_absent=new.if_absent)

    async def _settle(self, queued: Sequence[Queued], end_s: float) -> list[Outcome]:
        """Wait until jobs are final and their writes findable; those that are not by `end_s` stay `Queued`.

        Never raises: an error would tell the client to send an accepted image again.
        """
        jobs = await self._completion.wait([one.job_id for one in queued], end_s - time.monotonic())
        newest = max((job.seq or 0 for job in jobs.values() if job is not None), default=0)
        is_findable = await self._is_applied(newest, end_s - time.monotonic())
        outcomes: list[Outcome] = []
        for one in queued:
            if one.job_id not in jobs:
                outcomes.append(one)
                continue
            outcome = _outcome(one, jobs[one.job_id])
            outcomes.append(one if isinstance(outcome, Added) and not is_findable else outcome)
        return outcomes

    async def _is_applied(self, seq: int, timeout_s: float) -> bool:
        if not seq:
            return True
        try:
            async with self._waits.limit(timeout_s):
                await self._applied.wait(seq)
        except (TimeoutError, IndexNotReady, SearchUnavailable) as error:
            log.info("stored, but not findable yet: %s", error, extra={"action": "wait_given_up"})
            return False
        return True


def _any_queued(outcomes: Mapping[int, Outcome]) -> bool:
    return any(isinstance(outcome, Queued) for outcome in outcomes.values())


def _outcome(queued: Queued, job: Job | None) -> Added | Failed:
    if job is None:
        return Failed(queued.image_id, JobLost(f"there is no record of job {queued.job_id} any more"))
    if job.state is JobState.FAILED:
        return Failed(job.image_id, JobFailed(job.reason or "failed", job.error))
    empty = Signature((0.0, 0.0, 0.0), b"")  # a deletion has no signature; this one is not used
    return Added(job.image_id, job.signature or empty, job.is_damaged)
