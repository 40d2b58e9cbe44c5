"""Both ways to add images: who waits is answered, soon once the process is to end, and each for itself."""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from starlette.datastructures import UploadFile

from api.ingestion.acceptor import GROUP_JOBS, JobAcceptor
from api.ingestion.completion import CompletionWaiter
from api.ingestion.embedded import EmbeddedIngestion
from api.ingestion.group_commit import GroupCommitter
from api.ingestion.hashing import Hasher
from api.ingestion.interface import Failed, Ingestion, Outcome, Queued
from api.ingestion.ledger_threads import LedgerThreads
from api.ingestion.picture import BodyTooLarge, NewImage
from api.ingestion.queued import QueueIngestion
from api.ingestion.waits import Waits
from iqdb_core.clock import RevisionClock
from iqdb_core.errors import IndexNotReady, JobLost, QueueFull
from iqdb_core.jobs import Done, JobLedger, QueueLimits, Submission, WorkLedger
from iqdb_core.signature import DecodeLimits
from iqdb_core.store import open_store
from tests.fixtures import stores
from tests.fixtures.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from iqdb_core.jobs import RedisPort
    from tests.fixtures.redis import RedisServer

LONG_S = 600.0
END_S = 30.0


class StuckSearch:
    """An index that applies nothing more, unless it is told to."""

    def __init__(self) -> None:
        self.waiting = 0
        self.is_stuck = True

    async def wait_applied(self, seq: int, timeout_s: float) -> None:  # noqa: ARG002
        if not self.is_stuck:
            return
        self.waiting += 1
        await asyncio.sleep(timeout_s)


class StuckSeam:
    """An ingestion whose every wait is long: no index applies anything, and no worker is there."""

    def __init__(self, kind: str, folder: Path, ledger: JobLedger, stack: ExitStack) -> None:
        loop = asyncio.get_running_loop()
        search: Any = StuckSearch()
        self.search = search
        self._ledger = ledger
        self.waits = Waits(loop, last_s=0.05, work_s=0.05)
        self.hasher = hasher = Hasher(decoders=1, limits=DecodeLimits(), max_upload_bytes=1000)
        stack.callback(hasher.close)
        self.ingestion: Ingestion
        if kind == "embedded":
            store = open_store(str(folder / "iqdb.sqlite"))
            stack.callback(store.close)
            committer = GroupCommitter(store, lambda _: False)
            stack.callback(committer.close)
            clock = RevisionClock(itertools.count(1).__next__, 0)
            self.ingestion = EmbeddedIngestion(
                hasher=hasher,
                committer=committer,
                search=search,
                waits=self.waits,
                clock=clock,
                timeout_s=LONG_S,
                store_id=lambda: store.store_id,
            )
        else:
            threads = LedgerThreads()
            stack.callback(threads.close)
            acceptor = JobAcceptor(ledger, threads, lambda _: None)
            stack.callback(acceptor.close)
            self.completion = CompletionWaiter(ledger, threads, loop, self.waits)
            self.ingestion = QueueIngestion(
                ledger=ledger,
                threads=threads,
                acceptor=acceptor,
                completion=self.completion,
                search=search,
                waits=self.waits,
                hash_channels=hasher.signature,
                max_upload_bytes=10_000_000,
                timeout_s=LONG_S,
            )

    def is_waiting(self, count: int) -> bool:
        return bool(self.search.waiting >= count or self._ledger.depth().queued >= count)


