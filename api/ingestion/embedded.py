"""Ingestion within this process: hash in a thread, commit to the store, wait for the index."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from api.ingestion.group_commit import Committed, GroupCommitter
from api.ingestion.hashing import Hasher
from api.ingestion.interface import Added, Outcome, Queued, failed
from api.ingestion.picture import NewImage
from api.ingestion.waits import Waits
from api.search.interface import Search
from iqdb_core.clock import RevisionClock
from iqdb_core.errors import ImageExists, IndexNotReady, UnknownJob
from iqdb_core.jobs.model import Job, JobPage, JobState
from iqdb_core.model import Write
from iqdb_core.signature import ReadImage


class EmbeddedIngestion:
    """Implements `Ingestion` in this process.

    `wait=false` has no effect: the work is done before the answer, so there is no job to follow.

    Parameters
    ----------
    hasher : Hasher
    committer : GroupCommitter
    search : Search
        Knows when a commit is findable.
    clock : RevisionClock
        Gives each write its revision when it is accepted.
    waits : Waits
        Time limits, which are shorter once the process has to end.
    timeout_s : float
        How long to wait for the index.
    store_id : callable
        Returns the name of the store, which changes if another database is put in its place.
    """

    def __init__(
        self,
        *,
        hasher: Hasher,
        committer: GroupCommitter,
        search: Search,
        clock: RevisionClock,
        waits: Waits,
        timeout_s: float,
        store_id: Callable[[], str],
    ) -> None:
        self._hasher = hasher
        self._committer = committer
        self._search = search
        self._waits = waits
        self._timeout_s = timeout_s
        self._clock = clock
        self._store_id = store_id

    async def check_capacity(self, body_bytes: int, *, wait: bool) -> None:
        """See `Ingestion`: there is no queue that could be full."""

    async def add(self, new: NewImage, *, wait: bool = True) -> Added:  # noqa: ARG002
        """See `Ingestion`."""
        return await self._add(new, self._clock.next())

    async def add_many(self, news: Sequence[NewImage], *, wait: bool = True) -> list[Outcome]:  # noqa: ARG002
        """See `Ingestion`."""
        revisions = [self._clock.next() for _ in news]

        async def one(new: NewImage, revision: int) -> Outcome:
            try:
                return await self._add(new, revision)
            except Exception as error:  # noqa: BLE001 - the other images may be stored already
                return failed(new.image_id, error)

        return await asyncio.gather(*(one(*each) for each in zip(news, revisions, strict=True)))

    async def _add(self, new: NewImage, revision: int) -> Added:
        def commit(read: ReadImage) -> Future[Committed]:
            write = Write(new.image_id, revision, read.signature, new.source, new.if_absent)
            return self._committer.submit(write)

        try:
            async with self._waits.work():
                read, committed = await self._hasher.read_and(new.picture, commit)
        except TimeoutError:
            raise IndexNotReady("the server is stopping and has not processed this image") from None
        settled = await self._settled(committed)
        # Even if another image has the id: the client may look at that image after this answer.
        await self._wait_applied(settled)
        if settled.outcome.is_taken:
            raise ImageExists(new.image_id)
        return Added(new.image_id, read.signature, read.is_damaged)

    async def delete(self, image_ids: Sequence[int]) -> list[Queued]:
        """See `Ingestion`."""
        writes = [Write(image_id, self._clock.next(), None) for image_id in image_ids]
        await asyncio.gather(*(self._write(write) for write in writes))
        return []

    async def job(self, job_id: str) -> Job:
        """See `Ingestion`: everything is done before the answer, so there are no jobs."""
        raise UnknownJob(f"no job has the id {job_id!r}")

    async def jobs(self, state: JobState | None, cursor: str | None, limit: int) -> JobPage:  # noqa: ARG002
        """See `Ingestion`."""
        return JobPage(jobs=[], next_cursor=None)

    async def status(self) -> dict[str, Any]:
        """See `Ingestion`: there is no queue."""
        return {"store_id": self._store_id()}

    async def _write(self, write: Write) -> None:
        await self._wait_applied(await self._settled(await self._commit(write)))

    async def _commit(self, write: Write) -> Committed:
        return await asyncio.wrap_future(self._committer.submit(write))

    async def _settled(self, committed: Committed) -> Committed:
        """Return the outcome of a write; it gets a new revision if another process has counted further."""
        while self._clock.is_outrun(committed.write.revision, committed.outcome):
            committed = await self._commit(replace(committed.write, revision=self._clock.next()))
        return committed

    async def _wait_applied(self, committed: Committed) -> None:
        if committed.is_applied:
            return
        try:
            async with self._waits.limit(self._timeout_s):
                await self._search.wait_applied(committed.outcome.seq, self._timeout_s)
        except TimeoutError:
            raise IndexNotReady("the change is stored, but the index has not caught up with it yet") from None
