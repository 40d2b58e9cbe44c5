"""What the job ledger promises to api and worker, shown on a real Redis."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING

import pytest

from iqdb_core import codec
from iqdb_core.errors import QueueFull, QueueUnavailable, StoreInvalid, StoreUnavailable, UnknownJob
from iqdb_core.jobs import (
    Claim,
    ClaimedJob,
    Done,
    Failed,
    JobKind,
    JobLedger,
    JobState,
    Lane,
    PutBack,
    QueueLimits,
    RedisPort,
    Submission,
    WorkLedger,
)
from iqdb_core.model import Signature
from tests.fixtures.ledgers import accept_one, keys, payload_keys, revision_given
from tests.fixtures.waiting import wait_until

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
    jobs = work.claim().jobs
    assert [(job.kind, job.image_id) for job in jobs] == [
        (JobKind.IMAGE, 0),
        (JobKind.SIGNATURE, largest),
        (JobKind.DELETE, 5),
    ]
    assert [job.revision for job in jobs] == [one.revision for one in accepted]
    assert [job.payload for job in jobs] == [b"\x00\xff bytes", codec.to_bytes(SIGNATURE), None]


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
    claim = work.claim()
    with pytest.raises(QueueFull):  # a running job still counts
        ledger.accept([Submission.of_delete(4)])
    work.finish(claim, [Done(first[0].job_id, 1, SIGNATURE)])
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
    port.read([("SET", "iqdb:staged:abandoned", b"x", "EX", 900)])
    port.close()
    with redis_server.client() as client:
        assert 0 < client.ttl("iqdb:staged:abandoned") <= 900


def test_payloads_that_come_together_cost_one_flush(ledger: JobLedger, redis_server: RedisServer) -> None:
    """Redis flushes its file after each command, or once after a transaction."""
    ledger.seed()
    ledger.accept([Submission.of_image(0, b"x")])  # the scripts are loaded
    with redis_server.client() as client:
        client.config_resetstat()
        ledger.accept([Submission.of_image(number, bytes(80_000)) for number in range(40)])
        calls = {name: row["calls"] for name, row in client.info("commandstats").items()}
    assert calls["cmdstat_set"] >= 40
    assert calls["cmdstat_exec"] == calls["cmdstat_multi"] == calls["cmdstat_evalsha"] == 1


def test_a_large_batch_is_accepted_whole(ledger: JobLedger, work: WorkLedger) -> None:
    """Larger than what is sent at once, so that its payloads travel in pieces."""
    payloads = [bytes([number]) * 3_000_000 for number in range(20)]
    accepted = ledger.accept([Submission.of_image(1, payload) for payload in payloads])
    assert ledger.depth().payload_bytes == 60_000_000
    claimed: list[bytes] = []
    while jobs := (claim := work.claim()).jobs:  # no claim is large either
        assert sum(len(job.payload) for job in jobs) <= 16 * 1024 * 1024
        claimed += [job.payload for job in jobs]
        work.finish(claim, [Failed(job.job_id, "seen") for job in jobs])
    assert claimed == payloads
    assert len(accepted) == 20


def test_accepting_twice_because_an_answer_was_lost_changes_nothing(ledger: JobLedger) -> None:
    submissions = [Submission.of_image(1, b"one"), Submission.of_delete(2)]
    ledger.seed()
    first = ledger._offer(submissions, ["a", "b"])
    assert ledger._offer(submissions, ["a", "b"]) == first
    depth = ledger.depth()
    assert (depth.queued, depth.payload_bytes) == (2, 3)


def test_lanes_tell_how_many_wait_and_for_how_long(ledger: JobLedger) -> None:
    assert ledger.lanes() == dict.fromkeys(["interactive", "bulk", "suspect", "later"], (0, 0.0))
    ledger.accept([Submission.of_delete(1), Submission.of_delete(2, lane=Lane.INTERACTIVE)])
    wait_until(lambda: ledger.lanes()["bulk"][1] > 0.01, 30)
    ledger.accept([Submission.of_delete(3)])
    lanes = ledger.lanes()
    assert [lanes[name][0] for name in ("interactive", "bulk", "suspect")] == [1, 2, 0]
    assert lanes["bulk"][1] > 0.01
    assert lanes["bulk"][1] < 60


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


def test_revisions_rise_with_every_job(ledger: JobLedger) -> None:
    revisions = []
    for _ in range(20):
        revisions += [one.revision for one in ledger.accept([Submission.of_delete(1)] * 2)]
    assert revisions == sorted(set(revisions))


def test_a_clock_that_is_lost_goes_on_above_the_store(
    redis_port: RedisPort, redis_server: RedisServer
) -> None:
    ledger = JobLedger(redis_port, revision_floor=lambda: FAR_FUTURE_US)
    assert [revision_given(ledger) for _ in range(2)] == [FAR_FUTURE_US + 1, FAR_FUTURE_US + 2]
    with redis_server.client() as client:
        client.flushall()
    assert revision_given(ledger) == FAR_FUTURE_US + 3  # not above the store alone


def test_a_lost_clock_is_never_guessed(redis_port: RedisPort, redis_server: RedisServer) -> None:
    unseeded = JobLedger(redis_port)
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
    assert revision_given(ledger) == FAR_FUTURE_US + 1


def test_revisions_that_redis_cannot_count_are_refused(redis_port: RedisPort) -> None:
    ledger = JobLedger(redis_port, revision_floor=lambda: 2**53)
    for call in (ledger.seed, lambda: accept_one(ledger)):
        with pytest.raises(StoreInvalid, match="beyond"):
            call()
    assert ledger.depth().queued == 0


# A worker's steps.


def test_a_job_goes_from_queued_over_running_to_done(
    ledger: JobLedger, work: WorkLedger, redis_server: RedisServer
) -> None:
    job_id = accept_one(ledger)
    claim = work.claim()
    assert [(job.job_id, job.payload, job.attempts) for job in claim.jobs] == [(job_id, b"image", 0)]
    assert ledger.get(job_id).state is JobState.RUNNING
    assert ledger.get(job_id).attempts == 1
    assert work.finish(claim, [Done(job_id, 42, SIGNATURE)]) == 1
    done = ledger.get(job_id)
    assert (done.state, done.seq, done.signature, done.reason) == (JobState.DONE, 42, SIGNATURE, None)
    assert (done.attempts, done.is_damaged) == (0, False)
    depth = ledger.depth()
    assert (depth.queued, depth.running, depth.payload_bytes, depth.oldest_s) == (0, 0, 0, 0.0)
    assert not payload_keys(redis_server)


def test_what_is_known_of_an_image_goes_with_its_job(ledger: JobLedger, work: WorkLedger) -> None:
    job_id = ledger.accept([Submission.of_image(1, b"x", source="https://example.org/ü")])[0].job_id
    claim = work.claim()
    assert claim.jobs[0].source == ledger.get(job_id).source == "https://example.org/ü"
    work.finish(claim, [Done(job_id, 1, SIGNATURE, is_damaged=True)])
    assert ledger.get(job_id).is_damaged


def test_a_failed_job_keeps_its_reason_and_not_its_payload(
    ledger: JobLedger, work: WorkLedger, redis_server: RedisServer
) -> None:
    job_id = accept_one(ledger)
    work.finish(work.claim(), [Failed(job_id, "no image: ünlesbar")])
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
    work.finish(work.claim(), [Failed(job_id, reason)])
    assert ledger.get(job_id).reason == kept


def test_the_first_outcome_stays(ledger: JobLedger, work: WorkLedger) -> None:
    job_id = accept_one(ledger)
    claim = work.claim()
    assert work.finish(claim, [Done(job_id, 1, None)]) == 1
    assert work.finish(claim, [Failed(job_id, "late")]) == 0
    assert work.finish(claim, [PutBack(job_id)]) == 0
    assert ledger.get(job_id).state is JobState.DONE
    assert ledger.depth().payload_bytes == 0
    assert work.claim().jobs == []


def test_a_claim_is_at_most_32_jobs_in_the_order_of_acceptance(ledger: JobLedger, work: WorkLedger) -> None:
    job_ids = [accept_one(ledger, image_id) for image_id in range(40)]
    first = work.claim()
    assert [job.job_id for job in first.jobs] == job_ids[:32]
    assert first.waiting == 8
    rest = work.finish_and_claim(first, [Done(job.job_id, 1, None) for job in first.jobs])
    assert [job.job_id for job in rest.jobs] == job_ids[32:]
    assert rest.waiting == 0
    assert work.finish_and_claim(rest, [Done(job.job_id, 2, None) for job in rest.jobs]).jobs == []
    assert ledger.depth().running == 0


def test_two_claimants_share_no_job(ledger: JobLedger, work: WorkLedger, another: WorkLedger) -> None:
    job_ids = [accept_one(ledger, image_id) for image_id in range(6)]
    one, two = work.claim(4), another.claim(4)
    assert [job.job_id for job in one.jobs + two.jobs] == job_ids
    # Only the holder puts a job back.
    another.finish(two, [PutBack(job.job_id) for job in one.jobs])
    assert ledger.depth().running == 4


def test_who_claims_again_gives_back_what_it_had_without_blame(ledger: JobLedger, work: WorkLedger) -> None:
    job_id = accept_one(ledger)
    work.claim()
    again = work.claim()
    assert [(job.job_id, job.attempts) for job in again.jobs] == [(job_id, 0)]


def test_jobs_without_an_outcome_wait_again_without_blame(ledger: JobLedger, work: WorkLedger) -> None:
    job_ids = [accept_one(ledger, image_id) for image_id in range(2)]
    work.finish(work.claim(), [Done(job_ids[0], 1, None)])
    assert [(job.job_id, job.attempts) for job in work.claim().jobs] == [(job_ids[1], 0)]


def test_images_of_a_dead_claimant_are_suspects_and_come_alone(
    ledger: JobLedger, work: WorkLedger, another: WorkLedger
) -> None:
    image_ids = [accept_one(ledger, image_id) for image_id in range(3)]
    deletion = ledger.accept([Submission.of_delete(9)])[0].job_id
    work.claim()
    later = accept_one(ledger, 5)
    another.forfeit(work.claimant)
    claims = []
    for _ in range(4):
        claims.append(another.claim())
        another.finish(claims[-1], [Done(job.job_id, 1, None) for job in claims[-1].jobs])
    # A deletion harms nobody: it goes with the others, at its old place. They wait for one suspect only.
    first, *suspects = [[(job_id, 1)] for job_id in image_ids]
    expected = [first, [(deletion, 0), (later, 0)], *suspects]
    assert [[(job.job_id, job.attempts) for job in claim.jobs] for claim in claims] == expected


def test_a_claimant_that_is_not_heard_of_is_taken_for_dead(
    ledger: JobLedger, redis_port: RedisPort, work: WorkLedger
) -> None:
    job_id = accept_one(ledger)
    WorkLedger(redis_port, lease_s=0.05).claim()
    assert [(job.job_id, job.attempts) for job in claim_when_due(work)] == [(job_id, 1)]


def claim_when_due(work: WorkLedger) -> list[ClaimedJob]:
    """Claim until there is something."""
    claimed: list[ClaimedJob] = []
    wait_until(lambda: claimed.extend(work.claim().jobs) or claimed, 30)
    return claimed


def test_deaths_are_counted_until_a_job_ends(ledger: JobLedger, redis_port: RedisPort) -> None:
    accept_one(ledger)
    attempts: list[int] = []
    while len(attempts) < 4:
        dying = WorkLedger(redis_port, suspect_pause_s=0.02)
        attempts += [job.attempts for job in claim_when_due(dying)]
        dying.forfeit(dying.claimant)
    assert attempts == [0, 1, 2, 3]


@pytest.mark.parametrize("dies_unnoticed", [False, True])
def test_a_job_whose_claimants_died_twice_waits_before_its_next_claim(
    ledger: JobLedger, redis_port: RedisPort, dies_unnoticed: bool
) -> None:
    """It may only have been there: what killed them is not to be met a third time at once."""
    hit, other = accept_one(ledger, 1), accept_one(ledger, 2)
    for expected in ([hit, other], [hit]):
        dying = WorkLedger(redis_port, lease_s=0.05 if dies_unnoticed else 60, suspect_pause_s=60)
        assert [job.job_id for job in claim_when_due(dying)] == expected
        if not dies_unnoticed:
            dying.forfeit(dying.claimant)
    survivor = WorkLedger(redis_port, suspect_pause_s=60)
    seen: list[str] = []

    def is_given_back() -> bool:
        seen.extend(job.job_id for job in survivor.claim().jobs)
        return ledger.get(hit).state is JobState.QUEUED

    wait_until(is_given_back, 30)
    assert [job.job_id for job in survivor.claim().jobs] in ([], [other])
    assert hit not in seen
    assert ledger.get(hit).attempts == 2


def test_a_late_claimant_is_believed_and_takes_nothing_back(
    ledger: JobLedger, work: WorkLedger, another: WorkLedger
) -> None:
    """It was stopped for so long that its lease ran out; meanwhile another one works on its job."""
    job_ids = [accept_one(ledger, image_id) for image_id in range(2)]
    late = work.claim()
    another.forfeit(work.claimant)
    held = another.claim()
    work.finish(late, [Done(job_ids[0], 7, None), PutBack(job_ids[1], 60.0)])
    assert [ledger.get(job_id).state for job_id in job_ids] == [JobState.DONE, JobState.QUEUED]
    assert another.finish(held, [Done(job_ids[0], 8, None)]) == 0
    assert ledger.get(job_ids[0]).seq == 7
    assert [job.job_id for job in another.claim().jobs] == job_ids[1:]


def test_unknown_jobs_change_nothing(ledger: JobLedger, work: WorkLedger, redis_server: RedisServer) -> None:
    known = accept_one(ledger)
    claim = work.claim()
    before = keys(redis_server)
    assert work.finish(Claim("another", [], 0), [Done("unknown", 1, None), PutBack("unknown")]) == 0
    assert keys(redis_server) == before
    with pytest.raises(UnknownJob):
        ledger.get("unknown")
    assert [job is None for job in ledger.get_many(["unknown", known])] == [True, False]
    assert work.finish(claim, [Done(known, 1, None)]) == 1


def test_jobs_that_were_put_back_wait_for_their_delay(ledger: JobLedger, work: WorkLedger) -> None:
    later, now, blamed = accept_one(ledger, 1), accept_one(ledger, 2), accept_one(ledger, 3)
    outcomes = [
        PutBack(later, 60.0, is_deferred=True),
        PutBack(now, is_deferred=True),
        PutBack(blamed, is_to_blame=True),
    ]
    work.finish(work.claim(), outcomes)
    assert {ledger.get(job_id).state for job_id in (later, now, blamed)} == {JobState.QUEUED}
    first = work.claim()
    assert [(job.job_id, job.attempts, job.deferrals) for job in first.jobs] == [(blamed, 1, 0)]
    second = work.finish_and_claim(first, [Done(blamed, 1, None)])
    assert [(job.job_id, job.attempts, job.deferrals) for job in second.jobs] == [(now, 0, 1)]
    assert work.finish_and_claim(second, [Done(now, 1, None)]).jobs == []
