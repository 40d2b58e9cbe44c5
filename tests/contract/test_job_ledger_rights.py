"""The job ledger and a user of Redis who lacks a right, from the start or from one moment to the next."""

from __future__ import annotations

import re
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis._parsers.base import BaseParser

from iqdb_core.errors import ConfigError, QueueRefused
from iqdb_core.jobs import Done, JobLedger, JobState, Keys, PutBack, RedisPort, WorkLedger
from iqdb_core.jobs.connection import raise_refused, translated
from iqdb_core.jobs.scripts import ALL, RIGHTS
from iqdb_core.model import Signature
from tests.fixtures.ledgers import accept_one, keys, payload_keys
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

ROOT = Path(__file__).parents[2]
SIGNATURE = Signature((0.5, 0.1, -0.1), struct.pack("<120h", *range(1, 121)))
OF_SCRIPTS = {
    command for script in ALL for command in re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", script.text)
} - {"PUBLISH"}  # words are hints
NEEDED = sorted(OF_SCRIPTS | {"MGET", "HGETALL"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), appendfsync="no")
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


@contextmanager
def without(server: RedisServer, *commands: str) -> Iterator[None]:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", *(f"-{command.lower()}" for command in commands))
        try:
            yield
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+@all")


def work_off(server: RedisServer, ledger: JobLedger, work: WorkLedger) -> None:
    """Do all that waits, each job with its bytes, and see that nothing is left over."""
    claim = work.claim()
    while claim.jobs:
        assert [job.payload for job in claim.jobs] == [b"image"] * len(claim.jobs)
        claim = work.finish_and_claim(claim, [Done(job.job_id, 1, SIGNATURE) for job in claim.jobs])
    depth = ledger.depth()
    assert (depth.queued, depth.running, depth.failed, depth.payload_bytes) == (0, 0, 0, 0)
    assert {count for count, _ in ledger.lanes().values()} == {0}
    with server.client() as client:
        assert [key for key in payload_keys(server) if client.ttl(key) < 0] == []
        is_known = {key: bool(client.zscore("iqdb:jobs", key[9:])) for key in keys(server) if ":job:" in key}
    assert all(is_known.values())


def test_every_command_that_a_script_runs_is_tried_before() -> None:
    assert set(re.findall(r"\{'([A-Z]+)'", RIGHTS.text)) >= OF_SCRIPTS


@pytest.mark.parametrize("command", NEEDED)
def test_a_right_that_is_missing_is_named_before_anything_is_taken(
    server: RedisServer, port: RedisPort, command: str
) -> None:
    with without(server, command):
        ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
        for call in (ledger.seed, lambda: accept_one(ledger), work.claim, lambda: work.sweep("w")):
            with pytest.raises(QueueRefused, match=rf"may not run .*\b{command}\b"):
                call()
    assert all(key.startswith("iqdb:tried:") for key in keys(server))
    accept_one(ledger)
    work_off(server, ledger, work)


def test_rights_that_are_missing_are_named_together(server: RedisServer, port: RedisPort) -> None:
    with without(server, "HSET", "PERSIST"), pytest.raises(QueueRefused) as refused:
        JobLedger(port, revision_floor=lambda: 0).seed()
    assert refused.value.mistake == "its user may not run PERSIST, HSET"


def test_a_user_of_other_keys_is_told_so(server: RedisServer) -> None:
    with server.client() as client:
        client.acl_setuser("other", enabled=True, passwords=["+right"], commands=["+@all"], keys=["other:*"])
    port = RedisPort.connect(server.url.replace("//", "//other:right@"))
    for call in (
        JobLedger(port, revision_floor=lambda: 0).seed,
        WorkLedger(port).claim,
        JobLedger(port).depth,
    ):
        with pytest.raises(QueueRefused) as refused:
            call()
        assert refused.value.mistake == "its user may not use the keys of the queue"
    port.close()


IN_SCRIPT = "ERR ACL failure in script: "


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        ("NOPERM this user has no permissions to run the 'exec' command or its subcommand", "run EXEC"),
        ("NOPERM User key has no permissions to run the 'exec' command", "run EXEC"),
        ("NOPERM No permissions to access a key", "use the keys of the queue"),
        ("NOPERM User iqdb has no permissions to access the 'a b' key", "use the keys of the queue"),
        (f"{IN_SCRIPT}User iqdb has no permissions to run the 'hset' command script: 1ef2", "run HSET"),
        (f"{IN_SCRIPT}No permissions to access a key script: 1ef2", "use the keys of the queue"),
    ],
)
def test_a_missing_right_is_understood_in_the_words_of_each_version(answer: str, mistake: str) -> None:
    with pytest.raises(QueueRefused) as refused, translated():
        raise BaseParser.parse_error(answer)
    assert refused.value.mistake == f"its user may not {mistake}"


def test_commands_that_a_newer_redis_refuses_are_named_before_keys() -> None:
    of_command, of_key = (
        f"{IN_SCRIPT}{what}".encode()
        for what in (
            "User iqdb has no permissions to run the 'zadd' command",
            "No permissions to access a key",
        )
    )
    with pytest.raises(QueueRefused) as refused:
        raise_refused([b"DEL", of_key, b"ZADD", of_command, b"ZREM", of_command])
    assert refused.value.mistake == "its user may not run ZADD, ZREM"


@pytest.mark.parametrize("command", sorted(OF_SCRIPTS))
def test_a_right_that_is_taken_away_loses_nothing(server: RedisServer, port: RedisPort, command: str) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    job_ids = [accept_one(ledger, image_id) for image_id in range(4)]
    claim = work.claim(2)
    with without(server, command):
        for image_id in (5, 6):
            with suppress(QueueRefused):
                job_ids.append(accept_one(ledger, image_id))
        with suppress(QueueRefused):
            work.finish(claim, [Done(job_ids[0], 1, SIGNATURE), PutBack(job_ids[1], is_deferred=True)])
    work.claim(1)
    with without(server, command), suppress(QueueRefused):
        work.claim()
    work_off(server, ledger, work)
    assert {job.state for job in ledger.get_many(job_ids) if job} == {JobState.DONE}
    assert accept_one(ledger)


