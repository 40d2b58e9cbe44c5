"""Real worker processes on a real Redis: killed, restarted, poisoned and starved, with nothing lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING

import pytest

from iqdb_core.jobs import JobLedger, JobState
from iqdb_core.signature import from_image_bytes
from tests.fixtures.noise import noise_png
from tests.fixtures.plants import VISIBILITY_S, Plant
from tests.fixtures.poisoned_worker import HANGS, KILLS, SEGFAULTS, SLOW
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from iqdb_core.model import Signature
    from tests.fixtures.databases import PostgresServer
    from tests.fixtures.workers import WorkerProcess

pytestmark = pytest.mark.waits
IMAGES = [noise_png(seed) for seed in range(64)]
PATIENT = {"IQDB_VISIBILITY_TIMEOUT_S": "60", "IQDB_TASK_TIME_LIMIT_S": "45"}
"""For workers that are to reach no limit, also beside other load; a plant's own limits are hasty."""
PARTLY_SLOW = [SLOW + image if number % 8 == 0 else image for number, image in enumerate(IMAGES)]
"""A part is slow, so that something is in hand whenever a process or Redis dies."""


@cache
def signature(number: int) -> Signature:
    return from_image_bytes(IMAGES[number])


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path, f"sqlite:///{tmp_path}/images.sqlite")
    yield plant
    plant.close()


def test_jobs_of_every_outcome_go_through(plant: Plant) -> None:
    plant.start_worker().wait_ready()
    job_ids = plant.submit([*IMAGES[:40], b"no image"])
    plant.wait_final(job_ids)
    assert plant.states(job_ids) == ["done"] * 40 + ["failed"]
    for number, job in enumerate(plant.ledger.get_many(job_ids[:40])):
        assert job is not None
        assert job.signature == signature(number) == plant.store.get(number)
    failed = plant.ledger.get(job_ids[40])
    assert failed.reason
    plant.assert_clean()


def test_the_same_message_many_times_does_no_harm(plant: Plant) -> None:
    job_ids = plant.accept(IMAGES[:32])
    for _ in range(5):
        plant.sender.send(job_ids)
    plant.start_worker().wait_ready()
    plant.wait_final(job_ids)
    wait_until(lambda: plant.workers[0].text().count("succeeded") == 5, 30)
    assert plant.store.head_seq() == 32
    assert plant.stored_ids() == list(range(32))
    plant.assert_clean()


def test_jobs_whose_message_was_never_sent_are_done(plant: Plant) -> None:
    """The api was killed between accepting and sending."""
    job_ids = plant.accept(IMAGES[:40])
    plant.start_worker().wait_ready()
    plant.wait_final(job_ids, 6 * VISIBILITY_S)
    assert plant.states(job_ids) == ["done"] * 40
    plant.assert_clean()


def test_workers_killed_at_random_lose_nothing(plant: Plant) -> None:
    """Children and whole workers die again and again while jobs flow in; each job ends done, exactly once.

    A slow job may be in hand at any number of the deaths: here none is set aside for that.
    """
    plant.environment["IQDB_MAX_ATTEMPTS"] = "100"
    chance = random.Random(7)
    workers = [plant.start_worker(), plant.start_worker()]
    for worker in workers:
        worker.wait_ready()
    job_ids: list[str] = []
    for first_id in range(0, 640, 64):
        job_ids += plant.submit(PARTLY_SLOW, first_id=first_id)
        done = plant.states(job_ids).count("done")
        plant.wait_done(job_ids, done + 1)
        victim = chance.choice(workers)
        if chance.random() < 0.3:
            victim.kill()
            victim.start()
        else:
            victim.kill_child(chance.randrange(2))
    plant.wait_final(job_ids, 120)
    assert plant.states(job_ids) == ["done"] * 640
    assert plant.stored_ids() == list(range(640))
    assert all(plant.store.get(image_id) == signature(image_id % 64) for image_id in range(640))
    plant.assert_clean()


