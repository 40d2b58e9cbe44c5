"""What the job ledger promises over time: nothing lost is missed, nothing finished stays for ever."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from api.roles.queue_parts import Seeding
from api.roles.remote_collectors import QueueCollector
from iqdb_core.errors import ForeignQueue, StoreUnavailable, UnknownJob
from iqdb_core.jobs import (
    Claim,
    Done,
    Failed,
    Idling,
    JobLedger,
    JobReader,
    JobState,
    Keys,
    PutBack,
    RedisPort,
    Retention,
    Submission,
    WorkLedger,
)
from iqdb_core.jobs.reading import silence_s
from tests.fixtures.ledgers import accept_one, keys
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from tests.fixtures.redis import RedisServer


# The sweep.


def test_messages_are_missing_while_jobs_wait_without_them(
    ledger: JobLedger, work: WorkLedger, redis_server: RedisServer
) -> None:
    assert work.sweep("w") == 0
    accepted = ledger.accept_all([Submission.of_delete(1)] * 70)
    assert accepted.missing_messages == 3  # none was sent
    assert work.sweep("w") == 3
    with redis_server.client() as client:
        client.lpush(Keys().queue, "a message", "another")
        assert work.sweep("w") == 1
        assert ledger.accept_all([Submission.of_delete(1)]).missing_messages == 1
        client.lpush(Keys().queue, "a third")
    assert work.sweep("w") == 0
    assert ledger.accept_all([Submission.of_delete(1)]).missing_messages == 0
    claim = work.claim()
    while claim.jobs:
        claim = work.finish_and_claim(claim, [Done(job.job_id, 1, None) for job in claim.jobs])
    assert work.sweep("w") == 0


def test_a_worker_that_went_silent_is_a_reason_for_a_message(
    ledger: JobLedger, redis_port: RedisPort, work: WorkLedger
) -> None:
    accept_one(ledger)
    WorkLedger(redis_port, lease_s=0.1).claim()
    wait_until(lambda: work.sweep("w") == 1, 30)


def test_a_job_that_was_put_back_is_a_reason_when_it_is_due(ledger: JobLedger, work: WorkLedger) -> None:
    job_id = accept_one(ledger)
    claim, put_back_s = work.claim(), time.monotonic()
    work.finish(claim, [PutBack(job_id, 0.3)])
    assert work.sweep("w") == 0 or time.monotonic() > put_back_s + 0.3
    wait_until(lambda: work.sweep("w") == 1, 30)
    claim = work.claim()
    assert [job.job_id for job in claim.jobs] == [job_id]
    work.finish(claim, [Done(job_id, 1, None)])
    assert work.sweep("w") == 0
    assert ledger.lanes()["later"] == (0, 0.0)


def test_nothing_waits_for_the_time_by_which_the_clock_was_set_back(
    ledger: JobLedger, redis_port: RedisPort, redis_server: RedisServer
) -> None:
    """As after a failover to a machine whose clock is an hour behind."""
    work, dying, listening = (WorkLedger(redis_port, lease_s=0.1) for _ in range(3))
    put_back = accept_one(ledger)
    work.finish(work.claim(), [PutBack(put_back, 60)])
    dying_job = accept_one(ledger)
    dying.claim()
    listening.claim(idling=Idling(linger_s=5))
    work.sweep("silent")
    with redis_server.client() as client:
        for name in ("later", "leases", "idle", "workers"):
            for member in client.zrange(f"iqdb:{name}", 0, -1):
                client.zincrby(f"iqdb:{name}", 3600 * 1_000_000, member)
        client.hset("iqdb:drain", "since", str(int(time.time() + 3600) * 1_000_000))
        work.sweep("w")
        assert set(ledger.workers()) == {"w"}
        assert client.zcard("iqdb:idle") == 0
        assert client.zscore("iqdb:later", put_back) <= (time.time() + 150) * 1_000_000
    claimed: list[str] = []
    wait_until(lambda: claimed.extend(job.job_id for job in work.claim().jobs) or claimed, 30)
    assert claimed == [dying_job]
    work.finish(Claim("", [], 0), [Done(dying_job, 1, None)])
    assert int(redis_port.read([("HGET", "iqdb:drain", "since")])[0]) <= time.time() * 1_000_000


def test_many_messages_are_sent_bit_by_bit(ledger: JobLedger, work: WorkLedger) -> None:
    """Each task that ends while jobs wait sends one itself: some are enough to begin with."""
    for _ in range(3):
        ledger.accept([Submission.of_delete(1)] * 1000)
    assert work.sweep("w") == 64


def test_claiming_at_once_hands_out_each_job_once(ledger: JobLedger, redis_port: RedisPort) -> None:
    job_ids = [one.job_id for one in ledger.accept([Submission.of_delete(1)] * 500)]
    found: list[str] = []

    def claim() -> None:
        work = WorkLedger(redis_port)
        claim = work.claim(20)
        while claim.jobs:
            found.extend(job.job_id for job in claim.jobs)
            claim = work.finish_and_claim(claim, [Done(job.job_id, 1, None) for job in claim.jobs], 20)

    threads = [threading.Thread(target=claim) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(job_ids)


def test_workers_are_listed_while_they_report(ledger: JobLedger, work: WorkLedger) -> None:
    work.sweep("one")
    work.sweep("two")
    workers = ledger.workers()
    assert set(workers) == {"one", "two"}
    assert all(0 <= age_s < 5 for age_s in workers.values())
    work.leave("one")
    assert set(ledger.workers()) == {"two"}


def test_workers_that_fell_silent_do_not_count_and_are_forgotten(
    ledger: JobLedger, work: WorkLedger, redis_server: RedisServer
) -> None:
    """The last worker died by SIGKILL: nobody is left to take it off the list."""

    def report(name: str, ago_s: float) -> None:
        work.sweep(name)
        with redis_server.client() as client:
            client.zincrby("iqdb:workers", -ago_s * 1_000_000, name)

    report("here", 0)
    report("silent", 31)
    report("long gone", 301)
    assert set(ledger.workers()) == {"here", "silent"}
    assert ledger.count_workers() == 1
    rarely = JobReader(ledger._port, silent_s=silence_s(60))
    assert rarely.count_workers() == 2
    with redis_server.client() as client:
        client.zincrby("iqdb:workers", -31 * 1_000_000, "here")
    metrics = {family.name: family for family in QueueCollector(ledger).collect()}
    assert [sample.value for sample in metrics["iqdb_workers"].samples] == [0]


# Retention and listing.


def test_a_worker_that_learns_that_its_store_is_another_is_none_any_more(redis_port: RedisPort) -> None:
    """It started while its store was away; the store that was here before has been replaced."""
    JobLedger(redis_port, revision_floor=lambda: 0, store_id=lambda: "old").seed()
    new = JobLedger(redis_port, revision_floor=lambda: 0, store_id=lambda: "new")
    known = [""]
    work = WorkLedger(redis_port, store_id=lambda: known[-1])
    work.sweep("early")
    with pytest.raises(ForeignQueue):
        new.seed()
    known.append("new")
    with pytest.raises(ForeignQueue):
        work.sweep("early")
    assert new.workers() == {}
    new.seed()
    work.sweep("early")
    assert list(new.workers()) == ["early"]


def test_a_front_end_that_started_before_it_could_take_over_does_so_later(redis_port: RedisPort) -> None:
    JobLedger(redis_port, revision_floor=lambda: 0, store_id=lambda: "old").seed()
    silent = WorkLedger(redis_port)
    silent.sweep("of the old store")
    new = JobLedger(redis_port, revision_floor=lambda: 0, store_id=lambda: "new")
    with closing(Seeding(new, pause_s=0.05)) as seeding:
        seeding.begin()
        with pytest.raises(ForeignQueue):
            accept_one(new)
        silent.leave("of the old store")
        wait_until(lambda: can_accept(new), 20)  # sooner than silence ends a worker


def test_a_front_end_that_started_without_its_store_learns_which_it_is(redis_port: RedisPort) -> None:
    JobLedger(redis_port, revision_floor=lambda: 0, store_id=lambda: "old").seed()
    WorkLedger(redis_port).sweep("of the old store")
    is_away = threading.Event()
    is_away.set()

    def floor() -> int:
        if is_away.is_set():
            raise StoreUnavailable("away")
        return 0

    front_end = JobLedger(
        redis_port, revision_floor=floor, store_id=lambda: "" if is_away.is_set() else "new"
    )
    with closing(Seeding(front_end, pause_s=0.05)) as seeding:
        seeding.begin()
        accept_one(front_end)  # what is accepted while the store is away is done when it is back
        is_away.clear()
        wait_until(lambda: not can_accept(front_end), 30, what="it notices that the queue is another's")


def can_accept(ledger: JobLedger) -> bool:
    try:
        accept_one(ledger)
    except ForeignQueue:
        return False
    return True


def finish_all(ledger: JobLedger, work: WorkLedger, count: int) -> list[str]:
    job_ids = [one.job_id for one in ledger.accept([Submission.of_delete(1)] * count)]
    work.finish(work.claim(), [Done(job_id, 1, None) for job_id in job_ids])
    return job_ids


def test_records_expire_and_leave_no_key(
    ledger: JobLedger, redis_port: RedisPort, redis_server: RedisServer
) -> None:
    swift = WorkLedger(redis_port, retention=Retention(done_s=0, failed_s=3600))
    done = finish_all(ledger, swift, 5)
    failed = accept_one(ledger)
    swift.finish(swift.claim(), [Failed(failed, "why")])
    wait_until(lambda: swift.sweep("w") or not {key for key in keys(redis_server) if done[-1] in key}, 30)
    assert {key for key in keys(redis_server) if key.startswith("iqdb:job:")} == {f"iqdb:job:{failed}"}
    assert "iqdb:jobs:done" not in keys(redis_server)
    assert [job.job_id for job in ledger.list().jobs] == [failed]
    with pytest.raises(UnknownJob):
        ledger.get(done[0])


def test_the_number_of_records_is_bounded(ledger: JobLedger, redis_port: RedisPort) -> None:
    work = WorkLedger(redis_port, retention=Retention(max_records=10))
    first = finish_all(ledger, work, 8)
    second = finish_all(ledger, work, 8)
    kept = [job.job_id for job in ledger.list(JobState.DONE).jobs]
    assert kept == (first + second)[-10:]
    assert len(ledger.list().jobs) == 10


def test_pages_are_stable_while_jobs_come_and_go(ledger: JobLedger, work: WorkLedger) -> None:
    job_ids = finish_all(ledger, work, 25)
    seen: list[str] = []
    cursor = None
    while page := ledger.list(JobState.DONE, cursor, 10):
        seen += [job.job_id for job in page.jobs]
        cursor = page.next_cursor
        if len(page.jobs) < 10:
            break
        job_ids += finish_all(ledger, work, 3)
    assert seen == job_ids


def test_a_list_of_failures_can_be_followed_for_ever(ledger: JobLedger, work: WorkLedger) -> None:
    """Failures are listed as they happen: an old job that fails late is not passed over."""
    assert ledger.list(JobState.FAILED).next_cursor is None
    old, young = accept_one(ledger, 1), accept_one(ledger, 2)
    claim = work.claim()
    work.finish(Claim("later", [], 0), [Failed(young, "first to fail")])
    page = ledger.list(JobState.FAILED)
    assert [job.job_id for job in page.jobs] == [young]
    assert ledger.list(JobState.FAILED, page.next_cursor).jobs == []
    work.finish(claim, [Failed(old, "failed later")])
    after = ledger.list(JobState.FAILED, page.next_cursor)
    assert [job.job_id for job in after.jobs] == [old]
    empty = ledger.list(JobState.FAILED, after.next_cursor)
    assert (empty.jobs, empty.next_cursor) == ([], after.next_cursor)


def test_lists_by_state_and_of_all(ledger: JobLedger, work: WorkLedger, another: WorkLedger) -> None:
    job_ids = [accept_one(ledger, image_id) for image_id in range(4)]
    work.claim()
    outcomes = [Done(job_ids[2], 1, None), Failed(job_ids[3], "why"), PutBack(job_ids[0])]
    another.finish(Claim("of another", [], 0), outcomes)
    job_ids.append(accept_one(ledger, 4))
    by_state = {state: [job.job_id for job in ledger.list(state).jobs] for state in JobState}
    assert by_state == {
        JobState.QUEUED: job_ids[4:],
        JobState.RUNNING: job_ids[:2],
        JobState.DONE: [job_ids[2]],
        JobState.FAILED: [job_ids[3]],
    }
    assert [job.job_id for job in ledger.list().jobs] == job_ids


# Hints.


def test_finishing_wakes_those_who_wait(ledger: JobLedger, work: WorkLedger, redis_port: RedisPort) -> None:
    job_ids = [accept_one(ledger, image_id) for image_id in range(2)]
    claim = work.claim()
    finished = redis_port.subscribe(Keys().finished_channel)
    changes = redis_port.subscribe(Keys().changes_channel)
    work.finish(claim, [Done(job_ids[0], 7, None), Failed(job_ids[1], "why")])
    heard: list[dict[str, bytes]] = []
    wait_until(lambda: heard.append(finished.get_message(timeout=0.1)) or heard[-1], 30)
    assert heard[-1]["data"].decode().split() == job_ids
    wait_until(lambda: heard.append(changes.get_message(timeout=0.1)) or heard[-1], 30)
    assert heard[-1]["data"] == b"7"
    finished.close()
    changes.close()


def test_depth_tells_the_age_of_the_oldest(ledger: JobLedger, work: WorkLedger) -> None:
    for image_id in range(3):
        accept_one(ledger, image_id, b"x" * 10)
    work.claim(1)
    wait_until(lambda: ledger.depth().oldest_s > 0.05, 30)
    depth = ledger.depth()
    assert (depth.queued, depth.running, depth.failed, depth.payload_bytes) == (2, 1, 0, 30)
    assert depth.oldest_s < 60


def test_every_key_has_the_prefix(ledger: JobLedger, work: WorkLedger, redis_server: RedisServer) -> None:
    finish_all(ledger, work, 2)
    work.sweep("w")
    assert all(key.startswith("iqdb:") for key in keys(redis_server))
