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
    Submission,
    WorkLedger,
)
from iqdb_core.model import Signature
from tests.fixtures.ledgers import accept_one, keys, payload_keys

if TYPE_CHECKING:
    from tests.fixtures.redis import RedisServer

SIGNATURE = Signature((0.5, 0.1, -0.1), struct.pack("<120h", *range(1, 121)))
FAR_FUTURE_US = 4_000_000_000_000_000


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


def test_limits_count_jobs_and_bytes_that_are_not_final(redis_port: RedisPort, work: WorkLedger) -> None:
    ledger = JobLedger(redis_port, limits=QueueLimits(max_jobs=3, max_bytes=100), revision_floor=lambda: 0)
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


def test_a_batch_that_does_not_fit_leaves_nothing_behind(
    redis_port: RedisPort, redis_server: RedisServer
) -> None:
    ledger = JobLedger(redis_port, limits=QueueLimits(max_jobs=2), revision_floor=lambda: 0)
    ledger.seed()
    before = keys(redis_server)
    with pytest.raises(QueueFull):
        ledger.accept([Submission.of_image(image_id, b"x") for image_id in range(3)])
    assert keys(redis_server) == before
    assert len(ledger.accept([Submission.of_image(image_id, b"x") for image_id in range(2)])) == 2


def test_a_payload_whose_api_died_before_accepting_expires(
    ledger: JobLedger, redis_server: RedisServer
) -> None:
    job_id = accept_one(ledger)
    with redis_server.client() as client:
        assert client.ttl(f"iqdb:payload:{job_id}") == -1  # accepted: it stays
    port = RedisPort.connect(redis_server.url)
    # What `accept` sends first, without the script that should follow.
    port.read([("SET", "iqdb:payload:staged", b"x", "EX", 900)])
    port.close()
    with redis_server.client() as client:
        assert 0 < client.ttl("iqdb:payload:staged") <= 900


def test_a_large_batch_is_accepted_whole(ledger: JobLedger, work: WorkLedger) -> None:
    """Larger than what is sent at once, so that its payloads travel in pieces."""
    payloads = [bytes([number]) * 3_000_000 for number in range(20)]
    accepted = ledger.accept([Submission.of_image(1, payload) for payload in payloads])
    assert ledger.depth().payload_bytes == 60_000_000
    jobs = work.start([one.job_id for one in accepted])
    assert [work.begin(job) for job in jobs] == payloads


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


def test_a_clock_that_is_lost_goes_on_above_the_store(
    redis_port: RedisPort, redis_server: RedisServer
) -> None:
    ledger = JobLedger(redis_port, revision_floor=lambda: FAR_FUTURE_US)
    assert ledger.next_revision() == FAR_FUTURE_US + 1
    assert ledger.accept([Submission.of_delete(1)])[0].revision == FAR_FUTURE_US + 2
    with redis_server.client() as client:
        client.flushall()
    assert ledger.accept([Submission.of_delete(1)])[0].revision == FAR_FUTURE_US + 1


def test_a_lost_clock_is_never_guessed(redis_port: RedisPort, redis_server: RedisServer) -> None:
    unseeded = JobLedger(redis_port)
    with pytest.raises(QueueUnavailable, match="seeded"):
        unseeded.next_revision()
    with pytest.raises(QueueUnavailable, match="seeded"):
        unseeded.accept([Submission.of_image(1, b"x")])

    def away() -> int:
        raise StoreUnavailable("no database")

    with pytest.raises(StoreUnavailable):
        JobLedger(redis_port, revision_floor=away).accept([Submission.of_delete(1)])
    assert not [key for key in keys(redis_server) if ":job" in key]


def test_seeding_never_puts_the_clock_back(ledger: JobLedger) -> None:
    ledger.seed_revision_floor(FAR_FUTURE_US)
    ledger.seed_revision_floor(5)
    assert ledger.next_revision() == FAR_FUTURE_US + 1


# A worker's steps.


def test_a_job_goes_from_queued_over_running_to_done(
    ledger: JobLedger, work: WorkLedger, redis_server: RedisServer
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
    assert not payload_keys(redis_server)


def test_a_failed_job_keeps_its_reason_and_not_its_payload(
    ledger: JobLedger, work: WorkLedger, redis_server: RedisServer
) -> None:
    job_id = accept_one(ledger)
    work.start([job_id])
    work.finish([Failed(job_id, "no image: ünlesbar")])
    failed = ledger.get(job_id)
    assert (failed.state, failed.reason, failed.signature) == (JobState.FAILED, "no image: ünlesbar", None)
    assert not payload_keys(redis_server)
    assert ledger.depth().failed == 1


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("", ""), ("a\x00\nb", "a\x00\nb"), ("half \udcff", "half \\udcff"), ("x" * 5000, "x" * 1000)],
)
def test_any_reason_can_be_kept(ledger: JobLedger, work: WorkLedger, reason: str, kept: str) -> None:
    job_id = accept_one(ledger)
    work.start([job_id])
    work.finish([Failed(job_id, reason)])
    assert ledger.get(job_id).reason == kept


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


def test_unknown_jobs_are_left_out(ledger: JobLedger, work: WorkLedger, redis_server: RedisServer) -> None:
    known = accept_one(ledger)
    before = keys(redis_server)
    assert [job.job_id for job in work.start(["unknown", known])] == [known]
    assert work.finish([Done("unknown", 1, None)]) == 0
    assert not {key for key in keys(redis_server) - before if "unknown" in key}
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
