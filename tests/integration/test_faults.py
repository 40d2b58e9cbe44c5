"""Everything is killed while images flow: what was accepted is there in the end, once and right."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from iqdb_core import codec
from iqdb_core.jobs import Job, JobKind, JobLedger, JobState, RedisPort
from iqdb_core.signature import from_image_bytes
from iqdb_core.store import open_store
from tests.fixtures import pictures
from tests.fixtures.cluster import Cluster, running_cluster
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.databases import PostgresServer

pytestmark = pytest.mark.waits
PICTURES = [pictures.picture(seed, (64, 48)) for seed in range(25)]
BROKEN = b"this is no image"
IMAGES = 600
CLIENTS = 4
PAUSE_S = 0.05


def patiently(client: httpx.Client, method: str, path: str, **request: Any) -> httpx.Response:
    """Repeat a request until something answers it for good, as a crawler does."""
    while True:
        try:
            answer = client.request(method, path, **request)
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code not in {429, 503}:
            return answer
        threading.Event().wait(PAUSE_S)


def all_jobs(ledger: JobLedger) -> list[Job]:
    jobs: list[Job] = []
    cursor = None
    while (page := ledger.list(None, cursor, 500)).jobs:
        jobs += page.jobs
        cursor = page.next_cursor
    return jobs


def settle(cluster: Cluster, ledger: JobLedger) -> None:
    def is_settled() -> bool:
        depth = ledger.depth()
        return depth.queued + depth.running == 0

    wait_until(is_settled, 120, what="the queue is empty")
    wait_until(lambda: cluster.client.get("/status").json().get("lag_seq") == 0, 30, what="no lag")


def assert_nothing_is_left_behind(cluster: Cluster) -> None:
    with cluster.redis.client() as client:
        assert list(client.scan_iter("iqdb:payload:*")) == []
        assert int(client.get("iqdb:bytes") or 0) == 0


@pytest.mark.timeout(400)
def test_everything_dies_and_nothing_accepted_is_lost(
    tmp_path: Path, private_postgres: PostgresServer
) -> None:
    database = private_postgres.url()
    with running_cluster(tmp_path, database, workers=2, IQDB_WORKER_PROCESSES="1") as cluster:
        ledger = JobLedger(RedisPort.connect(cluster.redis.url))
        address = cluster.apis[0].url
        accepted: dict[str, int] = {}
        numbers = iter(range(IMAGES))
        lock = threading.Lock()
        failures: list[BaseException] = []

        def crawl() -> None:
            client = httpx.Client(base_url=address, timeout=60)
            try:
                while True:
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    data = BROKEN if number % 50 == 49 else PICTURES[number % len(PICTURES)]
                    answer = patiently(client, "POST", f"/images/{number}?wait=false", files={"file": data})
                    assert answer.status_code == 202, answer.text
                    accepted[answer.json()["job_id"]] = number
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)
            finally:
                client.close()

        crawlers = [threading.Thread(target=crawl) for _ in range(CLIENTS)]
        for crawler in crawlers:
            crawler.start()
        wreak_havoc(cluster, private_postgres, lambda: len(accepted) + IMAGES * len(failures))
        for crawler in crawlers:
            crawler.join(200)
        assert failures == []
        assert sorted(accepted.values()) == list(range(IMAGES))
        settle(cluster, ledger)
        check_outcomes(cluster, ledger, accepted)
        assert_nothing_is_left_behind(cluster)


def wreak_havoc(cluster: Cluster, postgres: PostgresServer, count: Any) -> None:
    """Kill every role at least once while images flow."""
    rng = random.Random(7)

    def kill_worker() -> None:
        cluster.restart_worker(rng.randrange(2))

    def kill_child() -> None:
        cluster.workers[rng.randrange(2)].kill_child()

    plan = [kill_child, kill_worker, cluster.redis.restart, kill_child, cluster.restart_api]
    plan += [lambda: (postgres.kill(), postgres.start()), kill_child, cluster.redis.restart, kill_worker]
    for step, strike in enumerate(plan):
        goal = IMAGES * (step + 1) // (len(plan) + 2)
        wait_until(lambda goal=goal: count() >= goal, 100, what=f"{goal} images are accepted")
        strike()


def check_outcomes(cluster: Cluster, ledger: JobLedger, accepted: dict[str, int]) -> None:
    jobs = dict(zip(accepted, ledger.get_many(list(accepted)), strict=True))
    store = open_store(cluster.environment["IQDB_DATABASE_URL"])
    hashes = [codec.to_hash(from_image_bytes(data)) for data in PICTURES]
    images = 0
    for job_id, number in accepted.items():
        job = jobs[job_id]
        assert job is not None
        if number % 50 == 49:
            assert (job.state, bool(job.reason)) == (JobState.FAILED, True)
            continue
        assert job.state is JobState.DONE, job
        expected = hashes[number % len(hashes)]
        assert codec.to_hash(store.get(number)) == expected
        assert cluster.client.get(f"/images/{number}").json()["hash"] == expected
        images += 1
    assert store.live_count() == images == IMAGES - IMAGES // 50
    assert cluster.client.get("/status").json()["images"] == images
    store.close()


def test_the_last_accepted_write_wins_over_clients_and_kills(tmp_path: Path) -> None:
    """Several clients add and delete the same ids over two front ends while workers die."""
    database = str(tmp_path / "iqdb.sqlite")
    with running_cluster(tmp_path, database, apis=2, workers=2, IQDB_WORKER_PROCESSES="1") as cluster:
        ledger = JobLedger(RedisPort.connect(cluster.redis.url))
        failures: list[BaseException] = []
        answered: list[int] = []

        def client(seed: int) -> None:
            rng = random.Random(seed)
            front = cluster.apis[seed % 2].client
            try:
                for _ in range(40):
                    number = rng.randrange(6)
                    if rng.random() < 0.3:
                        assert front.delete(f"/images/{number}").status_code == 200
                    else:
                        data = rng.choice(PICTURES)
                        answer = front.post(f"/images/{number}?wait=false", files={"file": data})
                        assert answer.status_code == 202
                    answered.append(number)
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)

        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
        for thread in clients:
            thread.start()
        for goal in range(8, 160, 8):  # by progress: however slow everything is, each death meets work
            wait_until(lambda goal=goal: len(answered) >= goal or failures, 100)
            cluster.workers[goal // 8 % 2].kill_child()
        for thread in clients:
            thread.join(100)
        assert failures == []
        settle(cluster, ledger)
        last: dict[int, Job] = {}
        for job in all_jobs(ledger):
            if job.image_id not in last or job.revision > last[job.image_id].revision:
                last[job.image_id] = job
        assert len(last) == 6
        for image_id, job in last.items():
            answer = cluster.apis[0].client.get(f"/images/{image_id}")
            assert job.state is JobState.DONE
            if job.kind is JobKind.DELETE:
                assert answer.status_code == 404
            else:
                assert job.signature is not None
                assert answer.json()["hash"] == codec.to_hash(job.signature)
        assert_nothing_is_left_behind(cluster)
