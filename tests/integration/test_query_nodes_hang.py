"""One of two query nodes is stopped in the middle of everything: clients hardly notice."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from api.search.node_pool import LIMIT_S
from tests.fixtures.cluster import Cluster, best_match, node_states, running_cluster
from tests.fixtures.noise import noise_png
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.waits

PICTURES = [noise_png(seed) for seed in range(3)]
QUERIES = 80


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hang")
    with running_cluster(folder, str(folder / "iqdb.sqlite"), query_nodes=2) as running:
        yield running


def test_a_hung_node_holds_up_nobody(cluster: Cluster) -> None:
    client = cluster.client
    assert client.post("/images/1", files={"file": PICTURES[1]}).status_code == 200
    hung = cluster.queries[0].process
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        n_slow = 0
        for _ in range(QUERIES):
            began = time.monotonic()
            assert best_match(client, PICTURES[1]) == 1
            n_slow += time.monotonic() - began >= LIMIT_S
        # Otherwise every other query would wait for a limit, except the few for which both nodes are asked.
        assert n_slow < QUERIES / 8
        assert client.post("/images/2", files={"file": PICTURES[2]}, timeout=30).status_code == 200
        wait_until(lambda: node_states(client) == ["away", "ready"], 60)
        assert best_match(client, PICTURES[2]) == 2
    finally:
        os.kill(hung.pid, signal.SIGCONT)
    wait_until(lambda: node_states(client) == ["ready", "ready"], 90)
    # What was written while it was stopped is there before it is asked again.
    assert [best_match(client, PICTURES[2]) for _ in range(6)] == [2] * 6


def test_a_done_job_is_shown_without_any_node(cluster: Cluster) -> None:
    client = cluster.client
    queued = client.post("/images/3?wait=false", files={"file": PICTURES[0]})
    job = queued.headers["location"]
    wait_until(lambda: client.get(job).json()["state"] == "done", 60)
    for node in cluster.queries.values():
        node.kill()
    try:
        assert client.get(job).json()["state"] == "done"
    finally:
        for number in (0, 1):
            cluster.queries[number].close()
            cluster.start_query(number)


def test_a_server_of_another_kind_is_named(cluster: Cluster) -> None:
    """A front end that is told the address of a front end."""
    log = cluster.folder / "wrong.log"
    wrong = type(cluster.apis[0])(
        ["api", "127.0.0.1", "0"], log, {**cluster.environment, "IQDB_QUERY_URLS": cluster.apis[0].url}
    ).wait_ready()
    try:
        for answer in (
            wrong.client.get("/images/1"),
            wrong.client.post("/query", files={"file": PICTURES[1]}),
        ):
            assert answer.status_code == 503
            assert "is not a query node" in answer.json()["message"]
            assert cluster.apis[0].url not in answer.text
        status = wrong.client.get("/status")
        assert status.status_code == 503
        assert f"{cluster.apis[0].url} is not a query node" in status.json()["message"]
        assert f"{cluster.apis[0].url} is not a query node" in log.read_text()
    finally:
        wrong.close()
