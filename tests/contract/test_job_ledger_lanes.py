"""Who goes first, how much the queue takes, and whose queue it is, shown on a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import ForeignQueue, QueueFull
from iqdb_core.jobs import (
    Done,
    JobLedger,
    JobState,
    Keys,
    Lane,
    PutBack,
    QueueLimits,
    RedisPort,
    Submission,
    WorkLedger,
)
from tests.fixtures.ledgers import accept_one, keys
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from tests.fixtures.redis import RedisServer


# Lanes.


def accept_bulk(ledger: JobLedger, count: int) -> list[str]:
    return [one.job_id for one in ledger.accept([Submission.of_image(1, b"bulk")] * count)]


def accept_interactive(ledger: JobLedger, count: int) -> list[str]:
    submissions = [Submission.of_image(2, b"now", lane=Lane.INTERACTIVE)] * count
    return [one.job_id for one in ledger.accept(submissions)]


def test_who_is_waited_for_goes_first_and_alone(ledger: JobLedger, work: WorkLedger) -> None:
    bulk = accept_bulk(ledger, 100)
    interactive = accept_interactive(ledger, 2)
    deletion = ledger.accept([Submission.of_delete(3, lane=Lane.INTERACTIVE)])[0].job_id
    assert ledger.depth().interactive == 3
    first = work.claim()
    assert [job.job_id for job in first.jobs] == [*interactive, deletion]
    second = work.finish_and_claim(first, [Done(job.job_id, 1, None) for job in first.jobs])
    assert [job.job_id for job in second.jobs] == bulk[:32]


def test_suspects_occupy_one_claimant_at_a_time(ledger: JobLedger, redis_port: RedisPort) -> None:
    """They may hang, and would hold as many processes."""
    dead, first, second = (WorkLedger(redis_port, suspect_pause_s=0) for _ in range(3))
    suspects = accept_bulk(ledger, 3)
    dead.claim()
    first.forfeit(dead.claimant)
    assert [job.job_id for job in first.claim().jobs] == suspects[:1]
    nothing = second.claim()
    assert (nothing.jobs, nothing.waiting, second.sweep("w")) == ([], 0, 0)
    others = accept_bulk(ledger, 2)
    claim = second.claim()
    assert [job.job_id for job in claim.jobs] == others
    second.finish(claim, [Done(job_id, 1, None) for job_id in others])
    second.forfeit(first.claimant)
    # The one that two have died of comes after those that only were there.
    claim = second.claim()
    for suspect in (*suspects[1:], suspects[0]):
        assert [job.job_id for job in claim.jobs] == [suspect]
        claim = second.finish_and_claim(claim, [Done(suspect, 1, None)])


def test_jobs_that_were_put_back_are_counted_until_they_are_due(
    ledger: JobLedger, work: WorkLedger, redis_server: RedisServer
) -> None:
    accept_bulk(ledger, 3)
    claim = work.claim(2)
    work.finish(claim, [PutBack(job.job_id, 100.0, is_deferred=True) for job in claim.jobs])
    wait_until(lambda: ledger.lanes()["later"][1] > 0.01, 30)
    lanes = ledger.lanes()
    assert [lanes[name][0] for name in ("later", "bulk", "suspect", "interactive")] == [2, 1, 0, 0]
    assert lanes["bulk"][1] <= lanes["later"][1] < 60
    assert sum(count for count, _ in lanes.values()) == ledger.depth().queued
    with redis_server.client() as client:  # the oldest of many others is no younger
        client.zadd("iqdb:jobs:queued", {f"other{number}": number for number in range(200)})
        assert ledger.lanes()["later"][1] > lanes["later"][1]


def test_bulk_has_its_share_however_many_are_waited_for(ledger: JobLedger, work: WorkLedger) -> None:
    bulk = accept_bulk(ledger, 64)
    claim = work.claim(1)
    of_bulk = []
    for _ in range(8):
        accept_interactive(ledger, 40)
        claim = work.finish_and_claim(claim, [Done(job.job_id, 1, None) for job in claim.jobs])
        of_bulk.append({job.payload for job in claim.jobs} == {b"bulk"})
    assert of_bulk.count(True) == 2
    assert ledger.get(bulk[0]).state is JobState.DONE or claim.jobs[0].job_id == bulk[0]


def test_a_crawler_that_fills_the_queue_locks_nobody_out(redis_port: RedisPort) -> None:
    ledger = JobLedger(redis_port, limits=QueueLimits(max_jobs=40), revision_floor=lambda: 0)
    accept_bulk(ledger, 40)
    with pytest.raises(QueueFull):
        accept_bulk(ledger, 1)
    with pytest.raises(QueueFull):
        ledger.check_capacity(1, 0, Lane.BULK)
    accept_interactive(ledger, 2)
    with pytest.raises(QueueFull):
        accept_interactive(ledger, 1)


def test_a_refusal_says_when_there_will_be_room(redis_port: RedisPort) -> None:
    ledger = JobLedger(redis_port, limits=QueueLimits(max_jobs=1000), revision_floor=lambda: 0)
    accept_bulk(ledger, 1000)
    with pytest.raises(QueueFull) as idle:
        accept_bulk(ledger, 1)
    assert idle.value.retry_after_s == 10  # nobody works
    redis_port.read([("HSET", "iqdb:drain", "jobs_per_s", "5", "bytes_per_s", "20")])
    with pytest.raises(QueueFull) as draining:
        accept_bulk(ledger, 1)
    assert draining.value.retry_after_s == pytest.approx(4.0)  # a fiftieth of the queue, at 5 a second
    with pytest.raises(QueueFull) as asked:
        ledger.check_capacity(1, 5, Lane.BULK)
    assert asked.value.retry_after_s == pytest.approx(4.0)


# Two deployments.


def test_two_deployments_on_one_redis_notice_each_other(redis_port: RedisPort) -> None:
    mine = JobLedger(redis_port, revision_floor=lambda: 0, store_id=lambda: "mine")
    yours = JobLedger(redis_port, revision_floor=lambda: 0, store_id=lambda: "yours")
    job_id = mine.accept([Submission.of_image(1, b"x")])[0].job_id
    mine.seed()
    with pytest.raises(ForeignQueue, match="IQDB_REDIS_PREFIX"):
        yours.seed()
    with pytest.raises(ForeignQueue):
        yours.accept([Submission.of_delete(1)])
    worker = WorkLedger(redis_port, store_id=lambda: "yours")
    for call in (worker.claim, lambda: worker.sweep("w")):
        with pytest.raises(ForeignQueue):
            call()
    assert mine.workers() == {}
    right = WorkLedger(redis_port, store_id=lambda: "mine")
    right.finish(right.claim(), [Done(job_id, 1, None)])
    yours.seed()  # nothing waits, and no worker is there: the database was replaced
    assert yours.accept([Submission.of_delete(1)])
    with pytest.raises(ForeignQueue):
        mine.accept([Submission.of_delete(1)])


def test_another_prefix_is_another_queue(redis_port: RedisPort, redis_server: RedisServer) -> None:
    mine = JobLedger(redis_port, revision_floor=lambda: 0)
    yours = JobLedger(redis_port, revision_floor=lambda: 0, keys=Keys("other:"))
    accept_one(mine)
    accept_one(yours)
    assert len(WorkLedger(redis_port, keys=Keys("other:")).claim().jobs) == 1
    assert mine.depth().queued == 1
    assert all(key.startswith(("iqdb:", "other:")) for key in keys(redis_server))
