"""What is accepted is 202 with its job and never 503, and all who wait are woken by one reader."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from api.ingestion import completion
from api.ingestion.acceptor import JobAcceptor
from api.ingestion.completion import CompletionWaiter
from api.ingestion.ledger_threads import LedgerThreads
from api.ingestion.queued import QueueIngestion
from api.ingestion.waits import Waits
from api.search.applied import MergedWaits
from iqdb_client import Client, Late
from iqdb_core.errors import IndexNotReady, QueueFull, QueueUnavailable
from iqdb_core.jobs import (
    Acceptance,
    Accepted,
    Done,
    Job,
    JobLedger,
    JobState,
    QueueLimits,
    RedisPort,
    Submission,
    WorkLedger,
)
from tests.fixtures import pictures
from tests.fixtures.cluster import running_cluster
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import until, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from api.ingestion.picture import Picture
    from iqdb_core.model import Signature

WAIT_S = 60


class CountingReader(JobLedger):
    """Counts its reads, and fails at some of them."""

    def __init__(self, ledger: JobLedger, failures: int = 0) -> None:
        super().__init__(ledger._port)
        self.reads: list[int] = []
        self._failures = failures

    def get_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        self.reads.append(len(job_ids))
        if len(self.reads) <= self._failures:
            raise QueueUnavailable("away")
        return super().get_many(job_ids)


def waiter(reader: JobLedger) -> CompletionWaiter:
    loop = asyncio.get_running_loop()
    return CompletionWaiter(reader, LedgerThreads(), loop, Waits(loop))


def finish_all(work: WorkLedger) -> list[str]:
    claim = work.claim()
    finished = [job.job_id for job in claim.jobs]
    work.finish(claim, [Done(job_id, 1, None) for job_id in finished])
    return finished


@pytest.mark.parametrize("failures", [0, 2])
def test_many_who_wait_are_woken_by_one_read(
    ledger: JobLedger, work: WorkLedger, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "LOOK_S", WAIT_S)  # no look without a hint
    job_ids = [one.job_id for one in ledger.accept([Submission.of_delete(1)] * 30)]
    reader = CountingReader(ledger, failures)

    async def run() -> list[dict[str, Job | None]]:
        woken = waiter(reader)
        waiting = [asyncio.create_task(woken.wait([job_id], WAIT_S)) for job_id in job_ids]
        await asyncio.sleep(0)
        threading.Thread(target=lambda: woken.hint(finish_all(work))).start()
        return await asyncio.gather(*waiting)

    results = asyncio.run(run())
    assert [list(result) for result in results] == [[job_id] for job_id in job_ids]
    assert all(job is not None and job.state.is_final for result in results for job in result.values())
    assert len(reader.reads) == failures + 1


def test_a_job_that_was_final_before_anybody_waited_is_seen(ledger: JobLedger, work: WorkLedger) -> None:
    [job] = ledger.accept([Submission.of_delete(1)])

    async def run() -> dict[str, Job | None]:
        woken = waiter(ledger)
        woken.hint(finish_all(work))
        await asyncio.sleep(0)
        return await woken.wait([job.job_id], WAIT_S)

    assert list(asyncio.run(run())) == [job.job_id]


def test_hints_that_were_missed_are_made_up_for(ledger: JobLedger, work: WorkLedger) -> None:
    [job] = ledger.accept([Submission.of_delete(1)])

    async def run() -> dict[str, Job | None]:
        woken = waiter(ledger)
        waiting = asyncio.create_task(woken.wait([job.job_id], WAIT_S))
        await asyncio.sleep(0)
        finish_all(work)
        woken.look_at_all()  # the subscription was made anew
        return await waiting

    assert list(asyncio.run(run())) == [job.job_id]


def test_who_waits_too_long_gets_what_is_final(ledger: JobLedger, work: WorkLedger) -> None:
    first, second = (one.job_id for one in ledger.accept([Submission.of_delete(1)] * 2))

    async def run() -> dict[str, Job | None]:
        woken = waiter(ledger)
        claim = work.claim(1)
        work.finish(claim, [Done(first, 1, None)])
        woken.hint([first])
        waiting = asyncio.create_task(woken.wait([first, second], WAIT_S))
        await until(lambda: first in woken._waiting and woken._waiting[first].done())
        (limit,) = woken._waits._limits
        limit.reschedule(asyncio.get_running_loop().time())  # now it is too long
        return await waiting

    assert list(asyncio.run(run())) == [first]


class SlowSearch:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.gate = asyncio.Event()
        self.fails = False

    async def wait_applied(self, seq: int, timeout_s: float) -> None:  # noqa: ARG002
        self.asked.append(seq)
        await self.gate.wait()
        if self.fails:
            raise IndexNotReady("late")


def test_waits_for_changes_share_a_question() -> None:
    async def run() -> list[int]:
        search = SlowSearch()
        together = MergedWaits(search, 1.0)  # type: ignore[arg-type]
        waiting = [asyncio.create_task(together.wait(1))]
        await until(lambda: search.asked == [1])
        waiting += [asyncio.create_task(together.wait(seq)) for seq in (5, 3, 4)]
        await asyncio.sleep(0)  # each has begun to wait
        search.gate.set()
        await asyncio.gather(*waiting)
        search.fails = True
        with pytest.raises(IndexNotReady):
            await together.wait(6)
        return search.asked

    assert asyncio.run(run()) == [1, 5, 6]


async def no_channels(_: Picture) -> Signature:
    raise AssertionError("nobody sent any")


def test_a_job_that_is_done_is_shown_so_when_its_image_is_findable(
    ledger: JobLedger, work: WorkLedger
) -> None:
    [accepted] = ledger.accept([Submission.of_delete(1)])
    work.finish(work.claim(), [Done(accepted.job_id, 7, None)])

    async def run() -> Job:
        search, threads = SlowSearch(), LedgerThreads()
        with closing(JobAcceptor(ledger, threads, print)) as acceptor:
            ingestion = QueueIngestion(
                ledger=ledger,
                threads=threads,
                acceptor=acceptor,
                completion=waiter(ledger),
                search=search,  # type: ignore[arg-type]
                waits=Waits(asyncio.get_running_loop()),
                hash_channels=no_channels,
                max_upload_bytes=1,
                timeout_s=1.0,
            )
            asked = asyncio.create_task(ingestion.job(accepted.job_id))
            await until(lambda: search.asked or asked.done())
            assert search.asked == [7]
            assert not asked.done()
            search.gate.set()
            return await asked

    assert asyncio.run(run()).state is JobState.DONE


def accept_together(
    ledger: JobLedger, sizes: Sequence[int], *, leaving: int | None = None, sent: list[int] | None = None
) -> list[list[Accepted] | BaseException]:
    """Accept several requests in one group, one of which may have left before its answer came."""

    async def run() -> list[list[Accepted] | BaseException]:
        with closing(
            JobAcceptor(ledger, LedgerThreads(), [].append if sent is None else sent.append)
        ) as acceptor:
            tasks = [asyncio.create_task(acceptor.accept([Submission.of_delete(7)] * size)) for size in sizes]
            await asyncio.sleep(0)
            if leaving is not None:
                tasks[leaving].cancel()
            return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WAIT_S)

    return asyncio.run(run())


def test_who_left_keeps_no_other_of_its_group_from_its_answer(ledger: JobLedger) -> None:
    left, *others = accept_together(ledger, [1, 2, 3], leaving=0)
    assert isinstance(left, asyncio.CancelledError)
    assert [len(one) for one in others if isinstance(one, list)] == [2, 3]
    assert ledger.depth().queued == 1 + 2 + 3


def test_a_request_that_does_not_fit_refuses_no_other_of_its_group(redis_port: RedisPort) -> None:
    ledger = JobLedger(redis_port, revision_floor=lambda: 0, limits=QueueLimits(max_jobs=4))
    first, large, last = accept_together(ledger, [1, 5, 2])
    assert isinstance(large, QueueFull)
    assert [len(one) for one in (first, last) if isinstance(one, list)] == [1, 2]


def test_a_queue_that_goes_away_while_requests_are_tried_apart_is_asked_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that hangs says so after ten seconds, each time."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    port = RedisPort.connect(server.url)
    ledger = JobLedger(port, revision_floor=lambda: 0, limits=QueueLimits(max_jobs=4))
    accept_all, tries = ledger.accept_all, [0]

    def accept_before_it_goes(submissions: Sequence[Submission]) -> Acceptance:
        tries[0] += 1
        try:
            return accept_all(submissions)
        except QueueFull:
            server.kill()
            raise

    monkeypatch.setattr(ledger, "accept_all", accept_before_it_goes)
    # The last two are too large for the group of the others.
    assert [type(one) for one in accept_together(ledger, [2, 2, 2, 2, 300, 300])] == [QueueUnavailable] * 6
    assert tries == [2]
    port.close()


def test_workers_are_told_as_often_as_they_are_needed(ledger: JobLedger) -> None:
    sent: list[int] = []
    accept_together(ledger, [40], sent=sent)
    assert sent == [2]


def test_accepted_writes_are_202_when_they_take_long(tmp_path: Path) -> None:
    """No worker, a short wait: adds, a batch and a delete are all answered with their jobs."""
    files = [pictures.picture(seed, (64, 48)) for seed in range(3)]
    with running_cluster(
        tmp_path, str(tmp_path / "iqdb.sqlite"), workers=0, IQDB_ADD_TIMEOUT_S="0.5"
    ) as cluster:
        client = cluster.client
        added = client.post("/images/1", files={"file": files[0]})
        assert (added.status_code, added.json()["state"]) == (202, "queued")
        batch = client.post("/images", files=[("2", ("a", files[1])), ("3", ("a", files[2]))])
        assert batch.status_code == 202
        assert [image["status"] for image in batch.json()["images"]] == [202, 202]
        deleted = client.delete("/images/9")
        assert deleted.status_code == 202
        several = client.request("DELETE", "/images", json=[7, 8])
        assert several.status_code == 202
        jobs = [added.json()["job_id"], deleted.json()["job_id"]]
        with Client(cluster.apis[0].url) as program:
            for write in (lambda: program.add(6, files[0]), lambda: program.delete(6)):
                with pytest.raises(Late) as late:
                    write()
                jobs += late.value.job_ids
        jobs += [one["job_id"] for one in batch.json()["images"] + several.json()["jobs"]]
        assert {client.get(f"/jobs/{job_id}").json()["state"] for job_id in jobs} == {"queued"}
        cluster.start_worker().wait_ready()
        for job_id in jobs:
            wait_until(lambda job_id=job_id: client.get(f"/jobs/{job_id}").json()["state"] == "done", WAIT_S)
        # Stored, but no node can say that it is findable: that is no failure either.
        cluster.queries[0].kill()
        assert client.post("/images/4", files={"file": files[0]}).status_code == 202
        assert client.get("/status").json()["queue"]["interactive"] == 0


def test_a_queue_that_lost_the_job_says_that_it_may_be_sent_again(tmp_path: Path) -> None:
    with (
        running_cluster(tmp_path, f"{tmp_path}/iqdb.sqlite", workers=0) as cluster,
        ThreadPoolExecutor(1) as pool,
    ):
        client = cluster.client
        waiting = pool.submit(client.post, "/images/1", files={"file": pictures.picture(1, (64, 48))})
        with cluster.redis.client() as redis:
            wait_until(lambda: redis.keys("*jobs:queued"), WAIT_S)
            redis.flushall()
        answer = waiting.result(WAIT_S)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "send it again" in answer.json()["message"]
        cluster.start_worker().wait_ready()
        wait_until(
            lambda: (
                client.post("/images/1", files={"file": pictures.picture(1, (64, 48))}).status_code == 200
            ),
            WAIT_S,
        )
