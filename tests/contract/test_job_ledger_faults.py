"""The job ledger when Redis restarts, loses everything, is full or is not there."""

from __future__ import annotations

import struct
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest
from redis._parsers.base import BaseParser

from api.roles.hints import HintListener
from iqdb_core.errors import ConfigError, QueueFull, QueueRefused, QueueUnavailable, WrongUsage
from iqdb_core.jobs import Claim, Done, JobLedger, JobState, Keys, PutBack, RedisPort, Submission, WorkLedger
from iqdb_core.jobs.connection import translated
from iqdb_core.jobs.scripts import ACCEPT
from iqdb_core.model import Signature
from tests.fixtures.http_peer import handled_by
from tests.fixtures.ledgers import keys, revision_given
from tests.fixtures.ports import free_port
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIGNATURE = Signature((0.5, 0.1, -0.1), struct.pack("<120h", *range(1, 121)))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def port(server: RedisServer) -> Iterator[RedisPort]:
    port = RedisPort.connect(server.url)
    yield port
    port.close()


def test_what_was_accepted_survives_a_kill_of_redis(server: RedisServer, port: RedisPort) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    accepted = ledger.accept(
        [Submission.of_image(image_id, bytes([image_id]) * 999) for image_id in range(200)]
    )
    job_ids = [one.job_id for one in accepted]
    work.finish(work.claim(20), [Done(job_id, 1, SIGNATURE) for job_id in job_ids[:20]])
    WorkLedger(port).claim(30)
    before = ledger.get_many(job_ids)
    server.restart()
    assert ledger.get_many(job_ids) == before
    depth = ledger.depth()
    assert (depth.running, depth.payload_bytes) == (30, 180 * 999)
    payloads: list[bytes] = []
    while jobs := (claim := work.claim()).jobs:
        payloads += [job.payload for job in jobs]
        work.finish(claim, [Done(job.job_id, 1, SIGNATURE) for job in jobs])
    assert payloads == [bytes([number]) * 999 for number in range(50, 200)]
    assert revision_given(ledger) > accepted[-1].revision


def test_revisions_rise_across_the_loss_of_everything(server: RedisServer, port: RedisPort) -> None:
    highest = 0

    def floor() -> int:
        return highest

    ledger = JobLedger(port, revision_floor=floor)
    highest = revision_given(ledger)
    server.lose_everything()
    again = revision_given(ledger)
    assert again > highest
    assert ledger.list().jobs[0].revision == again


def test_a_redis_that_is_away_is_said_so_and_found_again(server: RedisServer, port: RedisPort) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    job_id = ledger.accept([Submission.of_image(1, b"x")])[0].job_id
    server.kill()
    for call in (
        lambda: ledger.accept([Submission.of_image(1, b"x")]),
        lambda: ledger.get(job_id),
        ledger.list,
        ledger.depth,
        work.claim,
        lambda: work.finish(Claim("none", [], 0), [Done(job_id, 1, None)]),
        lambda: work.forfeit("somebody"),
        lambda: work.sweep("w"),
    ):
        with pytest.raises(QueueUnavailable):
            call()
    server.start()
    ledger.depth()
    assert ledger.get(job_id).state is JobState.QUEUED


def test_a_job_whose_payload_redis_could_not_take_is_not_accepted(
    server: RedisServer, port: RedisPort
) -> None:
    ledger = JobLedger(port, revision_floor=lambda: 0)
    ledger.seed()
    limits, job = (9, 999, 0, "", 0, Keys().queue), ("id", "image", "bulk", 1, 5, "", "")
    assert port.run(ACCEPT, "iqdb:", *limits, *job) == [b"unstaged"]
    assert ledger.list().jobs == []
    assert not {"iqdb:job:id", "iqdb:bytes"} & keys(server)