@pytest.mark.parametrize("kind", ["embedded", "queued"])
@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_waits_end_when_the_process_is_to_end(
    kind: str, is_late: bool, tmp_path: Path, ledger: JobLedger
) -> None:
    """Adds, batches and deletes; those that wait at the signal, and those that come after it."""
    news = [NewImage(number, stores.signature(number)) for number in range(4)]
    calls: list[tuple[int, Callable[[Ingestion], Awaitable[Any]]]] = [
        (1, lambda seam: seam.add(news[0], wait=True)),
        (3, lambda seam: seam.add_many(news[1:], wait=True)),
        (2, lambda seam: seam.delete([7, 8])),
    ]

    async def run() -> list[Any]:
        with ExitStack() as stack:
            seam = StuckSeam(kind, tmp_path, ledger, stack)
            if is_late:
                seam.waits.begin_shutdown()
            tasks = [asyncio.ensure_future(call(seam.ingestion)) for _, call in calls]
            if not is_late:
                await until(lambda: seam.is_waiting(sum(count for count, _ in calls)))
                assert not any(task.done() for task in tasks)
                seam.waits.begin_shutdown()
            async with asyncio.timeout(END_S):
                return await asyncio.gather(*tasks, return_exceptions=True)

    added, batch, deleted = asyncio.run(run())
    if kind == "queued":
        assert isinstance(added, Queued)
        assert [type(outcome) for outcome in batch] == [Queued] * 3
        assert [one.image_id for one in deleted] == [7, 8]
    else:
        assert isinstance(added, IndexNotReady)
        assert [type(outcome) for outcome in batch] == [Failed] * 3
        assert isinstance(deleted, IndexNotReady)


def test_a_wait_is_never_longer_than_asked_for() -> None:
    async def run() -> None:
        waits = Waits(asyncio.get_running_loop(), last_s=LONG_S)
        waits.begin_shutdown()
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with waits.limit(0.01):
                await asyncio.sleep(LONG_S)
        async with waits.limit(LONG_S):
            await asyncio.sleep(0)

    asyncio.run(run())


