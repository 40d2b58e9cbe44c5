"""The distributed server as its clients see it: real front ends, workers, query nodes, Redis, Postgres."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from api.ingestion.queued import GROUP_JOBS
from tests.fixtures import pictures
from tests.fixtures.cluster import Cluster, node_states, running_cluster
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

SMALL = [pictures.picture(seed, (64, 48)) for seed in range(30)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, postgres_server: Any) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with (
        postgres_server.fresh_database() as database,
        running_cluster(folder, database, apis=2, workers=1, query_nodes=2) as running,
    ):
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    yield cluster.client
    while matches := cluster.client.post("/query?limit=1000", files={"file": SMALL[0]}).json():
        ids = [match["post_id"] for match in matches]
        assert cluster.client.request("DELETE", "/images", json=ids).status_code == 200


def test_synchronous_add_query_replace_delete(cluster: Cluster, client: httpx.Client) -> None:
    path, known_hash = pictures.golden()[0]
    added = client.post("/images/1", files={"file": path.read_bytes()})
    assert (added.status_code, added.json()["hash"]) == (200, known_hash)
    # Read your writes, on any front end and whichever node it asks.
    for front in cluster.apis:
        for _ in range(4):
            match = front.client.post("/query", files={"file": path.read_bytes()}).json()[0]
            assert (match["post_id"], match["hash"]) == (1, known_hash)
            assert match["signature"] == added.json()["signature"]
    replaced = client.post("/images/1", files={"file": SMALL[0]}).json()
    for front in cluster.apis:
        assert front.client.get("/images/1").json()["hash"] == replaced["hash"] != known_hash
    assert client.delete("/images/1").json() == {"post_id": 1}
    assert client.delete("/images/1").status_code == 200
    for front in cluster.apis:
        for _ in range(4):
            assert front.client.get("/images/1").status_code == 404
            assert front.client.post("/query", files={"file": SMALL[0]}).json() == []


def test_e621_dialect_and_hash_adds(client: httpx.Client) -> None:
    text = pictures.golden()[0][1]
    channels = dict.fromkeys("rgb", [7] * 16384)
    assert client.post("/images/1", json={"channels": channels}).status_code == 200
    assert client.post("/images/2", data={"hash": text}).json()["hash"] == text
    assert client.post("/query", json={"post_id": 2, "limit": 1}).json()[0]["hash"] == text[5:]
    plain, sketch = (
        client.post("/query", json={"post_id": 2, **mode}).json() for mode in ({}, {"mode": "sketch"})
    )
    assert [match["post_id"] for match in sketch] == [match["post_id"] for match in plain] == [2, 1]
    assert sketch[1]["score"] != plain[1]["score"]


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"no image", 422), (SMALL[0][:200], 422), (b"", 422)],
)
def test_a_broken_image_fails_at_once_with_its_reason(client: httpx.Client, data: bytes, status: int) -> None:
    answer = client.post("/images/1", files={"file": ("x", data)})
    assert answer.status_code == status
    assert answer.json()["message"]
    queued = client.post("/images/1?wait=false", files={"file": ("x", data)})
    assert queued.status_code == 202
    job = final_job(client, queued.headers["location"])
    assert (job["state"], job["post_id"], bool(job["reason"])) == ("failed", 1, True)
    failed = client.get("/jobs", params={"state": "failed", "limit": 1000}).json()["jobs"]
    assert job in failed


def final_job(client: httpx.Client, location: str) -> dict[str, Any]:
    def is_final() -> bool:
        return client.get(location).json()["state"] in {"done", "failed"}

    wait_until(is_final, 60, what=location)
    job: dict[str, Any] = client.get(location).json()
    return job


@pytest.mark.parametrize("how", [{"params": {"wait": "false"}}, {"headers": {"Prefer": "respond-async"}}])
def test_not_waiting_is_answered_202_with_a_job(client: httpx.Client, how: dict[str, Any]) -> None:
    queued = client.post("/images/3", files={"file": SMALL[3]}, **how)
    assert queued.status_code == 202
    assert queued.headers["location"] == f"/jobs/{queued.json()['job_id']}"
    job = final_job(client, queued.headers["location"])
    assert (job["state"], job["post_id"]) == ("done", 3)
    # Done means findable.
    match = client.post("/query", files={"file": SMALL[3]}).json()[0]
    assert (match["post_id"], match["hash"]) == (3, job["hash"])


def test_batches_in_both_ways(client: httpx.Client) -> None:
    parts = [(str(number), ("x", data)) for number, data in enumerate(SMALL)]
    parts.append(("99", ("x", b"broken")))
    answer = client.post("/images", files=parts, data={"50": "nonsense"})
    statuses = {image["post_id"]: image["status"] for image in answer.json()["images"]}
    assert statuses == {**dict.fromkeys(range(len(SMALL)), 200), 50: 400, 99: 422}
    queued = client.post("/images?wait=false", files=parts)
    assert queued.status_code == 202
    jobs = {image["post_id"]: image["job_id"] for image in queued.json()["images"]}
    states = {number: final_job(client, f"/jobs/{job_id}")["state"] for number, job_id in jobs.items()}
    assert states == {**dict.fromkeys(range(len(SMALL)), "done"), 99: "failed"}
    assert client.get("/status").json()["images"] == len(SMALL)


def test_status_tells_of_every_role(cluster: Cluster, client: httpx.Client) -> None:
    client.post("/images/1", files={"file": SMALL[1]})
    wait_until(lambda: node_states(client) == ["ready", "ready"], 30)  # another test may have killed one
    body = client.get("/status").json()
    assert body["images"] == 1
    assert body["lag_seq"] == 0
    assert (body["queue"]["state"], body["queue"]["queued"], body["queue"]["bytes"]) == ("ready", 0, 0)
    wait_until(lambda: len(client.get("/status").json()["workers"]) == 1, 30)
    for path in ("/live", "/ready"):
        assert client.get(path).status_code == 200
        assert cluster.queries[0].client.get(path).status_code == 200


def test_a_query_node_dies_and_comes_back(cluster: Cluster, client: httpx.Client) -> None:
    client.post("/images/1", files={"file": SMALL[1]})
    cluster.queries[0].kill()
    for _ in range(6):
        assert client.post("/query", files={"file": SMALL[1]}).json()[0]["post_id"] == 1
    assert client.post("/images/2", files={"file": SMALL[2]}).status_code == 200
    cluster.queries[0].close()
    cluster.start_query(0)
    cluster.queries[1].kill()
    try:
        # What was written while it was away is there before it answers again.
        assert client.post("/query", files={"file": SMALL[2]}).json()[0]["post_id"] == 2
        cluster.queries[0].kill()
        answer = client.post("/query", files={"file": SMALL[2]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        queued = client.post("/images/4?wait=false", files={"file": SMALL[4]})
        assert queued.status_code == 202
        status = client.get("/status")
        assert status.status_code == 503
        assert [node["state"] for node in status.json()["nodes"]] == ["away", "away"]
        assert status.json()["queue"]["state"] == "ready"
        assert client.get("/ready").status_code == 200
    finally:
        for number in (0, 1):
            cluster.queries[number].close()
            cluster.start_query(number)
    assert final_job(client, queued.headers["location"])["state"] == "done"
    assert client.post("/query", files={"file": SMALL[4]}).json()[0]["post_id"] == 4


def test_redis_dies_and_comes_back(cluster: Cluster, client: httpx.Client) -> None:
    client.post("/images/1", files={"file": SMALL[1]})
    cluster.redis.kill()
    try:
        assert client.post("/query", files={"file": SMALL[1]}).json()[0]["post_id"] == 1
        answer = client.post("/images/2", files={"file": SMALL[2]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.delete("/images/1").status_code == 503
        assert client.get("/status").json()["queue"] == {"state": "away", "message": "Redis does not answer"}
    finally:
        cluster.redis.start()
    with cluster.redis.client() as redis:
        redis.config_set("appendonly", "no")
        wait_until(lambda: client.post("/images/2", files={"file": SMALL[2]}).status_code == 200, 60)
        queue = client.get("/status").json()["queue"]
        assert queue["message"].startswith("accepted images are lost if Redis ends: ")
        redis.config_set("appendonly", "yes")
    assert client.post("/query", files={"file": SMALL[2]}).json()[0]["post_id"] == 2


def test_an_add_accepted_before_a_delete_stays_dead(cluster: Cluster, client: httpx.Client) -> None:
    """Whatever order the tasks run in, the last accepted write wins, over two front ends."""
    jobs = []
    for round_ in range(6):
        front = cluster.apis[round_ % 2].client
        jobs += [
            front.post(f"/images/{number}?wait=false", files={"file": SMALL[round_]}) for number in range(8)
        ]
        deleted = cluster.apis[(round_ + 1) % 2].client.request("DELETE", "/images", json=list(range(4)))
        assert deleted.status_code == 200
    for job in jobs:
        assert final_job(client, job.headers["location"])["state"] == "done"
    for number in range(8):
        assert client.get(f"/images/{number}").status_code == (404 if number < 4 else 200)
    last = client.post("/images/100", files={"file": SMALL[5]}).json()["hash"]
    assert {client.get(f"/images/{number}").json()["hash"] for number in range(4, 8)} == {last}


def test_a_full_queue_is_answered_429(tmp_path: Path) -> None:
    database = str(tmp_path / "iqdb.sqlite")
    most = GROUP_JOBS + 2
    limits = {"IQDB_MAX_QUEUE_JOBS": str(most), "IQDB_MAX_QUEUE_BYTES": "1000000"}
    with running_cluster(tmp_path, database, workers=0, **limits) as cluster:
        images = [{"post_id": number, "hash": pictures.golden()[0][1]} for number in range(3, most + 4)]
        answer = cluster.client.post("/images?wait=false", json={"images": images})
        statuses = [image["status"] for image in answer.json()["images"]]
        assert statuses == [202] * GROUP_JOBS + [429] * 3  # what was accepted stays so
        assert answer.headers["retry-after"] == "10"
        for number in range(2):
            answer = cluster.client.post(f"/images/{number}?wait=false", files={"file": SMALL[number]})
            assert answer.status_code == 202
        answer = cluster.client.post("/images/3?wait=false", files={"file": SMALL[3]})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        # A body that would be refused is not even asked for.
        head = b"POST /images/3?wait=false HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900000\r\n"
        head += b"expect: 100-continue\r\n\r\n"
        with socket.create_connection(("127.0.0.1", cluster.client.base_url.port or 80), 30) as bare:
            bare.sendall(head)
            refused = bare.recv(4096)
        assert refused.startswith(b"HTTP/1.1 429 ")
        assert b"connection: close" in refused
        cluster.start_worker().wait_ready()
        wait_until(lambda: cluster.client.get("/status").json()["images"] == most, 30)
        answer = cluster.client.post("/images/3", files={"file": SMALL[3]})
        assert answer.status_code == 200