def test_a_killed_worker_leaves_nothing_among_the_temporary_files(plant: Plant, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    plant.environment["TMPDIR"] = str(temporary)
    for number in range(2):
        worker = plant.start_worker().wait_ready()
        plant.wait_final(plant.submit([IMAGES[number]], first_id=number))
        worker.kill()
        assert list(temporary.iterdir()) == []


def test_a_worker_killed_while_it_gave_messages_back_keeps_nobody_from_it(plant: Plant) -> None:
    """Celery's workers give back one at a time what the dead had in hand, under a lock in Redis."""
    worker = plant.start_worker().wait_ready()
    job_ids = plant.submit(PARTLY_SLOW)
    plant.wait_running(job_ids)
    worker.kill()
    plant.sender.take_lock_of_redelivery()
    plant.start_worker().wait_ready()
    plant.wait_final(job_ids)
    plant.assert_clean()


@pytest.mark.parametrize("poison", [KILLS, SEGFAULTS])
def test_a_payload_that_kills_its_process_is_set_aside_alone(plant: Plant, poison: bytes) -> None:
    plant.environment["IQDB_VISIBILITY_TIMEOUT_S"] = "600"  # a death is noticed, and not waited for
    worker = plant.start_worker().wait_ready()
    job_ids = plant.submit([*IMAGES[:10], poison, *IMAGES[10:20]])
    plant.wait_final(job_ids, 60)
    assert plant.states(job_ids) == ["done"] * 10 + ["failed"] + ["done"] * 10
    assert (
        plant.ledger.get(job_ids[10]).reason
        == "set aside: each of 3 tries ended its process, or could not read or store it"
    )
    assert f"job {job_ids[10]} of image 10 is set aside: " in worker.text()
    plant.assert_clean()


def test_every_death_of_a_process_is_noticed_by_the_next_sweep(plant: Plant) -> None:
    """Celery looks when the process has closed its files; on a busy machine that is before it has ended."""
    worker = plant.start_worker().wait_ready()
    for deaths in range(1, 9):
        assert worker.kill_child() is not None
        wait_until(partial(_has_lost, worker, deaths), 4, what=f"death {deaths} is noticed")


def _has_lost(worker: WorkerProcess, deaths: int) -> bool:
    return worker.text().count("exited with 'signal 9") == deaths


def test_a_payload_that_hangs_is_set_aside_by_the_time_limit(plant: Plant) -> None:
    plant.environment["IQDB_VISIBILITY_TIMEOUT_S"] = "600"
    plant.start_worker().wait_ready()
    job_ids = plant.submit([*IMAGES[:5], HANGS, *IMAGES[5:10]])
    plant.wait_final(job_ids, 20 * VISIBILITY_S)
    assert plant.states(job_ids) == ["done"] * 5 + ["failed"] + ["done"] * 5
    plant.assert_clean()


def test_a_redis_killed_and_restarted_is_found_again(plant: Plant) -> None:
    """Also while every process has a task in hand, whose acknowledgement then does not arrive."""
    worker = plant.start_worker().wait_ready()
    job_ids: list[str] = []
    for first_id in (0, 64, 128):
        job_ids += plant.submit(PARTLY_SLOW, first_id=first_id)
        plant.wait_running(job_ids)
        plant.redis.restart()
    plant.wait_final(job_ids, 20 * VISIBILITY_S)
    assert plant.stored_ids() == list(range(192))
    assert worker.is_running()
    plant.assert_clean()


def test_a_redis_that_is_away_for_long_is_waited_for(plant: Plant) -> None:
    worker = plant.start_worker().wait_ready()
    job_ids = plant.submit(PARTLY_SLOW)
    plant.wait_running(job_ids)
    plant.redis.kill()
    # Longer than a handler is patient: it gives up, and nobody can be told.
    wait_until(lambda: "raised expected: QueueUnavailable" in worker.text(), 30)
    # The next attempt comes 4 seconds after the second one, when the time limit of the tasks is over.
    wait_until(lambda: worker.text().count("Cannot connect to redis") >= 2, 30)
    plant.redis.start()
    plant.wait_final(job_ids, 20 * VISIBILITY_S)
    assert plant.states(job_ids) == ["done"] * 64
    _, (_, back) = logged(worker, "Connected to redis")
    ended = dict(logged(worker, "raised expected: QueueUnavailable"))
    for task, moment in logged(worker, "Hard time limit"):  # beside other load some may reach it
        if task in ended:
            comes_again = back + timedelta(seconds=VISIBILITY_S - 2)
            assert moment < ended[task] or moment >= comes_again, "the task had ended before"
    assert "PendingDeprecationWarning" not in worker.text()
    plant.assert_clean()


def logged(worker: WorkerProcess, words: str) -> list[tuple[str, datetime]]:
    """Return the tasks that such lines are about, if any, and when each line was written."""
    lines = [line for line in worker.text().splitlines() if words in line]
    return [
        (line.partition("iqdb.ingest[")[2].partition("]")[0], datetime.fromisoformat(line[:23]))
        for line in lines
    ]


def test_an_acknowledgement_that_redis_never_got_does_not_idle_the_worker(plant: Plant) -> None:
    """Redis is away while both tasks end, and back before the worker looks again.

    Celery then counts two messages as out for ever, which is all that it may have, and asks for no more.
    """
    plant.environment["IQDB_SWEEP_S"] = "6"
    worker = plant.start_worker().wait_ready()
    job_ids = plant.submit(PARTLY_SLOW)
    plant.wait_running(job_ids[32:])
    plant.redis.kill()
    wait_until(lambda: worker.text().count("Couldn't reject") == 2, 30, what="both acknowledgements lost")
    plant.redis.start()
    plant.wait_final(job_ids, 20 * VISIBILITY_S)
    assert plant.states(job_ids) == ["done"] * 64
    assert worker.text().count("Connected to redis") == 2
    plant.assert_clean()


@pytest.mark.parametrize(
    ("number", "is_group"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, True), (signal.SIGINT, True)],
)
def test_a_worker_told_to_end_finishes_what_it_has_in_hand(
    plant: Plant, number: signal.Signals, is_group: bool
) -> None:
    plant.environment |= PATIENT
    worker = plant.start_worker().wait_ready()
    job_ids = plant.submit(PARTLY_SLOW)
    plant.wait_running(job_ids, 32)
    if is_group:  # as honcho, systemd, Ctrl-C and a closed terminal do
        for pid in worker.children():
            os.kill(pid, number)
    assert worker.terminate(number=number) == 0
    assert "Traceback" not in worker.text()
    assert "running" not in plant.states(job_ids)
    jobs = [job for job in plant.ledger.get_many(job_ids) if job is not None]
    assert all(job.attempts == 0 for job in jobs)
    plant.start_worker().wait_ready()
    plant.wait_final(job_ids)
    plant.assert_clean()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_worker_that_has_nothing_to_do_ends_in_order(plant: Plant, number: signal.Signals) -> None:
    worker = plant.start_worker().wait_ready()
    wait_until(lambda: len(plant.ledger.workers()) == 1, 30)
    assert worker.terminate(number=number) == 0
    assert plant.ledger.workers() == {}
    assert worker.text().count("worker is ready") == 1
    assert ("as root: run it as a user without rights" in worker.text()) == (os.geteuid() == 0)
    assert "--uid" not in worker.text()