class Upload(io.BytesIO):
    """A file that cannot be read, or not now."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.gate = threading.Event()
        self._failure = failure

    def read(self, size: int | None = -1, /) -> bytes:
        if self._failure is not None:
            raise self._failure
        assert self.gate.wait(END_S)
        return super().read(size)


@pytest.mark.parametrize("kind", ["embedded", "queued"])
@pytest.mark.parametrize("place", [1, GROUP_JOBS + 1], ids=["first", "later"])
def test_an_unexpected_error_fails_one_image_of_a_batch(
    kind: str, place: int, tmp_path: Path, ledger: JobLedger
) -> None:
    """A disk that fails beneath one upload, while others are stored or accepted already."""
    news = [NewImage(number, stores.signature(number % 50)) for number in range(GROUP_JOBS + 3)]
    news[place] = NewImage(place, UploadFile(Upload(OSError(errno.EIO, "Input/output error"))))

    async def run() -> list[Outcome]:
        with ExitStack() as stack:
            seam = StuckSeam(kind, tmp_path, ledger, stack)
            seam.search.is_stuck = False
            return await seam.ingestion.add_many(news, wait=False)

    outcomes = asyncio.run(run())
    failures = [one for one in outcomes if isinstance(one, Failed)]
    assert [one.image_id for one in failures] == [place]
    assert str(failures[0].error) == "internal error"
    assert [getattr(one, "image_id", None) for one in outcomes] == list(range(len(news)))


def test_of_a_batch_larger_than_the_queue_as_much_as_fits_is_accepted(
    tmp_path: Path, redis_port: RedisPort
) -> None:
    """Who sends it would be told for ever to try again later; of a picture that is too large, for good."""
    limits = QueueLimits(max_jobs=GROUP_JOBS, max_bytes=600)
    *taken, late, large = accepted_batch([250, 250, 250, 601], limits, tmp_path, redis_port)
    assert [type(one) for one in taken] == [Queued] * 2
    assert isinstance(late, Failed)
    assert isinstance(late.error, QueueFull)
    assert isinstance(large, Failed)
    assert isinstance(large.error, BodyTooLarge)


def test_a_picture_for_which_redis_never_has_room_is_refused_for_good(
    tmp_path: Path, redis_port: RedisPort, redis_server: RedisServer
) -> None:
    most = 16_000_000
    with redis_server.client() as client:
        client.config_set("maxmemory", most)
        try:
            sizes = [10, int(0.38 * most), int(0.44 * most)]
            *taken, large = accepted_batch(sizes, QueueLimits(), tmp_path, redis_port)
        finally:
            client.config_set("maxmemory", 0)
    assert [type(one) for one in taken] == [Queued] * 2
    assert isinstance(large, Failed)
    assert isinstance(large.error, BodyTooLarge)


def accepted_batch(
    sizes: Sequence[int], limits: QueueLimits, folder: Path, port: RedisPort
) -> Sequence[Outcome]:
    """Return what a front end says of pictures of these sizes, bytes, when its clock is seeded."""
    ledger = JobLedger(port, limits=limits, revision_floor=lambda: 0)
    ledger.seed()
    files = [io.BytesIO(bytes(size)) for size in sizes]
    news = [NewImage(number, UploadFile(file)) for number, file in enumerate(files)]

    async def run() -> list[Outcome]:
        with ExitStack() as stack:
            ingestion = StuckSeam("queued", folder, ledger, stack).ingestion
            await ingestion.check_capacity(sum(sizes), wait=False)
            return await ingestion.add_many(news, wait=False)

    outcomes = asyncio.run(run())
    # Memory for those that are accepted is free before the request ends.
    assert all(file.closed for file, one in zip(files, outcomes, strict=True) if isinstance(one, Queued))
    return outcomes


def test_a_batch_that_the_queue_has_lost_is_refused_as_a_whole(
    tmp_path: Path, ledger: JobLedger, redis_server: RedisServer
) -> None:
    """Clients send again what is answered so, as they do with a single image."""
    news = [NewImage(number, stores.signature(number)) for number in range(3)]

    async def run() -> None:
        with ExitStack() as stack:
            seam = StuckSeam("queued", tmp_path, ledger, stack)
            task = asyncio.ensure_future(seam.ingestion.add_many(news, wait=True))
            await until(lambda: seam.is_waiting(3))
            with redis_server.client() as client:
                client.flushall()
            seam.completion.look_at_all()
            async with asyncio.timeout(END_S):
                await task

    with pytest.raises(JobLost):
        asyncio.run(run())


def test_a_list_of_deletions_passes_a_queue_that_a_crawler_keeps_full(
    tmp_path: Path, redis_port: RedisPort
) -> None:
    """It is longer than what the queue takes beyond its limit of those who wait."""
    ledger = JobLedger(redis_port, limits=QueueLimits(max_jobs=100), revision_floor=lambda: 0)
    ledger.accept([Submission.of_delete(image_id) for image_id in range(100)])
    work = WorkLedger(redis_port)

    async def run() -> list[Queued]:
        with ExitStack() as stack:
            seam = StuckSeam("queued", tmp_path, ledger, stack)
            seam.search.is_stuck = False
            task = asyncio.ensure_future(seam.ingestion.delete(range(1000, 1012)))
            async with asyncio.timeout(END_S):
                while not task.done():
                    claim = await asyncio.to_thread(work.claim)
                    waited_for = [job for job in claim.jobs if job.image_id >= 1000]
                    outcomes = [Done(job.job_id, 1, None) for job in waited_for]
                    await asyncio.to_thread(work.finish, claim, outcomes)  # the others wait again
                    seam.completion.hint([job.job_id for job in waited_for])
            return await task

    assert asyncio.run(run()) == []
    assert ledger.depth().queued == 100


def test_pictures_that_nobody_came_to_are_refused_at_the_end(tmp_path: Path, ledger: JobLedger) -> None:
    """A large batch that would take longer than a server is given to end."""
    slow = Upload()
    news = [NewImage(number, UploadFile(slow)) for number in range(3)]

    async def run() -> list[Outcome]:
        with ExitStack() as stack:
            seam = StuckSeam("embedded", tmp_path, ledger, stack)
            task = asyncio.ensure_future(seam.ingestion.add_many(news, wait=True))
            await asyncio.sleep(0)
            seam.waits.begin_shutdown()
            async with asyncio.timeout(END_S):
                outcomes = await task
            slow.gate.set()
            return outcomes

    outcomes = asyncio.run(run())
    assert [type(one.error) for one in outcomes if isinstance(one, Failed)] == [IndexNotReady] * 3
