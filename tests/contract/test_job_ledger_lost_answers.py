"""What the ledger sends may be done in part, or whole, before its answer is lost: nothing comes of it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from iqdb_core.jobs import (
    Done,
    Failed,
    JobLedger,
    JobState,
    Lane,
    PutBack,
    RedisPort,
    Retention,
    Submission,
    WorkLedger,
)
from iqdb_core.model import Signature
from tests.fixtures.cutting_proxy import CuttingProxy
from tests.fixtures.ledgers import keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.redis import RedisServer

SIGNATURE = Signature((0.5, 0.1, -0.1), struct.pack("<120h", *range(1, 121)))
MOST_COMMANDS = 100


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(redis_server.port) as proxy:
        yield proxy


def walk(ledger: JobLedger, work: WorkLedger, another: WorkLedger) -> None:
    """Take jobs through every call of both sides, and check what each of them answers."""
    accepted = ledger.accept_all(
        [
            Submission.of_image(1, b"one" * 10, source="here"),
            Submission.of_image(2, b"two" * 10),
            Submission.of_delete(3),
            Submission.of_image(4, b"four" * 10, lane=Lane.INTERACTIVE),
        ]
    )
    first, second, third, interactive = accepted.jobs
    revisions = [one.revision for one in accepted.jobs]
    assert revisions == list(range(revisions[0], revisions[0] + 4))
    assert (accepted.missing_messages, accepted.queue_jobs, accepted.queue_bytes) == (1, 4, 100)
    assert work.sweep("w") == 1
    claim = work.claim()
    assert [(job.job_id, job.payload, job.attempts) for job in claim.jobs] == [
        (interactive.job_id, b"four" * 10, 0)
    ]
    claim = work.finish_and_claim(claim, [Done(interactive.job_id, 1, SIGNATURE)])
    assert [(job.job_id, job.attempts, job.source) for job in claim.jobs] == [
        (first.job_id, 0, "here"),
        (second.job_id, 0, None),
        (third.job_id, 0, None),
    ]
    another.forfeit(work.claimant)
    others = another.claim()  # it is their turn
    assert [(job.job_id, job.attempts) for job in others.jobs] == [(third.job_id, 0)]
    suspect = another.finish_and_claim(others, [Done(third.job_id, 2, None)])
    assert [(job.job_id, job.attempts) for job in suspect.jobs] == [(first.job_id, 1)]
    suspect = another.finish_and_claim(suspect, [Failed(first.job_id, "broken")])
    assert [(job.job_id, job.attempts) for job in suspect.jobs] == [(second.job_id, 1)]
    again = another.finish_and_claim(suspect, [PutBack(second.job_id, is_deferred=True)])
    assert [(job.job_id, job.attempts, job.deferrals) for job in again.jobs] == [(second.job_id, 1, 1)]
    another.finish(again, [Done(second.job_id, 3, SIGNATURE)])
    states = [job.state for job in ledger.get_many([one.job_id for one in accepted.jobs]) if job]
    assert states == [JobState.FAILED, JobState.DONE, JobState.DONE, JobState.DONE]
    assert [job.job_id for job in ledger.list(JobState.DONE).jobs] == [
        interactive.job_id,
        third.job_id,
        second.job_id,
    ]
    work.leave("w")


def test_each_answer_and_each_command_lost_once(redis_server: RedisServer, proxy: CuttingProxy) -> None:
    """Cut before each of all commands, and after the last one of each round trip."""
    for number in range(MOST_COMMANDS):
        with redis_server.client() as client:
            client.flushall()
        port, other = RedisPort.connect(proxy.url), RedisPort.connect(proxy.url)
        ledger = JobLedger(port, revision_floor=lambda: 0)
        ledger.depth()
        other.read([("PING",)])
        ledger.seed()
        proxy.cut_after(number)
        before = proxy.cuts
        walk(ledger, WorkLedger(port), WorkLedger(other, retention=Retention(done_s=3600)))
        port.close()
        other.close()
        left = {key for key in keys(redis_server) if ":job:" not in key}
        assert left <= {
            *("iqdb:clock", "iqdb:finish_clock", "iqdb:bytes", "iqdb:drain", "iqdb:turn", "iqdb:suspect"),
            *("iqdb:jobs", "iqdb:jobs:done", "iqdb:jobs:failed"),
        }
        with redis_server.client() as client:
            assert client.get("iqdb:bytes") == b"0"
        if proxy.cuts == before:
            break
    assert 25 < number < MOST_COMMANDS - 1  # each of them was cut, and the last walk was not


def test_a_payload_sent_again_to_an_accepted_job_does_not_expire(
    redis_server: RedisServer, proxy: CuttingProxy
) -> None:
    """The pipeline is repeated because its answer was lost: accepted already, and the payload comes again."""
    with redis_server.client() as client:
        client.flushall()
    port = RedisPort.connect(proxy.url)
    ledger = JobLedger(port, revision_floor=lambda: 0)
    ledger.seed()
    proxy.cut_after(2)  # SET, the script
    job_id = ledger.accept([Submission.of_image(1, b"x")])[0].job_id
    assert proxy.cuts == 1
    with redis_server.client() as client:
        assert client.ttl(f"iqdb:payload:{job_id}") == -1
        assert not client.exists(f"iqdb:staged:{job_id}")
    port.close()