def test_a_redis_that_does_not_let_us_in_is_said_so_until_it_does(
    server: RedisServer, port: RedisPort
) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    ledger.accept([Submission.of_image(1, b"x")])
    with server.client() as client:
        client.acl_setuser("operator", enabled=True, passwords=["+right"], commands=["+@all"], keys=["*"])
        client.auth("right", "operator")
        for rights in (["-@all"], ["on", "nopass", "-evalsha"], ["off"]):
            client.execute_command("ACL", "SETUSER", "default", *rights)
            client.execute_command("CLIENT", "KILL", "USER", "default")
            for call in (lambda: ledger.accept([Submission.of_image(1, b"x")]), work.claim):
                with pytest.raises(QueueRefused):
                    call()
        assert ledger.refusal is not None
        assert ledger.refusal.mistake == "it does not accept the user or the password"
        client.execute_command("ACL", "SETUSER", "default", "on", "nopass", "+@all")
    assert [job.image_id for job in work.claim().jobs] == [1]


@pytest.mark.parametrize(
    "answer",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "READONLY You can't write against a read only replica. script: 1ef2, on @user_script:8.",
        "ERR Error running script (call to f_1ef2): @user_script: 8: -READONLY You can't write.",
        "LOADING Redis is loading the dataset in memory",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "NOREPLICAS Not enough good replicas to write.",
        "DENIED Redis is running in protected mode because protected mode is enabled",
        "NOPERM this user has no permissions to run the 'evalsha' command",
        "ERR The user executing the script can't access at least one of the keys mentioned in the command",
        "ERR The user executing the script can't run this command or subcommand script: 1ef2",
        "ERR ACL failure in script: User iqdb has no permissions to run the 'hset' command script: 1ef2",
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "ERR max number of clients reached",
    ],
)
def test_what_redis_says_when_it_cannot_serve_is_understood(answer: str) -> None:
    """In the words of Redis 6 and 7, as the client library hands them on."""
    with pytest.raises(QueueUnavailable), translated():
        raise BaseParser.parse_error(answer)


def test_scripts_that_redis_forgot_are_sent_again(server: RedisServer, port: RedisPort) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    ledger.accept([Submission.of_image(1, b"x")])
    with server.client() as client:
        client.script_flush()
    job_id = ledger.accept([Submission.of_image(1, b"x")])[0].job_id
    with server.client() as client:
        client.script_flush()
    claim = work.claim()
    assert [job.job_id for job in claim.jobs][1:] == [job_id]
    with server.client() as client:
        client.script_flush()
    assert work.finish_and_claim(claim, [Done(job_id, 1, None)]).jobs[0].image_id == 1


def test_a_redis_that_another_taught_again_what_it_forgot_keeps_the_blame(
    server: RedisServer, port: RedisPort
) -> None:
    ledger, work, other = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port), WorkLedger(port)
    job_id = ledger.accept([Submission.of_image(1, b"x")])[0].job_id
    claim = work.claim()
    with server.client() as client:
        client.script_flush()
    assert other.claim().jobs == []
    again = work.finish_and_claim(claim, [PutBack(job_id, is_to_blame=True)])
    assert [(job.job_id, job.attempts) for job in again.jobs] == [(job_id, 1)]


def test_a_full_redis_refuses_new_jobs_and_lets_workers_free_it(server: RedisServer, port: RedisPort) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    job_ids = [one.job_id for one in ledger.accept([Submission.of_image(1, b"x" * 100_000)] * 40)]
    with server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
        for refused in (Submission.of_image(2, b"x" * 1000), Submission.of_delete(2)):
            with pytest.raises((QueueUnavailable, QueueFull)):
                ledger.accept([refused])
        assert ledger.depth().queued == 40
        # Starting, finishing and sweeping go on: they are what makes room.
        claim = work.claim()
        assert [job.payload for job in claim.jobs] == [b"x" * 100_000] * 32
        work.finish(claim, [PutBack(job_ids[0]), *(Done(one, 1, SIGNATURE) for one in job_ids[1:32])])
        assert work.sweep("w") == 1
        assert len(work.claim().jobs) == 9
    wait_until(lambda: is_accepted(ledger), 30)


def test_a_server_whose_memory_may_not_be_asked_for_takes_jobs(server: RedisServer, port: RedisPort) -> None:
    ledger = JobLedger(port, revision_floor=lambda: 0)
    ledger.seed()
    with server.client() as client:
        client.config_set("maxmemory", 2**30)
        assert port.memory() is not None
        client.execute_command("ACL", "SETUSER", "default", "-info")
    assert port.memory() is None
    assert ledger.accept([Submission.of_image(1, b"x")])