@pytest.mark.parametrize("command", sorted(OF_SCRIPTS))
def test_a_right_that_is_taken_away_loses_nothing_that_was_put_back(
    server: RedisServer, port: RedisPort, command: str
) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    job_id = accept_one(ledger)
    work.finish(work.claim(), [PutBack(job_id, 0.01)])
    with server.client() as client:
        [(_, due_us)] = client.zrange("iqdb:later", 0, -1, withscores=True)
        wait_until(lambda: us_of(client) > due_us, 30)
    with without(server, command), suppress(QueueRefused):
        work.claim()
    work_off(server, ledger, work)
    job = ledger.get(job_id)
    assert job is not None
    assert job.state is JobState.DONE


@pytest.mark.parametrize("command", sorted(OF_SCRIPTS))
def test_a_right_that_is_taken_away_while_a_claim_is_given_back_leaves_nothing_behind(
    server: RedisServer, port: RedisPort, command: str
) -> None:
    ledger, work, other = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port), WorkLedger(port)
    job_id = accept_one(ledger)
    claim = work.claim()
    assert other.claim().jobs == []
    with without(server, command), suppress(QueueRefused):
        other.forfeit(work.claimant)
    work.finish(claim, [Done(job_id, 1, SIGNATURE)])  # it lives
    work_off(server, ledger, work)


@pytest.mark.parametrize("command", sorted(OF_SCRIPTS))
def test_a_right_that_is_taken_away_costs_no_blame(
    server: RedisServer, port: RedisPort, command: str
) -> None:
    ledger, work, other = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port), WorkLedger(port)
    job_id = accept_one(ledger)
    other.claim()
    work.forfeit(other.claimant)
    work.claim()
    with without(server, command), suppress(QueueRefused):
        work.claim()
    assert [(job.job_id, job.attempts) for job in work.claim().jobs] == [(job_id, 1)]


@pytest.mark.parametrize("command", sorted(OF_SCRIPTS))
def test_a_claim_that_is_refused_costs_no_blame_when_its_claimant_dies(
    server: RedisServer, port: RedisPort, command: str
) -> None:
    ledger, work, other = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port), WorkLedger(port)
    claim = other.claim()
    job_id = accept_one(ledger)
    with without(server, command), suppress(QueueRefused):
        claim = other.claim()
    if claim.jobs:
        return  # what it has it may be blamed for
    work.forfeit(other.claimant)
    assert [(job.job_id, job.attempts) for job in work.claim().jobs] == [(job_id, 0)]


def us_of(client: Redis) -> int:
    seconds, us = client.time()
    return int(seconds) * 10**6 + int(us)


@pytest.mark.parametrize("command", ["MULTI", "EXEC"])
def test_without_transactions_nothing_is_taken(server: RedisServer, port: RedisPort, command: str) -> None:
    with without(server, command):
        ledger = JobLedger(port, revision_floor=lambda: 0)
        for call in (ledger.seed, lambda: accept_one(ledger)):
            with pytest.raises(QueueRefused, match=f"its user may not run {command}: "):
                call()
    accept_one(ledger)
    assert ledger.depth().queued == 1
    work_off(server, ledger, WorkLedger(port))


@pytest.mark.parametrize("command", ["MULTI", "EXEC"])
def test_transactions_that_are_taken_away_are_not_tried_again_and_again(
    server: RedisServer, port: RedisPort, command: str
) -> None:
    """Each try would be accepted, and answered as if it were not."""
    ledger = JobLedger(port, revision_floor=lambda: 0)
    accept_one(ledger)
    with without(server, command):
        for _ in range(3):
            with pytest.raises(QueueRefused, match=f"its user may not run {command}: "):
                accept_one(ledger)
    assert ledger.depth().queued <= 2
    accept_one(ledger)
    work_off(server, ledger, WorkLedger(port))


def test_the_user_that_the_documents_propose_has_all_rights(tmp_path: Path) -> None:
    (line,) = re.findall(r"^    (user iqdb .+)$", (ROOT / "docs" / "celery.md").read_text(), re.MULTILINE)
    users = tmp_path / "users.acl"
    users.write_text(f"{line}\n")
    server = RedisServer(tmp_path / "redis", options=("--aclfile", str(users)))
    server.start()
    port = RedisPort.connect(server.url.replace("//", "//iqdb:PASSWORD@"))
    try:
        ledger = JobLedger(port, revision_floor=lambda: 0)
        accept_one(ledger)
        work_off(server, ledger, WorkLedger(port))
        with port.subscribe(Keys().finished_channel, is_confirmed=True) as subscription:
            message = subscription.get_message(timeout=5)
        assert message is not None
        assert message["type"] == "subscribe"
    finally:
        port.close()
        server.kill()


@pytest.mark.parametrize("name", ["HSET", "HGET"])
def test_a_command_of_scripts_that_a_server_does_not_know_is_a_mistake_of_settings(
    tmp_path: Path, name: str
) -> None:
    server = RedisServer(tmp_path / "redis", options=("--rename-command", name, ""))
    server.start()
    port = RedisPort.connect(server.url)
    try:
        for call in (JobLedger(port, revision_floor=lambda: 0).seed, WorkLedger(port).claim):
            with pytest.raises(ConfigError, match=f"lacks a command .*: {name}: "):
                call()
    finally:
        port.close()
        server.kill()
