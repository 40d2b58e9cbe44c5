"""The ingestion seam: how a picture becomes a stored image.

`Ingestion` is what the routes know. `EmbeddedIngestion` hashes and commits here and now;
`ingest_queue.QueueIngestion` hands the work to Celery workers. The composition root chooses; nothing else may
ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from api.ingestion.group_commit import GroupCommitter
from api.ingestion.hashing import Hasher
from api.web.requests import Picture
from iqdb_core.clock import RevisionClock
from iqdb_core.errors import IndexNotReady, IndexStateError, IqdbError, UnknownJob
from iqdb_core.follower import Follower
from iqdb_core.jobs.model import Job, JobPage, JobState
from iqdb_core.model import Signature, Write


@dataclass(frozen=True, slots=True)
class Added:
    """An image that is committed and findable."""

    image_id: int
    signature: Signature


@dataclass(frozen=True, slots=True)
class Queued:
    """An image that is accepted for good and will be worked on."""

    image_id: int
    job_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An image of a batch that could not be added; the others are not touched by it."""

    image_id: int
    error: IqdbError


Outcome = Added | Queued | Failed


class Ingestion(Protocol):
    """Everything that changes the set of images."""

    async def add(self, image_id: int, picture: Picture, *, wait: bool) -> Added | Queued:
        """Add or replace one image. With `wait` it is findable on return; raises why it fails."""

    async def add_many(self, items: Sequence[tuple[int, Picture]], *, wait: bool) -> list[Outcome]:
        """Add or replace many; one outcome per item, in order. Raises only what concerns them all."""

    async def delete(self, image_ids: Sequence[int]) -> None:
        """Delete images; ids that are unknown are no error. Not findable any more on return."""

    async def job(self, job_id: str) -> Job:
        """Return one job; raises UnknownJob."""

    async def jobs(self, state: JobState | None, cursor: str | None, limit: int) -> JobPage:
        """Return a page of jobs."""

    async def status(self) -> dict[str, Any]:
        """Return what `GET /status` says of ingestion."""


class EmbeddedIngestion:
    """Hash in a thread of this process, commit to the store, wait for the index.

    Asking not to wait changes nothing here: the work is done before the answer, and there is no job to
    follow.

    Parameters
    ----------
    hasher : Hasher
    committer : GroupCommitter
    follower : Follower
        Tells when a commit has become findable.
    clock : RevisionClock
        Numbers the writes in the order in which they are accepted.
    timeout_s : float
        How long to wait for the index.
    """

    def __init__(
        self,
        *,
        hasher: Hasher,
        committer: GroupCommitter,
        follower: Follower,
        clock: RevisionClock,
        timeout_s: float,
    ) -> None:
        self._hasher = hasher
        self._committer = committer
        self._applied = AppliedWaiter(follower, timeout_s)
        self._clock = clock

    async def add(self, image_id: int, picture: Picture, *, wait: bool = True) -> Added:  # noqa: ARG002
        """See `Ingestion`."""
        revision = self._clock.next()
        signature = await self._hasher.signature(picture)
        await self._write(Write(image_id, revision, signature))
        return Added(image_id, signature)

    async def add_many(self, items: Sequence[tuple[int, Picture]], *, wait: bool = True) -> list[Outcome]:  # noqa: ARG002
        """See `Ingestion`."""
        revisions = [self._clock.next() for _ in items]

        async def one(image_id: int, picture: Picture, revision: int) -> Outcome:
            try:
                signature = await self._hasher.signature(picture)
                await self._write(Write(image_id, revision, signature))
            except IqdbError as error:
                return Failed(image_id, error)
            return Added(image_id, signature)

        return await asyncio.gather(
            *(one(*item, revision) for item, revision in zip(items, revisions, strict=True))
        )

    async def delete(self, image_ids: Sequence[int]) -> None:
        """See `Ingestion`."""
        writes = [Write(image_id, self._clock.next(), None) for image_id in image_ids]
        await asyncio.gather(*(self._write(write) for write in writes))

    async def job(self, job_id: str) -> Job:
        """See `Ingestion`: embedded, everything is done when it is answered."""
        raise UnknownJob(f"no job has the id {job_id!r}")

    async def jobs(self, state: JobState | None, cursor: str | None, limit: int) -> JobPage:  # noqa: ARG002
        """See `Ingestion`."""
        return JobPage(jobs=[], next_cursor=None)

    async def status(self) -> dict[str, Any]:
        """See `Ingestion`: embedded, there is no queue."""
        return {}

    async def _write(self, write: Write) -> None:
        outcome = await asyncio.wrap_future(self._committer.submit(write))
        await self._applied.wait(outcome.seq)


class AppliedWaiter:
    """Await, on the event loop, that a follower in this process has applied a seq."""

    def __init__(self, follower: Follower, timeout_s: float) -> None:
        self._follower = follower
        self._timeout_s = timeout_s

    async def wait(self, seq: int) -> None:
        """Return once `seq` is applied; raises IndexNotReady after the timeout or when the follower died."""
        if self._follower.applied_seq >= seq:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def resolve(failure: IndexStateError | None) -> None:
            if done.done():
                return
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)

        def on_applied(failure: IndexStateError | None) -> None:
            loop.call_soon_threadsafe(resolve, failure)

        withdraw = self._follower.when_applied(seq, on_applied)
        try:
            async with asyncio.timeout(self._timeout_s):
                await done
        except TimeoutError:
            raise IndexNotReady("the change is stored, but the index has not caught up with it yet") from None
        finally:
            withdraw()