def test_a_server_that_would_forget_jobs_takes_none(server: RedisServer, port: RedisPort) -> None:
    def is_refused(call: Callable[[], object], policy: str = "allkeys-lru") -> bool:
        try:
            call()
        except QueueUnavailable as error:
            return f"its maxmemory-policy is {policy}; set noeviction" in str(error)
        return False

    ledger = JobLedger(port, revision_floor=lambda: 0)
    ledger.seed()
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert ledger.accept([Submission.of_image(1, b"x")])  # without a limit it forgets nothing
        client.config_set("maxmemory", 2**30)
        wait_until(lambda: is_refused(lambda: ledger.accept([Submission.of_image(1, b"x")])), 30)
        assert is_refused(JobLedger(port, revision_floor=lambda: 0).seed)  # said at the start of a front end
        client.config_set("maxmemory-policy", "allkeys-random")
        assert is_refused(JobLedger(port, revision_floor=lambda: 0).seed, "allkeys-random")
        for other in ("noeviction", "volatile-lru"):
            client.config_set("maxmemory-policy", other)
            wait_until(lambda: is_accepted(ledger), 30)


def test_work_goes_on_without_rights_to_channels(server: RedisServer, port: RedisPort) -> None:
    ledger, work = JobLedger(port, revision_floor=lambda: 0), WorkLedger(port)
    job_id = ledger.accept([Submission.of_image(1, b"x")])[0].job_id
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-publish", "resetchannels")
    work.finish(work.claim(), [Done(job_id, 1, SIGNATURE)])
    assert ledger.get(job_id).state is JobState.DONE
    assert work.claim().jobs == []


@pytest.fixture
def renamed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisPort]:
    """A port to a server that does not know a command by its name."""
    server = RedisServer(tmp_path / "redis", options=("--rename-command", request.param, ""))
    server.start()
    port = RedisPort.connect(server.url)
    yield port
    port.close()
    server.kill()


@pytest.mark.parametrize("renamed", ["INFO"], indirect=True)
def test_a_server_that_does_not_know_info_takes_jobs(renamed: RedisPort) -> None:
    ledger = JobLedger(renamed, revision_floor=lambda: 0)
    ledger.seed()
    assert renamed.memory() is None
    assert ledger.accept([Submission.of_image(1, b"x")])


@pytest.mark.parametrize("renamed", ["EVAL", "EVALSHA"], indirect=True)
def test_a_server_without_a_command_that_is_needed_is_a_mistake_of_settings(renamed: RedisPort) -> None:
    ledger, work = JobLedger(renamed, revision_floor=lambda: 0), WorkLedger(renamed)
    for call in (ledger.seed, work.claim, lambda: work.sweep("w")):
        with pytest.raises(ConfigError, match="lacks a command"):
            call()


def test_another_server_is_noticed_also_by_who_had_nothing_to_do_meanwhile(
    server: RedisServer, port: RedisPort
) -> None:
    in_store = [0]
    ledger = JobLedger(port, revision_floor=lambda: in_store[-1])
    ledger.seed()
    in_store.append(revision_given(ledger) + 10**9)
    server.restart()
    assert revision_given(ledger) > in_store[-1]


def test_another_server_is_noticed_also_in_the_middle_of_a_large_batch(
    server: RedisServer, port: RedisPort
) -> None:
    in_store = [0]
    ledger = JobLedger(port, revision_floor=lambda: in_store[-1])
    ledger.seed()
    in_store.append(revision_given(ledger) + 10**9)
    server.restart()
    in_pieces = [Submission.of_image(1, b"x" * 3 * 2**20)] * 2
    assert ledger.accept(in_pieces)[0].revision > in_store[-1]