def test_a_worker_that_is_to_outlive_its_terminal_does(plant: Plant) -> None:
    """As `nohup` starts it: with SIGHUP ignored."""
    plant.environment["STARTED_BY"] = "Python anew, which inherits what is ignored"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        worker = plant.start_worker()
    finally:
        signal.signal(signal.SIGHUP, before)
    worker.wait_ready()
    children = worker.children()
    for pid in (*children, worker.pid):
        os.kill(pid, signal.SIGHUP)
    plant.wait_final(plant.submit(IMAGES))
    assert worker.children() == children
    assert worker.terminate() == 0


def test_a_worker_that_is_well_keeps_its_connection(plant: Plant) -> None:
    worker = plant.start_worker().wait_ready()
    plant.wait_final(plant.submit(IMAGES))
    ended_s = time.time()
    plant.wait_final(plant.submit(IMAGES))

    def has_swept_since() -> bool:
        return any(time.time() - age_s > ended_s + 2 for age_s in plant.ledger.workers().values())

    wait_until(has_swept_since, 30)
    assert worker.text().count("Connected to redis") == 1


def check_health(plant: Plant) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker.check"]
    environment = {**os.environ, **plant.environment, **PATIENT}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_workers_report_and_take_their_leave(plant: Plant) -> None:
    assert check_health(plant).returncode == 1
    worker = plant.start_worker().wait_ready()
    wait_until(lambda: len(plant.ledger.workers()) == 1, 30)
    assert next(iter(plant.ledger.workers())).endswith(f"-{worker.pid}")
    assert check_health(plant).returncode == 0
    worker.terminate()
    assert plant.ledger.workers() == {}
    gone = check_health(plant)
    assert (gone.returncode, gone.stderr) == (1, "no worker of this machine has reported lately\n")
    plant.redis.kill()
    away = check_health(plant)
    assert away.returncode == 1
    assert "Redis does not answer" in away.stderr


