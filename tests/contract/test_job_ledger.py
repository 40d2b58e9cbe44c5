"""What the job ledger promises to api and worker, shown on a real Redis."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING

import pytest

from iqdb_core import codec
from iqdb_core.errors import QueueFull, QueueUnavailable, StoreUnavailable, UnknownJob
from iqdb_core.jobs import (
    Done,
    Failed,
    JobKind,
    JobLedger,
    JobState,
    QueueLimits,
    RedisPort,
    Retention,
    Submission,
    WorkLedger,
)
from iqdb_core.jobs.names import CHANGES_CHANNEL, FINISHED_CHANNEL, QUEUE_KEY
from iqdb_core.model import Signature
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE = Signature((0.5, 0.1, -0.1), struct.pack("<120h", *range(1, 121)))
FAR_FUTURE_US = 4_000_000_000_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def port(server: RedisServer) -> Iterator[RedisPort]:
    with server.client() as client:
        client.flushall()
    port = RedisPort.connect(server.url)
    yield port
    port.close()


@pytest.fixture
def ledger(port: RedisPort) -> JobLedger:
    return JobLedger(port, revision_floor=lambda: 0)


@pytest.fixture
def work(port: RedisPort) -> WorkLedger:
    return WorkLedger(port)


def keys(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {key.decode() for key in client.keys("*")}


def payload_keys(server: RedisServer) -> set[str]:
    return {key for key in keys(server) if ":payload:" in key}


def accept_one(ledger: JobLedger, image_id: int = 1, data: bytes = b"image") -> str:
    return ledger.accept([Submission.of_image(image_id, data)])[0].job_id


# Accepting.


def test_accepted_jobs_are_readable_and_in_order(ledger: JobLedger) -> None:
    accepted = ledger.accept([Submission.of_image(image_id, b"x") for image_id in range(1000)])
    assert [one.image_id for one in accepted] == list(range(1000))
    revisions = [one.revision for one in accepted]
    assert revisions == list(range(revisions[0], revisions[0] + 1000))
    assert len({one.job_id for one in accepted}) == 1000
    job = ledger.get(accepted[7].job_id)
    assert (job.image_id, job.kind, job.state, job.revision) == (
        7,
        JobKind.IMAGE,
        JobState.QUEUED,
        revisions[7],
    )
    assert (job.attempts, job.reason, job.signature, job.seq) == (0, None, None, None)
    assert ledger.accept([]) == []


def test_every_kind_of_submission_reaches_the_worker(ledger: JobLedger, work: WorkLedger) -> None:
    largest = 2**63 - 1
    accepted = ledger.accept(
        [
            Submission.of_image(0, b"\x00\xff bytes"),
            Submission.of_signature(largest, SIGNATURE),
            Submission.of_delete(5),
        ]
    )
    jobs = work.start([one.job_id for one in accepted])
    assert [(job.kind, job.image_id) for job in jobs] == [
        (JobKind.IMAGE, 0),
        (JobKind.SIGNATURE, largest),
        (JobKind.DELETE, 5),
    ]
    assert [job.revision for job in jobs] == [one.revision for one in accepted]
    assert [work.begin(job) for job in jobs] == [b"\x00\xff bytes", codec.to_bytes(SIGNATURE), b""]


def test_limits_count_jobs_and_bytes_that_are_not_final(port: RedisPort, work: WorkLedger) -> None:
    ledger = JobLedger(port, limits=QueueLimits(max_jobs=3, max_bytes=100), revision_floor=lambda: 0)
    first = ledger.accept([Submission.of_image(1, b"x" * 60), Submission.of_image(2, b"x" * 30)])
    with pytest.raises(QueueFull) as too_big:
        ledger.accept([Submission.of_image(3, b"x" * 11)])
    full = too_big.value
    assert (full.jobs, full.max_jobs, full.payload_bytes, full.max_bytes) == (2, 3, 90, 100)
    assert full.retryable
    ledger.accept([Submission.of_delete(3)])
    with pytest.raises(QueueFull):
        ledger.accept([Submission.of_delete(4)])
    work.start([first[0].job_id])
    with pytest.raises(QueueFull):  # a running job still counts
        ledger.accept([Submission.of_delete(4)])
    work.finish([Done(first[0].job_id, 1, SIGNATURE)])
    ledger.accept([Submission.of_image(4, b"x" * 70)])
    assert ledger.depth().payload_bytes == 100


def test_a_batch_that_does_not_fit_leaves_nothing_behind(port: RedisPort, server: RedisServer) -> None:
    ledger = JobLedger(port, limits=QueueLimits(max_jobs=2), revision_floor=lambda: 0)
    ledger.seed()
    before = keys(server)
    with pytest.raises(QueueFull):
        ledger.accept([Submission.of_image(image_id, b"x") for image_id in range(3)])
    assert keys(server) == before
    assert len(ledger.accept([Submission.of_image(image_id, b"x") for image_id in range(2)])) == 2


def test_a_payload_whose_api_died_before_accepting_expires(ledger: JobLedger, server: RedisServer) -> None:
    job_id = accept_one(ledger)
    with server.client() as client:
        assert client.ttl(f"iqdb:payload:{job_id}") == -1  # accepted: it stays
    port = RedisPort.connect(server.url)
    # What `accept` sends first, without the script that should follow.
    port.read([("SET", "iqdb:payload:staged", b"x", "EX", 900)])
    port.close()
    with server.client() as client:
        assert 0 < client.ttl("iqdb:payload:staged") <= 900


def test_accepting_twice_because_an_answer_was_lost_changes_nothing(ledger: JobLedger) -> None:
    submissions = [Submission.of_image(1, b"one"), Submission.of_delete(2)]
    ledger.seed()
    first = ledger._offer(submissions, ["a", "b"])
    assert ledger._offer(submissions, ["a", "b"]) == first
    depth = ledger.depth()
    assert (depth.queued, depth.payload_bytes) == (2, 3)


def test_many_threads_accept_without_sharing_a_revision(ledger: JobLedger) -> None:
    revisions: list[int] = []

    def accept() -> None:
        for _ in range(50):
            revisions.extend(one.revision for one in ledger.accept([Submission.of_delete(1)] * 3))

    ledger.seed()
    threads = [threading.Thread(target=accept) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(revisions)) == 600
    assert ledger.depth().queued == 600


# The clock of revisions.


def test_revisions_rise_over_accepting_and_direct_writes(ledger: JobLedger) -> None:
    revisions = []
    for _ in range(20):
        revisions.append(ledger.next_revision())
        revisions += [one.revision for one in ledger.accept([Submission.of_delete(1)] * 2)]
    assert revisions == sorted(set(revisions))


def test_a_clock_that_is_lost_goes_on_above_the_store(port: RedisPort, server: RedisServer) -> None:
    ledger = JobLedger(port, revision_floor=lambda: FAR_FUTURE_US)
    assert ledger.next_revision() == FAR_FUTURE_US + 1
    assert ledger.accept([Submission.of_delete(1)])[0].revision == FAR_FUTURE_US + 2
    with server.client() as client:
        client.flushall()
    assert ledger.accept([Submission.of_delete(1)])[0].revision == FAR_FUTURE_US + 1


def test_a_lost_clock_is_never_guessed(port: RedisPort, server: RedisServer) -> None:
    unseeded = JobLedger(port)
    with pytest.raises(QueueUnavailable, match="seeded"):
        unseeded.next_revision()
    with pytest.raises(QueueUnavailable, match="seeded"):
        unseeded.accept([Submission.of_image(1, b"x")])

    def away() -> int:
        raise StoreUnavailable("no database")

    with pytest.raises(StoreUnavailable):
        JobLedger(port, revision_floor=away).accept([Submission.of_delete(1)])
    assert not [key for key in keys(server) if ":job" in key]


def test_seeding_never_puts_the_clock_back(ledger: JobLedger) -> None:
    ledger.seed_revision_floor(FAR_FUTURE_US)
    ledger.seed_revision_floor(5)
    assert ledger.next_revision() == FAR_FUTURE_US + 1


# A worker's steps.


def test_a_job_goes_from_queued_over_running_to_done(
    ledger: JobLedger, work: WorkLedger, server: RedisServer
) -> None:
    job_id = accept_one(ledger)
    [job] = work.start([job_id])
    assert ledger.get(job_id).state is JobState.RUNNING
    assert work.begin(job) == b"image"
    assert ledger.get(job_id).attempts == 1
    work.hashed(job)
    assert ledger.get(job_id).attempts == 0
    assert work.finish([Done(job_id, 42, SIGNATURE)]) == 1
    done = ledger.get(job_id)
    assert (done.state, done.seq, done.signature, done.reason) == (JobState.DONE, 42, SIGNATURE, None)
    depth = ledger.depth()
    assert (depth.queued, depth.running, depth.payload_bytes, depth.oldest_s) == (0, 0, 0, 0.0)
    assert not payload_keys(server)


def test_a_failed_job_keeps_its_reason_and_not_its_payload(
    ledger: JobLedger, work: WorkLedger, server: RedisServer
) -> None:
    job_id = accept_one(ledger)
    work.start([job_id])
    work.finish([Failed(job_id, "no image: ünlesbar")])
    failed = ledger.get(job_id)
    assert (failed.state, failed.reason, failed.signature) == (JobState.FAILED, "no image: ünlesbar", None)
    assert not payload_keys(server)
    assert ledger.depth().failed == 1


def test_the_first_final_word_stays(ledger: JobLedger, work: WorkLedger) -> None:
    job_id = accept_one(ledger)
    work.start([job_id])
    assert work.finish([Done(job_id, 1, None)]) == 1
    assert work.finish([Failed(job_id, "late")]) == 0
    assert ledger.get(job_id).state is JobState.DONE
    assert ledger.depth().payload_bytes == 0
    assert work.start([job_id]) == []
    work.release([job_id], 0)
    assert ledger.get(job_id).state is JobState.DONE


def test_blame_is_for_the_one_job_that_was_being_decoded(ledger: JobLedger, work: WorkLedger) -> None:
    job_ids = [accept_one(ledger, image_id) for image_id in range(3)]
    first, second, third = work.start(job_ids)
    work.begin(first)
    work.begin(second, after=first)
    # The process is killed here; the message is delivered again.
    assert [job.attempts for job in work.start(job_ids)] == [0, 1, 0]
    work.begin(work.start(job_ids)[1])
    assert [job.attempts for job in work.start(job_ids)] == [0, 2, 0]
    assert third.attempts == 0


def test_a_job_that_became_final_meanwhile_is_not_begun(ledger: JobLedger, work: WorkLedger) -> None:
    job_id = accept_one(ledger)
    [job] = work.start([job_id])
    work.finish([Done(job_id, 1, None)])
    assert work.begin(job) is None
    assert ledger.get(job_id).attempts == 0


def test_unknown_jobs_are_left_out(ledger: JobLedger, work: WorkLedger, server: RedisServer) -> None:
    known = accept_one(ledger)
    before = keys(server)
    assert [job.job_id for job in work.start(["unknown", known])] == [known]
    assert work.finish([Done("unknown", 1, None)]) == 0
    assert not {key for key in keys(server) - before if "unknown" in key}
    with pytest.raises(UnknownJob):
        ledger.get("unknown")
    assert [job is None for job in ledger.get_many(["unknown", known])] == [True, False]


def test_released_jobs_are_queued_and_swept_after_their_delay(ledger: JobLedger, work: WorkLedger) -> None:
    later, now = accept_one(ledger, 1), accept_one(ledger, 2)
    work.start([later, now])
    work.release([later], 60)
    work.release([now], 0)
    assert {ledger.get(job_id).state for job_id in (later, now)} == {JobState.QUEUED}
    assert work.sweep("w") == [now]
    assert work.start([later])[0].deferrals == 1


# The sweep.


def patient(port: RedisPort, seconds: float) -> WorkLedger:
    return WorkLedger(port, visibility_timeout_s=seconds)


def test_a_job_whose_message_was_never_sent_is_found(ledger: JobLedger, port: RedisPort) -> None:
    job_id = accept_one(ledger)
    assert patient(port, 60).sweep("w") == []
    swift = patient(port, 0.2)
    found: list[str] = []
    wait_until(lambda: found.extend(swift.sweep("w")) or found, 5)
    assert found == [job_id]
    assert swift.sweep("w") == []  # it has been sent again and gets its time


def test_a_job_whose_worker_went_silent_is_found(ledger: JobLedger, port: RedisPort) -> None:
    job_id = accept_one(ledger)
    swift = patient(port, 0.2)
    swift.start([job_id])
    found: list[str] = []
    wait_until(lambda: found.extend(swift.sweep("w")) or found, 5)
    assert found == [job_id]
    assert ledger.get(job_id).state is JobState.QUEUED


def test_a_long_queue_is_not_taken_for_lost(ledger: JobLedger, port: RedisPort, server: RedisServer) -> None:
    """However long jobs wait: while older messages are still being worked on, theirs are in the queue."""
    swift = patient(port, 0.05)
    first, second = accept_one(ledger, 1), accept_one(ledger, 2)
    with server.client() as client:
        client.lpush(QUEUE_KEY, "a message", "another")
        swift.start([first])
        swift.finish([Done(first, 1, None)])
        old = ledger.get(second).created_s
        wait_until(lambda: seconds(server) > old + 0.5, 5)
        assert swift.sweep("w") == []
        # A job accepted much later has been started: the message of the second must have been lost.
        third = accept_one(ledger, 3)
        swift.start([third])
        assert swift.sweep("w") == [second]


def seconds(server: RedisServer) -> float:
    with server.client() as client:
        whole, microseconds = client.time()
        return float(whole + microseconds / 1e6)


def test_sweeping_at_once_hands_out_each_job_once(ledger: JobLedger, port: RedisPort) -> None:
    accepted = ledger.accept([Submission.of_delete(1)] * 500)
    job_ids = [one.job_id for one in accepted]
    work = patient(port, 60)
    work.start(job_ids)
    work.release(job_ids, 0)
    found: list[str] = []

    def sweep() -> None:
        while some := work.sweep("w", limit=20):
            found.extend(some)

    threads = [threading.Thread(target=sweep) for _ in range(3)]
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


# Retention and listing.


def finish_all(ledger: JobLedger, work: WorkLedger, count: int) -> list[str]:
    job_ids = [one.job_id for one in ledger.accept([Submission.of_delete(1)] * count)]
    work.start(job_ids)
    work.finish([Done(job_id, 1, None) for job_id in job_ids])
    return job_ids


def test_records_expire_and_leave_no_key(ledger: JobLedger, port: RedisPort, server: RedisServer) -> None:
    swift = WorkLedger(port, retention=Retention(done_s=0, failed_s=3600))
    done = finish_all(ledger, swift, 5)
    failed = accept_one(ledger)
    swift.start([failed])
    swift.finish([Failed(failed, "why")])
    wait_until(lambda: swift.sweep("w") or not {key for key in keys(server) if done[-1] in key}, 5)
    assert {key for key in keys(server) if key.startswith("iqdb:job:")} == {f"iqdb:job:{failed}"}
    assert [job.job_id for job in ledger.list().jobs] == [failed]
    with pytest.raises(UnknownJob):
        ledger.get(done[0])


def test_the_number_of_records_is_bounded(ledger: JobLedger, port: RedisPort) -> None:
    work = WorkLedger(port, retention=Retention(max_records=10))
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
    newest = ledger.list(JobState.DONE, None, 4, is_newest_first=True)
    assert [job.job_id for job in newest.jobs] == job_ids[-1:-5:-1]
    next_page = ledger.list(JobState.DONE, newest.next_cursor, 4, is_newest_first=True)
    assert [job.job_id for job in next_page.jobs] == job_ids[-5:-9:-1]


def test_a_list_of_failures_can_be_followed_for_ever(ledger: JobLedger, work: WorkLedger) -> None:
    """Failures are listed as they happen: an old job that fails late is not passed over."""
    assert ledger.list(JobState.FAILED).next_cursor is None
    old, young = accept_one(ledger, 1), accept_one(ledger, 2)
    work.start([old, young])
    work.finish([Failed(young, "first to fail")])
    page = ledger.list(JobState.FAILED)
    assert [job.job_id for job in page.jobs] == [young]
    assert ledger.list(JobState.FAILED, page.next_cursor).jobs == []
    work.finish([Failed(old, "failed later")])
    after = ledger.list(JobState.FAILED, page.next_cursor)
    assert [job.job_id for job in after.jobs] == [old]
    empty = ledger.list(JobState.FAILED, after.next_cursor)
    assert (empty.jobs, empty.next_cursor) == ([], after.next_cursor)


def test_lists_by_state_and_of_all(ledger: JobLedger, work: WorkLedger) -> None:
    job_ids = [accept_one(ledger, image_id) for image_id in range(4)]
    work.start(job_ids[1:])
    work.finish([Done(job_ids[2], 1, None), Failed(job_ids[3], "why")])
    by_state = {state: [job.job_id for job in ledger.list(state).jobs] for state in JobState}
    assert by_state == {
        JobState.QUEUED: [job_ids[0]],
        JobState.RUNNING: [job_ids[1]],
        JobState.DONE: [job_ids[2]],
        JobState.FAILED: [job_ids[3]],
    }
    assert [job.job_id for job in ledger.list().jobs] == job_ids


# Hints.


def test_finishing_wakes_those_who_wait(ledger: JobLedger, work: WorkLedger, port: RedisPort) -> None:
    job_ids = [accept_one(ledger, image_id) for image_id in range(2)]
    work.start(job_ids)
    finished, changes = port.subscribe(FINISHED_CHANNEL), port.subscribe(CHANGES_CHANNEL)
    work.finish([Done(job_ids[0], 7, None), Failed(job_ids[1], "why")])
    heard: list[dict[str, bytes]] = []
    wait_until(lambda: heard.append(finished.get_message(timeout=0.1)) or heard[-1], 5)
    assert heard[-1]["data"].decode().split() == job_ids
    wait_until(lambda: heard.append(changes.get_message(timeout=0.1)) or heard[-1], 5)
    assert heard[-1]["data"] == b"7"
    finished.close()
    changes.close()


def test_depth_tells_the_age_of_the_oldest(ledger: JobLedger, work: WorkLedger) -> None:
    job_ids = [accept_one(ledger, image_id, b"x" * 10) for image_id in range(3)]
    work.start(job_ids[:1])
    wait_until(lambda: ledger.depth().oldest_s > 0.05, 5)
    depth = ledger.depth()
    assert (depth.queued, depth.running, depth.failed, depth.payload_bytes) == (2, 1, 0, 30)
    assert depth.oldest_s < 60


def test_every_key_has_the_prefix(ledger: JobLedger, work: WorkLedger, server: RedisServer) -> None:
    finish_all(ledger, work, 2)
    work.sweep("w")
    assert all(key.startswith("iqdb:") for key in keys(server))