def test_another_server_is_noticed_also_in_the_middle_of_seeding(
    server: RedisServer, port: RedisPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_store = [0]
    ledger = JobLedger(port, revision_floor=lambda: in_store[-1])
    seed_revision_floor = ledger.seed_revision_floor

    def seed_the_one_before(revision: int) -> None:
        seed_revision_floor(revision)
        monkeypatch.undo()
        in_store.append(time.time_ns() // 1000 + 10**9)
        server.restart()

    monkeypatch.setattr(ledger, "seed_revision_floor", seed_the_one_before)
    ledger.seed()
    assert revision_given(ledger) > in_store[-1]


def test_connections_that_were_closed_at_rest_cost_no_call(server: RedisServer, port: RedisPort) -> None:
    ledger = JobLedger(port, revision_floor=lambda: 0)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: ledger.accept([Submission.of_image(1, b"x")]), range(64)))
        with server.client() as client:
            for _ in range(3):
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                list(threads.map(lambda _: ledger.accept([Submission.of_image(1, b"x")]), range(8)))
    assert ledger.depth().queued == 64 + 24


def test_a_server_that_may_not_be_asked_who_it_is_is_taken_for_another_after_each_break(
    server: RedisServer, port: RedisPort
) -> None:
    """A replica that took over may lack the newest revisions, and nobody could tell."""
    in_store = [0]
    ledger = JobLedger(port, revision_floor=lambda: in_store[-1])
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-info")
        ledger.seed()
        in_store.append(revision_given(ledger) + 10**9)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert revision_given(ledger) > in_store[-1]


def is_accepted(ledger: JobLedger) -> bool:
    try:
        return bool(ledger.accept([Submission.of_image(2, b"x" * 1000)]))
    except (QueueUnavailable, QueueFull):
        return False


def test_a_redis_that_nobody_started_is_unavailable_at_once() -> None:
    port = RedisPort.connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(QueueUnavailable):
        JobLedger(port).depth()
    port.close()


@pytest.mark.parametrize(
    "url",
    [
        *("", "http://127.0.0.1", "unix:///tmp/redis", "redis://127.0.0.1:port/0"),
        *("redis://[", "redis://h/x", "redis://h?y=1"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(WrongUsage):
        RedisPort.connect(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://:sekret@127.0.0.1:1/0", "http://me:sekret@h", ":sekret@h", "http://h?password=sekret@h"),
        *("sentinel://:sekret@/0", "sentinel://a;sentinel://:sekret@/0", "sentinel://:sekret@h/x"),
        *("redis://:sekret@h:port/0", "redis://:sekret@h/x", "redis://:sekret@h?y=1"),
        *(
            "redis://:sekret/more@h/0",
            "redis://:more/sekret@h/0",
            "redis://:a#sekret@h/0",
            "redis://[:sekret@h",
        ),
    ],
)
def test_a_refused_address_is_told_without_its_password(url: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        RedisPort.connect(url, sentinel_master="mymaster")
    assert "sekret" not in str(refused.value)
    assert "me:" not in str(refused.value)


def test_what_is_wrong_with_an_address_is_still_said() -> None:
    with pytest.raises(WrongUsage, match=r"not 'http://127\.0\.0\.1:1'"):
        RedisPort.connect("http://:sekret@127.0.0.1:1/0")


@pytest.fixture
def web_port() -> Iterator[int]:
    """The port of a web server."""
    with handled_by(BaseHTTPRequestHandler) as port:
        yield port


def test_something_else_at_the_address_is_said_not_to_be_redis(web_port: int) -> None:
    url = f"redis://127.0.0.1:{web_port}/0"
    port = RedisPort.connect(url)
    hints = HintListener(RedisPort.connect(url), "channel", print)
    try:
        for call in (JobLedger(port, revision_floor=lambda: 0).seed, WorkLedger(port).claim):
            with pytest.raises(QueueUnavailable, match="not Redis"):
                call()
        wait_until(lambda: hints.breaks >= 2, 30)
    finally:
        hints.close()
        port.close()


def test_a_message_that_nobody_of_ours_sent_costs_no_hint_after_it(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    began: list[bool] = []
    hints = HintListener(
        RedisPort.connect(server.url),
        "channel",
        lambda data: heard.append(data.decode()),
        on_connect=lambda: began.append(True),
    )
    try:
        with server.client() as client:
            wait_until(lambda: began, 30)
            client.publish("channel", b"\xff")
            wait_until(lambda: len(began) == 2, 30, what="it listens again")
            client.publish("channel", b"heard")
            wait_until(lambda: heard == ["heard"], 30)
    finally:
        hints.close()
    assert hints.breaks == 1
    assert "UnicodeDecodeError" in caplog.text
