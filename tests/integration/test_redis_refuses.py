"""Real workers on a Redis that is there and refuses to serve: it is full, or the replica of another."""

from __future__ import annotations

import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from api.web.errors import status_of
from iqdb_core.errors import QueueFull
from iqdb_core.jobs import JobLedger, Keys, Lane, Submission
from tests.fixtures.cluster import running_cluster
from tests.fixtures.http_peer import handled_by
from tests.fixtures.noise import noise_png
from tests.fixtures.plants import Plant
from tests.fixtures.poisoned_worker import SLOW
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.waits
FILLER = b"no image" + bytes(500_000)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path, f"sqlite:///{tmp_path}/images.sqlite")
    yield plant
    plant.close()


def goes_through(plant: Plant, image_id: int) -> None:
    job_ids = plant.submit([noise_png(image_id)], first_id=image_id)
    plant.wait_done(job_ids, 1, 90)


def test_a_worker_outlives_a_master_that_becomes_a_replica(plant: Plant) -> None:
    plant.environment["IQDB_SWEEP_S"] = "30"  # not the sweep: Redis ends the wait of Celery itself
    worker = plant.start_worker().wait_ready()
    goes_through(plant, 1)
    with plant.redis.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        wait_until(
            lambda: "Trying again in" in worker.text() or not worker.is_running(), 60, what="it is refused"
        )
        client.execute_command("REPLICAOF", "NO", "ONE")
    goes_through(plant, 2)
    assert worker.is_running()
    assert "Unrecoverable" not in worker.text()
    assert "Frequent restarts" not in worker.text()


def test_items_of_the_queue_that_are_no_messages_are_left_out(plant: Plant) -> None:
    worker = plant.start_worker().wait_ready()
    goes_through(plant, 1)
    items = [b"garbage", b"\xff", b"{}", b"[1]", b"null", b'{"properties": {"delivery_tag": 1}}']
    items.append(b'{"body": "W10=", "properties": {"delivery_tag": "x", "body_encoding": "rot13"}}')
    with plant.redis.client() as client:
        client.lpush(Keys().queue, *items)
        wait_until(lambda: worker.text().count("was left out") == len(items), 60)
        goes_through(plant, 2)
        assert client.llen(Keys().queue) == 0
    assert worker.text().count("Connected to redis") == 1
    assert "Traceback" not in worker.text()
    plant.assert_clean()


def fill(ledger: JobLedger) -> list[str]:
    """Accept until the queue is full, and return the ids of the jobs."""
    job_ids: list[str] = []
    while len(job_ids) < 1000:
        try:
            job_ids += [one.job_id for one in ledger.accept([Submission.of_image(len(job_ids), FILLER)])]
        except QueueFull:
            break
    return job_ids


def test_a_full_redis_is_drained_by_a_worker_that_starts_on_it(plant: Plant) -> None:
    with plant.redis.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 16 * 1024 * 1024)
    job_ids = fill(plant.ledger)
    assert 10 < len(job_ids) < 1000
    with pytest.raises(QueueFull, match="memory") as refused:
        plant.ledger.check_capacity(1, 2 * len(FILLER), Lane.BULK)
    assert status_of(refused.value) == HTTPStatus.TOO_MANY_REQUESTS
    plant.start_worker().wait_ready()
    plant.wait_final(job_ids)
    plant.assert_clean()
    wait_until(lambda: has_room(plant.ledger), 30)


def has_room(ledger: JobLedger) -> bool:
    try:
        return bool(ledger.accept([Submission.of_image(1, b"x")]))
    except QueueFull:
        return False


def test_a_worker_waits_for_a_redis_that_others_have_filled(plant: Plant) -> None:
    job_ids = plant.accept([noise_png(1)])
    with plant.redis.client() as client:
        client.config_set("maxmemory", 1)
        worker = plant.start_worker()
        wait_until(
            lambda: "Trying again in" in worker.text() or not worker.is_running(), 60, what="it is refused"
        )
        client.config_set("maxmemory", 0)
    plant.wait_final(job_ids)
    assert worker.is_running()


def test_a_worker_outlives_a_redis_that_others_fill_while_it_works(plant: Plant) -> None:
    worker = plant.start_worker().wait_ready()
    with plant.redis.client() as client:
        job_ids = plant.submit([SLOW + noise_png(1)])
        plant.wait_running(job_ids)
        client.config_set("maxmemory", 1)  # the acknowledgement will be refused
        wait_until(
            lambda: "Trying again in" in worker.text() or not worker.is_running(), 60, what="it is refused"
        )
        client.config_set("maxmemory", 0)
    plant.wait_final(job_ids)
    goes_through(plant, 2)
    assert worker.is_running()


def test_a_worker_waits_where_something_else_answers_than_redis(plant: Plant) -> None:
    with handled_by(BaseHTTPRequestHandler) as port:
        plant.environment["IQDB_REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
        worker = plant.start_worker()
        wait_until(
            lambda: "Trying again in" in worker.text() or not worker.is_running(), 60, what="it is refused"
        )
        assert worker.is_running()
        assert "Traceback" not in worker.text()


def test_who_looks_sees_that_the_queue_refuses(tmp_path: Path) -> None:
    with running_cluster(tmp_path, str(tmp_path / "iqdb.sqlite"), workers=0) as cluster:
        client = cluster.client

        def state() -> tuple[object, float]:
            (is_up,) = re.findall(r"^iqdb_queue_up (\S+)$", client.get("/metrics").text, re.MULTILINE)
            return client.get("/status").json()["queue"]["state"], float(is_up)

        def add() -> httpx.Response:
            return client.post("/images/1?wait=false", files={"file": noise_png(1)})

        assert (add().status_code, state()) == (202, ("ready", 1))
        with cluster.redis.client() as redis:
            redis.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
            refused = add()
            assert (refused.status_code, state()) == (503, ("refuses", 0))
            redis.execute_command("REPLICAOF", "NO", "ONE")
        why = "it is a replica, which takes no writes"
        assert refused.json()["message"] == f"the queue takes nothing now: {why}"
        assert (
            f"the queue takes nothing: Redis refuses for now: {why}" in (tmp_path / "api-0.log").read_text()
        )
        assert (add().status_code, state()) == (202, ("ready", 1))
