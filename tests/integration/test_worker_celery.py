"""Celery's own tools against a worker that Celery's own command started."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from iqdb_core.jobs import JobLedger, JobState, RedisPort, Submission
from iqdb_core.store import open_store
from tests.fixtures.command_line import Running
from tests.fixtures.noise import noise_png
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_until
from tests.fixtures.workers import Sender, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.waits

CELERY = ("-A", "worker.celery")
OPTIONS = ("--loglevel", "info", "--autoscale", "2,1", "-Q", "iqdb", "-n", "tester@here")


class Station:
    """A Redis, a store and one worker of Celery's own command.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis = RedisServer(folder / "redis")
        self.redis.start()
        self.environment = {
            "IQDB_DATABASE_URL": f"{folder}/images.sqlite",
            "IQDB_REDIS_URL": self.redis.url,
            "IQDB_SWEEP_S": "0.5",
        }
        store = open_store(self.environment["IQDB_DATABASE_URL"])
        floor = store.max_revision()
        store.close()
        self.port = RedisPort.connect(self.redis.url)
        self.ledger = JobLedger(self.port, revision_floor=lambda: floor)
        self.sender = Sender(self.redis.url)
        self.worker = WorkerProcess(
            folder / "worker.log",
            self.environment,
            module="celery",
            arguments=[*CELERY, "worker", *OPTIONS],
        ).start()

    def celery(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "celery", *CELERY, *arguments],
            env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def answer(self, *arguments: str) -> str:
        """Return what a command says that ends by itself."""
        with Running(*CELERY, *arguments, module="celery", environment=self.environment) as process:
            process.wait_end()
            return process.printed() + process.errors()

    def add(self, image_id: int) -> str:
        job_id = self.ledger.accept([Submission.of_image(image_id, noise_png(image_id))])[0].job_id
        self.sender.send([job_id])
        return job_id

    def wait_done(self, job_id: str) -> None:
        wait_until(lambda: self.ledger.get(job_id).state is JobState.DONE, 60, what=job_id)

    def close(self) -> None:
        self.worker.kill()
        self.sender.close()
        self.port.close()
        self.redis.kill()


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    station = Station(tmp_path_factory.mktemp("station"))
    try:
        station.worker.wait_ready()
        yield station
    finally:
        station.close()


def test_inspect_and_control_reach_the_worker(station: Station) -> None:
    # To one worker by name: a call to all listens for answers until its time is over.
    named = ("--destination", "tester@here", "--timeout", "20")
    assert "tester@here: OK" in station.answer("inspect", "ping", *named)
    assert "iqdb.ingest" in station.answer("inspect", "registered", *named)
    assert "new rate limit set" in station.answer("control", "rate_limit", *named, "iqdb.ingest", "1000/s")


def test_events_tell_of_tasks(station: Station) -> None:
    """As flower and exporters read them."""
    events = station.celery("events", "--dump")
    assert events.stdout is not None
    try:
        line = events.stdout.readline()
        while "->" not in line and "evdump" not in line:
            line = events.stdout.readline()
        heard = ""
        number = 0
        while "task succeeded: iqdb.ingest" not in heard:
            # Until it listens it misses what is said; each line that comes is at least a heartbeat.
            number += 1
            station.wait_done(station.add(number))
            heard += events.stdout.readline()
        assert "tester@here" in heard
    finally:
        events.kill()
        events.communicate()


def test_it_is_reached_again_after_redis_was_killed(station: Station) -> None:
    """With a message in hand: the task that has done the first image still listens."""
    station.wait_done(station.add(100))
    station.redis.restart()
    station.wait_done(station.add(101))  # perhaps by a task that was listening: Celery itself may need longer
    wait_until(lambda: "tester@here: OK" in station.answer("inspect", "ping", "--timeout", "5"), 60)


def test_settings_that_cannot_work_are_a_sentence(station: Station) -> None:
    station.environment["IQDB_SWEEP_S"] = "soon"
    try:
        answer = station.answer("inspect", "ping")
    finally:
        station.environment["IQDB_SWEEP_S"] = "0.5"
    assert "iqdb: IQDB_SWEEP_S must be a number" in answer
    assert "Traceback" not in answer
