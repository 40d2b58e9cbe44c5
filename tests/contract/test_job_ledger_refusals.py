"""The job ledger and a Redis that answers and refuses: by its policy, for lack of a right, or of a script."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from api.roles.remote_collectors import QueueCollector
from api.web.errors import message_of
from iqdb_core.errors import ForeignQueue, QueueFull, QueueRefused, QueueUnavailable
from iqdb_core.jobs import JobLedger, Keys, Lane, PutBack, QueueLimits, RedisPort, Submission, WorkLedger
from tests.fixtures.ledgers import accept_one
from tests.fixtures.redis import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = 100


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", appendfsync="no")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def port(server: RedisServer) -> Iterator[RedisPort]:
    port = RedisPort.connect(server.url)
    yield port
    port.close()


# Whose queue it is.


def test_a_start_that_fails_for_the_policy_has_learned_whose_queue_it_is(
    server: RedisServer, port: RedisPort
) -> None:
    JobLedger(port, revision_floor=lambda: 0, store_id=lambda: "mine").seed()
    yours = JobLedger(port, revision_floor=lambda: 0, store_id=lambda: "yours")
    WorkLedger(port, store_id=lambda: "mine").sweep("w")
    with server.client() as client:
        client.config_set("maxmemory", 2**30)
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(QueueUnavailable):
            yours.seed()
        client.config_set("maxmemory-policy", "noeviction")
    with pytest.raises(ForeignQueue):
        accept_one(yours)


def test_a_start_that_fails_without_redis_has_learned_for_whom_it_accepts(
    server: RedisServer, port: RedisPort
) -> None:
    JobLedger(port, revision_floor=lambda: 0, store_id=lambda: "mine").seed()
    WorkLedger(port, store_id=lambda: "mine").sweep("w")
    yours = JobLedger(port, revision_floor=lambda: 0, store_id=lambda: "yours")
    server.kill()
    with pytest.raises(QueueUnavailable):
        yours.seed()
    server.start()
    with pytest.raises(ForeignQueue):
        accept_one(yours)


# Who looks sees that it refuses.


def is_up(ledger: JobLedger) -> bool:
    metrics = {family.name: family for family in QueueCollector(ledger).collect()}
    return metrics["iqdb_queue_up"].samples[0].value == 1


@pytest.mark.parametrize(
    ("begin", "end", "mistake"),
    [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "it is a replica, which takes no writes"),
        ("ACL SETUSER default -zadd", "ACL SETUSER default +@all", "its user may not run ZADD"),
        (
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
            "it has too few replicas",
        ),
    ],
)
def test_a_refusal_shows_until_jobs_are_taken(
    server: RedisServer, port: RedisPort, caplog: pytest.LogCaptureFixture, begin: str, end: str, mistake: str
) -> None:
    ledger = JobLedger(port, revision_floor=lambda: 0)
    accept_one(ledger)
    assert ledger.refusal is None
    assert is_up(ledger)
    with server.client() as client:
        client.execute_command(*begin.split())
        for _ in range(3):
            with pytest.raises(QueueRefused):
                accept_one(ledger)
        assert ledger.refusal is not None
        assert ledger.refusal.mistake == mistake
        assert message_of(ledger.refusal) == f"the queue takes nothing now: {mistake}"
        assert not is_up(ledger)
        assert caplog.text.count(f"the queue takes nothing: Redis refuses for now: {mistake}: ") == 1
        assert "staged:" not in caplog.text, "it shows the command, with the image"
        client.execute_command(*end.split())
    accept_one(ledger)
    assert ledger.refusal is None
    assert is_up(ledger)


def test_a_refusal_shows_also_where_bodies_are_not_read_any_more(
    server: RedisServer, port: RedisPort
) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 2**30)
        client.config_set("maxmemory-policy", "allkeys-lru")
    ledger = JobLedger(port, revision_floor=lambda: 0)
    with pytest.raises(QueueRefused):
        ledger.check_capacity(1, 1, Lane.BULK)
    assert ledger.refusal is not None
    assert ledger.refusal.mistake == "its maxmemory-policy is allkeys-lru; set noeviction"
    assert not is_up(ledger)


def test_a_refusal_ends_also_where_the_queue_is_full(server: RedisServer, port: RedisPort) -> None:
    ledger, other = (
        JobLedger(port, limits=QueueLimits(max_jobs=1), revision_floor=lambda: 0) for _ in range(2)
    )
    calls = (lambda: ledger.check_capacity(1, 1, Lane.BULK), lambda: accept_one(ledger))
    with server.client() as client:
        for call in calls:
            client.config_set("min-replicas-to-write", 1)
            with pytest.raises(QueueRefused):
                accept_one(ledger)
            client.config_set("min-replicas-to-write", 0)
            with suppress(QueueFull):
                accept_one(other)
            client.config_set("min-replicas-to-write", 1)
            with pytest.raises((QueueFull, QueueRefused)):
                call()
            assert ledger.refusal is not None
            client.config_set("min-replicas-to-write", 0)
            with pytest.raises(QueueFull):
                call()
            assert ledger.refusal is None


def test_a_foreign_queue_that_is_full_stays_foreign(port: RedisPort) -> None:
    mine, yours = (
        JobLedger(
            port, limits=QueueLimits(max_jobs=1), revision_floor=lambda: 0, store_id=lambda store=name: store
        )
        for name in ("mine", "yours")
    )
    accept_one(mine)
    with pytest.raises(ForeignQueue):
        yours.seed()
    with pytest.raises(QueueFull):
        yours.check_capacity(1, 1, Lane.BULK)
    assert isinstance(yours.refusal, ForeignQueue)


def test_a_queue_that_has_no_room_for_what_redis_copies_is_full(server: RedisServer, port: RedisPort) -> None:
    """Redis holds a large payload twice while it comes in: its refusal looks as if somebody had to help."""
    with server.client() as client:
        client.config_set("maxmemory", 20_000_000)
    ledger = JobLedger(port, revision_floor=lambda: 0)
    with pytest.raises(QueueFull, match=r"no memory left for this: [0-9,]+ of 20,000,000 bytes"):
        accept_one(ledger, data=bytes(10_000_000))
    assert ledger.refusal is None


def test_a_redis_that_would_forget_accepted_jobs_is_named_once(
    server: RedisServer, port: RedisPort, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = JobLedger(port, revision_floor=lambda: 0)
    ledger.seed()
    assert (ledger.risk, caplog.text) == ("", "")
    with server.client() as client:
        client.config_set("appendonly", "no")
        for _ in range(2):
            ledger.seed()
        assert ledger.risk == "it keeps no append-only file; set appendonly yes"
        assert caplog.text.count(f"accepted jobs are lost if Redis ends: {ledger.risk}") == 1
        client.config_set("appendonly", "yes")
    ledger.seed()
    assert ledger.risk == ""


# Scripts that it forgot.


def test_a_redis_that_forgets_scripts_again_and_again_costs_no_call_and_no_blame(
    server: RedisServer, port: RedisPort
) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    elsewhere = JobLedger(port, revision_floor=lambda: 0, keys=Keys("other:"))
    stopping = threading.Event()

    def forget() -> None:
        other = WorkLedger(RedisPort.connect(server.url))
        with server.client() as client:
            while not stopping.is_set():
                client.script_flush()
                other.claim()  # who teaches it scripts again

    thread = threading.Thread(target=forget)
    job_id = accept_one(ledger)
    claim = work.claim()
    thread.start()
    try:
        for blamed in range(1, ROUNDS + 1):
            elsewhere.accept([Submission.of_delete(2)])
            claim = work.finish_and_claim(claim, [PutBack(job_id, is_to_blame=True)], 1)
            assert [(job.job_id, job.attempts) for job in claim.jobs] == [(job_id, blamed)]
    finally:
        stopping.set()
        thread.join()


def test_a_full_redis_that_forgot_its_scripts_lets_workers_free_it(
    server: RedisServer, port: RedisPort
) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    job_ids = [accept_one(ledger, image_id, b"x" * 10_000) for image_id in range(2)]
    claim = work.claim(1)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        for _ in range(2):  # also while it knows them
            claim = work.finish_and_claim(claim, [PutBack(claim.jobs[0].job_id)], 1)
            assert claim.jobs[0].job_id == job_ids[0]
            client.script_flush()