@pytest.mark.parametrize(
    ("name", "value", "status", "words"),
    [
        ("IQDB_TASK_TIME_LIMIT_S", "99", 2, "IQDB_TASK_TIME_LIMIT_S (99) must be below"),
        ("IQDB_REDIS_URL", "http://127.0.0.1", 2, "starts with redis://"),
        ("IQDB_DATABASE_URL", "mysql://127.0.0.1/x", 2, "mysql"),
        ("IQDB_DATABASE_URL", "redis/redis.log", 1, "redis.log"),
    ],
)
def test_settings_that_cannot_work_end_the_worker_at_once(
    plant: Plant, name: str, value: str, status: int, words: str
) -> None:
    is_file = "/" in value and "://" not in value
    plant.environment[name] = str(plant.redis.directory.parent / value) if is_file else value
    worker = plant.start_worker()
    assert worker.wait_end() == status
    assert words in worker.text()
    assert "Traceback" not in worker.text()


def test_a_database_that_restarts_costs_no_job(tmp_path: Path, private_postgres: PostgresServer) -> None:
    with private_postgres.fresh_database() as url:
        plant = Plant(tmp_path, url)
        try:
            plant.start_worker().wait_ready()
            job_ids = plant.submit(IMAGES)
            plant.wait_final(job_ids)
            private_postgres.kill()
            job_ids += plant.submit(IMAGES, first_id=64)
            wait_until(lambda: "jobs put back" in plant.workers[0].text(), 60)
            assert JobState.FAILED.value not in plant.states(job_ids)
            private_postgres.start()
            plant.wait_final(job_ids, 90)
            assert plant.stored_ids() == list(range(128))
            plant.assert_clean()
        finally:
            plant.close()


def test_a_worker_of_another_database_touches_nothing(plant: Plant, tmp_path: Path) -> None:
    store = plant.store
    JobLedger(plant.port, revision_floor=store.max_revision, store_id=lambda: store.store_id).seed()
    job_ids = plant.submit(IMAGES[:3])
    plant.environment["IQDB_DATABASE_URL"] = f"{tmp_path}/another.sqlite"
    worker = plant.start_worker().wait_ready()
    wait_until(lambda: "this worker does nothing" in worker.text(), 30)
    wait_until(lambda: worker.text().count("hold the queue of another database") >= 2, 60)
    assert plant.states(job_ids) == ["queued"] * 3
    assert plant.ledger.workers() == {}
